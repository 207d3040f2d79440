//! Events, `tracing` and snapshots of the retry.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use mainstay::{
    Error, Outcome, classify_fn,
    observe::Event,
    retry::{Backoff, BudgetConfig, Config, Handle, Jitter},
};

use crate::{log, support::*};

fn steady() -> Config {
    Config::new().jitter(Jitter::None)
}

/// Everything told, in words.
fn told(retry: &Handle) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    retry.observe(move |event: &Event<'_>| {
        log.lock().unwrap().push(match event {
            Event::Retry(retry) => {
                format!("{} attempt {}: {}, next in {:?}", retry.policy, retry.attempt, retry.error, retry.next_delay)
            }
            Event::GaveUp { policy, attempts, why, .. } => format!("{policy} gave up after {attempts}: {why}"),
            other => format!("{other:?}"),
        });
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn every_retry_goes_to_tracing_with_operation_attempt_error_and_next_delay() {
    log::listen();
    let retry = Handle::new("logged-retry", steady());
    assert!(retry.run(|| ready(Answer::Err(Error::Inner(Boom)))).await.is_err());
    let lines = log::lines("operation", "logged-retry");
    assert!(lines.iter().all(|(level, _)| *level == tracing::Level::INFO));
    assert_eq!(lines.len(), 2);
    for ((_, fields), (attempt, delay)) in lines.iter().zip([("1", "100ms"), ("2", "200ms")]) {
        assert_eq!((&*fields["attempt"], &*fields["error"], &*fields["next_delay"]), (attempt, "boom", delay));
    }
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_every_retry_and_why_there_was_not_another() {
    let fails = || ready(Answer::Err(Error::Inner(Boom)));
    let retry = Handle::new("x", steady());
    let seen = told(&retry);
    assert_eq!(retry.run(|| ready(Answer::Ok(1))).await, Ok(1));
    assert!(seen.lock().unwrap().is_empty(), "nothing is told of what is frequent");
    assert!(retry.run(fails).await.is_err());
    assert_eq!(
        *seen.lock().unwrap(),
        ["x attempt 1: boom, next in 100ms", "x attempt 2: boom, next in 200ms", "x gave up after 3: attempts"]
    );
    for (config, last) in [
        (steady().deadline(ms(50)), "x gave up after 1: deadline"),
        (steady().budget(BudgetConfig::new().min_per_second(0)), "x gave up after 1: budget"),
    ] {
        let retry = Handle::new("x", config);
        let seen = told(&retry);
        assert!(retry.run(fails).await.is_err());
        assert_eq!(*seen.lock().unwrap(), [last]);
    }
    let retry = Handle::new("x", steady().attempts(2));
    let seen = told(&retry);
    let classify = classify_fn(|_: Result<&u32, &Error<Boom>>| Outcome::Failure);
    assert_eq!(retry.run_with(classify, |n| ready(Answer::Ok(n))).await, Ok(2));
    assert_eq!(
        *seen.lock().unwrap(),
        ["x attempt 1: a result that counts as a failure, next in 100ms", "x gave up after 2: attempts"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_everything_and_is_plain_json() {
    let retry = Handle::new("payments", steady().backoff(Backoff::fixed(ms(0))));
    for fails in [0, 1, 2, 3] {
        let left = std::cell::Cell::new(fails);
        let _ = retry
            .run(|| {
                let fails = left.get() > 0;
                left.set(left.get() - i32::from(fails));
                ready(if fails { Err(Error::Inner(Boom)) } else { Ok(()) })
            })
            .await;
    }
    let json = serde_json::to_value(retry.snapshot()).unwrap();
    let expected = serde_json::json!({
        "policy": "payments",
        "kind": "retry",
        "calls": 4,
        "retries": 5,
        "recovered": 2,
        "exhausted": 1,
        "budget_refused": 0,
        "past_deadline": 0,
        "asked_too_long": 0,
        "not_replayed": 0,
        "budget_available": 5,
    });
    assert_eq!(json, expected);
}
