use std::{
    fmt::{self, Write as _},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    error::{BoxError, CarryRejection, Error, Reason, Rejection},
    http::retry_after_seconds,
};

/// An error out of which a rejection can be taken.
#[diagnostic::on_unimplemented(
    message = "no rejection can be taken out of `{Self}`",
    note = "`RespondLayer` stands over `mainstay::Error<_>` or a boxed error",
    note = "map the error at the bottom of the stack: `.map_err(mainstay::Error::Inner)`"
)]
pub trait TakeRejection {
    /// What is left when it was no rejection.
    type Rest;

    /// The rejection, or what else it is.
    ///
    /// # Errors
    ///
    /// The error that is no rejection.
    fn take_rejection(self) -> Result<Rejection, Self::Rest>;
}

impl<E> TakeRejection for Error<E> {
    type Rest = E;

    fn take_rejection(self) -> Result<Rejection, E> {
        match self {
            Self::Rejected(rejection) => Ok(rejection),
            Self::Inner(error) => Err(error),
        }
    }
}

impl TakeRejection for BoxError {
    type Rest = Self;

    fn take_rejection(self) -> Result<Rejection, Self> {
        // It may be wrapped: a buffer boxes the `Error<_>` of the layers below it.
        self.rejection().cloned().ok_or(self)
    }
}

/// The usual response to a rejected call.
///
/// 429 when a rate limit said no, 504 when the call timed out or came too late, 503 for everything else, with
/// `Retry-After` in seconds, rounded up, when the wait is known, and a small JSON body:
/// `{"error":"circuit_open","policy":"user-db","retry_after_ms":4200}`.
#[must_use]
pub fn rejection_response(rejection: &Rejection) -> Response<Bytes> {
    // The policy's name needs no escaping: its alphabet has neither quotes nor backslashes.
    let mut body = format!(r#"{{"error":"{}","policy":"{}""#, rejection.reason(), rejection.policy());
    let wait = rejection.retry_after();
    if let Some(wait) = wait {
        let _ = write!(body, r#","retry_after_ms":{}"#, wait.as_nanos().div_ceil(1_000_000));
    }
    body.push('}');
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = match rejection.reason() {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::TimedOut | Reason::DeadlinePassed => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, retry_after_seconds(wait));
    }
    response
}

/// Turns rejections into responses; what is left of the error type is the service's own error.
///
/// Over `Error<Infallible>` that is `Infallible`, which is what axum wants of a layer. Put it outermost: whatever turns
/// the call away below becomes a response here.
///
/// ```
/// use bytes::Bytes;
/// use http::{Response, StatusCode};
/// use mainstay::{Rejection, http::RespondLayer};
///
/// // Made to measure: a page for people.
/// let layer = RespondLayer::with(|rejection: &Rejection| {
///     let mut page = Response::new(Bytes::from_static(b"We will be right back."));
///     *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
///     page
/// });
///
/// // For a tonic server: gRPC clients understand a status and cannot read the usual response.
/// let layer = RespondLayer::with(|rejection: &Rejection| {
///     tonic::Status::unavailable(rejection.to_string()).into_http()
/// });
/// ```
pub struct RespondLayer<R = fn(&Rejection) -> Response<Bytes>> {
    respond: Arc<R>,
}

impl RespondLayer {
    /// Answers with [`rejection_response`].
    #[must_use]
    pub fn new() -> Self {
        Self { respond: Arc::new(rejection_response) }
    }
}

impl Default for RespondLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Fn(&Rejection) -> Response<Bytes>> RespondLayer<R> {
    /// Answers with a response of yours.
    #[must_use]
    pub fn with(respond: R) -> Self {
        Self { respond: Arc::new(respond) }
    }
}

impl<S, R> Layer<S> for RespondLayer<R> {
    type Service = Respond<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Respond { inner, respond: Arc::clone(&self.respond), refused: None }
    }
}

impl<R> Clone for RespondLayer<R> {
    fn clone(&self) -> Self {
        Self { respond: Arc::clone(&self.respond) }
    }
}

impl<R> fmt::Debug for RespondLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondLayer").finish_non_exhaustive()
    }
}

/// A service whose rejections are responses.
pub struct Respond<S, R = fn(&Rejection) -> Response<Bytes>> {
    inner: S,
    respond: Arc<R>,
    // The service below was not ready but rejected: the answer to the next call.
    refused: Option<Rejection>,
}

impl<S, R, Req, B> Service<Req> for Respond<S, R>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: TakeRejection,
    R: Fn(&Rejection) -> Response<Bytes>,
{
    type Response = Response<RespondBody<B>>;
    type Error = <S::Error as TakeRejection>::Rest;
    type Future = RespondFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.refused = match ready!(self.inner.poll_ready(cx)).map_err(TakeRejection::take_rejection) {
            Ok(()) => None,
            Err(Ok(rejection)) => Some(rejection),
            Err(Err(error)) => return Poll::Ready(Err(error)),
        };
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let respond = Arc::clone(&self.respond);
        if let refused @ Some(_) = self.refused.take() {
            return RespondFuture { state: State::Refused { rejection: refused }, respond };
        }
        // Made where it is to lie: it may be large.
        RespondFuture { state: State::Called { future: self.inner.call(request) }, respond }
    }
}

impl<S: Clone, R> Clone for Respond<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), respond: Arc::clone(&self.respond), refused: None }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Respond<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Respond").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`Respond`].
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered for a service that was not ready panics.
    #[must_use = "futures do nothing unless polled"]
    pub struct RespondFuture<F, R> {
        #[pin]
        state: State<F>,
        respond: Arc<R>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Refused { rejection: Option<Rejection> },
        Called { #[pin] future: F },
    }
}

impl<F, R, B, E> Future for RespondFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: TakeRejection,
    R: Fn(&Rejection) -> Response<Bytes>,
{
    type Output = Result<Response<RespondBody<B>>, E::Rest>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejection = match this.state.project() {
            StateProjection::Refused { rejection } => rejection.take().expect("polled again after it answered"),
            StateProjection::Called { future } => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(RespondBody::of_service))),
                Err(error) => match error.take_rejection() {
                    Ok(rejection) => rejection,
                    Err(error) => return Poll::Ready(Err(error)),
                },
            },
        };
        Poll::Ready(Ok((this.respond)(&rejection).map(RespondBody::of_rejection)))
    }
}

impl<F: fmt::Debug, R> fmt::Debug for RespondFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondFuture").field("state", &self.state).finish_non_exhaustive()
    }
}

pin_project! {
    /// The service's body, or the few bytes that say why the call was rejected.
    #[derive(Debug)]
    pub struct RespondBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProjection]
    #[derive(Debug)]
    enum Source<B> {
        Service { #[pin] body: B },
        Rejection { own: Bytes },
    }
}

impl<B> RespondBody<B> {
    fn of_service(body: B) -> Self {
        Self { source: Source::Service { body } }
    }

    fn of_rejection(own: Bytes) -> Self {
        Self { source: Source::Rejection { own } }
    }
}

impl<B: Body<Data = Bytes>> Body for RespondBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            SourceProjection::Service { body } => body.poll_frame(cx),
            SourceProjection::Rejection { own } => {
                let rest = std::mem::take(own);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Service { body } => body.is_end_stream(),
            Source::Rejection { own } => own.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Service { body } => body.size_hint(),
            Source::Rejection { own } => SizeHint::with_exact(own.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn a_rejection_is_found_in_a_box_however_deep() {
        let rejection = Rejection::new(Reason::CircuitOpen, Name::new("x").unwrap());
        let plain: BoxError = rejection.clone().into();
        let wrapped: BoxError = Error::<std::io::Error>::Rejected(rejection.clone()).into();
        for boxed in [plain, wrapped] {
            assert_eq!(boxed.take_rejection().unwrap(), rejection);
        }
        let other: BoxError = "no rejection".into();
        assert_eq!(other.take_rejection().unwrap_err().to_string(), "no rejection");
    }
}
