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
    fallback::{falling::Falling, layer::Parts, strategy::Strategy},
    outcome::Classify,
};

pin_project! {
    /// The answer of a [`FallbackService`](super::FallbackService): the service's, or the fallback's.
    ///
    /// It is `Unpin` when the service's future and the fallback's are. Dropping it drops whichever runs, and counts
    /// nothing.
    ///
    /// # Panics
    ///
    /// Polling it again after the fallback ran panics; after the service's answer it does what the service's future
    /// does.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, F, C>
    where
        S: Service<Req>,
        F: Strategy<Req, S::Response, S::Error>,
    {
        #[pin]
        state: State<S, Req, F>,
        parts: Arc<Parts<F, C>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Req, F>
    where
        S: Service<Req>,
        F: Strategy<Req, S::Response, S::Error>,
    {
        Called { #[pin] future: S::Future, kept: Option<F::Kept> },
        Falling { #[pin] falling: Falling<Req, S::Response, S::Error, F> },
    }
}

impl<S, Req, F, C> ResponseFuture<S, Req, F, C>
where
    S: Service<Req>,
    F: Strategy<Req, S::Response, S::Error>,
{
    #[inline]
    pub(super) fn new(future: S::Future, kept: Option<F::Kept>, parts: Arc<Parts<F, C>>) -> Self {
        Self { state: State::Called { future, kept }, parts }
    }
}

impl<S, Req, F, C> Future for ResponseFuture<S, Req, F, C>
where
    S: Service<Req>,
    S::Error: fmt::Display,
    F: Strategy<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let parts = &**this.parts;
        let core = &*parts.handle.core;
        loop {
            match this.state.as_mut().project() {
                StateProjection::Called { future, kept } => {
                    // Looked at where it lies, and handed on whole, as in `retry`.
                    let polled = future.poll(cx);
                    let Poll::Ready(result) = &polled else { return Poll::Pending };
                    let fallback = core.step(&*parts.strategy, &*parts.classify, kept, result.as_ref());
                    let Some(fallback) = fallback else { return polled };
                    let kept = kept.take().expect("a fallback begins with what was kept for it");
                    let Poll::Ready(failed) = polled else { return Poll::Pending };
                    // The service's future ends here: it may hold a permit that the fallback's call needs.
                    this.state.set(State::Falling { falling: Falling::new(fallback, kept, failed) });
                }
                StateProjection::Falling { falling } => return falling.poll(core, &parts.strategy, cx),
            }
        }
    }
}

impl<S, Req, F, C> fmt::Debug for ResponseFuture<S, Req, F, C>
where
    S: Service<Req>,
    F: Strategy<Req, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let falls_back = matches!(self.state, State::Falling { .. });
        f.debug_struct("ResponseFuture")
            .field("handle", &self.parts.handle)
            .field("falls_back", &falls_back)
            .finish_non_exhaustive()
    }
}
