use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    error::CarryRejection,
    hedge::{
        core::Ticket,
        hedged::{Copies, Hedged},
        layer::Parts,
        rule::judge,
        sending::Sending,
    },
    outcome::Classify,
    replay::Replay,
    time::Tick,
};

/// What further copies are made of.
pub(super) struct Spare<S, K> {
    pub(super) service: S,
    pub(super) kept: K,
}

pin_project! {
    /// The answer of a [`Hedge`](super::Hedge): that of the first copy that has a good one.
    ///
    /// It is `Unpin` when the service's future is. Dropping it drops all copies; one that was not sent yet goes back
    /// into the budget and is not counted.
    ///
    /// # Panics
    ///
    /// When it has to wait and there is no tokio runtime with timers. Polling it again after it has answered does what
    /// the service's future does then, or waits for ever.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, R>
    where
        S: Service<Req>,
        R: Replay<Req>,
    {
        #[pin]
        hedged: Hedged<S::Future, Sending<S, Req>, S::Error>,
        // None when the request is sent once only.
        spare: Option<Spare<S, R::Kept>>,
        parts: Arc<Parts<C, R>>,
    }
}

impl<S, Req, C, R> ResponseFuture<S, Req, C, R>
where
    S: Service<Req>,
    R: Replay<Req>,
{
    #[inline]
    pub(super) fn new(
        first: S::Future,
        spare: Option<Spare<S, R::Kept>>,
        (wanted, deadline): (bool, Tick),
        parts: Arc<Parts<C, R>>,
    ) -> Self {
        Self { hedged: Hedged::new(first, wanted, deadline), spare, parts }
    }
}

impl<S, Req, C, R> Future for ResponseFuture<S, Req, C, R>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let parts = &**this.parts;
        let mut copies = Requests { spare: this.spare.as_ref(), parts };
        this.hedged.poll(&parts.handle.core, |result| judge(&*parts.classify, result), &mut copies, cx)
    }
}

/// Copies of a request to a service.
struct Requests<'a, S, Req, C, R: Replay<Req>> {
    spare: Option<&'a Spare<S, R::Kept>>,
    parts: &'a Parts<C, R>,
}

impl<S, Req, C, R> Copies for Requests<'_, S, Req, C, R>
where
    S: Service<Req> + Clone,
    R: Replay<Req>,
{
    type Request = Req;
    type Copy = Sending<S, Req>;

    fn request(&mut self, attempt: u32) -> Option<Req> {
        self.parts.replay.again(&self.spare?.kept, attempt)
    }

    fn begin(&mut self, request: Req, ticket: Ticket) -> Sending<S, Req> {
        let service = self.spare.expect("a request is only made again from a spare").service.clone();
        Sending::new(service, request, ticket, self.parts.handle.clone())
    }
}

impl<S, Req, C, R> fmt::Debug for ResponseFuture<S, Req, C, R>
where
    S: Service<Req>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("handle", &self.parts.handle)
            .field("attempt", &self.hedged.attempt())
            .finish_non_exhaustive()
    }
}
