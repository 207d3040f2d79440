//! What counts as a failure: time-outs, panics, and calls that a retry repeats.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay::{
    Error, Outcome, Reason,
    breaker::{CircuitBreakerLayer, Config, State},
    classify_fn,
};
use tower::{Layer, ServiceExt, service_fn};

use super::{Broken, call, call_all, new, play, window};

// The minimum stands for the health snapshot, which theirs takes after the last call.
#[tokio::test(start_paused = true)]
async fn cb_16_time_outs_are_failures() {
    for (calls, minimum, counts) in [("TTTT", 4, (0, 4)), ("SSTSTTSTT", 9, (4, 5))] {
        let breaker = new(Config::new().failure_rate(0.4).minimum_calls(minimum));
        let layer = CircuitBreakerLayer::new(breaker.clone());
        let (last, before) = (&calls[calls.len() - 1..], &calls[..calls.len() - 1]);
        call_all(&layer, before).await;
        assert_eq!(breaker.state(), State::Closed);
        call_all(&layer, last).await;
        assert_eq!((breaker.state(), window(&breaker)), (State::Open, counts));
    }
}

#[tokio::test(start_paused = true)]
async fn cb_40_retries_end_at_the_circuit_they_opened() {
    let breaker = new(Config::new().no_failure_rate().consecutive_failures(3));
    let (mut attempts, mut ran) = (0, 0);
    let last = loop {
        attempts += 1;
        let mut work = async || {
            ran += 1;
            Err::<(), Broken>(Broken)
        };
        let result = breaker.run(work()).await;
        if attempts == 7 {
            break result;
        }
    };
    assert_eq!((attempts, ran), (7, 3));
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.calls(), totals.calls.failures(), totals.rejected), (3, 3, 4));
    assert!(matches!(last, Err(Error::Rejected(rejection)) if rejection.reason() == Reason::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn cb_44_time_outs_count_by_default() {
    let breaker = new(Config::new().minimum_calls(2));
    let layer = CircuitBreakerLayer::new(breaker);
    call_all(&layer, "TT").await;
    let third = call(&layer, 'T').await;
    assert!(matches!(third, Err(Error::Rejected(rejection)) if rejection.reason() == Reason::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn cb_44_time_outs_do_not_count_when_only_another_error_does() {
    let breaker = new(Config::new().minimum_calls(2));
    let only_broken = classify_fn(|result: Result<&(), &Error<Broken>>| match result {
        Err(Error::Inner(Broken)) => Outcome::Failure,
        _ => Outcome::Success,
    });
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(only_broken);
    call_all(&layer, "TTT").await;
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (3, 0)));
}

#[tokio::test(start_paused = true)]
async fn cb_45_a_panic_is_one_failure_and_goes_on() {
    let breaker = new(Config::new());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.acquire().unwrap();
        panic!("in the call");
    }));
    let message = panicked.unwrap_err();
    assert_eq!(message.downcast_ref(), Some(&"in the call"));
    assert_eq!((window(&breaker), breaker.snapshot().consecutive_failures), ((0, 1), 1));
}

#[tokio::test(start_paused = true)]
async fn cb_45_a_panic_in_a_task_is_one_failure_too() {
    let breaker = new(Config::new());
    let through_the_layer = {
        let layer = CircuitBreakerLayer::new(breaker.clone());
        tokio::spawn(async move {
            let service = service_fn(async |()| -> Result<(), Error<Broken>> { panic!("in the service") });
            layer.layer(service).oneshot(()).await
        })
    };
    assert!(through_the_layer.await.unwrap_err().is_panic());
    assert_eq!((window(&breaker), breaker.snapshot().consecutive_failures), ((0, 1), 1));

    let around_a_future = {
        let breaker = breaker.clone();
        tokio::spawn(async move { breaker.run(async { panic!("in the future") as Result<(), Broken> }).await })
    };
    assert!(around_a_future.await.unwrap_err().is_panic());
    assert_eq!((window(&breaker), breaker.snapshot().totals.calls.calls()), ((0, 2), 2));
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Closed);
}
