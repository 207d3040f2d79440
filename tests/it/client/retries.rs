//! What fails on one instance is tried on another.

use std::time::Duration;

use mainstay::{
    Error, Reason,
    balance::{self, Outlier},
    breaker,
    client::{Call, Config, PickBy},
    contract::Method,
    hedge, rate_limit,
    retry::{self, Backoff},
    stack,
};

use super::{Mode, builder, fleet, register, settle, tries, users};
use crate::support::{Boom, ms};

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_instance() {
    let (discovery, world) = fleet(&["a", "b", "c"]).await;
    world.set("a", Mode::Fails);
    world.set("b", Mode::Fails);
    for pick_by in [PickBy::LeastLoaded, PickBy::PeakEwma, PickBy::RoundRobin, PickBy::Random, PickBy::Weighted] {
        let quiet = balance::Config::new().outlier(Outlier::off());
        let client = users(&discovery, &world, tries(3).pick_by(pick_by).balance(quiet));
        let caller = client.service("users").unwrap();
        let get = Method::new("get").unwrap();
        for n in 0..40 {
            let (answer, told) = caller.call_traced(get.clone(), n).await;
            assert_eq!(answer.unwrap(), format!("{n} from c"), "{pick_by:?}");
            let mut tried = told.tried.clone();
            tried.sort();
            tried.dedup();
            assert_eq!(tried.len(), told.tried.len(), "{pick_by:?} tried one twice: {told:?}");
            assert_eq!(told.instance.unwrap().as_str(), "c");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_off_after_an_answer_was_answered_by_nobody() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Fails);
    world.set("b", Mode::Hangs);
    let mut policies = stack::Config::new();
    policies.timeout = Some(ms(100));
    policies.retry = Some(retry::Config::new().attempts(2).backoff(Backoff::fixed(ms(1))).no_budget());
    let client = users(&discovery, &world, Config::new().stack(policies).pick_by(PickBy::RoundRobin));
    let caller = client.service("users").unwrap();
    for _ in 0..4 {
        let (answer, told) = caller.call_traced(Method::new("get").unwrap(), 1).await;
        assert!(matches!(answer, Err(Error::Rejected(rejection)) if rejection.reason() == Reason::TimedOut));
        assert_eq!(told.instance, None, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_instance_is_tried_again_when_there_is_no_other() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let client = users(&discovery, &world, tries(3).balance(balance::Config::new()));
    assert_eq!(client.call("users", "get", 1).await, Err(Error::Inner(Boom)));
    assert_eq!(world.calls("a"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_to_another_instance_and_who_answered_is_told() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Takes(ms(500)));
    world.set("b", Mode::Takes(ms(500)));
    let mut policies = stack::Config::new();
    policies.hedge = Some(hedge::Config::new().delay(ms(20)).no_budget());
    let client = users(&discovery, &world, Config::new().stack(policies));
    let pending = client.call_async("users", "get", 1).unwrap();
    settle().await;
    let first = pending.metadata().tried[0].clone();
    let other = if first.as_str() == "a" { "b" } else { "a" };
    world.set(other, Mode::Well);
    let answer = pending.await.unwrap();
    assert_eq!(answer.response, format!("1 from {other}"));
    assert_eq!(answer.metadata.instance.unwrap().as_str(), other);
    assert_eq!((answer.metadata.attempts, answer.metadata.latency), (2, ms(20)));
    assert_eq!(world.running(), 0, "the loser was cancelled");
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_circuit_is_open_is_not_called_and_its_service_goes_on() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Fails);
    let fragile = breaker::Config::new().no_failure_rate().consecutive_failures(3).open_for(ms(10_000)).probes(1);
    let balance = balance::Config::new().outlier(Outlier::off()).breaker(fragile);
    let client = users(&discovery, &world, tries(2).balance(balance).pick_by(PickBy::RoundRobin));
    for n in 0..40 {
        assert_eq!(client.call("users", "get", n).await.unwrap(), format!("{n} from b"));
    }
    assert_eq!(world.calls("a"), 3, "then its circuit opened");
    let health = client.health("users").unwrap();
    assert_eq!((health.instances, health.callable), (2, 1));

    world.set("a", Mode::Well);
    tokio::time::advance(ms(10_000)).await;
    for n in 0..10 {
        client.call("users", "get", n).await.unwrap();
    }
    assert!(world.calls("a") > 4, "it is back");
}

#[tokio::test(start_paused = true)]
async fn an_outlier_is_ejected_and_callers_do_not_see_its_failures() {
    let (discovery, world) = fleet(&["a", "b", "c"]).await;
    world.set("a", Mode::Fails);
    let balance = balance::Config::new().outlier(Outlier::new().consecutive_failures(5));
    let client = users(&discovery, &world, tries(2).balance(balance).pick_by(PickBy::RoundRobin));
    for n in 0..200 {
        assert!(client.call("users", "get", n).await.is_ok());
    }
    assert_eq!(world.calls("a"), 5);
    let snapshot = client.snapshot("users").unwrap();
    assert_eq!((snapshot.balance.ejections, snapshot.health.callable), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_is_of_the_service_and_not_of_the_instance() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    register(&discovery, "orders", "c").await;
    let mut policies = stack::Config::new();
    policies.rate_limit = Some(rate_limit::Config::new(2, Duration::from_secs(60)).burst(2));
    let client: super::Users =
        builder(&discovery, &world).config(Config::new().stack(policies)).service("orders", Config::new()).build();
    let limited = async |service: &str, n: u32| match client.call(service, "get", n).await {
        Err(Error::Rejected(rejection)) => rejection.reason() == Reason::RateLimited,
        _ => false,
    };
    assert_eq!([limited("users", 0).await, limited("users", 1).await, limited("users", 2).await], [false, false, true]);
    for n in 0..10 {
        assert!(!limited("orders", n).await, "it has settings of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_again_is_not() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Fails);
    world.set("b", Mode::Fails);
    let client: super::Users =
        builder(&discovery, &world).config(tries(3)).replay(|id: &u32| (*id < 10).then_some(*id)).build();
    assert!(client.call("users", "get", 1).await.is_err());
    assert_eq!(world.all_calls(), 3);
    assert!(client.call("users", "get", 11).await.is_err());
    assert_eq!(world.all_calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_picker_may_look_at_the_call() {
    let (discovery, world) = fleet(&["a", "b", "c", "d"]).await;
    let by_id = balance::ConsistentHash::new([3; 16], |call: &Call<u32>, key: &mut balance::KeyHasher| {
        std::hash::Hash::hash(call.request(), key);
    });
    let client: super::Users = builder(&discovery, &world).picker(by_id).build();
    for id in 0..50 {
        let first = client.call("users", "get", id).await.unwrap();
        for _ in 0..3 {
            assert_eq!(client.call("users", "get", id).await.unwrap(), first);
        }
    }
    assert!(["a", "b", "c", "d"].iter().all(|host| world.calls(host) > 0));
}

#[tokio::test(start_paused = true)]
async fn instances_come_and_go_under_load_and_no_call_fails() {
    let (discovery, world) = fleet(&["seed"]).await;
    for host in ["seed", "x0", "x1", "x2", "x3"] {
        world.set(host, Mode::Takes(ms(3)));
    }
    let client = users(&discovery, &world, tries(3));
    client.call("users", "get", 0).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    let mut leases = Vec::new();
    for n in 0..2_000_u32 {
        if n % 10 == 0 {
            leases.push(register(&discovery, "users", &format!("x{}", n / 10 % 4)).await);
        }
        if n % 10 == 5 {
            mainstay::discovery::Discovery::deregister(&discovery, leases.pop().unwrap()).await.unwrap();
        }
        let client = client.clone();
        calls.spawn(async move { client.call("users", "get", n).await });
        if n % 3 == 0 {
            tokio::time::advance(ms(1)).await;
        }
        tokio::task::yield_now().await;
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 0);
    assert_eq!(world.running(), 0);
    assert_eq!(client.metrics("users").unwrap().total.successes, 2_001);
    assert!(world.all_calls() == 2_001 && world.calls("x0") > 0);
}
