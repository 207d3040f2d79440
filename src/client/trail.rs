use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;

use crate::{
    contract::{Instance, InstanceId, Method, ServiceName},
    observe::millis,
    sync::Mutex,
    time::Tick,
};

/// What became of a call.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The service.
    pub service: ServiceName,
    /// The method.
    pub method: Method,
    /// The instance that gave the answer; none while there is none, and when the fallback or a policy gave it.
    pub instance: Option<InstanceId>,
    /// The instances the request was sent to, in order; those of retries and hedges too.
    pub tried: Vec<InstanceId>,
    /// How often the request was sent.
    pub attempts: u32,
    /// How long the call took, or takes by now.
    #[serde(rename = "latency_ms", serialize_with = "millis")]
    pub latency: Duration,
    /// Whether the answer is the fallback's.
    pub fallback: bool,
}

/// What a call leaves behind on its way, through retries and hedges: its copies share one.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    // A call may lie about before anybody asks for its answer: that is no part of it.
    began: OnceLock<Tick>,
    // Zero while the call runs.
    ended: AtomicU64,
    fallback: AtomicBool,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    to: Vec<Arc<Instance>>,
    answered: Option<Answered>,
}

#[derive(Debug)]
struct Answered {
    by: InstanceId,
    // With a rejection, as a policy has that stands on the way to an instance.
    rejected: bool,
}

impl Trail {
    /// The call begins, unless it has begun.
    pub(super) fn begin(&self, now: Tick) -> Tick {
        *self.began.get_or_init(|| now)
    }

    /// The request is handed to an instance. Whoever answered before gave no answer that was good enough.
    pub(super) fn sent_to(&self, instance: &Arc<Instance>) {
        let mut sent = self.sent.lock();
        sent.to.push(Arc::clone(instance));
        sent.answered = None;
    }

    /// An instance gave an answer; a later one takes its place.
    pub(super) fn answered(&self, instance: &Instance, rejected: bool) {
        self.sent.lock().answered = Some(Answered { by: instance.id().clone(), rejected });
    }

    /// Whether the request was sent to this instance already.
    pub(super) fn has_been_at(&self, instance: &InstanceId) -> bool {
        self.sent.lock().to.iter().any(|sent| sent.id() == instance)
    }

    /// The fallback answered.
    pub(super) fn fell_back(&self) {
        self.fallback.store(true, Relaxed);
    }

    pub(super) fn used_fallback(&self) -> bool {
        self.fallback.load(Relaxed)
    }

    /// The call has ended. Returns how long it took.
    pub(super) fn end(&self, now: Tick, rejected: bool) -> u64 {
        // What a policy said is not the answer of the instance that was heard last.
        let mut sent = self.sent.lock();
        sent.answered.take_if(|answered| answered.rejected != rejected);
        drop(sent);
        self.ended.store(now.as_nanos(), Relaxed);
        now.nanos_since(self.begin(now))
    }

    pub(super) fn metadata(&self, service: &ServiceName, method: &Method) -> Metadata {
        let ended = match self.ended.load(Relaxed) {
            0 => Tick::now(),
            ended => Tick::from_nanos(ended),
        };
        let latency = self.began.get().map_or(Duration::ZERO, |began| ended.since(*began));
        let (service, method, fallback) = (service.clone(), method.clone(), self.used_fallback());
        let sent = self.sent.lock();
        let tried: Vec<InstanceId> = sent.to.iter().map(|instance| instance.id().clone()).collect();
        let instance = sent.answered.as_ref().filter(|_| !fallback).map(|answered| answered.by.clone());
        let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        Metadata { service, method, instance, tried, attempts, latency, fallback }
    }
}
