use std::task::{Context, Poll};

use crate::{
    admission::{Admission, AdmissionLayer, Entry, Gate, Policy, Queue, Queued, QueuedLayer, Sealed, Verdict},
    error::Rejection,
    outcome::OnError,
    rate_limit::{Handle, gcra::Cell, handle::Turn},
    time::Moment,
};

/// Puts a [`Handle`] in front of a service. A call that comes too early is turned away; with
/// [`queued`](AdmissionLayer::queued) it waits for its turn.
pub type RateLimitLayer = AdmissionLayer<Handle, OnError>;

/// A service behind a rate limit.
pub type RateLimit<S> = Admission<S, Handle, OnError>;

/// Like [`RateLimitLayer`], for calls that wait for their turn.
pub type QueuedRateLimitLayer = QueuedLayer<Handle, OnError>;

/// A service behind a rate limit whose calls wait for their turn.
pub type QueuedRateLimit<S> = Queued<S, Handle, OnError>;

/// A call that was let in.
#[derive(Debug)]
pub struct Paid(Cell);

impl Sealed for Handle {}

impl Policy for Handle {
    type Permit = Paid;
    type Waiting = ();

    fn admit(&self, now: &mut Moment) -> Result<Paid, Rejection> {
        self.core.take(1, now).map(Paid)
    }

    #[inline]
    fn at_once(&self, now: &mut Moment) -> Option<Paid> {
        self.core.take_now(now).map(Paid)
    }

    /// A call that was made is paid for, however it ended; one that a policy further in turned away is not.
    fn settle(&self, Paid(cell): Paid, verdict: Verdict, now: &mut Moment) {
        if verdict == Verdict::Unused {
            self.core.give_back(cell, now);
        }
    }

    fn poll_gate(&self, (): &mut (), _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }

    fn watch(&self, (): &mut (), _: &mut Context<'_>) {}
}

impl Queue for Handle {
    type Wait = Turn;

    fn enter(&self, now: &mut Moment) -> Result<Entry<Paid, Turn>, Rejection> {
        Ok(match self.core.enter(now)? {
            Entry::Admitted(cell) => Entry::Admitted(Paid(cell)),
            Entry::Queued(turn) => Entry::Queued(turn),
        })
    }

    fn poll_wait(&self, turn: &mut Turn, cx: &mut Context<'_>) -> Poll<Result<Paid, Rejection>> {
        turn.poll(cx).map(|()| Ok(Paid(turn.cell)))
    }

    fn leave(&self, turn: Turn) {
        self.core.give_back(turn.cell, &mut Moment::new());
    }
}
