//! A whole stack that sees bodies to their end.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, Ready, pending, poll_fn, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use mainstay::{
    Error, Reason, Stack,
    breaker::{self, State},
    bulkhead,
    bulkhead::BulkheadLayer,
    fallback::Fallback,
    http::{StackBody, StatusClassify},
    load_shed, rate_limit, retry,
    stack::StackBuilder,
    time::Tick,
    timeout,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Step, Steps};
use crate::support::*;

type Answered = Result<Response<Steps>, Error<Boom>>;

/// One place with a queue of one, and a breaker that opens at once.
fn tight() -> StackBuilder {
    Stack::builder("files").breaker(consecutive(1)).bulkhead(bulkhead::Config::new(1).max_queue(1).max_wait(ms(1_000)))
}

/// Answers with these steps, whatever it is asked.
fn serves(
    steps: &'static [Step],
) -> impl Service<u32, Response = Response<Steps>, Error = Error<Boom>, Future = Ready<Answered>> + Clone {
    service_fn(move |_: u32| ready(Ok(Response::new(Steps::silent(steps.iter().copied())))))
}

fn running<C, F, R>(stack: &Stack<C, F, R>) -> u32 {
    stack.bulkhead().unwrap().running()
}

/// Failures, successes and cancelled calls that the breaker knows.
fn counted<C, F, R>(stack: &Stack<C, F, R>) -> (u64, u64, u64) {
    let totals = stack.breaker().unwrap().snapshot().totals;
    (totals.calls.failures(), totals.calls.success, totals.cancelled)
}

#[tokio::test(start_paused = true)]
async fn places_are_held_and_calls_are_judged_until_the_end_of_the_body() {
    let stack = tight().build();
    let service = stack.until_body_end().layer(serves(&[Step::Data("one"), Step::Data("two"), Step::Trailers]));
    let mut body = service.clone().oneshot(1).await.unwrap().into_body();
    assert_eq!((running(&stack), counted(&stack)), (1, (0, 0, 0)));
    // The next one waits for the end of the body, and the one after that is turned away.
    let mut second = task::spawn(service.clone().oneshot(2));
    assert_pending!(second.poll());
    assert_eq!(service.clone().oneshot(3).await.err(), rejected(Reason::BulkheadFull));
    for _ in 0..2 {
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert_eq!(running(&stack), 1);
    }
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert_eq!(counted(&stack), (0, 1, 0));
    assert!(second.is_woken());
    let second = assert_ready!(second.poll()).unwrap();
    assert_eq!(running(&stack), 1, "the second has the place");
    drop(second);
    assert_eq!((running(&stack), counted(&stack)), (0, (0, 2, 0)), "nobody asked for its body");
}

/// The rejection by one of the stack's own policies.
fn rejected(reason: Reason) -> Option<Error<Boom>> {
    let name = mainstay::Name::new("files").unwrap();
    Some(Error::Rejected(mainstay::Rejection::new(reason, name)))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_opens_the_circuit_of_the_stack() {
    let stack = tight().build();
    let service = stack.until_body_end().layer(serves(&[Step::Data("one"), Step::Fail]));
    let mut body = service.clone().oneshot(1).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(stack.breaker().unwrap().state(), State::Closed);
    assert_eq!(body.frame().await.unwrap().unwrap_err(), Boom);
    assert_eq!((stack.breaker().unwrap().state(), running(&stack)), (State::Open, 0));
    let Err(Error::Rejected(rejection)) = service.oneshot(2).await else { panic!("let in") };
    assert_eq!(rejection.reason(), Reason::CircuitOpen);
    assert_eq!(counted(&stack), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_leaves_gives_the_place_back() {
    let stack = tight().build();
    let service = stack.until_body_end().layer(serves(&[Step::Data("one"), Step::Data("two")]));
    let mut body = service.oneshot(1).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!((running(&stack), counted(&stack)), (0, (0, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_lets_the_body_of_a_failed_answer_go_before_it_waits() {
    let config = retry::Config::new().backoff(retry::Backoff::fixed(ms(100))).jitter(retry::Jitter::None);
    let stack = tight().breaker(consecutive(5)).retry(config).http().build();
    let answers = RefCell::new(VecDeque::from([StatusCode::BAD_GATEWAY, StatusCode::OK]));
    let below = service_fn(|request: http::Request<()>| {
        assert_eq!(request.method(), "GET");
        let mut answer = Response::new(Steps::silent([Step::Data("one")]));
        *answer.status_mut() = answers.borrow_mut().pop_front().unwrap();
        ready(Ok::<_, Error<Boom>>(answer))
    });
    let start = Tick::now();
    let mut call = task::spawn(stack.until_body_end().layer(below).oneshot(http::Request::new(())));
    assert_pending!(call.poll());
    let places = stack.bulkhead().unwrap();
    assert_eq!(places.running(), 0, "while it waits");
    assert_eq!(stack.breaker().unwrap().snapshot().totals.calls.failures(), 1);
    let answer = call.await.unwrap();
    assert_eq!((answer.status(), Tick::now().since(start), places.running()), (StatusCode::OK, ms(100), 1));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "one");
    assert_eq!((places.running(), stack.breaker().unwrap().snapshot().totals.calls.success), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn limits_of_time_are_those_of_the_stack_and_end_with_the_head() {
    let short = timeout::Handle::new("short", ms(50));
    let stack = tight().breaker(consecutive(2)).attempt_timeout(short.clone()).timeout(ms(80)).build();
    let layer = stack.until_body_end();
    let hangs = layer.layer(service_fn(|_: u32| pending::<Answered>()));
    for _ in 0..2 {
        let Err(Error::Rejected(rejection)) = hangs.clone().oneshot(1).await else { panic!("it answered") };
        assert_eq!((rejection.reason(), rejection.policy()), (Reason::TimedOut, "short"));
    }
    assert_eq!((short.snapshot().timed_out, running(&stack)), (2, 0));
    assert_eq!(stack.breaker().unwrap().state(), State::Open, "what was cut off is a failure");
    stack.breaker().unwrap().reset();
    short.set_limit(ms(1_000)).unwrap();
    assert_eq!(hangs.oneshot(1).await.err(), rejected(Reason::TimedOut));
    assert_eq!((stack.timeout().unwrap().snapshot().timed_out, running(&stack)), (1, 0));
    let body = layer.layer(serves(&[Step::Data("one")])).oneshot(1).await.unwrap().into_body();
    advance(ms(10_000)).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_with_a_body_of_its_own() {
    let calm = Fallback::with(|_: &Error<Boom>| Response::new(StackBody::from(Steps::new([Step::Data("later")]))));
    let stack = tight().fallback(calm).build();
    let service = stack.until_body_end().layer(serves(&[Step::Data("now")]));
    let text = async || service.clone().oneshot(1).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text().await, "now");
    stack.breaker().unwrap().force_open();
    assert_eq!(text().await, "later");
    assert_eq!((stack.fallback().snapshot().used, stack.bulkhead().unwrap().running()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_alone_holds_its_place_until_the_end_too() {
    let places = bulkhead::Handle::new("files", bulkhead::Config::new(1).max_queue(1));
    let layer = BulkheadLayer::new(places.clone()).queued().until_body_end();
    let service = layer.layer(serves(&[Step::Data("one")]));
    let first = service.clone().oneshot(1).await.unwrap();
    let mut second = task::spawn(service.clone().oneshot(2));
    assert_pending!(second.poll());
    assert_eq!(places.snapshot().waiting, 1);
    drop(second);
    assert_eq!(places.snapshot().waiting, 0, "it left the queue");
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "one");
    assert_eq!(places.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_it_holds_nothing() {
    const STEPS: [Step; 5] = [Step::Wait, Step::Data("one"), Step::Wait, Step::Data("two"), Step::Trailers];
    for held in [false, true] {
        for polls in 0.. {
            let stack = tight()
                .load_shed(load_shed::Config::new().in_flight(10))
                .rate_limit(rate_limit::Config::new(1, ms(5)).max_wait(ms(100)))
                .timeout(ms(200))
                .retry(retry::Config::new())
                .attempt_timeout(ms(100))
                .build();
            let place = held.then(|| stack.bulkhead().unwrap().try_acquire().unwrap());
            let below = service_fn(|_: u32| async {
                tokio::time::sleep(ms(20)).await;
                Ok::<_, Error<Boom>>(Response::new(Steps::silent(STEPS)))
            });
            let mut call = Box::pin(async {
                let answer = stack.until_body_end().layer(below).oneshot(1).await?;
                Ok::<_, Error<Boom>>(answer.into_body().collect().await.unwrap().to_bytes())
            });
            let mut place = place;
            let mut done = false;
            for n in 0..polls {
                if n == 3 {
                    place.take();
                }
                done = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_ready();
                if done {
                    break;
                }
                advance(ms(5)).await;
            }
            drop((place, call));
            let snapshot = stack.snapshot();
            let bulkhead = snapshot.bulkhead.unwrap();
            assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0), "after {polls} polls");
            assert_eq!(counted(&stack).0, 0);
            assert_eq!(counted(&stack).1, u64::from(done), "after {polls} polls");
            if done {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_body_is_one_failure_and_gives_the_place_back() {
    let stack = tight().build();
    let service = stack.until_body_end().layer(serves(&[Step::Panic]));
    let mut body = Box::pin(service.oneshot(1).await.unwrap().into_body());
    assert!(panics(|| body.as_mut().poll_frame(&mut Context::from_waker(std::task::Waker::noop())).is_ready()));
    assert_eq!((running(&stack), stack.breaker().unwrap().state()), (0, State::Open));
}

#[tokio::test(start_paused = true)]
async fn without_bodies_it_does_what_the_stack_does() {
    let run = async |streamed: bool| {
        let stack = Stack::builder("files")
            .breaker(breaker::Config::new().minimum_calls(4))
            .bulkhead(bulkhead::Config::new(1).max_queue(1).max_wait(ms(30)))
            .attempt_timeout(ms(50))
            .retry(retry::Config::new().jitter(retry::Jitter::None))
            .classify(StatusClassify::retryable())
            .build();
        let calls = RefCell::new(0_u64);
        let below = service_fn(|_: u32| {
            *calls.borrow_mut() += 1;
            let n = *calls.borrow();
            async move {
                tokio::time::sleep(ms(n * 17 % 70)).await;
                let status = if n % 3 == 0 { 503 } else { 200 };
                Ok::<_, Error<Boom>>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
            }
        });
        let mut seen = Vec::new();
        for n in 0..12 {
            let start = Tick::now();
            let (status, other) = if streamed {
                let service = stack.until_body_end().layer(below);
                both(service.clone().oneshot(n), service.oneshot(n)).await
            } else {
                let service = stack.service(below);
                both(service.clone().oneshot(n), service.oneshot(n)).await
            };
            seen.push((status, other, Tick::now().since(start)));
        }
        let snapshot = stack.snapshot();
        (seen, format!("{:?} {:?} {:?}", snapshot.breaker.map(|b| b.totals), snapshot.retry, snapshot.bulkhead))
    };
    assert_eq!(run(true).await, run(false).await);
}

/// What two calls at a time come to.
async fn both<B>(
    one: impl Future<Output = Result<Response<B>, Error<Boom>>>,
    two: impl Future<Output = Result<Response<B>, Error<Boom>>>,
) -> (String, String) {
    let text = |result: Result<Response<B>, Error<Boom>>| format!("{:?}", result.map(|response| response.status()));
    let (one, two) = tokio::join!(one, two);
    (text(one), text(two))
}
