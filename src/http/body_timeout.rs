use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    error::{BoxError, Reason, Rejection},
    name::Name,
    settings::{Checks, ConfigError},
    timeout::Timer,
};

/// Limits for bodies that stream: a [timeout](crate::timeout) ends with the head of a response, and says nothing of a
/// body that stops half-way.
///
/// A body that is cut off ends with a boxed [`Rejection`] ([`Reason::TimedOut`]) as its error.
///
/// ```
/// use std::time::Duration;
/// use mainstay::http::BodyTimeoutLayer;
///
/// let layer = BodyTimeoutLayer::idle(Duration::from_secs(10))?.total(Duration::from_secs(300))?;
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BodyTimeoutLayer {
    limits: Limits,
}

#[derive(Debug, Clone)]
struct Limits {
    name: Name,
    idle: Duration,
    total: Option<Duration>,
}

impl BodyTimeoutLayer {
    /// The longest wait for the next frame of a body, while somebody asks for it. From 1 ms to a year.
    ///
    /// # Errors
    ///
    /// When the limit is impossible.
    pub fn idle(limit: Duration) -> Result<Self, ConfigError> {
        check("idle", limit)?;
        Ok(Self { limits: Limits { name: Name::new("body-timeout")?, idle: limit, total: None } })
    }

    /// The longest time for a whole body, from the first time it is asked for a frame. From 1 ms to a year; none by
    /// default.
    ///
    /// # Errors
    ///
    /// When the limit is impossible.
    pub fn total(mut self, limit: Duration) -> Result<Self, ConfigError> {
        check("total", limit)?;
        self.limits.total = Some(limit);
        Ok(self)
    }

    /// The name in rejections; by default `body-timeout`.
    #[must_use]
    pub fn named(mut self, name: Name) -> Self {
        self.limits.name = name;
        self
    }
}

fn check(field: &'static str, limit: Duration) -> Result<(), ConfigError> {
    let mut checks = Checks::default();
    checks.duration(field, limit);
    checks.finish()
}

impl<S> Layer<S> for BodyTimeoutLayer {
    type Service = BodyTimeout<S>;

    fn layer(&self, inner: S) -> BodyTimeout<S> {
        BodyTimeout { inner, limits: self.limits.clone() }
    }
}

/// A service whose response bodies are limited.
#[derive(Debug, Clone)]
pub struct BodyTimeout<S> {
    inner: S,
    limits: Limits,
}

impl<S, Req, B> Service<Req> for BodyTimeout<S>
where
    S: Service<Req, Response = Response<B>>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = S::Error;
    type Future = BodyTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        BodyTimeoutFuture { future: self.inner.call(request), limits: self.limits.clone() }
    }
}

pin_project! {
    /// The answer of a [`BodyTimeout`].
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct BodyTimeoutFuture<F> {
        #[pin]
        future: F,
        limits: Limits,
    }
}

impl<F, B, E> Future for BodyTimeoutFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LimitedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let limits = this.limits.clone();
        Poll::Ready(Ok(response.map(|body| LimitedBody {
            body,
            limits,
            idle: Timer::default(),
            total: Timer::default(),
            cut_off: false,
        })))
    }
}

pin_project! {
    /// A body that is cut off when it stops for too long.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        body: B,
        limits: Limits,
        idle: Timer,
        total: Timer,
        cut_off: bool,
    }
}

impl<B: Body> Body for LimitedBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if *this.cut_off {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            this.idle.restart();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let total = this.limits.total.is_some_and(|total| this.total.poll(total, None, cx).is_ready());
        if !total && this.idle.poll(this.limits.idle, None, cx).is_pending() {
            return Poll::Pending;
        }
        *this.cut_off = true;
        Poll::Ready(Some(Err(Rejection::new(Reason::TimedOut, this.limits.name.clone()).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.cut_off || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
