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
    deadline::{Deadline, DeadlineOf, NoDeadline},
    error::{CarryRejection, Rejection},
    guarded::guarded,
    own::{Fork, Own},
    time::Moment,
    timeout::{Handle, timer::Timer},
};

/// A service whose calls are cut off when they take too long.
pub struct Timeout<S, D = NoDeadline> {
    inner: S,
    parts: Own<Parts<D>>,
}

/// What a call needs to know of its limit.
pub(super) struct Parts<D> {
    handle: Handle,
    deadline: Arc<D>,
}

impl<D> Fork for Parts<D> {
    fn fork(&self) -> Arc<Self> {
        Arc::new(Self { handle: self.handle.clone(), deadline: Arc::clone(&self.deadline) })
    }
}

impl<S, D> Timeout<S, D> {
    pub(super) fn new(inner: S, handle: Handle, deadline: Arc<D>) -> Self {
        Self { inner, parts: Own::new(Arc::new(Parts { handle, deadline })) }
    }

    /// The limit.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }

    /// The service inside.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Takes the limit off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, D, Req> Service<Req> for Timeout<S, D>
where
    S: Service<Req>,
    S::Error: CarryRejection,
    D: DeadlineOf<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, D>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let deadlines = &*self.parts.deadline;
        let asked = || guarded("deadline function", || deadlines.deadline(&request)).flatten();
        let deadline = if DeadlineOf::<Req>::has_none(deadlines) { None } else { asked() };
        if deadline.is_some_and(|deadline| deadline.has_passed(&mut Moment::new())) {
            let rejection = self.parts.handle.core.too_late();
            return ResponseFuture { state: State::TooLate { rejection: Some(rejection) } };
        }
        let future = self.inner.call(request);
        let parts = self.parts.of_call();
        ResponseFuture { state: State::Called { future, parts, timer: Timer::default(), deadline } }
    }
}

impl<S: Clone, D> Clone for Timeout<S, D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), parts: self.parts.clone() }
    }
}

impl<S: fmt::Debug, D> fmt::Debug for Timeout<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("inner", &self.inner).field("handle", self.handle()).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`Timeout`]: the service's, or the rejection of a call that was cut off.
    ///
    /// `Unpin` when the service's future is. Dropping it drops the call.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered for a call that came too late panics.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, D = NoDeadline> {
        #[pin]
        state: State<F, D>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, D> {
        TooLate { rejection: Option<Rejection> },
        Called { #[pin] future: F, parts: Arc<Parts<D>>, timer: Timer, deadline: Option<Deadline> },
    }
}

impl<F, T, E, D> Future for ResponseFuture<F, D>
where
    F: Future<Output = Result<T, E>>,
    E: CarryRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::TooLate { rejection } => {
                let rejection = rejection.take().expect("polled again after it answered");
                Poll::Ready(Err(E::from_rejection(rejection)))
            }
            StateProjection::Called { future, parts, timer, deadline } => {
                // The service first: an answer that is there wins over a limit that has passed.
                if let Poll::Ready(result) = future.poll(cx) {
                    return Poll::Ready(result);
                }
                let core = &parts.handle.core;
                timer.poll(core.limit(), *deadline, cx).map(|()| Err(E::from_rejection(core.cut_off())))
            }
        }
    }
}

impl<F: fmt::Debug, D> fmt::Debug for ResponseFuture<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("ResponseFuture");
        match &self.state {
            State::TooLate { rejection } => f.field("rejection", rejection),
            State::Called { future, parts, .. } => f.field("future", future).field("handle", &parts.handle),
        };
        f.finish_non_exhaustive()
    }
}
