use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    guarded::guarded,
    outcome::OnError,
    own::Own,
    replay::{Cloned, Replay},
    retry::{
        future::{ResponseFuture, Spare},
        handle::Handle,
        layer::Parts,
        rule::{Classified, Rule},
    },
    time::Tick,
};

/// A service behind a retry.
///
/// It is ready when the service inside is. The first attempt is made with the very service that became ready; for
/// further ones the answer holds a clone, which it makes ready before it calls it. A clone that nobody needs is never
/// made ready, and so reserves nothing.
pub struct Retry<S, C = Classified<OnError>, R = Cloned> {
    inner: S,
    parts: Own<Parts<C, R>>,
}

impl<S, C, R> Retry<S, C, R> {
    pub(super) fn new(inner: S, parts: Arc<Parts<C, R>>) -> Self {
        Self { inner, parts: Own::new(parts) }
    }

    /// The retry in front.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }

    /// The service behind the retry.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind the retry. Calling it goes round the retry.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the retry off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, R, Req> Service<Req> for Retry<S, C, R>
where
    S: Service<Req> + Clone,
    C: Rule<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let parts = self.parts.of_call();
        let core = &*parts.handle.core;
        let deadline = guarded("replay hook", || parts.replay.deadline(&request).unwrap_or(Tick::NEVER));
        let deadline = core.begin(deadline.unwrap_or(Tick::NEVER));
        let spare = if core.tries_again() {
            let kept = guarded("replay hook", || parts.replay.keep(&mut request)).flatten();
            kept.map(|kept| Spare { service: self.inner.clone(), kept })
        } else {
            None
        };
        ResponseFuture::new(self.inner.call(request), spare, deadline, parts)
    }
}

impl<S: Clone, C, R> Clone for Retry<S, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), parts: self.parts.clone() }
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for Retry<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &self.inner).field("handle", &self.parts.handle).finish_non_exhaustive()
    }
}
