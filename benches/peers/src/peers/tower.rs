//! tower's own layers. It has no breaker, no bulkhead that turns calls away by itself, and no fallback.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use tower::{
    Service, ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    retry::{
        RetryLayer,
        budget::{Budget as _, TpsBudget},
    },
    timeout::TimeoutLayer,
};

use super::{ATTEMPTS, LIMIT, PLACES};
use crate::upstream::{Down, Manner, Upstream};

/// What a user of tower's retry writes: three attempts, and the budget.
#[derive(Clone)]
pub struct Policy {
    budget: Arc<TpsBudget>,
    left: u32,
}

impl<E> tower::retry::Policy<u64, u64, E> for Policy {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

pub fn retry() -> RetryLayer<Policy> {
    retry_within(TpsBudget::default())
}

pub fn retry_within(budget: TpsBudget) -> RetryLayer<Policy> {
    RetryLayer::new(Policy { budget: Arc::new(budget), left: ATTEMPTS - 1 })
}

pub fn concurrency() -> GlobalConcurrencyLimitLayer {
    GlobalConcurrencyLimitLayer::new(PLACES as usize)
}

pub fn timeout() -> TimeoutLayer {
    TimeoutLayer::new(LIMIT)
}

/// Retry, concurrency limit and timeout: a stack without fallback and breaker.
pub fn stack(manner: Manner) -> impl Service<u64> + Clone + Send + 'static {
    ServiceBuilder::new().layer(retry()).layer(concurrency()).layer(timeout()).service(Upstream::<Down>::new(manner))
}
