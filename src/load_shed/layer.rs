use std::task::{Context, Poll};

use crate::{
    admission::{Admission, AdmissionLayer, Entry, Gate, Policy, Queue, Queued, QueuedLayer, Sealed, Verdict},
    error::Rejection,
    load_shed::{
        Handle,
        gate::{Held, Wait},
    },
    outcome::OnError,
    time::Moment,
};

/// Puts a [`Handle`] in front of a service. A call over the limit is turned away; with
/// [`queued`](AdmissionLayer::queued) it may wait.
pub type LoadShedLayer<C = OnError> = AdmissionLayer<Handle, C>;

/// A service behind a shedder.
pub type LoadShed<S, C = OnError> = Admission<S, Handle, C>;

/// Like [`LoadShedLayer`], for calls that may wait for their place.
pub type QueuedLoadShedLayer<C = OnError> = QueuedLayer<Handle, C>;

/// A service behind a shedder whose calls may wait for their place.
pub type QueuedLoadShed<S, C = OnError> = Queued<S, Handle, C>;

impl Sealed for Handle {}

impl Policy for Handle {
    type Permit = Held;
    type Waiting = ();

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Held, Rejection> {
        self.core.admit(self.priority, now)
    }

    #[inline]
    fn settle(&self, held: Held, verdict: Verdict, now: &mut Moment) {
        self.core.settle(held, verdict, now);
    }

    /// Ready even when every place is taken, for a place may be free by the time of the call.
    fn poll_gate(&self, (): &mut (), _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }

    fn watch(&self, (): &mut (), _: &mut Context<'_>) {}
}

impl Queue for Handle {
    type Wait = Wait;

    fn enter(&self, now: &mut Moment) -> Result<Entry<Held, Wait>, Rejection> {
        self.core.enter(self.priority, now)
    }

    fn poll_wait(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Held, Rejection>> {
        self.core.poll_wait(wait, cx)
    }

    fn leave(&self, wait: Wait) {
        self.core.abandon(&wait);
    }
}
