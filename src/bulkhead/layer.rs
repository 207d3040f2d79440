use std::task::{Context, Poll};

use crate::{
    admission::{Admission, AdmissionLayer, Entry, Gate, Policy, Queue, Queued, QueuedLayer, Sealed, Verdict},
    bulkhead::{Handle, core::Wait},
    error::Rejection,
    outcome::OnError,
    sync::atomic::Ordering::Relaxed,
    time::Moment,
    waiters::Place,
};

/// Puts a [`Handle`] in front of a service. A call that gets no place at once is turned away; with
/// [`queued`](AdmissionLayer::queued) it waits for one.
pub type BulkheadLayer = AdmissionLayer<Handle, OnError>;

/// A service behind a bulkhead.
pub type Bulkhead<S> = Admission<S, Handle, OnError>;

/// Like [`BulkheadLayer`], for calls that wait for their place.
pub type QueuedBulkheadLayer = QueuedLayer<Handle, OnError>;

/// A service behind a bulkhead whose calls wait for their place.
pub type QueuedBulkhead<S> = Queued<S, Handle, OnError>;

/// A place that a call holds.
#[derive(Debug)]
pub struct Held(());

/// What a clone of the service remembers while it waits to be ready.
#[derive(Debug, Default)]
pub struct Waiting {
    place: Place,
}

impl Sealed for Handle {}

impl Policy for Handle {
    type Permit = Held;
    type Waiting = Waiting;

    #[inline]
    fn admit(&self, _: &mut Moment) -> Result<Held, Rejection> {
        self.core.take(self.priority).map(|()| Held(()))
    }

    #[inline]
    fn at_once(&self, _: &mut Moment) -> Option<Held> {
        self.core.take_free(self.priority).then_some(Held(()))
    }

    #[inline]
    fn settle(&self, _: Held, _: Verdict, _: &mut Moment) {
        self.core.give_back();
    }

    /// Ready even when every place is taken, for a place may be free by the time of the call; in unready mode it waits.
    #[inline]
    fn poll_gate(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        if !self.core.unready.load(Relaxed) || self.core.has_place(self.priority) {
            return Poll::Ready(Gate::Open);
        }
        self.watch(waiting, cx);
        // Again, now that a place given back would wake us.
        if self.core.has_place(self.priority) { Poll::Ready(Gate::Open) } else { Poll::Pending }
    }

    fn watch(&self, waiting: &mut Waiting, cx: &mut Context<'_>) {
        waiting.place.wait(&self.core.waiters, cx);
    }
}

impl Queue for Handle {
    type Wait = Wait;

    fn enter(&self, _: &mut Moment) -> Result<Entry<Held, Wait>, Rejection> {
        Ok(match self.core.enter(self.priority)? {
            None => Entry::Admitted(Held(())),
            Some(wait) => Entry::Queued(wait),
        })
    }

    fn poll_wait(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Held, Rejection>> {
        self.core.poll_wait(wait, cx).map_ok(|()| Held(()))
    }

    fn leave(&self, wait: Wait) {
        self.core.abandon(&wait);
    }
}
