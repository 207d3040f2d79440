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
    admission::{AdmissionLayer, Front, Parts, Policy, Running},
    error::{CarryRejection, Rejection},
    http::streamed_body::{StreamedBody, streamed},
    outcome::{Classify, OnError},
};

impl<P: Policy, C> AdmissionLayer<P, C> {
    /// Holds what the policy gave until the body of the response has ended, and judges the call then.
    ///
    /// A body has ended when it says so, with its trailers, or with its last byte when its length is known.
    ///
    /// A body that ends well leaves what the classifier made of the head, and so does one that nobody ever asks for a
    /// piece of, as in the answer to a HEAD request; a body that fails is a failure. One that is dropped half-way is a
    /// cancelled call, unless the head was a failure already. It counts as a failure after
    /// [`count_cancelled_after`](crate::breaker::Config::count_cancelled_after) only when the service had kept the
    /// reader waiting for so long when the reader left: slow readers, and those of an endless stream, may leave at any
    /// time. A response counts as slow by the time its body took.
    #[must_use]
    pub fn until_body_end(self) -> StreamedLayer<P, C> {
        StreamedLayer { parts: Arc::clone(self.parts()) }
    }
}

/// Puts a [`Policy`] in front of an HTTP service, and settles each call at the end of its response's body.
///
/// Made by [`AdmissionLayer::until_body_end`].
pub struct StreamedLayer<P, C = OnError> {
    parts: Arc<Parts<P, C>>,
}

impl<S, P: Policy, C> Layer<S> for StreamedLayer<P, C> {
    type Service = Streamed<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Streamed { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<P, C> Clone for StreamedLayer<P, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<P: fmt::Debug, C> fmt::Debug for StreamedLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedLayer").field("policy", &self.parts.policy).finish_non_exhaustive()
    }
}

/// An HTTP service behind a [`Policy`] that sees bodies to their end.
pub struct Streamed<S, P: Policy, C = OnError> {
    inner: S,
    front: Front<P, C>,
}

impl<S, P, C, Req, B> Service<Req> for Streamed<S, P, C>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: CarryRejection,
    B: Body,
    P: Policy,
    C: Classify<Response<B>, S::Error>,
{
    type Response = Response<StreamedBody<B, P, C>>;
    type Error = S::Error;
    type Future = StreamedFuture<S::Future, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        self.front.poll_ready(cx, |cx| inner.poll_ready(cx))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let inner = &mut self.inner;
        let admitted = self.front.admit(|cx| inner.poll_ready(cx), P::admit);
        StreamedFuture::new(admitted, || inner.call(request))
    }
}

impl<S: Clone, P: Policy, C> Clone for Streamed<S, P, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<S: fmt::Debug, P: Policy + fmt::Debug, C> fmt::Debug for Streamed<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("inner", &self.inner).field("front", &self.front).finish()
    }
}

pin_project! {
    /// The answer of a [`Streamed`]: the service's, or a rejection.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered panics.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct StreamedFuture<F, P: Policy, C> {
        #[pin]
        state: State<F, P, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, P: Policy, C> {
        Rejected { rejection: Option<Rejection> },
        Called { #[pin] future: F, call: Option<Running<P, C>> },
    }
}

impl<F, P: Policy, C> StreamedFuture<F, P, C> {
    /// Calls the service if the call was let in.
    pub(super) fn new(admitted: Result<Running<P, C>, Rejection>, call_inner: impl FnOnce() -> F) -> Self {
        let state = match admitted {
            Ok(mut call) => State::Called { future: call.guard(call_inner), call: Some(call) },
            Err(rejection) => State::Rejected { rejection: Some(rejection) },
        };
        Self { state }
    }
}

impl<F, P, C, B, E> Future for StreamedFuture<F, P, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    P: Policy,
    C: Classify<Response<B>, E>,
    E: CarryRejection,
{
    type Output = Result<Response<StreamedBody<B, P, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Rejected { rejection } => {
                let rejection = rejection.take().expect("polled again after it answered with a rejection");
                Poll::Ready(Err(E::from_rejection(rejection)))
            }
            StateProjection::Called { future, call } => {
                let running = call.as_mut().expect("polled again after it answered");
                let result = ready!(running.guard(|| future.poll(cx)));
                Poll::Ready(streamed(call, result))
            }
        }
    }
}
