//! What the models share.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use loom::sync::{
    Condvar, Mutex,
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
};
use mainstay::{
    time::{Tick, set_now},
    window::Seat,
};

pub(crate) const OWNER: Seat = Seat::numbered(0);

/// A time that no timer of a model reaches: its timers are set by a clock that stands.
pub(crate) const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Tries all orders with three interruptions at most: what takes more than three to go wrong is not known of such code,
/// and each more costs ten times as much.
pub(crate) fn model(run: impl Fn() + Sync + Send + 'static) {
    model_of(3, run);
}

/// With so many interruptions of a thread at most.
pub(crate) fn model_of(interruptions: usize, run: impl Fn() + Sync + Send + 'static) {
    // For timers to be made on; nothing drives it, so that only those ring that are late when they are made.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    // More than the usual thousand: a handle is made of a few hundred atomics, and each use of one is a branch.
    builder.max_branches = 10_000;
    builder.check(run);
}

/// So many seconds after the first tick it is for this thread from now on.
pub(crate) fn at_second(second: u64) {
    set_now(Tick::default() + Duration::from_secs(second));
}

/// Runs a future to its end. One that is never woken is a deadlock, which loom finds.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        bell.wait();
    }
}

/// Polls once with a waker that wakes nobody.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future that waits with a waker that counts.
pub(crate) fn wakes<F: Future + Unpin>(future: &mut F) -> Arc<Wakes> {
    let wakes = Arc::new(Wakes(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(pin!(future).poll(&mut Context::from_waker(&waker)).is_pending());
    wakes
}

/// How often a waker was woken.
pub(crate) struct Wakes(AtomicU32);

impl Wakes {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }
}

/// Counts how many are in use at a time. Relaxed: it is to make no order that the code does not make.
#[derive(Default)]
pub(crate) struct InUse(AtomicU32);

impl InUse {
    pub(crate) fn enter(&self, most: u32) {
        assert!(self.0.fetch_add(1, Relaxed) < most, "more in use than may be");
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
