//! Events, `tracing` and snapshots.

use std::sync::{Arc, Mutex};

use crate::{log, support::*};
use mainstay::{
    breaker::{Config, Handle, State},
    observe::Event,
    window::Counts,
};

#[tokio::test(start_paused = true)]
async fn every_change_of_state_goes_to_tracing_with_breaker_from_and_to() {
    log::listen();
    let breaker = Handle::new("logged", consecutive(1));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    succeed(&breaker, 1);
    let seen = log::lines("breaker", "logged");
    let told: Vec<_> =
        seen.iter().map(|(level, f)| (*level, f["breaker"].as_str(), f["from"].as_str(), f["to"].as_str())).collect();
    assert_eq!(
        told,
        [
            (tracing::Level::WARN, "logged", "closed", "open"),
            (tracing::Level::INFO, "logged", "open", "half_open"),
            (tracing::Level::INFO, "logged", "half_open", "closed"),
        ]
    );
    assert_eq!(seen[0].1["cause"], "consecutive_failures");
    assert_eq!(seen[0].1["open_for"], "10s");
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_rejections_and_late_results_and_of_nothing_frequent() {
    let breaker = Handle::new("x", consecutive(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    breaker.observe(move |event: &Event<'_>| {
        log.lock().unwrap().push(match event {
            Event::Transition(change) => format!("{} {:?}", change.generation, change.open_for),
            Event::Rejected(rejection) => rejection.to_string(),
            other => format!("{} {}", other.policy(), matches!(other, Event::Stale { .. })),
        });
    });
    breaker.observe(());
    succeed(&breaker, 100);
    assert!(seen.lock().unwrap().is_empty());
    let late = breaker.acquire().unwrap();
    fail(&breaker, 1);
    assert!(breaker.acquire().is_err());
    late.success();
    assert_eq!(*seen.lock().unwrap(), ["1 Some(10s)", "circuit breaker \"x\" is open, retry in 10s", "x true"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_call_everything_back() {
    let breaker = Handle::new("x", consecutive(1));
    let inner = breaker.clone();
    let depth = Arc::new(Mutex::new(0));
    breaker.observe(move |event: &Event<'_>| {
        let mut depth = depth.lock().unwrap();
        *depth += 1;
        if *depth > 1 {
            return;
        }
        drop(depth);
        assert!(!event.policy().is_empty());
        inner.observe(());
        let _ = (inner.state(), inner.snapshot(), inner.config(), inner.save(), inner.memory());
        let _ = inner.acquire();
        inner.reconfigure(consecutive(1)).unwrap();
        inner.reset();
        inner.force_open();
        inner.disable();
        inner.only_measure();
        inner.open_for(ms(5));
        inner.restore(&inner.save());
        let _ = inner.transition_to(State::HalfOpen);
        inner.reset();
    });
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_everything_and_is_plain_json() {
    let config = Config::new().minimum_calls(4).slow_calls(ms(100), 1.0);
    let breaker = Handle::new("payments", config);
    assert!(breaker.snapshot().failure_rate.is_none(), "below the minimum there is no rate");
    for (took, fails) in [(10, false), (200, false), (10, true), (300, true)] {
        let permit = breaker.acquire().unwrap();
        advance(ms(took)).await;
        permit.record(if fails { mainstay::Outcome::Failure } else { mainstay::Outcome::Success });
    }
    advance(ms(1_000)).await;
    assert!(breaker.acquire().is_err());
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::Open);
    assert_eq!(snapshot.window, Counts { success: 1, failure: 1, slow_success: 1, slow_failure: 1 });
    assert_eq!((snapshot.failure_rate, snapshot.slow_rate), (Some(0.5), Some(0.5)));
    assert_eq!((snapshot.totals.calls.calls(), snapshot.totals.rejected), (4, 1));
    assert_eq!((snapshot.open_remaining, snapshot.time_open), (Some(ms(29_000)), ms(1_000)));
    let latency = snapshot.latency.unwrap();
    assert_eq!(latency.calls, 4);
    assert!(latency.p50 >= ms(9) && latency.p50 <= ms(11), "{latency:?}");
    assert!(latency.p99 >= ms(282) && latency.p99 <= ms(319), "{latency:?}");
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["policy"], "payments");
    assert_eq!(json["kind"], "circuit_breaker");
    assert_eq!(json["state"], "open");
    assert_eq!(json["open_remaining_ms"], 29_000.0);
    assert_eq!(json["last_transition"]["cause"], "failure_rate");
    assert_eq!(json["last_transition"]["ago_ms"], 1_000.0);
    assert_eq!(json["window"]["slow_failure"], 1);
    assert!(json["last_transition"]["at_unix_ms"].as_u64().unwrap() > 1_600_000_000_000);
}

#[tokio::test(start_paused = true)]
async fn time_open_adds_up_over_all_open_periods() {
    let breaker = Handle::new("x", consecutive(1));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    fail(&breaker, 1);
    advance(ms(3_000)).await;
    breaker.force_open();
    advance(ms(500)).await;
    assert_eq!(breaker.snapshot().time_open, ms(13_500));
    breaker.reset();
    advance(ms(9_000)).await;
    assert_eq!(breaker.snapshot().time_open, ms(13_500));
}
