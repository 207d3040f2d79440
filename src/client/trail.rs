use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    contract::{Instance, InstanceId, Method, ServiceName},
    observe::millis,
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
    /// The instance that gave the answer; none while there is none, and when the fallback gave it.
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
#[derive(Debug)]
pub(crate) struct Trail {
    began: Tick,
    // Zero while the call runs.
    ended: AtomicU64,
    fallback: AtomicBool,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    to: Vec<Arc<Instance>>,
    answered: Option<InstanceId>,
}

impl Trail {
    pub(super) fn begin(now: Tick) -> Self {
        let (ended, fallback) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: now, ended, fallback, sent: Mutex::new(Sent::default()) }
    }

    /// The request is handed to an instance.
    pub(super) fn sent_to(&self, instance: &Arc<Instance>) {
        self.sent.lock().to.push(Arc::clone(instance));
    }

    /// A policy turned the call away or cut it off: whatever instances answered before, it is not the answer.
    pub(super) fn turned_away(&self) {
        let before = self.sent.lock().answered.take();
        drop(before);
    }

    /// An instance gave an answer; a later one takes its place.
    pub(super) fn answered(&self, instance: &Instance) {
        let before = self.sent.lock().answered.replace(instance.id().clone());
        drop(before);
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
    pub(super) fn end(&self, now: Tick) -> u64 {
        self.ended.store(now.as_nanos(), Relaxed);
        now.nanos_since(self.began)
    }

    pub(super) fn metadata(&self, service: &ServiceName, method: &Method) -> Metadata {
        let ended = match self.ended.load(Relaxed) {
            0 => Tick::now(),
            ended => Tick::from_nanos(ended),
        };
        let (service, method, fallback) = (service.clone(), method.clone(), self.used_fallback());
        let sent = self.sent.lock();
        let tried: Vec<InstanceId> = sent.to.iter().map(|instance| instance.id().clone()).collect();
        let instance = sent.answered.clone().filter(|_| !fallback);
        let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        Metadata { service, method, instance, tried, attempts, latency: ended.since(self.began), fallback }
    }
}
