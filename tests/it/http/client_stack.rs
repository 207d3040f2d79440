//! The stack of an HTTP client, over a service that answers as it is told.

use std::{
    future::{Future, ready},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER, request::Builder};
use http_body_util::Full;
use mainstay::{
    Deadline, Error, Reason, Stack, breaker::State, http::HttpStack, observe::Event, stack::Config, time::Tick,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

type Calls = Arc<Mutex<Vec<(Method, Tick)>>>;
type Answered = Result<Response<Full<Bytes>>, Error<Boom>>;

/// A server that gives these answers in turn, and the last of them for ever; 0 is an error.
fn server(
    answers: &'static [(u16, &'static str)],
) -> (Calls, impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Boom> + Clone) {
    let calls = Calls::default();
    let log = Arc::clone(&calls);
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let mut calls = log.lock().unwrap();
        let (status, wait) = answers[calls.len().min(answers.len() - 1)];
        calls.push((request.method().clone(), Tick::now()));
        let answer = Response::builder().status(status).header(RETRY_AFTER, wait);
        ready(if status == 0 { Err(Boom) } else { Ok(answer.body(Full::default()).unwrap()) })
    });
    (calls, service)
}

/// The answer of a stack over a server, how often that was called, and how many seconds it took.
async fn send(stack: &HttpStack, answers: &'static [(u16, &'static str)], request: Builder) -> (Answered, usize, u64) {
    let (calls, server) = server(answers);
    let start = Tick::now();
    let service = ServiceBuilder::new().layer(stack.layer()).map_err(Error::Inner).service(server);
    let answer = service.oneshot(request.body(Full::from("body")).unwrap()).await;
    let calls = calls.lock().unwrap().len();
    (answer, calls, Tick::now().since(start).as_secs())
}

fn status(answer: Answered) -> u16 {
    answer.unwrap().status().as_u16()
}

fn reason(answer: Answered) -> Reason {
    match answer {
        Err(Error::Rejected(rejection)) => rejection.reason(),
        other => panic!("not turned away: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_for_a_while_is_asked_again_when_it_says_so() {
    let stack = Stack::http_client("users");
    let (answer, calls, seconds) = send(&stack, &[(503, "2"), (200, "")], Request::get("/")).await;
    assert_eq!((status(answer), calls, seconds), (200, 2, 2));
    let snapshot = stack.snapshot();
    let calls = snapshot.breaker.unwrap().totals.calls;
    assert_eq!((calls.failures(), calls.success), (1, 1), "each attempt counts");
    assert_eq!(snapshot.retry.unwrap().recovered, 1);
    // A wait of more than a minute is for the caller to decide on.
    let (answer, calls, seconds) = send(&stack, &[(503, "61"), (200, "")], Request::get("/")).await;
    assert_eq!((status(answer), calls, seconds), (503, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_did_wrong_is_the_answer_and_says_nothing_of_the_service() {
    let stack = Stack::http_client("users");
    for code in [400, 401, 404, 409, 422] {
        let answers: &[_] = Box::leak(Box::new([(code, "")]));
        let (answer, calls, _) = send(&stack, answers, Request::get("/")).await;
        assert_eq!((status(answer), calls), (code, 1));
    }
    let totals = stack.snapshot().breaker.unwrap().totals;
    assert_eq!((totals.ignored, totals.calls.failures(), totals.calls.success), (5, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_tried_again_but_are_not_the_services_failure() {
    let stack = Stack::http_client("users");
    let (answer, calls, seconds) = send(&stack, &[(429, "1"), (429, "3"), (200, "")], Request::get("/")).await;
    assert_eq!((status(answer), calls, seconds), (200, 3, 4));
    let totals = stack.snapshot().breaker.unwrap().totals;
    assert_eq!((totals.ignored, totals.calls.failures(), totals.calls.success), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_sent_twice_is_sent_once() {
    let stack = Stack::http_client("users");
    for (request, sent) in [
        (Request::post("/"), 1),
        (Request::patch("/"), 1),
        (Request::post("/").header("idempotency-key", "7"), 3),
        (Request::put("/"), 3),
        (Request::delete("/"), 3),
    ] {
        let (answer, calls, _) = send(&stack, &[(0, "")], request).await;
        assert_eq!((answer.unwrap_err(), calls), (Error::Inner(Boom), sent));
    }
    assert_eq!(stack.snapshot().retry.unwrap().not_replayed, 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_waited_for() {
    let stack = Stack::http_client("users");
    let heard = transitions(stack.breaker().unwrap());
    for _ in 0..6 {
        assert_eq!(status(send(&stack, &[(500, "")], Request::get("/")).await.0), 500);
    }
    assert_eq!(stack.breaker().unwrap().state(), State::Closed, "18 failures, of first and further attempts");
    let (answer, calls, _) = send(&stack, &[(500, "")], Request::get("/")).await;
    assert_eq!((reason(answer), calls), (Reason::CircuitOpen, 2), "the third attempt is refused");
    assert_eq!(*heard.lock().unwrap(), ["closed>open:failure_rate"]);
    let (answer, calls, seconds) = send(&stack, &[(200, "")], Request::get("/")).await;
    assert_eq!((reason(answer), calls, seconds), (Reason::CircuitOpen, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_request_cuts_the_call_short() {
    let stack = Stack::http_client("users");
    let within = |time| Request::get("/").extension(Deadline::within(ms(time)));
    let (answer, calls, seconds) = send(&stack, &[(503, "2"), (200, "")], within(1_500)).await;
    assert_eq!((status(answer), calls, seconds), (503, 1, 0), "no wait is begun that passes it");
    let (answer, calls, _) = send(&stack, &[(200, "")], within(0)).await;
    assert_eq!((reason(answer), calls), (Reason::DeadlinePassed, 0));
}

#[tokio::test(start_paused = true)]
async fn settings_from_a_file_get_the_same_rules_and_the_type_has_a_name() {
    struct Client(HttpStack);
    let config: Config = toml::from_str("preset = 'http_client'\n[retry]\nattempts = 2").unwrap();
    let Client(stack) = Client(config.builder("users").http().try_build().unwrap());
    let (answer, calls, _) = send(&stack, &[(503, "1")], Request::get("/")).await;
    assert_eq!((status(answer), calls), (503, 2));
    assert!(panics(|| Stack::http_client("no name")));
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    stack.observe(move |_: &Event<'_>| *count.lock().unwrap() += 1);
    // A closure is made anew for each attempt: the methods are the caller's affair.
    let answer =
        stack.run(|| ready(Ok::<_, Boom>(Response::builder().status(StatusCode::BAD_GATEWAY).body(()).unwrap())));
    assert_eq!(within_a_minute(answer).await.unwrap().status(), 502);
    assert_eq!(*told.lock().unwrap(), 2, "a retry, and that there is no other");
}

async fn within_a_minute<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(ms(60_000), future).await.unwrap()
}
