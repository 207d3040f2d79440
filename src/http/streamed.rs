use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    admission::{AdmissionLayer, Front, Parts, Policy, Running, Verdict},
    error::{CarryRejection, Rejection},
    outcome::{Classify, OnError},
    time::Tick,
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
                let head = running.verdict(result.as_ref());
                let left = result.as_ref().ok().and_then(length);
                let mut held = Held { call: call.take(), head, left, asked: false, waits_since: None };
                let response = match result {
                    Ok(response) => response,
                    Err(error) => {
                        held.settle(head);
                        return Poll::Ready(Err(error));
                    }
                };
                if held.left == Some(0) || response.body().is_end_stream() {
                    held.settle(head);
                }
                Poll::Ready(Ok(response.map(|body| StreamedBody { body, held })))
            }
        }
    }
}

/// How many bytes the body will have, when the head or the body knows.
fn length<B: Body>(response: &Response<B>) -> Option<u64> {
    let told = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    told.or_else(|| response.body().size_hint().exact())
}

/// A call whose head was judged and whose body still streams.
struct Held<P: Policy, C> {
    call: Option<Running<P, C>>,
    head: Verdict,
    // How many bytes are still to come, when it is known.
    left: Option<u64>,
    // Whether anybody has asked for a piece of the body.
    asked: bool,
    // Since when the caller has been waiting for a piece of the body; none while the caller has not asked for one.
    waits_since: Option<Tick>,
}

impl<P: Policy, C> Held<P, C> {
    fn settle(&mut self, verdict: Verdict) {
        if let Some(mut call) = self.call.take() {
            call.settle(verdict);
        }
    }

    /// The body broke off. A head that was a failure already may have said how long to stay away.
    fn fail(&mut self) {
        let failed = matches!(self.head, Verdict::Failure { .. });
        self.settle(if failed { self.head } else { Verdict::Failure { retry_after: None } });
    }

    /// Whether hosts ask for nothing after this frame, even if the body does not say that it has ended: nothing comes
    /// after trailers, and HTTP/1 drops a body once it has sent as many bytes as the head told.
    fn is_last<D: Buf>(&mut self, frame: &Frame<D>) -> bool {
        let Some(data) = frame.data_ref() else { return frame.is_trailers() };
        self.left = self.left.map(|left| left.saturating_sub(data.remaining() as u64));
        self.left == Some(0)
    }
}

impl<P: Policy, C> Drop for Held<P, C> {
    fn drop(&mut self) {
        if self.call.is_none() {
            return;
        }
        // Who stops reading an error page has still seen the error.
        let verdict = match self.head {
            // Nobody wanted the body, as in the answer to HEAD: the head is all there is to judge.
            Verdict::Success if !self.asked => Verdict::Success,
            // A reader may be slow or stay for hours, and then leave: only a wait for the service is the service's.
            Verdict::Success => {
                let waited = self.waits_since.map_or(Duration::ZERO, |since| Tick::now().since(since));
                Verdict::BrokenOff { waited }
            }
            head => head,
        };
        self.settle(verdict);
    }
}

impl<P: Policy, C> fmt::Debug for Held<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("head", &self.head).field("settled", &self.call.is_none()).finish()
    }
}

pin_project! {
    /// A body that tells the policy of its end.
    #[derive(Debug)]
    pub struct StreamedBody<B, P: Policy, C> {
        #[pin]
        body: B,
        held: Held<P, C>,
    }
}

impl<B: Body, P: Policy, C> Body for StreamedBody<B, P, C> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        this.held.asked = true;
        let poll = || this.body.as_mut().poll_frame(cx);
        let polled = match &mut this.held.call {
            Some(call) => call.guard(poll),
            None => return this.body.as_mut().poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            this.held.waits_since.get_or_insert_with(Tick::now);
            return Poll::Pending;
        };
        this.held.waits_since = None;
        match &frame {
            Some(Err(_)) => this.held.fail(),
            // Nor do hosts ask for another frame when the body says that there is none.
            Some(Ok(frame)) if !this.held.is_last(frame) && !this.body.is_end_stream() => {}
            Some(Ok(_)) | None => this.held.settle(this.held.head),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
