//! Faults that a review found, each as the smallest run that shows it.

use std::{
    future::{pending, ready},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    Error,
    breaker::{CircuitBreakerLayer, Config, Handle, Readiness, Saved, State},
    observe::Event,
    time::Tick,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

async fn half_open(config: Config) -> Handle {
    let breaker = Handle::new("x", config.open_for(ms(1_000)));
    breaker.open_for(ms(1_000));
    advance(ms(1_000)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

#[tokio::test(start_paused = true)]
async fn settings_that_need_fewer_results_than_there_are_do_not_wedge_a_half_open_circuit() {
    let many = Config::new().probes(5);
    let breaker = half_open(many.clone().close_after(5)).await;
    succeed(&breaker, 2);
    breaker.reconfigure(many.clone().close_after(2).open_for(ms(1_000))).unwrap();
    assert_eq!(breaker.state(), State::Closed, "two successes are enough now");

    let breaker = half_open(many.clone().probe_failure_rate(0.6)).await;
    fail(&breaker, 2);
    succeed(&breaker, 1);
    breaker.reconfigure(Config::new().probes(2).probe_failure_rate(0.6)).unwrap();
    assert_eq!(breaker.state(), State::Open, "two of three failed, and two results decide now");

    let breaker = half_open(many.probe_failure_rate(0.9)).await;
    fail(&breaker, 1);
    breaker.reconfigure(Config::new()).unwrap();
    assert_eq!(breaker.state(), State::Open, "one failure decides now");
}

#[tokio::test(start_paused = true)]
async fn the_smallest_rates_are_not_none() {
    let breaker = half_open(Config::new().probes(1).probe_failure_rate(1e-10)).await;
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed, "no probe failed");

    let breaker = Handle::new("x", Config::new().minimum_calls(1).slow_calls(ms(1), f64::MIN_POSITIVE));
    succeed(&breaker, 9);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed, "one in ten failed, and none was slow");
}

#[tokio::test(start_paused = true)]
async fn a_saved_row_of_failures_without_end_does_not_overflow() {
    let saved: Saved = serde_json::from_str(
        r#"{"state":"closed","open_remaining_ms":18446744073709551615,"failed_probings":4294967295,
            "consecutive_failures":18446744073709551615,"window":{},"totals":{}}"#,
    )
    .unwrap();
    let breaker = Handle::new("x", consecutive(3));
    breaker.restore(&saved);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_larger_saved_window_keeps_its_rate() {
    let saved: Saved = serde_json::from_str(
        r#"{"state":"closed","open_remaining_ms":0,"failed_probings":0,"consecutive_failures":0,
            "window":{"success":900,"failure":100},"totals":{}}"#,
    )
    .unwrap();
    let breaker = Handle::new("x", Config::new().count_window(100));
    breaker.restore(&saved);
    let window = breaker.snapshot().window;
    assert_eq!((window.calls(), window.failures()), (100, 10));
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_a_late_result_asks_for_does_not_lengthen_an_open_period() {
    let breaker = Handle::new("x", consecutive(1).honor_retry_after(ms(3_600_000)));
    let late = breaker.acquire().unwrap();
    breaker.reset();
    late.failure_with_retry_after(ms(3_600_000));
    assert_eq!(breaker.snapshot().totals.stale, 1);
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn every_call_that_is_turned_away_is_counted_and_told() {
    let breaker = Handle::new("x", consecutive(1));
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    breaker.observe(move |event: &Event<'_>| {
        if let Event::Rejected(_) = event {
            counter.fetch_add(1, SeqCst);
        }
    });
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    fail(&breaker, 1);
    service.ready().await.unwrap();
    breaker.reset();
    let rejected = u64::from(service.call(1).await.is_err());
    assert_eq!(breaker.snapshot().totals.rejected, rejected);
    assert_eq!(told.load(SeqCst) as u64, rejected);
}

#[test]
fn a_service_that_waits_may_move_to_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for drop_first in [false, true] {
        let (first, second) = (runtime(), runtime());
        let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
        first.block_on(async {
            fail(&breaker, 1);
            assert!(tokio::time::timeout(ms(10), service.ready()).await.is_err());
        });
        let first = (!drop_first).then_some(first);
        second.block_on(async {
            let began = Tick::now();
            service.ready().await.unwrap();
            assert!(Tick::now().since(began) <= ms(10_001), "woken on time in the second runtime, not by chance");
        });
        drop(first);
    }
}

#[test]
fn a_rejection_never_tells_to_wait_for_ever() {
    let breaker = Handle::new("x", Config::new());
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for _ in 0..200_000 {
                if let Err(rejection) = breaker.acquire() {
                    longest = longest.max(rejection.retry_after().unwrap_or_default());
                }
            }
            longest
        });
        while !caller.is_finished() {
            breaker.open_for(ms(1_000));
            breaker.reset();
        }
        assert!(caller.join().unwrap() <= ms(1_000));
    });
}

#[tokio::test(start_paused = true)]
async fn a_service_that_became_ready_is_on_nobodys_list() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut task = tokio_test::task::spawn(());
    fail(&breaker, 1);
    assert!(task.enter(|cx, _| service.poll_ready(cx)).is_pending());
    advance(ms(10_000)).await;
    assert!(task.is_woken());
    assert!(task.enter(|cx, _| service.poll_ready(cx)).is_ready());
    breaker.reset();
    assert!(!task.is_woken(), "it waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn wake_up_switched_on_while_open_wakes_up() {
    let breaker = Handle::new("x", consecutive(1));
    let told = transitions(&breaker);
    fail(&breaker, 1);
    breaker.reconfigure(consecutive(1).wake_up(true)).unwrap();
    tokio::time::sleep(ms(10_001)).await;
    assert_eq!(told.lock().unwrap().len(), 2);
    breaker.reconfigure(consecutive(1)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_gone_leaves_no_task_behind() {
    let breaker = Handle::new("x", consecutive(1).wake_up(true));
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    fail(&breaker, 1);
    assert_eq!(metrics.num_alive_tasks(), before + 1);
    drop(breaker);
    tokio::task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_older_generation_counts_but_as_stale() {
    let breaker = Handle::new("x", Config::new());
    let (ignored, failed) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
    breaker.reset();
    ignored.record(mainstay::Outcome::Ignored);
    failed.failure();
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.ignored, totals.stale), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_ready_service_that_idled_through_an_incident_is_not_turned_away_after_it() {
    let breaker = Handle::new("x", consecutive(1));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    fail(&breaker, 1);
    service.ready().await.unwrap();
    breaker.reset();
    advance(ms(3_600_000)).await;
    assert_eq!(service.call(1).await, Ok(1), "the circuit has been closed for an hour");
}

#[tokio::test(start_paused = true)]
async fn a_latency_that_was_not_measured_is_not_told() {
    let breaker = Handle::new("x", Config::new().measure_latency(false));
    let running = breaker.acquire().unwrap();
    breaker.reconfigure(Config::new()).unwrap();
    advance(ms(5_000)).await;
    running.success();
    assert_eq!(breaker.snapshot().latency, None);
}

#[tokio::test(start_paused = true)]
async fn pending_for_ever_inside_is_answered_when_the_circuit_opens() {
    struct Never;
    impl Service<u32> for Never {
        type Response = u32;
        type Error = Error<Boom>;
        type Future = std::future::Pending<Answer>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
            Poll::Pending
        }
        fn call(&mut self, _: u32) -> Self::Future {
            pending()
        }
    }
    let breaker = Handle::new("x", consecutive(1));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(Never);
    let mut task = tokio_test::task::spawn(());
    assert!(task.enter(|cx, _| service.poll_ready(cx)).is_pending());
    fail(&breaker, 1);
    assert!(task.is_woken());
    assert!(task.enter(|cx, _| service.poll_ready(cx)).is_ready());
    assert!(service.call(1).await.unwrap_err().is_rejection());
    breaker.reset();
    assert!(!task.is_woken());
}
