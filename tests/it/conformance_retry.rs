//! Conformance: retry, back-off and budgets.
//!
//! Where anchors differ: a cap holds for the wait before jitter, and a range may go above it by its share, as in gRPC
//! (RT-13); the jitters that only shorten a wait never do, as in Polly (RT-11).

use std::{
    cell::{Cell, RefCell},
    future::ready,
    time::Duration,
};

use mainstay::{
    Classify, Error, OnError, Outcome,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, Jitter, Replay, RetryLayer},
    time::Tick,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// Scenarios that need what mainstay does not have.
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[
    (
        "RT-02",
        "a throttle whose tokens failures take and successes give; a budget here is earned by calls, spent by retries",
    ),
    ("RT-03", "which gRPC codes and push-backs count against that throttle; here only retries are paid for"),
    ("RT-05", "a limit by the service's own configuration beside the client's; attempts have one owner here"),
    ("RT-08", "a budget over calls in flight; the one here counts calls, so that nothing is written when they end"),
];

const S: Duration = Duration::from_secs(1);

fn unjittered(backoff: &Backoff, retries: std::ops::RangeInclusive<u32>) -> Vec<f64> {
    retries.map(|retry| backoff.wait(retry).as_secs_f64()).collect()
}

/// A request whose copy is a buffer that may overflow, and that says which attempt it is.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    payload: Vec<u8>,
    previous_attempts: u32,
}

/// Replays requests of up to so many bytes.
struct Buffer(usize);

impl Replay<Request> for Buffer {
    type Kept = Vec<u8>;

    fn keep(&self, request: &mut Request) -> Option<Vec<u8>> {
        Some(request.payload.iter().copied().take(self.0 + 1).collect())
    }

    fn again(&self, kept: &Vec<u8>, attempt: u32) -> Option<Request> {
        (kept.len() <= self.0).then(|| Request { payload: kept.clone(), previous_attempts: attempt - 1 })
    }
}

/// Fails, asks for a second, or is not worth another attempt.
struct Pushback;

impl<T> Classify<T, Error<u32>> for Pushback {
    fn classify(&self, result: Result<&T, &Error<u32>>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(Error::Inner(0)) => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        }
    }

    fn retry_after(&self, result: Result<&T, &Error<u32>>) -> Option<Duration> {
        matches!(result, Err(Error::Inner(1_000))).then_some(S)
    }
}

#[tokio::test(start_paused = true)]
async fn rt_04_commitment() {
    // (payload, error, attempts seen by the service as the number of those before, milliseconds)
    for (payload, error, seen, took) in [
        (100, 0, vec![0], 0),
        (100, 1, vec![0, 1, 2, 3], 30),
        (200, 1, vec![0, 1, 2, 3], 30),
        (500, 1, vec![0], 0),
        (100, 1_000, vec![0, 1, 2, 3], 3_000),
    ] {
        let config = Config::new().attempts(4).backoff(Backoff::fixed(ms(10))).jitter(Jitter::None);
        let attempts = RefCell::new(Vec::new());
        let below = service_fn(|request: Request| {
            assert_eq!(request.payload, vec![7; payload], "requests are replayed whole");
            attempts.borrow_mut().push(request.previous_attempts);
            ready(Err::<(), _>(Error::Inner(error)))
        });
        let layer = RetryLayer::new(Handle::new("x", config)).classify(Pushback).replay(Buffer(200));
        let start = Tick::now();
        let request = Request { payload: vec![7; payload], previous_attempts: 0 };
        assert_eq!(layer.layer(below).oneshot(request).await, Err(Error::Inner(error)));
        assert_eq!((attempts.take(), Tick::now().since(start)), (seen, ms(took)));
    }
}

#[tokio::test(start_paused = true)]
async fn rt_09_waits_of_the_standard_quota_and_its_last_token() {
    let waits = |cap| Config::new().attempts(5).backoff(Backoff::exponential(S, 2.0).cap(cap)).jitter(Jitter::None);
    for (cap, seconds) in [(S * 100, vec![1, 2, 4, 8]), (S * 3, vec![1, 2, 3, 3])] {
        let retry = Handle::new("x", waits(cap));
        let starts = RefCell::new(Vec::new());
        let answer = retry.run(|| {
            starts.borrow_mut().push(Tick::now());
            ready(Answer::Err(Error::Inner(Boom)))
        });
        assert_eq!(answer.await, Err(Error::Inner(Boom)), "stops at 5 attempts");
        let between: Vec<u64> = starts.take().windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
        assert_eq!(between, seconds);
    }
    // The first retry takes the last token, the second finds none.
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0));
    let retry = Handle::new("x", waits(S * 100)).with_budget(&budget);
    let calls = Cell::new(0);
    let answer = retry.run(|| {
        calls.set(calls.get() + 1);
        ready(Answer::Err(Error::Inner(Boom)))
    });
    assert!(answer.await.is_err());
    assert_eq!((calls.get(), budget.available(), retry.snapshot().budget_refused), (2, 0, 1));
    // A success on a first attempt adds a token.
    assert_eq!(retry.run_with(OnError, |n| ready(Answer::Ok(n))).await, Ok(1));
    assert_eq!(budget.available(), 1);
}

#[test]
fn rt_11_back_off_without_jitter_caps_and_overflow() {
    assert_eq!(unjittered(&Backoff::fixed(S), 1..=3), [1.0, 1.0, 1.0]);
    assert_eq!(unjittered(&Backoff::linear(S), 1..=3), [1.0, 2.0, 3.0]);
    assert_eq!(unjittered(&Backoff::exponential(S, 2.0), 1..=3), [1.0, 2.0, 4.0]);
    for kind in [Backoff::fixed, Backoff::linear, |wait| Backoff::exponential(wait, 2.0)] {
        assert_eq!(unjittered(&kind(Duration::ZERO), 1..=1_000), vec![0.0; 1_000], "nothing, however often");
        assert_eq!(unjittered(&kind(S * 3).cap(S), 1..=3), [1.0; 3], "a cap holds for every kind");
        let day = S * 86_400;
        assert!(kind(day).cap(Duration::MAX).wait(1_000) >= day);
        assert!(kind(day).cap(day * 2).wait(1_000) <= day * 2);
    }
    let forever = Backoff::exponential(S * 86_400, 2.0).cap(Duration::MAX);
    assert_eq!(Backoff::exponential(S * 86_400, 2.0).cap(S * 86_400 * 2).wait(1_000), S * 86_400 * 2);
    assert_eq!(forever.wait(1_000), Duration::from_nanos(u64::MAX), "the longest there is");
    let ranged = |backoff: Backoff, retry, random| {
        backoff.jittered(Jitter::Range(0.25), retry, Duration::ZERO, random).as_secs_f64()
    };
    let constant = [0.0, 0.4, 0.6, 1.0].map(|random| ranged(Backoff::fixed(S), 1, random));
    assert_eq!(constant, [0.75, 0.95, 1.05, 1.25]);
    // The source's linear delays grow by the attempt counted from 0: its attempt 2 is the third.
    let linear = [0.0, 0.4, 0.5, 0.6, 1.0].map(|random| ranged(Backoff::linear(S), 3, random));
    assert_eq!(linear, [2.25, 2.85, 3.0, 3.15, 3.75]);
    let exponential = Backoff::exponential(S, 2.0).cap(S * 30);
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        let mut previous = Duration::ZERO;
        for attempt in 1..=1_025 {
            let random = f64::from(attempt) / 1_026.0;
            previous = exponential.jittered(jitter, attempt, previous, random);
            assert!(previous > Duration::ZERO && previous <= S * 30, "{jitter:?}, attempt {attempt}: {previous:?}");
        }
    }
}

#[test]
fn rt_12_ranges_of_intervals_and_what_is_no_interval() {
    for random in [0.0, 0.1, 0.5, 0.999, 1.0] {
        let wait = Backoff::fixed(ms(100)).jittered(Jitter::Range(0.5), 1, ms(0), random);
        assert!(wait >= ms(50) && wait <= ms(150), "{wait:?}");
    }
    let uncapped = Backoff::exponential(ms(100), 1.5).cap(Duration::MAX);
    assert!((1..49).all(|attempt| uncapped.wait(attempt) < uncapped.wait(attempt + 1)));
    let capped = Backoff::exponential(ms(100), 2.0).cap(ms(100_000));
    assert!((1..11).all(|attempt| capped.wait(attempt) < capped.wait(attempt + 1)));
    assert_eq!([capped.wait(12), capped.wait(13)], [ms(100_000); 2]);
    assert!(Config::new().attempts(0).check().is_err());
    assert!(toml::from_str::<Config>("backoff = { initial = \"-1s\" }").is_err());
    for share in [-0.1, 1.1] {
        assert!(Config::new().jitter(Jitter::Range(share)).check().is_err());
    }
}

#[test]
fn rt_13_the_jitter_of_grpc_may_exceed_the_cap() {
    let backoff = Backoff::exponential(S, 2.0).cap(S * 5);
    let wait = |retry, random| backoff.jittered(Jitter::Range(0.2), retry, Duration::ZERO, random).as_secs_f64();
    assert_eq!([wait(1, 0.0), wait(1, 0.5), wait(1, 1.0)], [0.8, 1.0, 1.2]);
    assert_eq!([wait(3, 0.0), wait(3, 1.0)], [3.2, 4.8]);
    assert_eq!([wait(4, 0.0), wait(4, 0.5), wait(4, 1.0)], [4.0, 5.0, 6.0]);
    assert_eq!([wait(50, 0.0), wait(50, 1.0)], [4.0, 6.0]);
}
