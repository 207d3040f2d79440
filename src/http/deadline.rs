use std::{
    fmt::Write as _,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use tower::{Layer, Service};

use crate::{
    deadline::{Deadline, DeadlineOf},
    settings::LONGEST,
};

/// The header of gRPC: up to eight digits and a unit, `1500m`.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The plain header: whole milliseconds that are left, `1500`.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// What is left for a request, by its headers: the smaller of `grpc-timeout` and `x-request-timeout-ms`.
///
/// What is no such value, or stands there twice, is as good as no header. Times beyond a year are a year.
///
/// ```
/// use std::time::Duration;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("grpc-timeout", "1500000u".parse()?);
/// assert_eq!(mainstay::http::timeout_header(&headers), Some(Duration::from_millis(1_500)));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[must_use]
pub fn timeout_header(headers: &HeaderMap) -> Option<Duration> {
    let grpc = only(headers, &GRPC_TIMEOUT).and_then(parse_grpc);
    let plain = only(headers, &TIMEOUT_MS).and_then(parse_millis);
    match (grpc, plain) {
        (Some(grpc), Some(plain)) => Some(grpc.min(plain)),
        (one, other) => one.or(other),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok().map(str::trim)
}

fn parse_millis(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().map_or(LONGEST, Duration::from_millis).min(LONGEST))
}

fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    let time = match unit {
        "n" => Duration::from_nanos(amount),
        "u" => Duration::from_micros(amount),
        "m" => Duration::from_millis(amount),
        "S" => Duration::from_secs(amount),
        "M" => Duration::from_secs(amount * 60),
        "H" => Duration::from_secs(amount * 3_600),
        _ => return None,
    };
    Some(time.min(LONGEST))
}

/// What is left as a `grpc-timeout`, in the finest unit that has room, rounded down: the next service must not believe
/// in more time than there is.
#[must_use]
pub fn grpc_timeout_value(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000)];
    let nanos = left.as_nanos();
    let fits = units.into_iter().map(|(unit, nano)| (unit, nanos / nano)).find(|(_, amount)| *amount <= MOST);
    let (unit, amount) = fits.unwrap_or(("H", (nanos / 3_600_000_000_000).min(MOST)));
    let mut text = String::with_capacity(9);
    let _ = write!(text, "{amount}{unit}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// Knows the deadline of an HTTP request by its extensions, where [`DeadlineLayer`] put it.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{http::RequestDeadline, timeout::TimeoutLayer};
///
/// let layer = TimeoutLayer::new(Duration::from_secs(2)).deadline(RequestDeadline);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDeadline;

impl<B> DeadlineOf<Request<B>> for RequestDeadline {
    fn deadline(&self, request: &Request<B>) -> Option<Deadline> {
        request.extensions().get().copied()
    }
}

/// At a server: reads the time left from a request's headers and puts the [`Deadline`] into its extensions.
///
/// A deadline that is there already stays if it is nearer. Put it outside of every limit that should know the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadlineLayer;

/// At a client: writes the time left until the [`Deadline`] in a request's extensions into its headers.
///
/// As `grpc-timeout` for a gRPC request, by its content type, else as `x-request-timeout-ms`. A request without a
/// deadline is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendDeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = ReadDeadline<S>;

    fn layer(&self, inner: S) -> ReadDeadline<S> {
        ReadDeadline { inner }
    }
}

impl<S> Layer<S> for SendDeadlineLayer {
    type Service = SendDeadline<S>;

    fn layer(&self, inner: S) -> SendDeadline<S> {
        SendDeadline { inner }
    }
}

/// A service whose requests know their deadline.
#[derive(Debug, Clone)]
pub struct ReadDeadline<S> {
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ReadDeadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(left) = timeout_header(request.headers()) {
            let told = Deadline::within(left);
            let known = request.extensions().get::<Deadline>().copied();
            request.extensions_mut().insert(known.map_or(told, |known| known.earlier(told)));
        }
        self.inner.call(request)
    }
}

/// A service whose requests tell the next one their deadline.
#[derive(Debug, Clone)]
pub struct SendDeadline<S> {
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for SendDeadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(left) = request.extensions().get::<Deadline>().map(|deadline| deadline.left()) {
            let grpc = request.headers().get(CONTENT_TYPE).is_some_and(is_grpc);
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            match grpc {
                true => request.headers_mut().insert(GRPC_TIMEOUT, grpc_timeout_value(left)),
                false => request.headers_mut().insert(TIMEOUT_MS, HeaderValue::from(millis)),
            };
        }
        self.inner.call(request)
    }
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(b"application/grpc")
}
