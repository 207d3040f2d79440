//! Cancellation and panics: what is left when a call does not come to its end.

use std::{
    future::{Future, pending, poll_fn, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use mainstay::{
    Error, Outcome,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    classify_fn,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

/// Answers after so many polls.
fn after_polls(mut polls: u32) -> impl Future<Output = Answer> {
    poll_fn(move |cx| {
        if polls == 0 {
            return Poll::Ready(Ok(0));
        }
        polls -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_probe_gives_its_place_back() {
    for polls in 0..4 {
        let breaker = half_open().await;
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| after_polls(3)));
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        assert_eq!(breaker.snapshot().probes_running, 1);
        assert!(breaker.acquire().is_err());
        for _ in 0..polls {
            let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending() || polls == 4);
        }
        drop(call);
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.probes_running, 0, "dropped after {polls} polls");
        assert_eq!((snapshot.state, snapshot.totals.cancelled), (State::HalfOpen, 1));
        assert_eq!(snapshot.window.calls(), 0);
        breaker.acquire().unwrap().success();
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_after_its_end_a_call_counts_once() {
    let breaker = half_open().await;
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| after_polls(0)));
    let mut call = Box::pin(service.call(1));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(breaker.state(), State::Closed);
    drop(call);
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.success, totals.cancelled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_gives_back_and_one_that_is_not_polled_takes_nothing() {
    let breaker = half_open().await;
    let unpolled = breaker.run(pending::<Result<(), Boom>>());
    assert_eq!(breaker.snapshot().probes_running, 0);
    drop(unpolled);
    {
        let mut run = pin!(breaker.run(pending::<Result<(), Boom>>()));
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(breaker.snapshot().probes_running, 1);
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.probes_running, snapshot.totals.cancelled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_counts_as_a_failure_only_after_its_time() {
    for (ran, failures) in [(0, 0), (499, 0), (500, 0), (501, 1), (60_000, 1)] {
        let breaker = Handle::new("x", Config::new().count_cancelled_after(ms(500)));
        let permit = breaker.acquire().unwrap();
        advance(ms(ran)).await;
        drop(permit);
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.calls.failures(), totals.cancelled), (failures, 1 - failures), "after {ran} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_give_up_on_a_hung_service_open_its_circuit() {
    let breaker = Handle::new("x", Config::new().minimum_calls(5).slow_calls(ms(200), 1.0));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| pending::<Answer>()));
    for _ in 0..5 {
        assert_eq!(breaker.state(), State::Closed);
        let call = service.ready().await.unwrap().call(1);
        assert!(tokio::time::timeout(ms(250), call).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().window.slow_failure, 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_threshold_a_cancelled_call_never_counts() {
    let breaker = Handle::new("x", consecutive(1));
    let permit = breaker.acquire().unwrap();
    advance(ms(86_400_000)).await;
    drop(permit);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().totals.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_call_or_in_the_future_counts_once_and_goes_on() {
    let breaker = Handle::new("x", Config::new());
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let mut in_call = layer.layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| in_call.call(1)));
    assert_eq!(breaker.snapshot().totals.calls.failure, 1);
    let mut in_future = layer.layer(service_fn(|_: u32| poll_fn(|_| -> Poll<Answer> { panic!("in poll") })));
    let mut call = in_future.call(1);
    assert!(panics(|| poll_once(&mut call)));
    assert_eq!(breaker.snapshot().totals.calls.failure, 2, "counted when it happens, not when the runtime drops it");
    drop(call);
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.failure, totals.cancelled), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_spawned_call_and_in_a_run_counts_and_frees_the_probe() {
    let breaker = half_open().await;
    let task = tokio::spawn({
        let breaker = breaker.clone();
        async move { breaker.run(async { panic!("in the future") as Result<(), Boom> }).await }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::Open, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_between_acquire_and_record_counts_as_a_failure() {
    let breaker = Handle::new("x", Config::new());
    assert!(panics(|| {
        let _permit = breaker.acquire();
        panic!("in the caller's code")
    }));
    assert_eq!(breaker.snapshot().totals.calls.failure, 1);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_counts_a_failure_and_the_caller_gets_the_result() {
    let breaker = Handle::new("x", Config::new());
    let layer = CircuitBreakerLayer::new(breaker.clone())
        .classify(classify_fn(|_: Result<&u32, &Error<Boom>>| -> Outcome { panic!("in the classifier") }));
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut call = service.call(5);
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut call))));
    assert_eq!(answer, Some(Poll::Ready(Ok(5))));
    assert_eq!(breaker.snapshot().totals.calls.failure, 1);
}

#[tokio::test(start_paused = true)]
async fn a_predicate_or_an_observer_that_panics_leaves_the_circuit_right() {
    let breaker = Handle::new(
        "x",
        consecutive(2).open_when(|counts| {
            assert!(counts.failures() != 1, "the predicate panics at the first failure");
            false
        }),
    );
    let told = transitions(&breaker);
    breaker.observe(|_: &mainstay::observe::Event<'_>| panic!("in the observer"));
    let late = transitions(&breaker);
    assert!(!panics(|| fail(&breaker, 2)));
    assert_eq!(breaker.state(), State::Open);
    breaker.reset();
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(late.lock().unwrap().len(), 2, "those after the one that panics are told too");
}

#[tokio::test(start_paused = true)]
async fn late_results_count_for_nothing_and_change_nothing() {
    let breaker = Handle::new("x", consecutive(2));
    let old: Vec<_> = (0..4).map(|_| breaker.acquire().unwrap()).collect();
    fail(&breaker, 2);
    advance(ms(4_000)).await;
    let mut old = old.into_iter();
    old.next().unwrap().failure();
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(6_000)), "a late failure does not extend the open period");
    advance(ms(6_000)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    old.next().unwrap().success();
    assert_eq!(breaker.state(), State::HalfOpen, "a late success is no probe");
    breaker.acquire().unwrap().success();
    old.by_ref().for_each(mainstay::breaker::Permit::failure);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.window.calls(), snapshot.totals.stale), (State::Closed, 0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_lost_its_place_cannot_decide() {
    let breaker = Handle::new("x", consecutive(1).half_open_for(ms(300)));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let hung = breaker.acquire().unwrap();
    advance(ms(299)).await;
    assert!(breaker.acquire().is_err());
    advance(ms(1)).await;
    let next = breaker.acquire().unwrap();
    hung.failure();
    assert_eq!((breaker.state(), breaker.snapshot().totals.stale), (State::HalfOpen, 1));
    next.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn everything_may_be_dropped_in_any_order_while_a_call_runs() {
    for order in 0..6 {
        let breaker = Handle::new("x", Config::new());
        let layer = CircuitBreakerLayer::new(breaker.clone());
        let mut service = layer.layer(service_fn(|_: u32| pending::<Answer>()));
        let call = service.call(1);
        let mut parts: Vec<Box<dyn std::any::Any>> =
            vec![Box::new(breaker), Box::new(layer), Box::new(service), Box::new(call)];
        parts.rotate_left(order % 4);
        if order > 3 {
            parts.reverse();
        }
        parts.into_iter().for_each(drop);
    }
}
