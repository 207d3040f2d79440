use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service};

use crate::{
    admission::Gatekeeper,
    error::CarryRejection,
    fallback::{NoFallback, Strategy},
    outcome::{Classify, OnError},
    own::Own,
    retry::{Classified, Cloned, Replay, Rule},
    stack::{
        attempt::Due,
        future::{Call, ResponseFuture},
        policies::{Inner, Parts},
    },
};

/// Puts a [`Stack`](super::Stack) in front of a service.
///
/// All state is in the stack: a host may call `layer` as often as it likes, and all the services it makes are one to
/// the policies.
pub struct StackLayer<C = Classified<OnError>, F = NoFallback, R = Cloned> {
    parts: Arc<Parts<C, F, R>>,
}

impl<C, F, R> StackLayer<C, F, R> {
    pub(super) const fn new(parts: Arc<Parts<C, F, R>>) -> Self {
        Self { parts }
    }
}

impl<S, C, F, R> Layer<S> for StackLayer<C, F, R> {
    type Service = StackService<S, C, F, R>;

    fn layer(&self, inner: S) -> Self::Service {
        StackService::new(inner, Arc::clone(&self.parts))
    }
}

impl<C, F, R> Clone for StackLayer<C, F, R> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<C, F, R> fmt::Debug for StackLayer<C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackLayer").field("policies", &self.parts.policies).finish_non_exhaustive()
    }
}

/// A service behind a [`Stack`](super::Stack).
pub struct StackService<S, C = Classified<OnError>, F = NoFallback, R = Cloned> {
    inner: S,
    parts: Own<Parts<C, F, R>>,
    gate: Gatekeeper<Inner>,
}

impl<S, C, F, R> StackService<S, C, F, R> {
    pub(super) fn new(inner: S, parts: Arc<Parts<C, F, R>>) -> Self {
        Self::of(inner, Own::new(parts))
    }

    fn of(inner: S, parts: Own<Parts<C, F, R>>) -> Self {
        Self { inner, parts, gate: Gatekeeper::new() }
    }

    /// The service behind the stack.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind the stack. Calling it goes round the stack.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the stack off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, F, R, Req> Service<Req> for StackService<S, C, F, R>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection + fmt::Display,
    C: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
    F: Strategy<Req, S::Response, S::Error>,
    R: Replay<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, F, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        self.gate.poll_ready(&self.parts.policies.inner, cx, |cx| inner.poll_ready(cx))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let due = Due { gate: &mut self.gate, service: &mut self.inner, request };
        ResponseFuture::new(Call::begin(self.parts.of_call(), due))
    }
}

impl<S: Clone, C, F, R> Clone for StackService<S, C, F, R> {
    fn clone(&self) -> Self {
        Self::of(self.inner.clone(), self.parts.clone())
    }
}

impl<S: fmt::Debug, C, F, R> fmt::Debug for StackService<S, C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackService")
            .field("inner", &self.inner)
            .field("policies", &self.parts.policies)
            .finish_non_exhaustive()
    }
}
