//! The instances of the fleet: what they are, what they do with their calls, and what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mainstay::{
    Error,
    contract::{Instance, Invocation},
    discovery::Lease,
    time::Tick,
};
use parking_lot::{Mutex, MutexGuard};
use tower::Service;

use crate::{
    ms,
    service::{Answer, Behaviour, End, Failure, How, Response, inject, yields},
};

#[derive(Debug, Clone)]
pub struct FleetRequest {
    pub call: u32,
    pub script: Arc<[Behaviour]>,
}

/// An instance as discovery knows it.
#[derive(Debug, Clone)]
pub struct Member {
    pub lease: Lease,
    pub instance: Instance,
    pub until: Tick,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub call: u32,
    pub member: String,
    pub ended: Option<How>,
}

#[derive(Default)]
pub struct Known {
    pub members: BTreeMap<String, Member>,
    pub fates: BTreeMap<String, End>,
    pub attempts: Vec<Attempt>,
    pub wrong: Option<String>,
    /// Answers that the fallback gave.
    pub fallbacks: u64,
    pub falls_back: bool,
    /// What could be called when everybody had last heard of everything.
    pub heard: BTreeSet<String>,
}

impl Known {
    pub fn is_there(&self, member: &str) -> bool {
        self.members.get(member).is_some_and(|member| Tick::now() < member.until)
    }

    /// Whether new calls may go there.
    fn is_callable(&self, member: &str) -> bool {
        self.is_there(member) && !self.members[member].instance.is_draining()
    }

    /// Everybody has heard of everything.
    pub fn hear(&mut self) {
        self.heard = self.members.keys().filter(|member| self.is_callable(member)).cloned().collect();
    }

    pub fn of_call(&self, call: u32) -> Vec<&Attempt> {
        self.attempts.iter().filter(|attempt| attempt.call == call).collect()
    }

    pub fn running(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.ended.is_none()).count()
    }
}

#[derive(Clone, Default)]
pub struct Truth(pub Arc<Mutex<Known>>);

impl Truth {
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }

    /// An attempt begins at an instance, which has to be one that may be called.
    fn begin(&self, call: u32, member: &str) -> (Running, u32) {
        let mut known = self.known();
        if !known.is_callable(member) && !known.heard.contains(member) {
            let what = if known.is_there(member) { "is draining" } else { "is gone" };
            known.wrong.get_or_insert(format!("call {call} is sent to {member}, which {what}"));
        }
        let number = known.of_call(call).len() as u32;
        known.attempts.push(Attempt { call, member: member.to_owned(), ended: None });
        (Running { truth: self.clone(), index: known.attempts.len() - 1, how: How::Dropped }, number)
    }
}

struct Running {
    truth: Truth,
    index: usize,
    how: How,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.truth.known().attempts[self.index].ended = Some(self.how);
    }
}

/// Makes the wire to an instance.
impl Service<Instance> for Truth {
    type Response = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        ready(Ok(Wire { truth: self.clone(), member: instance.id().as_str().to_owned(), is_ready: false }))
    }
}

/// The way to an instance. A clone is not ready until it was asked.
pub struct Wire {
    truth: Truth,
    member: String,
    is_ready: bool,
}

impl Clone for Wire {
    fn clone(&self) -> Self {
        Self { truth: self.truth.clone(), member: self.member.clone(), is_ready: false }
    }
}

impl Service<Invocation<FleetRequest>> for Wire {
    type Response = Response;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Failure>>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: Invocation<FleetRequest>) -> Self::Future {
        let FleetRequest { call, script } = invocation.request;
        if !std::mem::take(&mut self.is_ready) {
            self.truth.known().wrong = Some("an instance is called without being ready".to_owned());
        }
        let (mut running, number) = self.truth.begin(call, &self.member);
        let behaviour = script[number as usize % script.len()];
        let end = self.truth.known().fates.get(&self.member).copied().unwrap_or(behaviour.end);
        if end == End::PanicsAtOnce {
            running.how = How::Panicked;
            inject();
        }
        Box::pin(async move {
            // All of it, and not the one field that is written.
            let mut running = running;
            for _ in 0..behaviour.yields {
                yields().await;
            }
            if behaviour.takes > 0 {
                tokio::time::sleep(ms(behaviour.takes)).await;
            }
            match end {
                End::Answers => {
                    running.how = How::Answered;
                    Ok(Response { call, attempt: Some(number) })
                }
                End::Fails => {
                    running.how = How::Failed;
                    Err(Error::Inner(Failure { call, attempt: number }))
                }
                End::Panics | End::PanicsAtOnce => {
                    running.how = How::Panicked;
                    inject()
                }
                End::Hangs => std::future::pending().await,
            }
        })
    }
}
