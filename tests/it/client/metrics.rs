//! What is counted, for a service and for each of its methods.

use std::collections::BTreeMap;

use mainstay::{
    Error, Outcome,
    client::{Config, Metrics},
    rate_limit, stack,
};

use super::{Mode, Users, builder, fleet, tries, users};
use crate::support::{Boom, ms};

#[tokio::test(start_paused = true)]
async fn a_service_and_its_methods_are_counted() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, tries(1));
    for (method, calls, mode) in [
        ("get", 90, Mode::Takes(ms(10))),
        ("get", 10, Mode::Takes(ms(200))),
        ("put", 3, Mode::Well),
        ("put", 1, Mode::Fails),
    ] {
        world.set("a", mode);
        for n in 0..calls {
            let _ = client.call("users", method, n).await;
        }
    }
    let metrics = client.metrics("users").unwrap();
    let (get, put) = (&metrics.methods["get"], &metrics.methods["put"]);
    assert_eq!((get.requests, get.successes, get.errors), (100, 100, 0));
    assert_eq!((get.success_rate, get.error_rate), (Some(1.0), Some(0.0)));
    assert_eq!((put.requests, put.successes, put.errors), (4, 3, 1));
    assert_eq!((put.success_rate, put.error_rate), (Some(0.75), Some(0.25)));
    assert_eq!(put.error_kinds, BTreeMap::from([("error".into(), 1)]));
    assert_eq!((metrics.total.requests, metrics.total.errors, metrics.total.in_flight), (104, 1, 0));
    let latency = get.latency.unwrap();
    let near = |read: std::time::Duration, millis: u64| read.abs_diff(ms(millis)) <= ms(millis / 16 + 1);
    assert!(near(latency.p50, 10) && near(latency.p95, 200) && near(latency.p99, 200), "{latency:?}");
    assert_eq!(latency.calls, 100);
    assert!((metrics.total.requests_per_second - 104.0 / 60.0).abs() < 1e-9);

    tokio::time::advance(ms(120_000)).await;
    let later = client.metrics("users").unwrap().total;
    assert_eq!((later.success_rate, later.requests_per_second, later.requests), (None, 0.0, 104));
}

#[tokio::test(start_paused = true)]
async fn errors_are_told_apart_by_kind() {
    let (discovery, world) = fleet(&["a"]).await;
    let mut policies = stack::Config::new();
    policies.rate_limit = Some(rate_limit::Config::new(3, ms(60_000)).burst(3));
    policies.timeout = Some(ms(50));
    let client = users(&discovery, &world, Config::new().stack(policies));
    for mode in [Mode::Fails, Mode::Hangs, Mode::Well, Mode::Well] {
        world.set("a", mode);
        let _ = client.call("users", "get", 1).await;
    }
    let _ = client.call("nobody", "get", 1).await;
    let kinds = client.metrics("users").unwrap().total.error_kinds;
    let of = |pairs: [(&'static str, u64); 3]| pairs.map(|(kind, count)| (kind.into(), count)).into();
    assert_eq!(kinds, of([("error", 1), ("rate_limited", 1), ("timed_out", 1)]));
    let nobody = client.metrics("nobody").unwrap().total;
    assert_eq!(nobody.error_kinds, BTreeMap::from([("no_instance".into(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_hook_names_kinds_and_so_many_are_told_apart() {
    let (discovery, world) = fleet(&["a"]).await;
    let quiet = mainstay::balance::Config::new().outlier(mainstay::balance::Outlier::off());
    let failed = mainstay::classify_fn(|result: Result<&String, &Error<Boom>>| match result {
        Ok(text) if text.starts_with('9') => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let client: Users = builder(&discovery, &world).config(tries(1).balance(quiet)).classify(failed).build();
    let client = client.error_kind(|result| result.ok().filter(|text| text.len() > 9).cloned());
    for n in 900..1_000 {
        let _ = client.call("users", "get", n).await;
    }
    let _ = client.call("users", "get", 9).await;
    let metrics = client.metrics("users").unwrap().total;
    assert!(metrics.errors > 0);
    let told: u64 = metrics.error_kinds.values().sum();
    assert_eq!(told, metrics.errors);
    assert!(metrics.error_kinds.len() <= 65, "{}", metrics.error_kinds.len());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_names_nothing_and_costs_no_call() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let client = users(&discovery, &world, tries(1)).error_kind(|_| -> Option<String> { panic!("the hook panics") });
    assert_eq!(client.call("users", "get", 1).await, Err(Error::Inner(Boom)));
    let metrics = client.metrics("users").unwrap().total;
    assert_eq!(metrics.error_kinds, BTreeMap::from([("error".into(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn methods_beyond_the_most_are_counted_together() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, tries(1).max_methods(2));
    for n in 0..10 {
        client.call("users", format!("m{n}"), n).await.unwrap();
    }
    let metrics = client.metrics("users").unwrap();
    let names: Vec<&str> = metrics.methods.keys().map(String::as_str).collect();
    assert_eq!(names, ["_other", "m0", "m1"]);
    assert_eq!((metrics.methods["_other"].requests, metrics.total.requests), (8, 10));
}

#[test]
fn the_metrics_of_nothing_are_nothing() {
    let json = serde_json::to_value(Metrics::default()).unwrap();
    assert_eq!(json["requests"], 0);
    assert!(json["success_rate"].is_null() && json["latency"].is_null());
}
