use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use crate::{
    admission::{Admission, AdmissionLayer, Entry, Gate, Policy, Queue, Sealed, Verdict},
    concurrency::{Handle, core::Ticket},
    error::Rejection,
    outcome::OnError,
    time::Moment,
};

/// Puts a [`Handle`] in front of a service.
pub type ConcurrencyLayer<C = OnError> = AdmissionLayer<Handle, C>;

/// A service behind an adaptive limit.
pub type Concurrency<S, C = OnError> = Admission<S, Handle, C>;

impl Sealed for Handle {}

impl Policy for Handle {
    type Permit = Ticket;
    type Waiting = ();

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        self.core.take(now)
    }

    #[inline]
    fn at_once(&self, now: &mut Moment) -> Option<Ticket> {
        self.core.take_free(now)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, verdict: Verdict, now: &mut Moment) {
        self.core.settle(&ticket, verdict, now);
    }

    /// Ready even when every place is taken, for a place may be free by the time of the call.
    fn poll_gate(&self, (): &mut (), _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }

    fn watch(&self, (): &mut (), _: &mut Context<'_>) {}
}

/// It queues nobody: a queue in front of a limit that falls would only make its calls later.
impl Queue for Handle {
    type Wait = Infallible;

    fn enter(&self, now: &mut Moment) -> Result<Entry<Ticket, Infallible>, Rejection> {
        self.core.take(now).map(Entry::Admitted)
    }

    fn poll_wait(&self, wait: &mut Infallible, _: &mut Context<'_>) -> Poll<Result<Ticket, Rejection>> {
        match *wait {}
    }

    fn leave(&self, wait: Infallible) {
        match wait {}
    }
}
