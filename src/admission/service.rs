use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tower::Service;

use crate::{
    admission::{
        Admitted, Entry, Gate, Parts, Policy, Queue, ResponseFuture, Running, Verdict,
        queued::{Entered, InQueue},
    },
    error::{CarryRejection, Rejection},
    outcome::{Classify, OnError, Outcome, classify_error},
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
    parts: Arc<Parts<P, C>>,
    // Calls share a reference count with other clones until the second one, which makes one of their own. A host that
    // clones for every call pays for the shared one, and a host that keeps a clone never waits for its cache line.
    calls: Calls,
    // The inner service was not asked, because the policy would turn the call away.
    shut: bool,
    waiting: P::Waiting,
    watches: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    None,
    One,
    Many,
}

impl<P: Policy, C> Front<P, C> {
    pub(crate) fn new(parts: Arc<Parts<P, C>>) -> Self {
        Self { parts, calls: Calls::None, shut: false, waiting: P::Waiting::default(), watches: false }
    }

    /// Readiness of the service behind this: it is only asked when the policy would let a call in.
    #[inline]
    pub(crate) fn poll_ready<E: CarryRejection>(
        &mut self,
        cx: &mut Context<'_>,
        mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let Poll::Ready(gate) = self.parts.policy.poll_gate(&mut self.waiting, cx) else {
            self.watches = true;
            return Poll::Pending;
        };
        self.shut = gate == Gate::Shut;
        if self.shut {
            self.stop_watching();
            return Poll::Ready(Ok(()));
        }
        match inner(cx) {
            Poll::Ready(Ok(())) => {
                self.stop_watching();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.stop_watching();
                self.count_readiness_error(&error);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                self.parts.policy.watch(&mut self.waiting, cx);
                self.watches = true;
                // The policy may have changed its mind before we were on its list.
                match ready!(self.parts.policy.poll_gate(&mut self.waiting, cx)) {
                    Gate::Open => Poll::Pending,
                    Gate::Shut => {
                        self.shut = true;
                        self.stop_watching();
                        Poll::Ready(Ok(()))
                    }
                }
            }
        }
    }

    /// An idle, ready clone is on nobody's list.
    #[inline]
    fn stop_watching(&mut self) {
        if std::mem::take(&mut self.watches) {
            self.waiting = P::Waiting::default();
        }
    }

    /// A service that cannot even become ready has failed, as one that answers with an error has.
    #[cold]
    fn count_readiness_error<E: CarryRejection>(&self, error: &E) {
        if classify_error(error) == Outcome::Failure {
            let mut now = Moment::new();
            if let Ok(permit) = self.parts.policy.admit(&mut now) {
                self.parts.policy.settle(permit, Verdict::Failure { retry_after: None }, &mut now);
            }
        }
    }

    #[inline]
    fn count_call(&mut self) {
        match self.calls {
            Calls::Many => {}
            Calls::None => self.calls = Calls::One,
            Calls::One => {
                self.parts = self.parts.fork();
                self.calls = Calls::Many;
            }
        }
    }

    /// What a call holds on to, for a layer that lets calls in by itself.
    #[inline]
    pub(crate) fn parts_of_call(&mut self) -> Arc<Parts<P, C>> {
        self.count_call();
        Arc::clone(&self.parts)
    }

    /// Lets a call in, or queues it. The service behind this is asked whether it is ready if it was not asked before.
    pub(crate) fn enter<E: CarryRejection>(
        &mut self,
        mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Result<Entered<P, C>, Rejection>
    where
        P: Queue,
    {
        self.count_call();
        let asked = !std::mem::take(&mut self.shut);
        let parts = Arc::clone(&self.parts);
        match parts.policy.enter(&mut Moment::new())? {
            Entry::Admitted(permit) => {
                let admitted = Admitted::with(parts, permit);
                let admitted = if asked { admitted } else { self.make_ready(admitted, inner)? };
                Ok(Entered::Admitted(admitted))
            }
            Entry::Queued(wait) => {
                let place = InQueue::new(parts, wait);
                let ready = asked || matches!(inner(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
                if ready { Ok(Entered::Queued(place)) } else { Err(self.parts.policy.come_again()) }
            }
        }
    }

    /// Lets a call in. The service behind this is asked whether it is ready if it was not asked before.
    #[inline]
    pub(crate) fn admit<E: CarryRejection>(
        &mut self,
        inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Result<Running<P, C>, Rejection> {
        self.count_call();
        let mut now = Moment::new();
        let asked = !std::mem::take(&mut self.shut);
        let admitted = Admitted::admit(Arc::clone(&self.parts), &mut now)?;
        if asked { Ok(admitted) } else { self.make_ready(admitted, inner) }
    }

    /// The policy lets calls in, but did not when it was asked for readiness, so that the service was not asked. A host
    /// may keep a ready service for long before it calls it: the service is asked now, and the call is turned away only
    /// if it is not ready at once, for a call cannot wait.
    #[cold]
    fn make_ready<E: CarryRejection>(
        &self,
        mut admitted: Running<P, C>,
        mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Result<Running<P, C>, Rejection> {
        // Nobody is to be woken: who calls again asks for readiness again.
        match admitted.guard(|| inner(&mut Context::from_waker(Waker::noop()))) {
            Poll::Ready(Ok(())) => return Ok(admitted),
            Poll::Ready(Err(error)) if classify_error(&error) == Outcome::Failure => {
                admitted.settle(Verdict::Failure { retry_after: None });
            }
            Poll::Ready(Err(_)) | Poll::Pending => admitted.settle(Verdict::Unused),
        }
        Err(self.parts.policy.come_again())
    }
}

impl<P: Policy, C> Clone for Front<P, C> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.parts))
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
        let inner = &mut self.inner;
        match self.front.admit(|cx| inner.poll_ready(cx)) {
            Ok(mut admitted) => {
                let future = admitted.guard(|| inner.call(request));
                ResponseFuture::running(future, admitted)
            }
            Err(rejection) => ResponseFuture::rejected(rejection),
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
