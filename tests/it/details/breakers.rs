//! What few look at of a circuit: causes, what is measured, what a late probe asks for, who is asked last.

use std::{
    cell::Cell,
    future::{Ready, ready},
    task::{Context, Poll},
};

use mainstay::{
    Error, Name, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
};
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, Service};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_threshold_that_is_reached_is_the_cause_whatever_a_predicate_says() {
    let breaker = Handle::new("x", consecutive(2).open_when(|counts| counts.failure >= 2));
    let told = transitions(&breaker);
    fail(&breaker, 2);
    assert_eq!(*told.lock().unwrap(), ["closed>open:consecutive_failures"]);
}

#[tokio::test(start_paused = true)]
async fn latency_is_in_the_snapshot_only_where_it_is_to_be_measured() {
    for (measure, there) in [(true, true), (false, false)] {
        let breaker = Handle::new("x", Config::new().slow_calls(ms(100), 0.5).measure_latency(measure));
        let permit = breaker.acquire().unwrap();
        advance(ms(20)).await;
        permit.success();
        let measured = breaker.snapshot().latency.is_some_and(|latency| latency.calls > 0);
        assert_eq!(measured, there);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_does_not_call_a_function() {
    let breaker = Handle::new("x", consecutive(1));
    assert_eq!(breaker.call(|| Ok::<_, Boom>(7)), Ok(7));
    assert_eq!(breaker.call(|| Err::<u32, _>(Boom)), Err(Error::Inner(Boom)));
    let called = Cell::new(false);
    let answer = breaker.call(|| {
        called.set(true);
        Ok::<_, Boom>(())
    });
    match answer {
        Err(Error::Rejected(rejection)) => assert_eq!(rejection.reason(), Reason::CircuitOpen),
        other => panic!("{other:?}"),
    }
    assert!(!called.get());
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_after_one_of_calls_has_ten_buckets() {
    let config = |config: Config| serde_json::to_value(config).unwrap()["window"].clone();
    let usual = config(Config::new().time_window(ms(20_000)));
    assert_eq!(config(Config::new().count_window(7).time_window(ms(20_000))), usual);
    assert_eq!(config(Config::new().buckets(4).time_window(ms(20_000)))["buckets"], 4);
}

/// One failure opens; each probing that fails doubles the time.
fn growing() -> Config {
    consecutive(1).open_for(ms(1_000)).open_growth(2.0, ms(60_000)).open_jitter(0.0).probes(1)
}

#[tokio::test(start_paused = true)]
async fn a_restored_circuit_knows_how_often_it_has_been_probed_in_vain() {
    let first = Handle::new("x", growing());
    fail(&first, 1);
    for period in [1_000, 2_000] {
        advance(ms(period)).await;
        fail(&first, 1);
    }
    assert_eq!(first.snapshot().open_remaining, Some(ms(4_000)));
    let second = Handle::new("x", growing());
    second.restore(&first.save());
    assert_eq!(second.state(), State::Open);
    advance(ms(4_000)).await;
    fail(&second, 1);
    assert_eq!(second.snapshot().open_remaining, Some(ms(8_000)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_place_was_taken_back_asks_for_no_pause() {
    let breaker = Handle::new(
        "x",
        consecutive(1)
            .open_for(ms(1_000))
            .open_jitter(0.0)
            .probes(1)
            .half_open_for(ms(500))
            .honor_retry_after(ms(60_000)),
    );
    fail(&breaker, 1);
    advance(ms(1_000)).await;
    let late = breaker.acquire().unwrap();
    advance(ms(500)).await;
    let probe = breaker.acquire().unwrap();
    late.failure_with_retry_after(ms(30_000));
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.failure();
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(1_000)));
    advance(ms(1_000)).await;
    breaker.acquire().unwrap().failure_with_retry_after(ms(30_000));
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(30_000)), "one in time does");
}

/// Says in its readiness what it is told to.
struct Fickle<'a>(&'a Cell<Option<Error<Boom>>>);

impl Service<u32> for Fickle<'_> {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        Poll::Ready(self.0.take().map_or(Ok(()), Err))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

/// A host keeps a service that was asked while the circuit was open, and calls it when that lets probes pass.
#[tokio::test(start_paused = true)]
async fn a_service_that_fails_when_it_is_asked_at_the_last_moment_has_failed_and_one_that_turns_away_has_not() {
    let below = || Rejection::new(Reason::BulkheadFull, Name::new("below").unwrap());
    for (error, state) in [
        (None, State::Closed),
        (Some(Error::Inner(Boom)), State::Open),
        (Some(Error::Rejected(below())), State::HalfOpen),
    ] {
        let breaker = Handle::new("x", consecutive(1).open_for(ms(1_000)).open_jitter(0.0).probes(1).close_after(1));
        let (says, fails) = (Cell::new(None), error.is_some());
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(Fickle(&says));
        fail(&breaker, 1);
        assert_ready_ok!(task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx))).poll());
        advance(ms(1_000)).await;
        says.set(error);
        assert_eq!(service.call(7).await.is_err(), fails);
        assert_eq!(breaker.state(), state);
        assert_eq!(breaker.snapshot().probes_running, 0);
    }
}

#[test]
fn an_open_time_that_does_not_grow_may_be_its_own_cap() {
    assert!(Config::new().open_for(ms(1_000)).open_growth(2.0, ms(1_000)).check().is_ok());
    assert!(Config::new().open_for(ms(1_001)).open_growth(2.0, ms(1_000)).check().is_err());
}
