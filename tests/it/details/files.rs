//! Settings as files have them: what is read is what was meant, and what is written is what was read.

use std::fmt::Debug;

use mainstay::{
    breaker, bulkhead, concurrency, fallback, hedge, load_shed, rate_limit,
    retry::{self, Backoff, BudgetConfig, Jitter},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::support::*;

/// Every field of `written` has a value that is not the default.
fn is<C: Debug + PartialEq + Serialize + DeserializeOwned>(config: &C, written: &Value) {
    let read: C = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(read, *config);
    assert_eq!(serde_json::to_value(config).unwrap(), *written);
}

#[test]
fn the_algorithms_of_an_adaptive_limit() {
    use concurrency::{Aimd, Config, Drops, Gradient, Vegas};
    let around = |config: Config| {
        config.initial(11).floor(3).ceiling(77).window(ms(250)).min_calls(6).percentile(0.8).tolerated_drops(0.03)
    };
    let with = |more: Value| {
        let mut written = json!({
            "initial": 11, "floor": 3, "ceiling": 77, "window": "250ms", "min_calls": 6, "percentile": 0.8,
            "drops": "every", "tolerated_drops": 0.03,
        });
        written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        written
    };
    let aimd = Aimd::new().increase(3).backoff(0.7).max_latency(ms(40));
    is(
        &around(Config::new().algorithm(aimd)).drops(Drops::Every),
        &with(json!({ "kind": "aimd", "increase": 3, "backoff": 0.7, "max_latency": "40ms" })),
    );
    let vegas = Vegas::new().queue(4, 9).backoff(0.7).relearn_every(ms(45_000));
    is(
        &around(Config::new().algorithm(vegas)).drops(Drops::Every),
        &with(json!({ "kind": "vegas", "alpha": 4, "beta": 9, "backoff": 0.7, "relearn_every": "45s" })),
    );
    let gradient = Gradient::new().tolerance(1.7).smoothing(0.3).headroom(7).backoff(0.7).history(300);
    is(
        &around(
            Config::new().algorithm(gradient.remeasure_every(ms(20_000)).remeasure_calls(40).remeasure_jitter(0.4)),
        )
        .drops(Drops::Every),
        &with(json!({
            "kind": "gradient", "tolerance": 1.7, "smoothing": 0.3, "headroom": 7, "backoff": 0.7, "history": 300,
            "remeasure_every": "20s", "remeasure_calls": 40, "remeasure_jitter": 0.4,
        })),
    );
    assert_ne!(Config::measured(), Config::new(), "the gradient of this preset measures anew");
    assert!(serde_json::to_value(Config::measured()).unwrap()["remeasure_every"].is_string());
}

#[test]
fn hedges_shedding_and_kept_answers() {
    is(
        &hedge::Config::new()
            .attempts(4)
            .percentile(97.0)
            .min_samples(70)
            .initial_delay(ms(80))
            .min_delay(ms(7))
            .max_delay(ms(900))
            .budget(BudgetConfig::new().ratio(0.3).min_per_second(5).cap(90)),
        &json!({
            "attempts": 4, "percentile": 97.0, "min_samples": 70, "initial_delay": "80ms", "min_delay": "7ms",
            "max_delay": "900ms", "budget": { "ratio": 0.3, "min_per_second": 5, "cap": 90 },
        }),
    );
    is(
        &hedge::Config::new().attempts(4).delay(ms(35)).no_budget(),
        &json!({ "attempts": 4, "delay": "35ms", "budget": "off" }),
    );
    let queue = load_shed::QueueDelay::new().target(ms(7)).interval(ms(70)).max_queue(77);
    let throttle = load_shed::Throttle::new().k(1.7).min_requests(17).cap(0.7).window(ms(70_000), 7);
    is(
        &load_shed::Config::new().in_flight(70).shares(0.7, 0.3).queue_delay(queue).throttle(throttle),
        &json!({
            "in_flight": 70, "normal_share": 0.7, "low_share": 0.3,
            "queue_delay": { "target": "7ms", "interval": "70ms", "max_queue": 77 },
            "throttle": { "k": 1.7, "min_requests": 17, "cap": 0.7, "window": "70s", "buckets": 7 },
        }),
    );
    is(
        &fallback::CacheConfig::new().max_entries(77).max_age(ms(7_000)).refresh(ms(70)),
        &json!({ "max_entries": 77, "max_age": "7s", "refresh": "70ms" }),
    );
}

#[test]
fn places_and_rates() {
    is(
        &bulkhead::Config::new(7).max_queue(9).max_wait(ms(70)).reserve(2),
        &json!({ "limit": 7, "max_queue": 9, "max_wait": "70ms", "reserve": 2, "readiness": "reject" }),
    );
    is(
        &rate_limit::Config::new(7, ms(700)).burst(9).max_wait(ms(70)),
        &json!({ "calls": 7, "per": "700ms", "burst": 9, "max_wait": "70ms" }),
    );
}

/// These have no equality, since a setting of theirs may be a function: what they write says all.
#[test]
fn circuits_and_retries() {
    let breaker = breaker::Config::new()
        .count_window(77)
        .failure_rate(0.7)
        .slow_calls(ms(70), 0.8)
        .minimum_calls(17)
        .consecutive_failures(7)
        .open_for(ms(7_000))
        .open_growth(1.7, ms(70_000))
        .open_jitter(0.07)
        .wake_up(true)
        .probes(2)
        .close_after(5)
        .probe_failure_rate(0.3)
        .half_open_for(ms(17_000))
        .count_cancelled_after(ms(170));
    let written = serde_json::to_value(&breaker).unwrap();
    for (field, value) in [
        ("window", json!({ "calls": 77 })),
        ("failure_rate", json!(0.7)),
        ("slow_after", json!("70ms")),
        ("slow_rate", json!(0.8)),
        ("minimum_calls", json!(17)),
        ("consecutive_failures", json!(7)),
        ("open_for", json!("7s")),
        ("open_growth", json!(1.7)),
        ("open_cap", json!("70s")),
        ("open_jitter", json!(0.07)),
        ("wake_up", json!(true)),
        ("probes", json!(2)),
        ("close_after", json!(5)),
        ("probe_failure_rate", json!(0.3)),
        ("half_open_for", json!("17s")),
        ("count_cancelled_after", json!("170ms")),
    ] {
        assert_eq!(written[field], value, "{field}");
    }
    let read: breaker::Config = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), written);

    let retry = retry::Config::new()
        .attempts(7)
        .backoff(Backoff::exponential(ms(70), 1.7).cap(ms(7_000)))
        .jitter(Jitter::Equal)
        .budget(BudgetConfig::new().ratio(0.3).min_per_second(5).cap(90))
        .max_retry_after(ms(17_000))
        .deadline(ms(70_000));
    let written = serde_json::to_value(&retry).unwrap();
    for (field, value) in [
        ("attempts", json!(7)),
        ("backoff", json!({ "kind": "exponential", "initial": "70ms", "factor": 1.7, "cap": "7s" })),
        ("jitter", json!("equal")),
        ("budget", json!({ "ratio": 0.3, "min_per_second": 5, "cap": 90 })),
        ("max_retry_after", json!("17s")),
        ("deadline", json!("70s")),
    ] {
        assert_eq!(written[field], value, "{field}");
    }
    let read: retry::Config = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), written);
}
