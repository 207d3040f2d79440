//! What is wrapped around a classifier or a rule says what that says.

use std::{future::ready, time::Duration};

use mainstay::{
    Classify, Error, Name, OnError, OnOverload, Outcome, Reason, Rejection, Stack, breaker, classify_fn,
    fallback::{self, Fallback, FallbackLayer, NoFallback, Strategy},
    retry::{Classified, Config, Exhausted, Handle, on_exhausted},
};

use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// Even numbers are good. Odd ones ask for seven seconds.
#[derive(Debug, Clone, Copy)]
struct Even;

impl Classify<u32, Error<Boom>> for Even {
    fn classify(&self, result: Result<&u32, &Error<Boom>>) -> Outcome {
        if result.is_ok_and(|n| n % 2 == 0) { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, result: Result<&u32, &Error<Boom>>) -> Option<Duration> {
        result.is_ok_and(|n| n % 2 == 1).then_some(ms(7_000))
    }
}

#[test]
fn a_wait_that_is_asked_for_goes_through() {
    let overloaded: Answer =
        Err(Error::Rejected(Rejection::new(Reason::Overloaded, Name::new("below").unwrap()).with_retry_after(ms(300))));
    let boom: Answer = Err(Error::Inner(Boom));
    for (answer, wait) in [(&overloaded, Some(ms(300))), (&boom, None), (&Ok(1), None)] {
        assert_eq!(OnOverload.retry_after(answer.as_ref()), wait);
        assert_eq!(OnError.retry_after(answer.as_ref()), wait);
        assert_eq!(classify_fn(|_: Result<&u32, &Error<Boom>>| Outcome::Failure).retry_after(answer.as_ref()), None);
    }
    for (answer, wait) in [(&Ok(1), Some(ms(7_000))), (&Ok(2), None), (&boom, None)] {
        assert_eq!(Classified(Even).retry_after(answer.as_ref()), wait);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stacks_circuit_stays_open_for_as_long_as_its_classifier_is_asked_for() {
    let config = consecutive(1).open_for(ms(1_000)).open_jitter(0.0).honor_retry_after(ms(60_000));
    let plain = || Stack::builder("x").breaker(config.clone()).classify(Even);
    for (answer, period) in [(Ok(1), 7_000), (Err(Error::Inner(Boom)), 1_000)] {
        let stack = plain().build();
        let mut service = stack.service(service_fn(|_: u32| ready(answer.clone())));
        let _ = tower::Service::call(&mut service, 1).await;
        let breaker: &breaker::Handle = stack.breaker().unwrap();
        assert_eq!(breaker.snapshot().open_remaining, Some(ms(period)));

        // Beside a rule of its own for the retry.
        let stack = plain().retry_rule(Classified(OnError)).build();
        let mut service = stack.service(service_fn(|_: u32| ready(answer.clone())));
        let _ = tower::Service::call(&mut service, 1).await;
        assert_eq!(stack.breaker().unwrap().snapshot().open_remaining, Some(ms(period)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_with_a_hook_at_the_end_still_looks_at_what_is_ok() {
    let retry = Handle::new("x", Config::new().attempts(3));
    let rule = on_exhausted(Classified(Even), |error: Error<Boom>, _: Exhausted| error);
    let mut answers = [1, 3, 4].into_iter();
    let answer = retry.run_by(rule, |_| ready(Ok::<u32, Error<Boom>>(answers.next().unwrap()))).await;
    assert_eq!(answer, Ok(4));
}

#[test]
fn no_fallback_covers_nothing() {
    let boom = Error::Inner(Boom);
    assert!(!<NoFallback as Strategy<u32, u32, Error<Boom>>>::covers(&NoFallback, Err(&boom)));
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_a_failure_though_it_is_ok_is_fallen_back_for_where_that_can_be_done() {
    let stack = Stack::builder("x").classify(Even).fallback(Fallback::value(8)).build();
    assert_eq!(stack.service(service_fn(|_: u32| ready(Answer::Ok(1)))).oneshot(1).await, Ok(8));
    assert_eq!(stack.service(service_fn(|_: u32| ready(Answer::Ok(2)))).oneshot(1).await, Ok(2));
    // Made from an error, of which there is none here.
    let handle = fallback::Handle::new("x");
    let made = Fallback::run(|_: &Error<Boom>| ready(Answer::Ok(8)));
    let layer = FallbackLayer::new(handle.clone(), made).classify(Even);
    assert_eq!(layer.layer(service_fn(|_: u32| ready(Answer::Ok(1)))).oneshot(1).await, Ok(1));
    let seen = handle.snapshot();
    assert_eq!((seen.not_covered, seen.nothing, seen.used), (1, 0, 0));
}
