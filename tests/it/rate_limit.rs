//! Rate limit: the quota, the burst, exact waits, and what becomes of turns that are not used.

use std::{future::ready, time::Duration};

use mainstay::{
    Error, Reason,
    admission::{AdmissionLayer, Policy, Verdict},
    rate_limit::{Config, Handle, RateLimitLayer},
    time::{Moment, Tick},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn every(millis: u64) -> Config {
    Config::new(1, ms(millis))
}

/// The wait in milliseconds when a call is turned away, 0 when it is let in.
fn ask(limit: &Handle) -> u128 {
    limit.try_acquire().map_or_else(|no| no.retry_after().expect("a wait").as_millis(), |()| 0)
}

#[tokio::test(start_paused = true)]
async fn rl_05_calls_pass_at_even_intervals_and_waits_are_exact() {
    let limit = Handle::new("x", every(100));
    assert_eq!((ask(&limit), ask(&limit)), (0, 100));
    advance(ms(99)).await;
    assert_eq!(ask(&limit), 1);
    advance(ms(1)).await;
    assert_eq!((ask(&limit), ask(&limit)), (0, 100));
    advance(ms(150)).await;
    assert_eq!((ask(&limit), ask(&limit)), (0, 100), "a pause is no credit without a burst");
    assert_eq!(limit.snapshot().rejected, 4);
}

#[tokio::test(start_paused = true)]
async fn rl_05_whoever_can_wait_reserves_its_turn() {
    let limit = Handle::new("x", every(100).max_wait(ms(150)));
    assert!(limit.acquire().await.is_ok());
    let began = Tick::now();
    let mut first = task::spawn(limit.acquire());
    assert_pending!(first.poll());
    // The next turn is 200 ms away, more than anybody waits here.
    let rejection = limit.acquire().await.unwrap_err();
    assert_eq!(rejection.retry_after(), Some(ms(200)));
    advance(ms(100)).await;
    assert!(first.is_woken());
    assert_eq!(assert_ready!(first.poll()), Ok(()));
    assert_eq!(Tick::now().since(began), ms(100));
    assert_eq!(limit.snapshot().waited, 1);
}

#[tokio::test(start_paused = true)]
async fn rl_01_one_permit_a_cycle() {
    let limit = Handle::new("x", every(50));
    assert_eq!((ask(&limit), limit.snapshot().available), (0, 0));
    assert_eq!(ask(&limit), 50);
    advance(ms(50)).await;
    assert_eq!((limit.snapshot().available, ask(&limit), ask(&limit)), (1, 0, 50));
    advance(ms(200)).await;
    assert_eq!(limit.snapshot().available, 1);
}

#[tokio::test(start_paused = true)]
async fn rl_03_turns_are_given_one_after_the_other() {
    // The source's table takes several at once; its single steps are the same for calls that wait. The whole table is a
    // test of the rule, in `gcra.rs`.
    let limit = Handle::new("x", every(500).max_wait(ms(10_000)));
    let mut waits: Vec<_> = (0..7).map(|_| task::spawn(limit.acquire())).collect();
    let ready: Vec<bool> = waits.iter_mut().map(|wait| wait.poll().is_ready()).collect();
    assert_eq!(ready, [true, false, false, false, false, false, false]);
    for (turn, wait) in waits.iter_mut().enumerate().skip(1) {
        advance(ms(499)).await;
        assert!(!wait.is_woken());
        advance(ms(1)).await;
        assert!(wait.is_woken(), "the wait of call {turn} ends at {} ms", turn * 500);
        assert_eq!(assert_ready!(wait.poll()), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_credit_for_a_pause_and_the_edge_of_no_window_lets_double_pass() {
    let limit = Handle::new("x", Config::per_second(10));
    let passed = |limit: &Handle| std::iter::from_fn(|| limit.try_acquire().ok()).count();
    assert_eq!(passed(&limit), 10);
    let mut total = 0;
    for _ in 0..100 {
        advance(ms(10)).await;
        total += passed(&limit);
    }
    assert_eq!(total, 10, "in every second no more than the quota");
    advance(ms(5_000)).await;
    assert_eq!(passed(&limit), 10);
}

#[tokio::test(start_paused = true)]
async fn many_at_once_cost_as_many_and_more_than_the_burst_never_pass() {
    let limit = Handle::new("x", Config::new(10, ms(1_000)).burst(5));
    assert!(limit.try_acquire_many(3).is_ok());
    assert_eq!(limit.snapshot().available, 2);
    assert_eq!(limit.try_acquire_many(4).unwrap_err().retry_after(), Some(ms(200)));
    assert_eq!(limit.try_acquire_many(6).unwrap_err().retry_after(), None);
    advance(ms(200)).await;
    assert!(limit.try_acquire_many(4).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_gives_its_turn_back() {
    for polls in 0..3 {
        let limit = Handle::new("x", every(100).max_wait(ms(1_000)));
        assert_eq!(ask(&limit), 0);
        let mut waits = task::spawn(limit.acquire());
        (0..polls).for_each(|_| assert_pending!(waits.poll()));
        drop(waits);
        assert_eq!(ask(&limit), 100, "after {polls} polls the next turn is free");
        let service = RateLimitLayer::new(limit.clone()).queued();
        let mut call = task::spawn(service.layer(service_fn(|n: u32| ready(Answer::Ok(n)))).oneshot(1));
        (0..polls).for_each(|_| assert_pending!(call.poll()));
        drop(call);
        assert_eq!(ask(&limit), 100);
        advance(ms(100)).await;
        assert_eq!(ask(&limit), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_back_late_lets_no_second_call_in_at_once() {
    let limit = Handle::new("x", every(100));
    let now = || Moment::from(Tick::now());
    // Let in here, and turned away further in after it has waited there for long.
    let unused = limit.admit(&mut now()).unwrap();
    advance(ms(250)).await;
    assert_eq!(ask(&limit), 0);
    limit.settle(unused, Verdict::Unused, &mut now());
    assert_eq!(ask(&limit), 100, "one call in 100 ms");
    // At once it is all there for the next.
    advance(ms(100)).await;
    let unused = limit.admit(&mut now()).unwrap();
    limit.settle(unused, Verdict::Unused, &mut now());
    assert_eq!(ask(&limit), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_gives_back_what_it_has_cost_whatever_it_would_cost_now() {
    let limit = Handle::new("x", every(100).burst(3));
    let unused = limit.admit(&mut Moment::new()).unwrap();
    assert!(limit.try_acquire_many(2).is_ok());
    limit.reconfigure(every(1_000)).unwrap();
    limit.settle(unused, Verdict::Unused, &mut Moment::new());
    assert_eq!(ask(&limit), 200, "two calls of 100 ms are to be paid for");
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_turns_away_and_with_a_queue_it_waits() {
    let limit = Handle::new("mail", every(100).max_wait(ms(150)));
    let layer = RateLimitLayer::new(limit.clone());
    let service = service_fn(|n: u32| ready(Answer::Ok(n)));
    assert_eq!(layer.layer(service).oneshot(1).await, Ok(1));
    let error = layer.layer(service).oneshot(1).await.unwrap_err();
    assert_eq!(error.to_string(), "rate limit \"mail\" is used up, retry in 100ms");
    let began = Tick::now();
    assert_eq!(layer.clone().queued().layer(service).oneshot(2).await, Ok(2));
    assert_eq!(Tick::now().since(began), ms(100));
    assert_eq!(limit.run(async { Err::<(), _>(Boom) }).await, Err(Error::Inner(Boom)));
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_further_in_turns_away_is_not_paid_for() {
    let (limit, breaker) = (Handle::new("x", every(100)), mainstay::breaker::Handle::new("b", consecutive(1)));
    breaker.force_open();
    let layer = AdmissionLayer::new((limit.clone(), breaker.clone()));
    let service = service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom))));
    let Err(Error::Rejected(rejection)) = layer.layer(service).oneshot(1).await else { panic!("open") };
    assert_eq!(rejection.reason(), Reason::CircuitOpen);
    assert_eq!(limit.snapshot().available, 1);
    breaker.reset();
    assert_eq!(layer.layer(service).oneshot(1).await, Err(Error::Inner(Boom)));
    assert_eq!(limit.snapshot().available, 0, "a call that was made is paid for, however it ended");
}

#[test]
fn threads_together_get_no_more_than_there_is() {
    let limit = Handle::new("x", Config::new(1, Duration::from_secs(86_400)).burst(10_000));
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..5_000).filter(|_| limit.try_acquire().is_ok()).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 10_000);
    assert_eq!(limit.snapshot().rejected, 30_000);
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_traffic() {
    let limit = Handle::new("x", every(1_000));
    assert_eq!((ask(&limit), ask(&limit)), (0, 1_000));
    limit.reconfigure(every(100).burst(3)).unwrap();
    assert_eq!(limit.config(), every(100).burst(3));
    advance(ms(1_000)).await;
    assert_eq!((ask(&limit), ask(&limit), ask(&limit), ask(&limit)), (0, 0, 0, 100));
    assert_eq!(limit.reconfigure(every(0)).unwrap_err().field(), "per");
}

#[test]
fn a_call_in_time_allocates_nothing() {
    let limit = Handle::new("x", Config::per_second(1_000_000));
    let mut service = RateLimitLayer::new(limit).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut call = || assert!(poll_once(&mut service.call(1)).is_ready());
    (0..3).for_each(|_| call());
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total, 0);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let day = Duration::from_secs(86_400);
    for (config, field, value, why) in [
        (Config::new(0, day), "calls", "0", "must be in 1..=1000000000"),
        (Config::new(u32::MAX, day), "calls", "4294967295", "must be in 1..=1000000000"),
        (Config::new(1, Duration::ZERO), "per", "0s", "must be at least 1ms"),
        (Config::new(1, day * 400), "per", "400d", "must be at most 365d"),
        (Config::new(1, day).burst(0), "burst", "0", "must be in 1..=1000000000"),
        (Config::new(1, day).max_wait(ms(0)), "max_wait", "0s", "must be at least 1ms"),
    ] {
        let error = Handle::try_new("x", config).unwrap_err();
        assert_eq!((error.field(), error.value(), error.why()), (field, value, why));
        assert!(panics(|| Handle::new("x", config)));
    }
    for (toml, expected) in [
        ("calls = 0\nper = '0s'", "calls = 0: must be in 1..=1000000000; per = 0s: must be at least 1ms"),
        ("calls = 5", "missing field `per`"),
        ("calls = 5\nper = 1", "per = 1: missing unit, write \"1s\" or \"1ms\""),
        ("calls = 5\nper = '1s'\nrate = 1", "unknown field `rate`"),
        ("calls = -1\nper = '1s'", "expected u32"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    let config = Config::new(7, day).burst(3).max_wait(ms(5));
    assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
}
