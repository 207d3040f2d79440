//! Bodies judged at their end.

use std::{
    future::{Future, pending, poll_fn, ready},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use mainstay::{
    Error, Name, Outcome, Reason, Rejection,
    admission::AdmissionLayer,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    classify_fn,
    http::{StatusClassify, StreamedLayer},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{
    Step::{self, Data, Fail, Panic, Trailers, Wait},
    Steps, trailers,
};
use crate::support::*;

fn layer(breaker: &Handle) -> StreamedLayer<Handle, StatusClassify> {
    CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end()
}

fn response<B>(code: u16, body: B) -> Response<B> {
    Response::builder().status(code).body(body).unwrap()
}

/// Calls a service that answers like this, and returns the response with its body still to come.
async fn head<B: Body>(
    breaker: &Handle,
    response: Response<B>,
) -> Response<impl Body<Data = B::Data, Error = B::Error> + use<B>> {
    let mut response = Some(response);
    let service = service_fn(move |_: u32| ready(Ok::<_, Error<Boom>>(response.take().unwrap())));
    layer(breaker).layer(service).oneshot(1).await.unwrap()
}

/// Success, failure, ignored, cancelled.
fn counts(breaker: &Handle) -> [u64; 4] {
    let totals = breaker.snapshot().totals;
    [totals.calls.successes(), totals.calls.failures(), totals.ignored, totals.cancelled]
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_held_until_its_body_has_ended() {
    let breaker = half_open().await;
    let mut body = head(&breaker, response(200, Steps::silent([Data("a"), Wait, Data("b")]))).await.into_body();
    for text in ["a", "b"] {
        assert_eq!(breaker.snapshot().probes_running, 1);
        assert!(breaker.acquire().is_err());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), text);
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(body.frame().await.is_none());
    assert_eq!((breaker.state(), counts(&breaker)), (State::Closed, [1, 1, 0, 0]));
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(counts(&breaker), [1, 1, 0, 0], "counted once");
}

#[tokio::test(start_paused = true)]
async fn how_a_body_ends_decides_what_the_head_could_not() {
    let all = usize::MAX;
    let (success, failure, ignored, cancelled) = ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]);
    let cases: Vec<(u16, Vec<Step>, usize, [u64; 4])> = vec![
        (200, vec![Data("a"), Data("b")], all, success),
        (200, vec![Data("a"), Trailers], all, success),
        (200, vec![], all, success),
        (200, vec![Data("a"), Fail], all, failure),
        (200, vec![Fail, Data("a")], all, failure),
        (200, vec![Data("a"), Data("b")], 1, cancelled),
        (200, vec![Data("a")], 0, success),
        (200, vec![Fail], 0, success),
        (404, vec![Data("a")], all, ignored),
        (404, vec![Data("a")], 0, ignored),
        (404, vec![Data("a"), Fail], all, failure),
        (503, vec![Data("a")], all, failure),
        (503, vec![Data("a"), Data("b")], 1, failure),
        (503, vec![Data("a")], 0, failure),
        (503, vec![Fail], all, failure),
        (503, vec![], all, failure),
    ];
    for (code, steps, frames, expected) in cases {
        let breaker = Handle::new("x", Config::new());
        let what = format!("{code} {steps:?}, {frames} frames read");
        let mut body = head(&breaker, response(code, Steps::silent(steps))).await.into_body();
        assert_eq!(counts(&breaker), [0; 4], "{what}: not judged at the head");
        for _ in 0..frames {
            if !matches!(body.frame().await, Some(Ok(_))) {
                break;
            }
        }
        drop(body);
        assert_eq!(counts(&breaker), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_through_is_what_the_service_sent() {
    let breaker = Handle::new("x", Config::new());
    let steps = [Data("one"), Wait, Data(" two"), Trailers];
    let sent = Response::builder().status(206).header("x-part", "1").body(Steps::new(steps)).unwrap();
    let got = head(&breaker, sent).await;
    assert_eq!((got.status().as_u16(), &got.headers()["x-part"]), (206, &HeaderValue::from_static("1")));
    assert_eq!((got.body().size_hint().lower(), got.body().is_end_stream()), (7, false));
    let collected = got.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers()));
    assert_eq!(collected.to_bytes(), "one two");
    assert_eq!(counts(&breaker), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_settles_at_the_head() {
    async fn settles_at_the_head<B: Body>(body: B) {
        let breaker = half_open().await;
        let unread = head(&breaker, response(200, body)).await;
        assert_eq!((breaker.state(), counts(&breaker)), (State::Closed, [1, 1, 0, 0]));
        drop(unread);
        assert_eq!(counts(&breaker), [1, 1, 0, 0]);
    }
    settles_at_the_head(Empty::<Bytes>::new()).await;
    settles_at_the_head(Full::<Bytes>::default()).await;
    settles_at_the_head(axum::body::Body::empty()).await;
    settles_at_the_head(Steps::new([])).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_settles_where_hosts_do_not_ask_for_another() {
    // The body says that it has ended.
    let breaker = half_open().await;
    let mut body = head(&breaker, response(200, Steps::new([Data("a"), Data("b")]))).await.into_body();
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::Closed);
    assert!(body.is_end_stream());

    // Nothing comes after trailers, whatever the body says.
    let breaker = half_open().await;
    let mut body = head(&breaker, response(200, Steps::silent([Data("a"), Trailers]))).await.into_body();
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_known_length_settles_with_its_last_byte() {
    // HTTP/1 sends so many bytes and then drops the body.
    for (length, read, expected) in [
        ("5", 2, [1, 0, 0, 0]),
        ("4", 2, [1, 0, 0, 0]),
        ("3", 1, [0, 0, 0, 1]),
        ("6", 2, [0, 0, 0, 1]),
        ("6", 3, [1, 0, 0, 0]),
        ("0", 0, [1, 0, 0, 0]),
        ("nonsense", 2, [0, 0, 0, 1]),
    ] {
        let breaker = Handle::new("x", Config::new());
        let mut sent = response(200, Steps::silent([Data("ab"), Data("cde")]));
        sent.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(length));
        let mut body = head(&breaker, sent).await.into_body();
        for _ in 0..read {
            let _ = body.frame().await;
        }
        drop(body);
        assert_eq!(counts(&breaker), expected, "{read} frames of {length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_one_failure_and_the_panic_goes_on() {
    let breaker = Handle::new("x", consecutive(1));
    let mut body = head(&breaker, response(200, Steps::new([Data("a"), Panic, Data("b")]))).await.into_body();
    let _ = body.frame().await;
    let mut body = Box::pin(body);
    assert!(panics(|| drop(body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())))));
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [0, 1, 0, 0]), "counted when it happens");
    let _ = body.frame().await;
    drop(body);
    assert_eq!(counts(&breaker), [0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_a_slow_call_and_the_latency_covers_it() {
    for (wait, slow) in [(200, 0), (201, 1)] {
        let breaker = Handle::new("x", Config::new().slow_calls(ms(200), 1.0));
        let mut body = head(&breaker, response(200, Steps::silent([Data("a")]))).await.into_body();
        let _ = body.frame().await;
        advance(ms(wait)).await;
        assert!(body.frame().await.is_none());
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.window.slow_success, snapshot.window.calls()), (slow, 1), "{wait} ms");
        let latency = snapshot.latency.unwrap();
        assert!(latency.calls == 1 && latency.p50 >= ms(190) && latency.p50 <= ms(230), "{latency:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_give_up_on_a_body_that_hangs_open_the_circuit() {
    let breaker = Handle::new("x", consecutive(1).count_cancelled_after(ms(500)));
    let mut body = head(&breaker, response(200, Steps::silent([Data("a"), Wait, Wait]))).await.into_body();
    let _ = body.frame().await;
    assert!(poll_once(&mut body.frame()).is_pending());
    advance(ms(501)).await;
    drop(body);
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [0, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn an_error_in_place_of_a_response_is_judged_at_once() {
    let inner = Error::Rejected(Rejection::new(Reason::BulkheadFull, Name::new("inner").unwrap()));
    for (error, expected) in [(Error::Inner(Boom), [0, 1, 0, 0]), (inner, [0, 0, 1, 0])] {
        let breaker = Handle::new("x", Config::new());
        let below = error.clone();
        let service = service_fn(move |_: u32| ready(Err::<Response<Steps>, _>(below.clone())));
        assert_eq!(layer(&breaker).layer(service).oneshot(1).await.err(), Some(error));
        assert_eq!(counts(&breaker), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_turns_calls_away_without_asking_the_service() {
    let breaker = Handle::new("x", consecutive(1));
    fail(&breaker, 1);
    let service = service_fn(|_: u32| -> std::future::Ready<Result<Response<Steps>, Error<Boom>>> { panic!("called") });
    let error = layer(&breaker).layer(service).oneshot(1).await.err().unwrap();
    assert_eq!(error.retry_after(), Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn panics_in_the_call_and_in_its_future_count_once() {
    let breaker = Handle::new("x", Config::new());
    type Never = std::future::Ready<Result<Response<Steps>, Error<Boom>>>;
    let mut in_call = layer(&breaker).layer(service_fn(|_: u32| -> Never { panic!("in call") }));
    assert!(panics(|| drop(in_call.call(1))));
    assert_eq!(counts(&breaker), [0, 1, 0, 0]);
    let mut in_future = layer(&breaker)
        .layer(service_fn(|_: u32| poll_fn(|_| -> Poll<Result<Response<Steps>, Error<Boom>>> { panic!("in poll") })));
    let mut call = in_future.call(1);
    assert!(panics(|| drop(poll_once(&mut call))));
    drop(call);
    assert_eq!(counts(&breaker), [0, 2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_is_a_failure_and_the_response_comes_through() {
    let breaker = Handle::new("x", Config::new());
    let classify = classify_fn(|_: Result<&Response<Steps>, &Error<Boom>>| -> Outcome { panic!("in the classifier") });
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(classify).until_body_end();
    let answer = || ready(Ok::<_, Error<Boom>>(response(200, Steps::new([Data("a")]))));
    let mut call = layer.layer(service_fn(move |_: u32| answer())).call(1);
    let mut got = None;
    assert!(!panics(|| got = Some(poll_once(&mut call))));
    let Some(Poll::Ready(Ok(got))) = got else { panic!("no response") };
    assert_eq!(got.into_body().collect().await.unwrap().to_bytes(), "a");
    assert_eq!(counts(&breaker), [0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_head_asked_for_is_kept_however_the_body_ends() {
    for (body, read) in [(vec![Data("sorry")], true), (vec![Data("sorry")], false), (vec![Data("so"), Fail], true)] {
        let breaker = Handle::new("x", consecutive(1).honor_retry_after(ms(60_000)));
        let what = format!("{body:?}, read: {read}");
        let mut sent = response(503, Steps::silent(body));
        sent.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("45"));
        let got = head(&breaker, sent).await;
        if read {
            let _ = got.into_body().collect().await;
        } else {
            drop(got);
        }
        assert_eq!(breaker.snapshot().open_remaining, Some(ms(45_000)), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_in_a_later_generation_counts_for_nothing() {
    let breaker = Handle::new("x", consecutive(1));
    let body = head(&breaker, response(200, Steps::silent([Data("a"), Fail]))).await.into_body();
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let probe = breaker.acquire().unwrap();
    assert_eq!(body.collect().await.unwrap_err(), Boom);
    assert_eq!((breaker.state(), breaker.snapshot().totals.stale), (State::HalfOpen, 1));
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_body_takes_too_long_loses_its_place() {
    let breaker = half_open().await;
    let body = head(&breaker, response(200, Steps::silent([Data("a"), Data("b")]))).await.into_body();
    advance(ms(30_000)).await;
    let next = breaker.acquire().expect("the place is free again");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ab", "the body goes on all the same");
    assert_eq!((breaker.state(), breaker.snapshot().totals.stale), (State::HalfOpen, 1));
    next.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_policies_is_held_to_the_end_and_given_back_together() {
    let (first, second) = (half_open().await, half_open().await);
    let pair = AdmissionLayer::new((first.clone(), second.clone())).classify(StatusClassify::new()).until_body_end();
    let service = pair
        .layer(service_fn(|_: u32| ready(Ok::<_, Error<Boom>>(response(200, Steps::silent([Data("a"), Data("b")]))))));
    let running = || (first.snapshot().probes_running, second.snapshot().probes_running);
    let mut body = service.clone().oneshot(1).await.unwrap().into_body();
    let _ = body.frame().await;
    assert_eq!(running(), (1, 1));
    drop(body);
    assert_eq!(running(), (0, 0));
    service.oneshot(1).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!((first.state(), second.state()), (State::Closed, State::Closed));
}

/// Answers with a response after two polls.
fn after_two_polls(body: Steps) -> impl Future<Output = Result<Response<Steps>, Error<Boom>>> {
    let (mut polls, mut body) = (2, Some(body));
    poll_fn(move |_| {
        polls -= 1;
        if polls >= 0 { Poll::Pending } else { Poll::Ready(Ok(response(200, body.take().unwrap()))) }
    })
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_everything_is_given_back() {
    let steps = [Wait, Data("a"), Wait, Data("b"), Wait, Data("c"), Trailers];
    // Two polls without an answer, the head, and then each step.
    let last = 3 + steps.len();
    for (polls, panicking) in (0..=last).flat_map(|polls| [(polls, false), (polls, true)]) {
        let breaker = half_open().await;
        let mut service = layer(&breaker).layer(service_fn(|_: u32| after_two_polls(Steps::silent(steps))));
        let mut cx = Context::from_waker(Waker::noop());
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        let mut body = None;
        for _ in 0..polls {
            match &mut body {
                None => {
                    if let Poll::Ready(head) = call.as_mut().poll(&mut cx) {
                        body = Some(Box::pin(head.unwrap().into_body()));
                    }
                }
                Some(body) => drop(body.as_mut().poll_frame(&mut cx)),
            }
        }
        assert_eq!(breaker.snapshot().probes_running, u32::from(polls < last), "after {polls} polls");
        assert_eq!(body.is_some(), polls >= 3);
        if panicking {
            // While the caller's own code unwinds.
            assert!(panics(move || {
                let _both = (body, call);
                panic!("in the caller")
            }));
        } else {
            drop((call, body));
        }
        let what = format!("after {polls} polls, panicking: {panicking}");
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.probes_running, 0, "{what}");
        // With the head alone in hand nobody has asked for the body, and the head decides.
        let judged = polls == 3 || polls >= last;
        let expected = if judged { [1, 1, 0, 0] } else { [0, 1, 0, 1] };
        assert_eq!(counts(&breaker), expected, "{what}");
        assert_eq!(snapshot.state, if judged { State::Closed } else { State::HalfOpen }, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_answers_is_given_back_when_it_is_dropped() {
    let breaker = half_open().await;
    let mut service = layer(&breaker).layer(service_fn(|_: u32| pending::<Result<Response<Steps>, Error<Boom>>>()));
    let mut call = service.call(1);
    assert!(Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(breaker.snapshot().probes_running, 1);
    drop(call);
    assert_eq!((breaker.snapshot().probes_running, counts(&breaker)), (0, [0, 1, 0, 1]));
}
