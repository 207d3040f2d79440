use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    admission::{
        Admitted, Entered, Entry, Gatekeeper, Parts, Policy, Queue, ResponseFuture, Running, gatekeeper::make_ready,
        guard_begin,
    },
    error::{CarryRejection, Rejection},
    outcome::{Classify, OnError},
    own::Own,
    time::Moment,
};

/// A service behind a [`Policy`].
///
/// It is `Clone`, `Send`, `Sync` and `Unpin` when the service inside is, and asks nothing of the request.
pub struct Admission<S, P: Policy, C = OnError> {
    inner: S,
    front: Front<P, C>,
}

/// What stands before the service, whatever comes out of it.
pub(crate) struct Front<P: Policy, C> {
    parts: Own<Parts<P, C>>,
    gate: Gatekeeper<P>,
}

impl<P: Policy, C> Front<P, C> {
    pub(crate) fn new(parts: Arc<Parts<P, C>>) -> Self {
        Self::of(Own::new(parts))
    }

    fn of(parts: Own<Parts<P, C>>) -> Self {
        Self { parts, gate: Gatekeeper::new() }
    }

    /// Readiness of the service behind this: it is only asked when the policy would let a call in.
    #[inline]
    pub(crate) fn poll_ready<E: CarryRejection>(
        &mut self,
        cx: &mut Context<'_>,
        inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        self.gate.poll_ready(&self.parts.policy, cx, inner)
    }

    /// What a call holds on to, for a layer that lets calls in by itself.
    #[inline]
    pub(crate) fn parts_of_call(&mut self) -> Arc<Parts<P, C>> {
        self.parts.of_call()
    }

    /// Lets a call in, or queues it, as `enter` says. The service behind this is asked whether it is ready if it was
    /// not asked before.
    pub(crate) fn enter<E: CarryRejection>(
        &mut self,
        inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
        enter: impl FnOnce(&P, &mut Moment) -> Result<Entry<P::Permit, P::Wait>, Rejection>,
    ) -> Result<Entered<Arc<Parts<P, C>>>, Rejection>
    where
        P: Queue,
    {
        self.gate.enter(self.parts.of_call(), inner, |policy| enter(policy, &mut Moment::new()))
    }

    /// Makes a call if it is let in without a second look.
    #[inline(always)]
    fn call_at_once<Req, F>(
        &mut self,
        call: impl FnOnce(Req) -> F,
        request: Req,
        now: &mut Moment,
    ) -> Result<ResponseFuture<F, P, C>, Req> {
        let Some(permit) = self.gate.at_once(&self.parts.policy, now) else { return Err(request) };
        let parts = self.parts.of_call();
        let (future, permit) = guard_begin(&parts.policy, permit, || call(request));
        Ok(ResponseFuture::running(future, Admitted::with(parts, permit)))
    }

    /// Lets a call in, as `admit` says. The service behind this is asked whether it is ready if it was not asked
    /// before.
    #[inline]
    pub(crate) fn admit<E: CarryRejection>(
        &mut self,
        inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
        admit: impl FnOnce(&P, &mut Moment) -> Result<P::Permit, Rejection>,
    ) -> Result<Running<P, C>, Rejection> {
        let asked = self.gate.was_asked();
        let permit = admit(&self.parts.policy, &mut Moment::new())?;
        // Only now: a call that is turned away needs no reference.
        let admitted = Admitted::with(self.parts.of_call(), permit);
        if asked { Ok(admitted) } else { make_ready(admitted, inner) }
    }
}

impl<P: Policy, C> Clone for Front<P, C> {
    fn clone(&self) -> Self {
        Self::of(self.parts.clone())
    }
}

impl<P: Policy + fmt::Debug, C> fmt::Debug for Front<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("policy", &self.parts.policy).finish_non_exhaustive()
    }
}

impl<S, P: Policy, C> Admission<S, P, C> {
    pub(crate) fn new(inner: S, parts: Arc<Parts<P, C>>) -> Self {
        Self { inner, front: Front::new(parts) }
    }

    /// The policy in front.
    #[must_use]
    pub fn policy(&self) -> &P {
        &self.front.parts.policy
    }

    /// The service behind the policy.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind the policy. Calling it goes round the policy.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the policy off.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Calls the service if `admit` lets the call in, for a policy that has more than one way.
    #[inline]
    pub(crate) fn call_by<Req>(
        &mut self,
        request: Req,
        admit: impl FnOnce(&P, &mut Moment) -> Result<P::Permit, Rejection>,
    ) -> ResponseFuture<S::Future, P, C>
    where
        S: Service<Req>,
        S::Error: CarryRejection,
    {
        let inner = &mut self.inner;
        match self.front.admit(|cx| inner.poll_ready(cx), admit) {
            Ok(mut admitted) => {
                let future = admitted.guard(|| inner.call(request));
                ResponseFuture::running(future, admitted)
            }
            Err(rejection) => ResponseFuture::rejected(rejection),
        }
    }
}

impl<S, P, C, Req> Service<Req> for Admission<S, P, C>
where
    S: Service<Req>,
    S::Error: CarryRejection,
    P: Policy,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        self.front.poll_ready(cx, |cx| inner.poll_ready(cx))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (inner, mut now) = (&mut self.inner, Moment::new());
        match self.front.call_at_once(|request| inner.call(request), request, &mut now) {
            Ok(future) => future,
            // At the same moment: the clock need not be read again.
            Err(request) => self.call_by(request, |policy, _| policy.admit(&mut now)),
        }
    }
}

impl<S: Clone, P: Policy, C> Clone for Admission<S, P, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<S: fmt::Debug, P: Policy + fmt::Debug, C> fmt::Debug for Admission<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("inner", &self.inner).field("front", &self.front).finish()
    }
}
