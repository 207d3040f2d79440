use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    error::CarryRejection,
    timeout::{Handle, Timer},
};

/// A service whose calls are cut off when they take too long, if there is a limit: the innermost part of a
/// [`StreamedStack`](crate::http::StreamedStack).
#[derive(Debug, Clone)]
pub struct AttemptLimit<S> {
    inner: S,
    limit: Option<Handle>,
}

impl<S> AttemptLimit<S> {
    pub(super) const fn new(inner: S, limit: Option<Handle>) -> Self {
        Self { inner, limit }
    }
}

impl<S, Req> Service<Req> for AttemptLimit<S>
where
    S: Service<Req>,
    S::Error: CarryRejection,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AttemptLimitFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        AttemptLimitFuture { future: self.inner.call(request), limit: self.limit.clone(), timer: Timer::default() }
    }
}

pin_project! {
    /// The answer of an [`AttemptLimit`]: the service's, or the rejection of a call that was cut off.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct AttemptLimitFuture<F> {
        #[pin]
        future: F,
        limit: Option<Handle>,
        timer: Timer,
    }
}

impl<F, T, E> Future for AttemptLimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: CarryRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The service first: an answer that is there wins over a limit that has passed.
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        let Some(limit) = this.limit else { return Poll::Pending };
        this.timer.poll(limit.limit(), None, cx).map(|()| Err(E::from_rejection(limit.core().cut_off())))
    }
}
