use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    fallback::{cover::AnyError, future::ResponseFuture, handle::Handle, layer::Parts, strategy::Strategy},
    outcome::Classify,
    own::Own,
};

/// A service whose failures are answered by a fallback.
///
/// It is ready when the service inside is. An error of readiness is final, as in all of Tower, and goes to the caller.
pub struct FallbackService<S, F, C = AnyError> {
    inner: S,
    parts: Own<Parts<F, C>>,
}

impl<S, F, C> FallbackService<S, F, C> {
    pub(super) fn new(inner: S, parts: Arc<Parts<F, C>>) -> Self {
        Self { inner, parts: Own::new(parts) }
    }

    /// The fallback.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }

    /// The service inside.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside. Calling it goes round the fallback.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the fallback off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, F, C, Req> Service<Req> for FallbackService<S, F, C>
where
    S: Service<Req>,
    S::Error: fmt::Display,
    F: Strategy<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, F, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let parts = self.parts.of_call();
        let kept = parts.handle.core.keep(&*parts.strategy, &mut request);
        ResponseFuture::new(self.inner.call(request), kept, parts)
    }
}

impl<S: Clone, F, C> Clone for FallbackService<S, F, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), parts: self.parts.clone() }
    }
}

impl<S: fmt::Debug, F, C> fmt::Debug for FallbackService<S, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackService")
            .field("inner", &self.inner)
            .field("handle", &self.parts.handle)
            .finish_non_exhaustive()
    }
}
