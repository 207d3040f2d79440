use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    admission::{Entered, Front, InQueue, Parts, Policy, Queue, QueuedLayer, Running},
    error::{CarryRejection, Rejection},
    http::streamed_body::{StreamedBody, streamed},
    outcome::{Classify, OnError},
};

impl<P: Policy, C> QueuedLayer<P, C> {
    /// Holds what the policy gave until the body of the response has ended, and judges the call then, as
    /// [`AdmissionLayer::until_body_end`](crate::admission::AdmissionLayer::until_body_end) does.
    ///
    /// ```
    /// use mainstay::bulkhead::{BulkheadLayer, Config, Handle};
    ///
    /// let downloads = Handle::new("downloads", Config::new(8).max_queue(32));
    /// let layer = BulkheadLayer::new(downloads).queued().until_body_end();
    /// ```
    #[must_use]
    pub fn until_body_end(self) -> QueuedStreamedLayer<P, C> {
        QueuedStreamedLayer { parts: Arc::clone(self.parts()) }
    }
}

/// Puts a [`Queue`] in front of an HTTP service, and settles each call at the end of its response's body.
///
/// Made by [`QueuedLayer::until_body_end`].
pub struct QueuedStreamedLayer<P, C = OnError> {
    parts: Arc<Parts<P, C>>,
}

impl<P, C> QueuedStreamedLayer<P, C> {
    pub(super) const fn new(parts: Arc<Parts<P, C>>) -> Self {
        Self { parts }
    }
}

impl<S, P: Policy, C> Layer<S> for QueuedStreamedLayer<P, C> {
    type Service = QueuedStreamed<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        QueuedStreamed { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<P, C> Clone for QueuedStreamedLayer<P, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<P: fmt::Debug, C> fmt::Debug for QueuedStreamedLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedStreamedLayer").field("policy", &self.parts.policy).finish_non_exhaustive()
    }
}

/// An HTTP service behind a [`Queue`] that sees bodies to their end.
pub struct QueuedStreamed<S, P: Policy, C = OnError> {
    inner: S,
    front: Front<P, C>,
}

impl<S, P, C, Req, B> Service<Req> for QueuedStreamed<S, P, C>
where
    S: Service<Req, Response = Response<B>> + Clone,
    S::Error: CarryRejection,
    B: Body,
    P: Queue,
    C: Classify<Response<B>, S::Error>,
{
    type Response = Response<StreamedBody<B, P, C>>;
    type Error = S::Error;
    type Future = QueuedStreamedFuture<S, Req, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        self.front.poll_ready(cx, |cx| inner.poll_ready(cx))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let inner = &mut self.inner;
        let state = match self.front.enter(|cx| inner.poll_ready(cx), P::enter) {
            Ok(Entered::Admitted(mut call)) => {
                State::Called { future: call.guard(|| inner.call(request)), call: Some(call) }
            }
            Ok(Entered::Queued(place)) => {
                // The clone that was made ready is the one to be called; the next call gets a fresh one.
                let fresh = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, fresh);
                State::Queued { service, request: Some(request), place }
            }
            Err(rejection) => State::Rejected { rejection: Some(rejection) },
        };
        QueuedStreamedFuture { state }
    }
}

impl<S: Clone, P: Policy, C> Clone for QueuedStreamed<S, P, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<S: fmt::Debug, P: Policy + fmt::Debug, C> fmt::Debug for QueuedStreamed<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedStreamed").field("inner", &self.inner).field("front", &self.front).finish()
    }
}

pin_project! {
    /// The answer of a [`QueuedStreamed`]: the service's, or a rejection. Dropping it leaves the queue, or gives back
    /// what the policy gave.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered panics.
    #[must_use = "futures do nothing unless polled"]
    pub struct QueuedStreamedFuture<S: Service<Req>, Req, P: Queue, C> {
        #[pin]
        state: State<S, Req, P, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req, P: Queue, C> {
        Rejected { rejection: Option<Rejection> },
        Queued { service: S, request: Option<Req>, place: InQueue<Arc<Parts<P, C>>> },
        Called { #[pin] future: S::Future, call: Option<Running<P, C>> },
    }
}

impl<S, Req, P, C, B> Future for QueuedStreamedFuture<S, Req, P, C>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: CarryRejection,
    B: Body,
    P: Queue,
    C: Classify<Response<B>, S::Error>,
{
    type Output = Result<Response<StreamedBody<B, P, C>>, S::Error>;

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
                        State::Called { future: call.guard(|| service.call(request)), call: Some(call) }
                    }
                    Err(rejection) => State::Rejected { rejection: Some(rejection) },
                },
                StateProjection::Called { future, call } => {
                    let running = call.as_mut().expect("polled again after it answered");
                    let result = ready!(running.guard(|| future.poll(cx)));
                    return Poll::Ready(streamed(call, result));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, P: Queue, C> fmt::Debug for QueuedStreamedFuture<S, Req, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Rejected { .. } => "rejected",
            State::Queued { .. } => "queued",
            State::Called { .. } => "called",
        };
        f.debug_struct("QueuedStreamedFuture").field("state", &state).finish_non_exhaustive()
    }
}
