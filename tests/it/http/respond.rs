//! Rejections as responses.

use std::{
    convert::Infallible,
    future::{Pending, pending, ready},
    marker::PhantomPinned,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use mainstay::{
    BoxError, Error, Name, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Handle},
    http::{RespondBody, RespondLayer, StatusClassify, TakeRejection, rejection_response},
};
use serde_json::{Value, json};
use tokio_test::{assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{Step, Steps};
use crate::support::*;

fn rejection(reason: Reason, wait: Option<u64>) -> Rejection {
    let rejection = Rejection::new(reason, Name::new("user-db").unwrap());
    wait.into_iter().fold(rejection, |rejection, wait| rejection.with_retry_after(ms(wait)))
}

/// What the layer makes of a result of the service below.
async fn respond<B, E: TakeRejection>(result: Result<Response<B>, E>) -> Result<Response<RespondBody<B>>, E::Rest> {
    let mut result = Some(result);
    RespondLayer::new().layer(service_fn(move |()| ready(result.take().unwrap()))).oneshot(()).await
}

async fn text<B: Body<Data = Bytes>>(response: Response<B>) -> String
where
    B::Error: std::fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_reason_has_its_status() {
    for (reason, status) in [
        (Reason::BulkheadFull, 503),
        (Reason::CircuitOpen, 503),
        (Reason::CircuitProbing, 503),
        (Reason::NoInstance, 503),
        (Reason::Overloaded, 503),
        (Reason::RateLimited, 429),
        (Reason::TimedOut, 504),
    ] {
        let answer = respond::<Full<Bytes>, Error<Infallible>>(Err(Error::Rejected(rejection(reason, None)))).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status, "{reason}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        assert!(!answer.headers().contains_key(RETRY_AFTER), "{reason}: the wait is not known");
        let body: Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(body, json!({ "error": reason.as_str(), "policy": "user-db" }));
    }
}

#[test]
fn the_wait_is_rounded_up_to_seconds_in_the_header_and_to_milliseconds_in_the_body() {
    for (nanos, seconds, millis) in [
        (0, "0", 0),
        (1, "1", 1),
        (999_999_999, "1", 1_000),
        (1_000_000_000, "1", 1_000),
        (1_000_000_001, "2", 1_001),
        (4_200_000_000, "5", 4_200),
    ] {
        let wait = std::time::Duration::from_nanos(nanos);
        let answer = rejection_response(&rejection(Reason::CircuitOpen, None).with_retry_after(wait));
        assert_eq!(answer.headers()[RETRY_AFTER], seconds, "{wait:?}");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body, json!({ "error": "circuit_open", "policy": "user-db", "retry_after_ms": millis }));
    }
}

#[tokio::test(start_paused = true)]
async fn over_our_error_what_is_left_is_the_services_own_error() {
    let passed: Result<_, Boom> = respond::<Full<Bytes>, _>(Err(Error::Inner(Boom))).await;
    assert_eq!(passed.unwrap_err(), Boom);
    let answer: Result<_, Infallible> = respond(Ok::<_, Error<Infallible>>(Response::new(Full::from("hello")))).await;
    let Ok(answer) = answer;
    assert_eq!(text(answer).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn over_a_boxed_error_rejections_are_taken_out_and_other_errors_pass() {
    let passed: Result<_, BoxError> = respond::<Full<Bytes>, BoxError>(Err(Boom.into())).await;
    assert!(passed.unwrap_err().downcast_ref::<Boom>().is_some());
    let boxed = BoxError::from(rejection(Reason::RateLimited, Some(100)));
    assert_eq!(respond::<Full<Bytes>, BoxError>(Err(boxed)).await.unwrap().status(), 429);
    // As it comes out of a buffer over one of our layers.
    let boxed = BoxError::from(Error::<Boom>::Rejected(rejection(Reason::CircuitOpen, Some(100))));
    assert_eq!(respond::<Full<Bytes>, BoxError>(Err(boxed)).await.unwrap().status(), 503);
    let boxed = BoxError::from(Error::Inner(Boom));
    let passed = respond::<Full<Bytes>, BoxError>(Err(boxed)).await.unwrap_err();
    assert_eq!(passed.downcast_ref::<Error<Boom>>(), Some(&Error::Inner(Boom)), "nothing is taken off other errors");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_your_own() {
    let teapot = |rejection: &Rejection| {
        let mut page = Response::new(Bytes::from(format!("{} is brewing", rejection.policy())));
        *page.status_mut() = StatusCode::IM_A_TEAPOT;
        page
    };
    let breaker = Handle::new("tea", consecutive(1));
    let service = ServiceBuilder::new()
        .layer(RespondLayer::with(teapot))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(Error::Inner)
        .service(service_fn(|()| ready(infallible(Response::new(Full::<Bytes>::from("tea"))))));
    assert_eq!(text(service.clone().oneshot(()).await.unwrap()).await, "tea");
    breaker.force_open();
    let answer = service.oneshot(()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(text(answer).await, "tea is brewing");
}

/// A service that is not ready but says why.
#[derive(Clone)]
struct NeverReady(Error<Boom>);

impl Service<()> for NeverReady {
    type Response = Response<Full<Bytes>>;
    type Error = Error<Boom>;
    type Future = Pending<Result<Self::Response, Error<Boom>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        Poll::Ready(Err(self.0.clone()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("called without being ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_by_readiness_is_answered_from_the_call() {
    let below = NeverReady(Error::Rejected(rejection(Reason::Overloaded, Some(1_500))));
    let mut service = RespondLayer::new().layer(below);
    for _ in 0..2 {
        let answer = service.ready().await.unwrap().call(()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[RETRY_AFTER].as_bytes()), (503, &b"2"[..]));
    }
    // Each clone asks for itself.
    service.ready().await.unwrap();
    let mut clone = service.clone();
    assert!(panics(move || drop(clone.call(()))), "a clone is not ready because the one it was made of was");
    assert_eq!(service.call(()).await.unwrap().status(), 503);
    // Dropped before it is polled, and ready again: nothing is left over.
    service.ready().await.unwrap();
    drop(service.call(()));
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn other_readiness_errors_pass() {
    let mut service = RespondLayer::new().layer(NeverReady(Error::Inner(Boom)));
    let mut poll = task::spawn(async { service.ready().await.map(drop) });
    assert_eq!(assert_ready_err!(poll.poll()), Boom);
}

#[tokio::test(start_paused = true)]
async fn sizes_and_ends_are_told_as_they_are() {
    let answer = respond::<Full<Bytes>, Error<Boom>>(Err(Error::Rejected(rejection(Reason::TimedOut, None)))).await;
    let mut body = answer.unwrap().into_body();
    let length = r#"{"error":"timed_out","policy":"user-db"}"#.len() as u64;
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(length), false));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len() as u64, length);
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    assert!(body.frame().await.is_none());

    let steps = Steps::new([Step::Data("ab"), Step::Wait, Step::Data("cde"), Step::Trailers]);
    let mut body = respond(Ok::<_, Error<Boom>>(Response::new(steps))).await.unwrap().into_body();
    assert_eq!((body.size_hint().lower(), body.size_hint().upper(), body.is_end_stream()), (5, None, false));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "cde");
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), super::trailers());
    assert!(body.is_end_stream());

    let failing = respond(Ok::<_, Error<Boom>>(Response::new(Steps::new([Step::Fail])))).await.unwrap();
    assert_eq!(failing.into_body().collect().await.unwrap_err(), Boom);
}

#[test]
fn a_responder_without_a_word_is_an_empty_body() {
    let layer = RespondLayer::with(|_: &Rejection| Response::new(Bytes::new()));
    let rejected =
        || ready(Err::<Response<Full<Bytes>>, Error<Boom>>(Error::Rejected(rejection(Reason::TimedOut, None))));
    let mut call = task::spawn(layer.layer(service_fn(move |()| rejected())).call(()));
    let body = assert_ready_ok!(call.poll()).into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
}

/// A whole stack, over a service with any kind of body.
async fn through_the_stack<B>(body: B) -> String
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let breaker = Handle::new("any", consecutive(1));
    let mut response = Some(Response::new(body));
    let mut service = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end())
        .map_err(Error::Inner)
        .service(service_fn(move |()| ready(infallible(response.take().unwrap()))));
    let passed = text(service.ready().await.unwrap().call(()).await.unwrap()).await;
    assert_eq!(breaker.snapshot().totals.calls.success, 1);
    breaker.force_open();
    let Ok(rejected) = service.ready().await.unwrap().call(()).await;
    assert_eq!(rejected.status(), 503);
    assert!(text(rejected).await.contains("circuit_open"));
    passed
}

#[tokio::test(start_paused = true)]
async fn any_kind_of_body_will_do() {
    assert_eq!(through_the_stack(Full::<Bytes>::from("full")).await, "full");
    assert_eq!(through_the_stack(Empty::new()).await, "");
    let boxed: BoxBody<Bytes, Infallible> = Full::from("boxed").boxed();
    assert_eq!(through_the_stack(boxed).await, "boxed");
    let not_sync = Full::<Bytes>::from("unsync").map_err(|never| match never {}).boxed_unsync();
    assert_eq!(through_the_stack::<http_body_util::combinators::UnsyncBoxBody<_, Boom>>(not_sync).await, "unsync");
    assert_eq!(through_the_stack(axum::body::Body::from("axum")).await, "axum");
    assert_eq!(through_the_stack(tonic::body::Body::new(Full::<Bytes>::from("tonic"))).await, "tonic");
    assert_eq!(
        through_the_stack(Steps::silent([Step::Data("by "), Step::Wait, Step::Data("steps")])).await,
        "by steps"
    );
    // Neither Send nor Unpin.
    let local = (Rc::new(()), PhantomPinned);
    let body = Full::<Bytes>::from("local").map_frame(move |frame| {
        assert_eq!(Rc::strong_count(&local.0), 1, "{:?}", local.1);
        frame
    });
    assert_eq!(through_the_stack(body).await, "local");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_answers_is_dropped_below() {
    let breaker = half_open().await;
    let service = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(service_fn(|()| pending::<Result<Response<Full<Bytes>>, Error<Boom>>>()));
    let mut call = task::spawn(service.oneshot(()));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(breaker.snapshot().probes_running, 1);
    drop(call);
    assert_eq!((breaker.snapshot().probes_running, breaker.snapshot().totals.cancelled), (0, 1));
}
