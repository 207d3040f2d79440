//! Mainstay, with its defaults where they are what all have.

use mainstay::{
    Error,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    fallback::{self, Fallback, FallbackLayer},
    retry::{self, RetryLayer},
    stack,
    timeout::TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use super::{ATTEMPTS, FAILURE_RATE, LIMIT, LONG, MINIMUM_CALLS, OPEN_FOR, PLACES, PROBES, WINDOW};
use crate::upstream::{Down, Manner, Upstream};

/// The service under mainstay's layers. Its error is a box, as is usual with Tower.
pub type Served = Upstream<BoxError>;

/// The same with mainstay's own error, which holds a rejection without an allocation, and is as large as one.
pub type OwnServed = Upstream<Error<Down>>;

pub fn served(manner: Manner) -> Served {
    Upstream::new(manner)
}

/// Over time, with the latency of each call measured.
pub fn circuit() -> breaker::Config {
    breaker::Config::new()
        .time_window(WINDOW)
        .failure_rate(FAILURE_RATE)
        .minimum_calls(MINIMUM_CALLS)
        .open_for(OPEN_FOR)
        .probes(PROBES)
}

pub fn breaker(config: breaker::Config) -> breaker::Handle {
    breaker::Handle::new("upstream", config)
}

pub fn broken() -> breaker::Handle {
    let handle = breaker(circuit());
    handle.open_for(LONG);
    handle
}

pub fn bulkhead(places: u32) -> bulkhead::Handle {
    bulkhead::Handle::new("upstream", bulkhead::Config::new(places))
}

pub fn retry(config: retry::Config) -> retry::Handle {
    retry::Handle::new("upstream", config.attempts(ATTEMPTS))
}

/// The stack that all have: fallback, retry, breaker, bulkhead, timeout. The fallback is to be added.
pub fn stack(config: breaker::Config) -> stack::Config {
    let mut parts = stack::Config::new();
    parts.retry = Some(retry::Config::new().attempts(ATTEMPTS));
    parts.breaker = Some(config);
    parts.bulkhead = Some(bulkhead::Config::new(PLACES));
    parts.attempt_timeout = Some(LIMIT);
    parts
}

/// The same as layers, one inside the other.
pub fn layers(manner: Manner) -> impl Service<u64> + Clone + Send + 'static {
    ServiceBuilder::new()
        .layer(FallbackLayer::new(fallback::Handle::new("upstream"), Fallback::value(0)))
        .layer(RetryLayer::new(retry(retry::Config::new())))
        .layer(CircuitBreakerLayer::new(breaker(circuit())))
        .layer(BulkheadLayer::new(bulkhead(PLACES)))
        .layer(TimeoutLayer::new(LIMIT))
        .service(served(manner))
}

/// The service behind one layer.
pub fn behind<L: Layer<Served>>(layer: L, manner: Manner) -> L::Service {
    layer.layer(served(manner))
}

/// The same, with mainstay's own error.
pub fn behind_own<L: Layer<OwnServed>>(layer: L, manner: Manner) -> L::Service {
    layer.layer(Upstream::new(manner))
}
