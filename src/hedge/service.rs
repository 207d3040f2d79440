use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    error::CarryRejection,
    guarded::guarded,
    hedge::{
        future::{ResponseFuture, Spare},
        handle::Handle,
        layer::Parts,
    },
    outcome::{Classify, OnError},
    own::Own,
    replay::{Cloned, Replay},
    time::Tick,
};

/// A service behind a hedge.
///
/// It is ready when the service inside is. The first copy of a request goes to the very service that became ready; for
/// further ones the answer holds a clone, and makes a clone of that ready before it calls it. A clone that nobody needs
/// is never made ready, and so reserves nothing.
pub struct Hedge<S, C = OnError, R = Cloned> {
    inner: S,
    parts: Own<Parts<C, R>>,
}

impl<S, C, R> Hedge<S, C, R> {
    pub(super) fn new(inner: S, parts: Arc<Parts<C, R>>) -> Self {
        Self { inner, parts: Own::new(parts) }
    }

    /// The hedge in front.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }

    /// The service behind the hedge.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind the hedge. Calling it goes round the hedge.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the hedge off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, R, Req> Service<Req> for Hedge<S, C, R>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    C: Classify<S::Response, S::Error>,
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
        let (mut spare, mut deadline) = (None, Tick::NEVER);
        if core.hedges() {
            let asked = guarded("replay hook", || (parts.replay.deadline(&request), parts.replay.keep(&mut request)));
            if let Some((until, Some(kept))) = asked {
                deadline = until.unwrap_or(Tick::NEVER);
                spare = Some(Spare { service: self.inner.clone(), kept });
            }
        }
        let wanted = core.begin(spare.is_some());
        ResponseFuture::new(self.inner.call(request), spare, (wanted, deadline), parts)
    }
}

impl<S: Clone, C, R> Clone for Hedge<S, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), parts: self.parts.clone() }
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for Hedge<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("inner", &self.inner).field("handle", &self.parts.handle).finish_non_exhaustive()
    }
}
