//! Deadlines that travel in headers, and limits for bodies that stream.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use mainstay::{
    BoxError, Deadline, Error, Reason, Rejection,
    http::{
        BodyTimeoutLayer, DeadlineLayer, GRPC_TIMEOUT, RequestDeadline, SendDeadlineLayer, TIMEOUT_MS,
        grpc_timeout_value, timeout_header,
    },
    time::Tick,
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in values {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn grpc_timeouts_are_read_as_the_protocol_says_and_garbage_is_not() {
    for (text, nanos) in [
        ("1500000u", Some(1_500_000_000)),
        ("1n", Some(1)),
        ("20m", Some(20_000_000)),
        ("3S", Some(3_000_000_000)),
        ("2M", Some(120_000_000_000)),
        ("1H", Some(3_600_000_000_000)),
        ("0m", Some(0)),
        ("99999999H", Some(365 * 86_400 * 1_000_000_000)),
        ("123456789m", None),
        ("m", None),
        ("5", None),
        ("5s", None),
        ("-5S", None),
        ("5 S", None),
        ("1.5S", None),
        ("", None),
        ("5µ", None),
    ] {
        let read = HeaderValue::from_bytes(text.as_bytes()).map(|value| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, value);
            timeout_header(&headers)
        });
        assert_eq!(read.unwrap(), nanos.map(Duration::from_nanos), "{text:?}");
    }
}

#[test]
fn plain_timeouts_are_whole_milliseconds_and_the_smaller_of_two_headers_counts() {
    for (values, millis) in [
        (vec![("x-request-timeout-ms", "250")], Some(250)),
        (vec![("x-request-timeout-ms", "250"), ("grpc-timeout", "100m")], Some(100)),
        (vec![("x-request-timeout-ms", "50"), ("grpc-timeout", "100m")], Some(50)),
        (vec![("x-request-timeout-ms", "x"), ("grpc-timeout", "100m")], Some(100)),
        (vec![("x-request-timeout-ms", "99999999999999999999999")], Some(365 * 86_400_000)),
        (vec![("x-request-timeout-ms", "1"), ("x-request-timeout-ms", "2")], None),
        (vec![("x-request-timeout-ms", "-1")], None),
        (vec![("x-request-timeout-ms", "1.5")], None),
        (vec![], None),
    ] {
        assert_eq!(timeout_header(&headers(&values)), millis.map(ms), "{values:?}");
    }
}

#[test]
fn what_is_written_is_never_more_than_is_left() {
    for nanos in [0, 1, 99_999_999, 100_000_000, 1_500_000_001, 99_999_999_999_999, u64::MAX] {
        let left = Duration::from_nanos(nanos);
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, grpc_timeout_value(left));
        let read = timeout_header(&headers).unwrap();
        assert!(read <= left && read >= left.min(ms(365 * 86_400_000)) / 2, "{left:?} read as {read:?}");
    }
    assert_eq!(grpc_timeout_value(ms(1_500)), "1500000u");
    assert_eq!(grpc_timeout_value(Duration::MAX), "99999999H");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_travels_from_the_headers_through_a_limit_to_the_next_service() {
    for (grpc, header, expected) in [(false, TIMEOUT_MS, "150"), (true, GRPC_TIMEOUT, "150000u")] {
        let next = service_fn(|request: Request<()>| async move { Ok::<_, Error<Infallible>>(request) });
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer)
            .layer(TimeoutLayer::new(ms(5_000)).deadline(RequestDeadline))
            .map_future(|call| async move {
                advance(ms(100)).await;
                call.await
            })
            .layer(SendDeadlineLayer)
            .service(next);
        // The time passes between the server and the client: in a service between the two layers.
        let late = ServiceBuilder::new().layer(DeadlineLayer).service(service_fn(|request: Request<()>| async move {
            advance(ms(100)).await;
            let next = service_fn(|request: Request<()>| async move { infallible(request) });
            SendDeadlineLayer.layer(next).oneshot(request).await
        }));
        let mut request = Request::new(());
        request.headers_mut().insert(TIMEOUT_MS, HeaderValue::from_static("250"));
        if grpc {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        }
        let seen = late.oneshot(request.clone()).await.unwrap();
        assert_eq!(seen.headers()[&header], expected);
        assert!(service.oneshot(request).await.unwrap().extensions().get::<Deadline>().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_time_is_up_is_not_served_and_one_without_a_deadline_is() {
    let service = || {
        ServiceBuilder::new()
            .layer(DeadlineLayer)
            .layer(TimeoutLayer::new(ms(5_000)).deadline(RequestDeadline))
            .layer(SendDeadlineLayer)
            .service(service_fn(|request: Request<()>| async move { Ok::<_, Error<Infallible>>(request) }))
    };
    let mut request = Request::new(());
    assert!(service().oneshot(request.clone()).await.unwrap().headers().is_empty());
    request.headers_mut().insert(TIMEOUT_MS, HeaderValue::from_static("0"));
    let Err(Error::Rejected(rejection)) = service().oneshot(request.clone()).await else { panic!("not served") };
    assert_eq!(rejection.reason(), Reason::DeadlinePassed);
    // A nearer deadline that is known already stays.
    request.headers_mut().insert(TIMEOUT_MS, HeaderValue::from_static("9000"));
    request.extensions_mut().insert(Deadline::within(ms(40)));
    assert_eq!(service().oneshot(request).await.unwrap().headers()[&TIMEOUT_MS], "40");
}

/// A body that sends a piece after each wait.
struct Pieces {
    waits: std::slice::Iter<'static, u64>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sleep.is_none() {
            let Some(wait) = self.waits.next() else { return Poll::Ready(None) };
            self.sleep = Some(Box::pin(tokio::time::sleep(ms(*wait))));
        }
        ready!(self.sleep.as_mut().expect("just set").as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

fn pieces(waits: &'static [u64]) -> Response<Pieces> {
    Response::new(Pieces { waits: waits.iter(), sleep: None })
}

async fn read(layer: BodyTimeoutLayer, waits: &'static [u64]) -> (usize, Option<BoxError>) {
    let service = layer.layer(service_fn(move |()| async move { infallible(pieces(waits)) }));
    let mut body = service.oneshot(()).await.unwrap().into_body();
    let (mut read, mut error) = (0, None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(_) => read += 1,
            Err(cut) => error = Some(cut),
        }
    }
    (read, error)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_cut_off_and_one_that_flows_is_not() {
    let idle = || BodyTimeoutLayer::idle(ms(100)).unwrap();
    let (read_whole, none) = read(idle(), &[99, 99, 99, 100]).await;
    assert_eq!((read_whole, none.is_none()), (4, true));
    let (read_some, error) = read(idle(), &[99, 101, 1]).await;
    assert_eq!(read_some, 1);
    let rejection = error.unwrap().downcast::<Rejection>().unwrap();
    assert_eq!((rejection.reason(), rejection.policy()), (Reason::TimedOut, "body-timeout"));
    let began = Tick::now();
    let (read_some, error) = read(idle().total(ms(250)).unwrap(), &[90, 90, 90, 90]).await;
    assert_eq!((read_some, error.is_some(), Tick::now().since(began)), (2, true, ms(250)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_is_not_the_body_that_stops() {
    let layer = BodyTimeoutLayer::idle(ms(100)).unwrap().named("files".parse().unwrap());
    let service = layer.layer(service_fn(|()| async { infallible(pieces(&[50, 50])) }));
    let mut body = service.oneshot(()).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    advance(ms(60_000)).await;
    assert!(body.frame().await.unwrap().is_ok());
    let full =
        layer.layer(service_fn(|()| async { infallible(Response::new(Full::new(Bytes::from_static(b"whole")))) }));
    let body = full.oneshot(()).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
}

#[test]
fn impossible_body_limits_are_refused() {
    assert_eq!(BodyTimeoutLayer::idle(Duration::ZERO).unwrap_err().field(), "idle");
    let layer = BodyTimeoutLayer::idle(ms(1)).unwrap();
    assert_eq!(layer.total(Duration::MAX).unwrap_err().field(), "total");
}
