//! The service inside: it insists on the contract, and knows what was begun, what has ended and what runs.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use mainstay::Error;
use tower::Service;

use crate::support::*;

/// What the service does with its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Ok,
    Later,
    Fails,
    Hangs,
}

pub(crate) const WORKS: [Work; 4] = [Work::Ok, Work::Later, Work::Fails, Work::Hangs];

struct Bench {
    work: AtomicU32,
    begun: AtomicU64,
    ended: AtomicU64,
    running: AtomicU64,
}

/// A service that is ready at the second time of asking, is called only then, and asks anew after each call.
pub(crate) struct Lab {
    bench: Arc<Bench>,
    asked: u32,
}

impl Lab {
    pub(crate) fn new(work: Work) -> Self {
        let count = || AtomicU64::new(0);
        let bench = Bench { work: AtomicU32::new(work as u32), begun: count(), ended: count(), running: count() };
        Self { bench: Arc::new(bench), asked: 0 }
    }

    pub(crate) fn set(&self, work: Work) {
        self.bench.work.store(work as u32, SeqCst);
    }

    pub(crate) fn work(&self) -> Work {
        WORKS[self.bench.work.load(SeqCst) as usize]
    }

    /// Calls that were begun, and those of them that ended by themselves.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.bench.begun.load(SeqCst), self.bench.ended.load(SeqCst))
    }

    pub(crate) fn running(&self) -> u64 {
        self.bench.running.load(SeqCst)
    }

    /// One call, for who calls no service.
    pub(crate) fn work_on(&self) -> Working {
        self.bench.begun.fetch_add(1, SeqCst);
        self.bench.running.fetch_add(1, SeqCst);
        let work = self.work();
        Working { bench: Arc::clone(&self.bench), work, waits: if work == Work::Ok { 0 } else { 2 }, sleep: None }
    }
}

impl Clone for Lab {
    fn clone(&self) -> Self {
        Self { bench: Arc::clone(&self.bench), asked: 0 }
    }
}

impl<Req> Service<Req> for Lab {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Working;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        self.asked += 1;
        if self.asked < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Working {
        assert!(self.asked >= 2, "called without being ready on this very clone");
        self.asked = 0;
        self.work_on()
    }
}

const OVER: u32 = u32::MAX;

/// A call that runs. Polled after its end it panics.
pub(crate) struct Working {
    bench: Arc<Bench>,
    work: Work,
    waits: u32,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Working {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        assert!(this.waits != OVER, "polled again after its end");
        if this.work == Work::Hangs {
            return Poll::Pending;
        }
        if this.waits > 0 {
            this.waits -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.work != Work::Ok {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(ms(3))));
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        this.waits = OVER;
        this.bench.ended.fetch_add(1, SeqCst);
        Poll::Ready(if this.work == Work::Fails { Err(Error::Inner(Boom)) } else { Ok(1) })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.bench.running.fetch_sub(1, SeqCst);
    }
}
