//! What a layer is put around is reached, and taken out again; what it was made with is told by layer and service.

use mainstay::{
    Name, Stack, breaker, bulkhead, concurrency,
    contract::Protocol,
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    keyed::{self, KeyedLayer, Tenants},
    load_shed,
    observe::{EjectionCause, GiveUp},
    rate_limit,
    retry::{self, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::Layer;

use crate::support::*;

/// No service at all: nothing here is called.
#[derive(Debug, Clone)]
struct Inner(u32);

macro_rules! inner_of {
    ($($service:expr),* $(,)?) => {$({
        let mut service = $service;
        assert_eq!(service.get_ref().0, 7);
        service.get_mut().0 = 8;
        assert_eq!(service.into_inner().0, 8);
    })*};
}

#[test]
fn the_service_within_is_reached_changed_and_taken_out() {
    let tenants = Tenants::new("x", keyed::Config::new(consecutive(1)));
    let stack = Stack::builder("x").breaker(consecutive(1)).build();
    inner_of![
        breaker::CircuitBreakerLayer::new(breaker::Handle::new("x", consecutive(1))).layer(Inner(7)),
        RetryLayer::new(retry::Handle::new("x", retry::Config::new())).layer(Inner(7)),
        HedgeLayer::new(hedge::Handle::new("x", hedge::Config::new())).layer(Inner(7)),
        FallbackLayer::new(fallback::Handle::new("x"), Fallback::value(1)).layer(Inner(7)),
        KeyedLayer::new(tenants.by(keyed::key_fn(|_: &u32| None::<keyed::Tenant>))).layer(Inner(7)),
        stack.service(Inner(7)),
    ];
    let timed = TimeoutLayer::new(ms(5)).layer(Inner(7));
    assert_eq!((timed.get_ref().0, timed.into_inner().0), (7, 7));
}

#[test]
fn layers_and_their_clones_tell_what_they_were_made_with() {
    let retry = RetryLayer::new(retry::Handle::new("again", retry::Config::new()));
    assert_eq!(retry.clone().layer(Inner(7)).handle().name(), "again");

    let hedge = HedgeLayer::new(hedge::Handle::new("twice", hedge::Config::new()));
    assert_eq!(hedge.clone().layer(Inner(7)).handle().name(), "twice");

    let fallback = FallbackLayer::new(fallback::Handle::new("instead"), Fallback::value(5));
    let clone = fallback.clone();
    assert!(clone.handle().is_same(fallback.handle()) && clone.layer(Inner(7)).handle().is_same(fallback.handle()));

    let timeout = TimeoutLayer::new(ms(5));
    assert_eq!(timeout.handle().limit(), ms(5));
    assert_eq!(timeout.clone().layer(Inner(7)).handle().limit(), ms(5));

    let breaker = breaker::CircuitBreakerLayer::new(breaker::Handle::new("circuit", consecutive(1)));
    assert_eq!(breaker.policy().name(), "circuit");

    let tenants = Tenants::new("tenants", keyed::Config::new(consecutive(1)));
    let keyed = KeyedLayer::new(tenants.by(keyed::key_fn(|_: &u32| None::<keyed::Tenant>)));
    assert!(keyed.select().handle().is_same(&tenants));
}

#[test]
fn every_handle_has_the_name_it_was_given() {
    assert_eq!(bulkhead::Handle::new("a", bulkhead::Config::new(1)).name(), "a");
    assert_eq!(concurrency::Handle::new("b", concurrency::Config::new()).name(), "b");
    assert_eq!(load_shed::Handle::new("c", load_shed::Config::new().in_flight(1)).name(), "c");
    assert_eq!(rate_limit::Handle::new("d", rate_limit::Config::per_second(1)).name(), "d");
    let levels = keyed::Levels::new("e", keyed::LevelsConfig::new(bulkhead::Config::new(1)));
    assert_eq!(levels.name(), "e");
    assert_eq!(Name::try_from("f").unwrap(), *"f");
    assert_eq!(Name::try_from("").unwrap_err().field(), "name");
}

#[test]
fn words_for_labels_are_those_of_their_json() {
    fn word(of: impl serde::Serialize) -> String {
        serde_json::to_value(of).unwrap().as_str().unwrap().to_owned()
    }
    for protocol in [Protocol::Http, Protocol::Https, Protocol::Grpc, Protocol::Tcp] {
        assert_eq!(word(protocol), protocol.as_str());
    }
    for why in [GiveUp::Attempts, GiveUp::Budget, GiveUp::Deadline, GiveUp::RetryAfter, GiveUp::Request] {
        assert_eq!(word(why), why.as_str());
    }
    use EjectionCause::{ConsecutiveFailures, FailureRate, Manual, SuccessRate};
    for cause in [ConsecutiveFailures, SuccessRate, FailureRate, Manual] {
        assert_eq!((word(cause).as_str(), cause.to_string().as_str()), (cause.as_str(), cause.as_str()));
    }
}
