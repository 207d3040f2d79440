//! Deadlines and bodies over HTTP, where neighbours look at them.

use std::{
    convert::Infallible,
    future::ready,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use mainstay::{
    Deadline, Error, Stack,
    contract::{Instance, Protocol},
    http::{
        BodyTimeoutLayer, GRPC_TIMEOUT, HttpTransport, Idempotent, ReplayBody, ReplayBodyLayer, SendDeadlineLayer,
        TIMEOUT_MS, TransportError, grpc_timeout_value,
    },
    retry::{self, Backoff, Jitter, Replay},
};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    discovery::now,
    http::{Step, Steps},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn only_a_call_of_grpc_is_told_its_time_in_its_header() {
    let sent = |content: Option<&'static str>| async move {
        let echo = service_fn(|request: Request<()>| ready(Ok::<_, Infallible>(request)));
        let mut request = Request::new(());
        request.extensions_mut().insert(Deadline::within(ms(150)));
        if let Some(content) = content {
            request.headers_mut().insert(CONTENT_TYPE, content.parse().unwrap());
        }
        let request = SendDeadlineLayer.layer(echo).oneshot(request).await.unwrap();
        [GRPC_TIMEOUT, TIMEOUT_MS]
            .map(|name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
    };
    let plain = [None, Some("150".to_owned())];
    assert_eq!(sent(None).await, plain);
    assert_eq!(sent(Some("application/json")).await, plain);
    assert_eq!(sent(Some("application/grpc+proto")).await, [Some("150000u".to_owned()), None]);
}

#[test]
fn times_beyond_what_minutes_can_say_are_told_in_hours() {
    let minutes = |many: u64| grpc_timeout_value(Duration::from_secs(many * 60));
    assert_eq!(minutes(99_999_999), "99999999M");
    assert_eq!(minutes(100_000_000), "1666666H");
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_an_http_request_has_no_time_for() {
    for (left, attempts) in [(None, 2), (Some(ms(1_000)), 2), (Some(ms(50)), 1)] {
        let backoff = Backoff::fixed(ms(100));
        let twice = retry::Config::new().attempts(2).backoff(backoff).jitter(Jitter::None).no_budget();
        let calls = AtomicU32::new(0);
        let service = service_fn(|_: Request<_>| {
            calls.fetch_add(1, SeqCst);
            ready(Err::<Response<()>, _>(Error::Inner(Boom)))
        });
        let stack = Stack::builder("x").retry(twice).replay(Idempotent).build();
        let service = ReplayBodyLayer::new(1_024).layer(stack.service(service));
        let mut request = Request::get("/").body(Full::new(Bytes::new())).unwrap();
        left.map(|left| request.extensions_mut().insert(Deadline::within(left)));
        assert!(service.oneshot(request).await.is_err());
        assert_eq!(calls.load(SeqCst), attempts, "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_cut_off_is_at_its_end_and_says_what_is_left_before() {
    let layer = BodyTimeoutLayer::idle(ms(100)).unwrap();
    let limited = async |steps: Steps| {
        let mut steps = Some(steps);
        let service = service_fn(move |()| ready(Ok::<_, Infallible>(Response::new(steps.take().unwrap()))));
        layer.layer(service).oneshot(()).await.unwrap().into_body()
    };
    let mut body = limited(Steps::new([Step::Data("ab")])).await;
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    assert!(body.is_end_stream());

    let mut body = limited(Steps::new([Step::Data("ab"), Step::Wait, Step::Wait, Step::Data("cd")])).await;
    let _ = body.frame().await;
    let mut stuck = task::spawn(());
    let mut poll = || {
        stuck.enter(|cx, _| {
            std::pin::Pin::new(&mut body).poll_frame(cx).map(|frame| frame.is_some_and(|it| it.is_err()))
        })
    };
    assert_eq!(poll(), Poll::Pending);
    advance(ms(100)).await;
    assert_eq!(poll(), Poll::Ready(true));
    assert!(body.is_end_stream(), "though the service has not told its end");
}

#[test]
fn an_instance_that_speaks_something_else_was_not_tried_to_connect_to() {
    let mut transport = HttpTransport::<Full<Bytes>>::new();
    let instance = Instance::new("x", "a", "10.0.0.1", 80).unwrap().with_protocol(Protocol::Tcp);
    let refused = now(transport.call(instance)).unwrap_err();
    assert!(matches!(refused, TransportError::Protocol(_)) && !refused.is_connect());
}

#[tokio::test]
async fn what_is_recorded_already_is_recorded_once_and_what_is_empty_stays_so() {
    let body = |text: &'static str| ReplayBody::new(Full::new(Bytes::from(text)), 1_024);
    let mut request = Request::put("/").body(body("tea")).unwrap();
    let (outer, inner) = (Idempotent.keep(&mut request).unwrap(), Idempotent.keep(&mut request).unwrap());
    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "tea");
    for kept in [outer, inner] {
        let again: Request<ReplayBody<Full<Bytes>>> = Idempotent.again(&kept, 2).unwrap();
        assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "tea");
    }

    let mut request = Request::put("/").body(body("")).unwrap();
    let kept = Idempotent.keep(&mut request).unwrap();
    let again: Request<ReplayBody<Full<Bytes>>> = Idempotent.again(&kept, 2).unwrap();
    for mut body in [request.into_body(), again.into_body()] {
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        assert!(body.frame().await.is_none());
    }
}

#[test]
fn a_host_that_no_uri_can_have_is_an_error_of_the_transport() {
    let mut transport = HttpTransport::<Full<Bytes>>::new();
    let instance = Instance::new("x", "a", "a\\b", 80).unwrap();
    let refused = now(transport.call(instance)).unwrap_err();
    assert!(matches!(refused, TransportError::Uri(_)) && !refused.is_connect(), "{refused}");
}
