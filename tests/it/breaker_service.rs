//! The breaker as a Tower service: readiness, wake-ups, clones, classification.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use mainstay::{
    Error, Name, Outcome, Reason, Rejection,
    breaker::{CircuitBreaker, CircuitBreakerLayer, Config, Handle, Permit, Readiness, State},
    classify_fn,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::*;

type Mock = mock::Spawn<CircuitBreaker<mock::Mock<u32, u32>>>;

/// A mock service behind a breaker, and the other end of the mock.
fn mocked(breaker: &Handle) -> (Mock, mock::Handle<u32, u32>) {
    mock::spawn_layer(CircuitBreakerLayer::new(breaker.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_through_and_its_result_is_counted() {
    let breaker = Handle::new("x", Config::new());
    let (mut service, mut upstream) = mocked(&breaker);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    assert_eq!(request, 7);
    respond.send_response(8);
    assert_eq!(assert_ready_ok!(call.poll()), 8);
    assert_eq!(breaker.snapshot().totals.calls.success, 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_ready_at_once_and_does_not_ask_the_service() {
    let breaker = Handle::new("x", Config::new());
    let (mut service, mut upstream) = mocked(&breaker);
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    breaker.force_open();
    assert!(service.is_woken(), "who waits for the service is woken when the circuit opens");
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call(1)).poll());
    assert_eq!(error.downcast_ref::<Rejection>().unwrap().reason(), Reason::CircuitOpen);
    assert_pending!(task::spawn(upstream.next_request()).poll());
    breaker.reset();
    assert_pending!(service.poll_ready());
    upstream.allow(1);
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_call_made_ready_by_an_open_circuit_never_reaches_a_service_that_is_not_ready() {
    let breaker = Handle::new("x", consecutive(1));
    let (mut service, mut upstream) = mocked(&breaker);
    upstream.allow(0);
    fail(&breaker, 1);
    assert_ready_ok!(service.poll_ready());
    // The circuit is due by now, but nobody asked the service whether it is ready.
    advance(ms(10_000)).await;
    let error = assert_ready_err!(task::spawn(service.call(1)).poll());
    let rejection = error.downcast_ref::<Rejection>().unwrap();
    assert_eq!(rejection.retry_after(), Some(ms(0)));
    assert_eq!(breaker.snapshot().probes_running, 0, "the place of the probe is free again");
    assert_pending!(service.poll_ready());
    upstream.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut probe = task::spawn(service.call(2));
    assert_pending!(probe.poll());
    let (_, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    respond.send_response(0);
    assert_ready_ok!(probe.poll());
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn readiness_takes_nothing() {
    let breaker = Handle::new("x", consecutive(1));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let (mut service, _upstream) = mocked(&breaker);
    for _ in 0..1_000 {
        assert_ready_ok!(service.poll_ready());
    }
    drop(service);
    assert_eq!(breaker.snapshot().probes_running, 0);
    assert!(breaker.acquire().is_ok(), "the one probe is still there to take");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_a_failure_of_the_service() {
    let breaker = Handle::new("x", consecutive(2));
    let (mut service, mut upstream) = mocked(&breaker);
    upstream.send_error("gone");
    assert_ready_err!(service.poll_ready());
    assert_eq!(breaker.snapshot().totals.calls.failure, 1);
    assert_eq!(breaker.snapshot().consecutive_failures, 1);
}

#[tokio::test(start_paused = true)]
async fn unready_mode_waits_for_the_probe_and_is_woken_on_time() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    let (mut service, _upstream) = mocked(&breaker);
    assert_ready_ok!(service.poll_ready());
    fail(&breaker, 1);
    assert_pending!(service.poll_ready());
    advance(ms(9_999)).await;
    assert!(!service.is_woken());
    assert_pending!(service.poll_ready());
    advance(ms(1)).await;
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_ready_and_idle_is_not_woken_by_what_happens_to_the_circuit() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let make = || layer.layer(service_fn(|n: u32| ready(Ok::<u32, Error<Boom>>(n))));
    let (mut idle, mut waits) = (mock::Spawn::new(make()), mock::Spawn::new(make()));
    fail(&breaker, 1);
    assert_pending!(idle.poll_ready());
    advance(ms(10_000)).await;
    assert_ready_ok!(idle.poll_ready());
    breaker.force_open();
    assert_pending!(waits.poll_ready());
    breaker.reset();
    assert_eq!((waits.is_woken(), idle.is_woken()), (true, false));
}

#[tokio::test(start_paused = true)]
async fn in_unready_mode_all_who_wait_are_woken_when_the_circuit_closes_or_a_probe_is_free() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let make = || layer.layer(service_fn(|n: u32| ready(Ok::<u32, Error<Boom>>(n))));
    let mut waiting: Vec<_> = (0..3).map(|_| mock::Spawn::new(make())).collect();
    breaker.force_open();
    for service in &mut waiting {
        assert_pending!(service.poll_ready());
    }
    breaker.reset();
    for service in &mut waiting {
        assert!(service.is_woken());
        assert_ready_ok!(service.poll_ready());
    }
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let probe = breaker.acquire().unwrap();
    for service in &mut waiting {
        assert_pending!(service.poll_ready());
    }
    drop(probe);
    for service in &mut waiting {
        assert!(service.is_woken());
        assert_ready_ok!(service.poll_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn in_unready_mode_a_probe_that_hangs_does_not_keep_others_waiting_for_ever() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready).half_open_for(ms(500)));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let hung = breaker.acquire().unwrap();
    let (mut service, _upstream) = mocked(&breaker);
    assert_pending!(service.poll_ready());
    advance(ms(500)).await;
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    drop(hung);
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_are_one_circuit() {
    let breaker = Handle::new("x", consecutive(3));
    let layer = CircuitBreakerLayer::new(breaker.clone());
    for _ in 0..3 {
        // As axum does: a new service by the same layer for every request.
        let service = layer.clone().layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
        assert_eq!(service.oneshot(1).await, Err(Error::Inner(Boom)));
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_used_again_and_again_is_still_the_same_circuit() {
    let breaker = Handle::new("x", consecutive(5));
    let service =
        CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
    let (mut a, mut b) = (service.clone(), service);
    for _ in 0..2 {
        let _ = a.ready().await.unwrap().call(1).await;
        let _ = b.ready().await.unwrap().call(1).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    let _ = a.clone().oneshot(1).await;
    assert_eq!(breaker.state(), State::Open);
    assert!(a.policy().is_same(b.policy()));
}

#[tokio::test(start_paused = true)]
async fn the_classifier_decides_and_sees_results_as_well_as_errors() {
    let breaker = Handle::new("x", Config::new());
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(classify_fn(
        |result: Result<&u32, &Error<Boom>>| match result {
            Ok(0) => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        },
    ));
    let service = layer.layer(Scripted::new([Ok(0), Ok(1), Err(Error::Inner(Boom))].map(ready)));
    for _ in 0..3 {
        let _ = service.clone().oneshot(1).await;
    }
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.failure, totals.calls.success, totals.ignored), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn rejections_from_below_are_ignored_and_time_outs_are_not() {
    let breaker = Handle::new("outer", Config::new());
    let rejected = |reason| Answer::Err(Error::Rejected(Rejection::new(reason, Name::new("inner").unwrap())));
    let below = [Reason::BulkheadFull, Reason::CircuitOpen, Reason::RateLimited, Reason::Overloaded, Reason::TimedOut];
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(Scripted::new(below.map(rejected).map(ready)));
    for reason in below {
        let error = service.clone().oneshot(1).await.unwrap_err();
        assert!(matches!(error, Error::Rejected(r) if r.reason() == reason && r.policy() == "inner"));
    }
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.ignored, totals.calls.failures()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_policies_gives_back_the_first_when_the_second_refuses() {
    let (first, second) = (Handle::new("first", consecutive(1)), Handle::new("second", Config::new()));
    fail(&first, 1);
    advance(ms(10_000)).await;
    second.force_open();
    let layer = mainstay::admission::AdmissionLayer::new((first.clone(), second.clone()));
    let service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let error = service.clone().oneshot(1).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(rejection) if rejection.policy() == "second"));
    assert_eq!(first.snapshot().probes_running, 0);
    assert_eq!(first.snapshot().totals.cancelled, 0);
    second.reset();
    assert_eq!(service.oneshot(1).await, Ok(1));
    assert_eq!(first.state(), State::Closed);
    assert_eq!(second.snapshot().totals.calls.success, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_request_the_response_or_the_future() {
    // Neither Send, nor Clone, nor Debug.
    struct Odd(std::rc::Rc<u32>);
    let service = service_fn(|request: Odd| async move { Ok::<Odd, Error<Boom>>(request) });
    let mut service = CircuitBreakerLayer::new(Handle::new("x", Config::new())).layer(service);
    assert_eq!(*service.ready().await.unwrap().call(Odd(7.into())).await.unwrap().0, 7);
    // Nor 'static: request, answer and service borrow from this stack frame.
    let local = String::from("local");
    let service = service_fn(|n: usize| ready(Ok::<&str, Error<Boom>>(&local[n..])));
    let mut service = CircuitBreakerLayer::new(Handle::new("x", Config::new())).layer(service);
    assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), "cal");
}

#[tokio::test(start_paused = true)]
async fn the_stack_by_hand_from_the_design() {
    let breaker = Handle::new("user-db", Config::new().failure_rate(0.3));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let client = service_fn(move |id: u32| {
        seen.fetch_add(1, SeqCst);
        ready(if id == 0 { Err(Boom) } else { Ok(id) })
    });
    let mut users =
        ServiceBuilder::new().layer(CircuitBreakerLayer::new(breaker.clone())).map_err(Error::Inner).service(client);
    for id in 0..20 {
        let _ = users.ready().await.unwrap().call(id % 3).await;
    }
    assert_eq!(breaker.state(), State::Open);
    let before = calls.load(SeqCst);
    let error = users.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(error.to_string(), "circuit breaker \"user-db\" is open, retry in 30s");
    assert_eq!(calls.load(SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn futures_are_unpin_and_send_when_the_service_allows() {
    fn assert_unpin<T: Unpin>(_: &T) {}
    fn assert_send_sync<T: Send + Sync>(_: &T) {}
    let layer = CircuitBreakerLayer::new(Handle::new("x", Config::new()));
    assert_send_sync(&layer);
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert_send_sync(&service);
    assert_unpin(&service);
    let mut call = service.call(1);
    assert_unpin(&call);
    assert_send_sync(&call);
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
    let waits = layer.layer(service_fn(|_: u32| pending::<Answer>())).call(1);
    assert_unpin(&waits);
}

#[tokio::test(start_paused = true)]
async fn held_back_by_the_second_of_two_a_caller_is_woken_when_the_first_turns_away() {
    use mainstay::bulkhead;
    let (breaker, places) = (
        Handle::new("first", Config::new()),
        bulkhead::Handle::new("second", bulkhead::Config::new(1).readiness(Readiness::Unready)),
    );
    let layer = mainstay::admission::AdmissionLayer::new((breaker.clone(), places.clone()));
    let mut service = mock::Spawn::new(layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))));
    let held = places.try_acquire().unwrap();
    assert_pending!(service.poll_ready());
    breaker.force_open();
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    assert!(service.call(1).await.unwrap_err().is_rejection());
    breaker.reset();
    assert_pending!(service.poll_ready());
    drop(held);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn a_handle_goes_through_a_caught_panic() {
    let breaker = Handle::new("x", Config::new());
    let caught = std::panic::catch_unwind(|| breaker.acquire().map(Permit::success));
    assert!(caught.is_ok());
}
