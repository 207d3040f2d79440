use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    admission::{AdmissionLayer, Entered, Entry, Front, InQueue, Parts, Policy, Queue, Running},
    error::{CarryRejection, Rejection},
    outcome::{Classify, OnError},
    time::Moment,
};

impl<P: Policy, C> AdmissionLayer<P, C> {
    /// Has calls wait in the policy's queue when it cannot let them in at once, instead of turning them away. The
    /// service must be `Clone`, because the one that was made ready waits with the call.
    #[must_use]
    pub fn queued(self) -> QueuedLayer<P, C> {
        QueuedLayer { parts: Arc::clone(self.parts()) }
    }
}

impl<P, C> QueuedLayer<P, C> {
    #[cfg(feature = "http")]
    pub(crate) const fn parts(&self) -> &Arc<Parts<P, C>> {
        &self.parts
    }
}

/// Puts a [`Queue`] in front of a service. Made by [`AdmissionLayer::queued`].
pub struct QueuedLayer<P, C = OnError> {
    parts: Arc<Parts<P, C>>,
}

impl<S, P: Policy, C> Layer<S> for QueuedLayer<P, C> {
    type Service = Queued<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Queued { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<P, C> Clone for QueuedLayer<P, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<P: fmt::Debug, C> fmt::Debug for QueuedLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedLayer").field("policy", &self.parts.policy).finish_non_exhaustive()
    }
}

/// A service behind a [`Queue`].
pub struct Queued<S, P: Policy, C = OnError> {
    inner: S,
    front: Front<P, C>,
}

impl<S, P, C, Req> Service<Req> for Queued<S, P, C>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    P: Queue,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedFuture<S, Req, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        self.front.poll_ready(cx, |cx| inner.poll_ready(cx))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.call_by(request, P::enter)
    }
}

impl<S, P: Policy, C> Queued<S, P, C> {
    /// Calls the service if `enter` lets the call in, or has it wait, for a policy that has more than one way.
    pub(crate) fn call_by<Req>(
        &mut self,
        request: Req,
        enter: impl FnOnce(&P, &mut Moment) -> Result<Entry<P::Permit, P::Wait>, Rejection>,
    ) -> QueuedFuture<S, Req, P, C>
    where
        S: Service<Req> + Clone,
        S::Error: CarryRejection,
        P: Queue,
    {
        let inner = &mut self.inner;
        let entered = self.front.enter(|cx| inner.poll_ready(cx), enter);
        QueuedFuture::new(&mut self.inner, request, entered)
    }
}

impl<S: Clone, P: Policy, C> Clone for Queued<S, P, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<S: fmt::Debug, P: Policy + fmt::Debug, C> fmt::Debug for Queued<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("inner", &self.inner).field("front", &self.front).finish()
    }
}

pin_project! {
    /// The answer of a [`Queued`]: the service's, or a rejection. Dropping it leaves the queue, or gives back what the
    /// policy gave.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered with a rejection panics.
    #[must_use = "futures do nothing unless polled"]
    pub struct QueuedFuture<S: Service<Req>, Req, P: Queue, C> {
        #[pin]
        state: State<S, Req, P, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req, P: Queue, C> {
        Rejected { rejection: Option<Rejection> },
        Queued { service: S, request: Option<Req>, place: InQueue<Arc<Parts<P, C>>> },
        Called { #[pin] future: S::Future, call: Running<P, C> },
    }
}

impl<S: Service<Req> + Clone, Req, P: Queue, C> QueuedFuture<S, Req, P, C> {
    /// Calls the service if the call was let in, and takes it along if the call waits.
    pub(crate) fn new(inner: &mut S, request: Req, entered: Result<Entered<Arc<Parts<P, C>>>, Rejection>) -> Self {
        let state = match entered {
            Ok(Entered::Admitted(mut call)) => State::Called { future: call.guard(|| inner.call(request)), call },
            Ok(Entered::Queued(place)) => {
                // The clone that was made ready is the one to be called; the next call gets a fresh one.
                let fresh = inner.clone();
                let service = std::mem::replace(inner, fresh);
                State::Queued { service, request: Some(request), place }
            }
            Err(rejection) => State::Rejected { rejection: Some(rejection) },
        };
        Self { state }
    }
}

impl<S, Req, P, C> Future for QueuedFuture<S, Req, P, C>
where
    S: Service<Req>,
    S::Error: CarryRejection,
    P: Queue,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Rejected { rejection } => {
                    let rejection = rejection.take().expect("polled again after it answered with a rejection");
                    return Poll::Ready(Err(S::Error::from_rejection(rejection)));
                }
                StateProjection::Queued { service, request, place } => match ready!(place.poll(cx)) {
                    Ok(mut call) => {
                        let request = request.take().expect("a call waits with its request");
                        State::Called { future: call.guard(|| service.call(request)), call }
                    }
                    Err(rejection) => State::Rejected { rejection: Some(rejection) },
                },
                StateProjection::Called { future, call } => {
                    let result = ready!(call.guard(|| future.poll(cx)));
                    call.judge(result.as_ref());
                    return Poll::Ready(result);
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, P: Queue, C> fmt::Debug for QueuedFuture<S, Req, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Rejected { .. } => "rejected",
            State::Queued { .. } => "queued",
            State::Called { .. } => "called",
        };
        f.debug_struct("QueuedFuture").field("state", &state).finish_non_exhaustive()
    }
}
