//! tower-resilience. Its layers box their futures; each has an error of its own around that of the one inside.
//!
//! Its breaker counts calls, as it does by default. With a window of time it keeps a record of each call, and looks at
//! all of them at each call: what a call takes grows with the calls of the last 10 s, so that one figure says nothing.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tower::{Layer, Service};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{CircuitBreaker, CircuitBreakerLayer, DefaultClassifier};
use tower_resilience_fallback::FallbackLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::{RetryBudget, RetryBudgetBuilder, RetryLayer};
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{ATTEMPTS, FAILURE_RATE, LIMIT, MINIMUM_CALLS, OPEN_FOR, PLACES, PROBES, WINDOW_CALLS};
use crate::upstream::{Down, Manner, Upstream};

pub type Breaker = CircuitBreaker<Upstream<Down>, DefaultClassifier>;

/// A circuit that all clones of the service share.
pub fn breaker(minimum_calls: usize) -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(FAILURE_RATE)
        .sliding_window_size(WINDOW_CALLS)
        .minimum_number_of_calls(minimum_calls)
        .wait_duration_in_open(OPEN_FOR)
        .permitted_calls_in_half_open(PROBES as usize)
        .build()
        .expect("good settings")
}

pub fn closed() -> CircuitBreakerLayer {
    breaker(MINIMUM_CALLS as usize)
}

/// Forced open.
pub fn broken() -> Breaker {
    let (layer, handle) =
        CircuitBreakerLayer::builder().wait_duration_in_open(super::LONG).build_with_handle().expect("good");
    let mut open = pin!(handle.force_open());
    let opened = open.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(opened.is_ready(), "nobody else has the lock");
    layer.layer(Upstream::new(Manner::AtOnce))
}

pub fn bulkhead(places: usize) -> BulkheadLayer {
    BulkheadLayer::builder().max_concurrent_calls(places).reject_when_full().build().expect("good settings")
}

/// Ten retries a second and one for each success: its budget knows no share of the calls.
fn budget() -> Arc<dyn RetryBudget> {
    RetryBudgetBuilder::new().token_bucket().tokens_per_second(10.0).max_tokens(100).build().expect("good settings")
}

pub fn retry<E>() -> RetryLayer<u64, u64, E> {
    RetryLayer::builder().max_attempts(ATTEMPTS as usize).budget(budget()).build()
}

/// The same with a budget that has nothing left.
pub fn retry_used_up<E>() -> RetryLayer<u64, u64, E> {
    let none = RetryBudgetBuilder::new().token_bucket().tokens_per_second(0.0).initial_tokens(0);
    RetryLayer::builder().max_attempts(ATTEMPTS as usize).budget(none.build().expect("good settings")).build()
}

pub fn timeout() -> TimeLimiterLayer {
    TimeLimiterLayer::builder().timeout_duration(LIMIT).build()
}

/// A token bucket, which is what a GCRA is; it never waits.
pub fn rate_limit(calls: usize, per: Duration) -> RateLimiterLayer {
    let builder = RateLimiterLayer::builder().limit_for_period(calls).refresh_period(per);
    builder.timeout_duration(Duration::ZERO).burst_size(0).build().expect("good settings")
}

pub fn fallback<E>() -> FallbackLayer<u64, u64, E> {
    FallbackLayer::value(0)
}

pub fn stack(manner: Manner) -> impl Service<u64> + Clone + Send + 'static {
    let timed = timeout().layer(Upstream::<Down>::new(manner));
    let placed = bulkhead(PLACES as usize).layer(timed);
    let guarded = closed().layer(placed);
    let retried = retry().layer(guarded);
    fallback().layer(retried)
}
