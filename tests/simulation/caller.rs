//! Those who call: each is polled when it was woken, or given up.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use mainstay::{Rejection, breaker, bulkhead, concurrency, load_shed, time::Tick};

use crate::service::{Answer, Attempt, Injected};

/// Whether somebody was woken.
#[derive(Default)]
pub struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// What is held by hand.
#[allow(dead_code, reason = "some are held for nothing but their drop")]
pub enum Held {
    Circuit(breaker::Permit, Attempt),
    Place(bulkhead::Permit),
    Shed(load_shed::Permit),
    Limit(concurrency::Permit),
    Turn,
    Asked(Box<dyn Any>),
}

/// What comes of waiting.
pub enum Got {
    Answer(Answer),
    Held(Result<Held, Rejection>),
}

pub struct Caller {
    /// None for who waits for something to hold.
    pub call: Option<u32>,
    future: Pin<Box<dyn Future<Output = Got>>>,
    flag: Arc<Flag>,
    pub polls: u32,
    pub patience: Option<u32>,
    pub since: Tick,
    /// Whether the rate limit has given it a turn that is still to come.
    pub has_turn: bool,
}

/// What a poll came to. A panic is one of the plan.
pub enum Polled {
    Pending,
    Got(Got),
    Panicked,
}

impl Caller {
    pub fn new(call: Option<u32>, patience: Option<u32>, future: impl Future<Output = Got> + 'static) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { call, future: Box::pin(future), flag, polls: 0, patience, since: Tick::now(), has_turn: false }
    }

    pub fn is_woken(&self) -> bool {
        self.flag.0.load(SeqCst)
    }

    pub fn poll(&mut self) -> Polled {
        self.polls += 1;
        // A new waker each time: who keeps an old one wakes nobody.
        self.flag = Arc::default();
        let waker = Waker::from(Arc::clone(&self.flag));
        let future = self.future.as_mut();
        match catch_unwind(AssertUnwindSafe(move || future.poll(&mut Context::from_waker(&waker)))) {
            Ok(Poll::Pending) => Polled::Pending,
            Ok(Poll::Ready(got)) => Polled::Got(got),
            Err(panic) if panic.is::<Injected>() => Polled::Panicked,
            Err(panic) => resume_unwind(panic),
        }
    }
}
