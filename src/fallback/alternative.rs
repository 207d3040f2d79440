use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    fallback::strategy::Strategy,
    replay::{Cloned, Replay},
};

/// Asks another service. Made by [`Fallback::service`](super::Fallback::service).
///
/// Each use clones it, makes the clone ready and calls it. It is not asked for readiness before, and so reserves
/// nothing.
#[derive(Debug, Clone)]
pub struct Alternative<S, R = Cloned> {
    pub(super) service: S,
    pub(super) replay: R,
}

impl<Req, T, E, S, R> Strategy<Req, T, E> for Alternative<S, R>
where
    S: Service<Req, Response = T, Error = E> + Clone,
    R: Replay<Req>,
{
    type Kept = Option<R::Kept>;
    type Future = AlternativeFuture<S, Req>;

    #[inline]
    fn keep(&self, request: &mut Req) -> Self::Kept {
        self.replay.keep(request)
    }

    fn fall_back(&self, kept: &mut Self::Kept, _: Result<&T, &E>) -> Option<Self::Future> {
        let request = Some(self.replay.again(kept.as_ref()?, 2)?);
        Some(AlternativeFuture { state: State::Waiting { service: self.service.clone(), request } })
    }
}

pin_project! {
    /// The answer of another service, which is made ready first.
    #[must_use = "futures do nothing unless polled"]
    pub struct AlternativeFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Req, F> {
        Waiting { service: S, request: Option<Req> },
        Called { #[pin] future: F },
    }
}

impl<S: Service<Req>, Req> Future for AlternativeFuture<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Waiting { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let request = request.take().expect("polled again after a service that could not become ready");
                    let future = service.call(request);
                    state.set(State::Called { future });
                }
                StateProjection::Called { future } => return future.poll(cx),
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for AlternativeFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let called = matches!(self.state, State::Called { .. });
        f.debug_struct("AlternativeFuture").field("called", &called).finish_non_exhaustive()
    }
}
