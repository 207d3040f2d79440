//! Layers by hand: the policies as methods of tower's [`ServiceBuilder`].
//!
//! For an order of your own, or the same policy twice; otherwise a [stack](crate::stack) is shorter and cheaper.
//! Outside in, as everywhere in a `ServiceBuilder`: what is named first meets a call first.
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Error, breaker, bulkhead, ext::ServiceBuilderExt, retry, timeout};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let breaker = breaker::Handle::new("user-db", breaker::Config::new());
//! let mut users = ServiceBuilder::new()
//!     .with_timeout(timeout::Handle::new("user-db", Duration::from_secs(2)))
//!     .with_retry(retry::Handle::new("user-db", retry::Config::new()))
//!     .with_breaker(breaker.clone())
//!     .with_bulkhead(bulkhead::Handle::new("user-db", bulkhead::Config::new(64)))
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
//! assert_eq!(users.ready().await?.call(7).await?, "user 7");
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! The methods begin with `with_` because tower has a `retry`, a `timeout`, a `rate_limit` and a `load_shed` of its
//! own, which would win silently.

use tower::{ServiceBuilder, layer::util::Stack as Then};

use crate::{
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    fallback::{self, FallbackLayer},
    hedge::{self, HedgeLayer},
    load_shed::{self, LoadShedLayer},
    rate_limit::{self, RateLimitLayer},
    retry::{self, RetryLayer},
    stack::{Stack, StackLayer},
    timeout::{self, TimeoutLayer},
};

/// The policies as methods of a [`ServiceBuilder`]. Sealed: see [the module](self).
///
/// Each takes a handle and puts the plain layer of its room in place. For a classifier, a queue or another hook, make
/// the layer and use [`ServiceBuilder::layer`].
pub trait ServiceBuilderExt<L>: sealed::Sealed + Sized {
    /// Answers in place of what follows, when that fails: see [`fallback`].
    fn with_fallback<F>(self, handle: fallback::Handle, strategy: F) -> ServiceBuilder<Then<FallbackLayer<F>, L>>;

    /// Turns calls away early when there are too many: see [`load_shed`].
    fn with_load_shed(self, handle: load_shed::Handle) -> ServiceBuilder<Then<LoadShedLayer, L>>;

    /// Limits how many calls are made in a time: see [`rate_limit`].
    fn with_rate_limit(self, handle: rate_limit::Handle) -> ServiceBuilder<Then<RateLimitLayer, L>>;

    /// Cuts off calls that take too long: see [`timeout`].
    fn with_timeout(self, handle: timeout::Handle) -> ServiceBuilder<Then<TimeoutLayer, L>>;

    /// Makes calls again that failed: see [`retry`].
    fn with_retry(self, handle: retry::Handle) -> ServiceBuilder<Then<RetryLayer, L>>;

    /// Sends another copy of a call that takes too long: see [`hedge`].
    fn with_hedge(self, handle: hedge::Handle) -> ServiceBuilder<Then<HedgeLayer, L>>;

    /// Leaves a service alone that fails: see [`breaker`].
    fn with_breaker(self, handle: breaker::Handle) -> ServiceBuilder<Then<CircuitBreakerLayer, L>>;

    /// Limits how many calls run at a time, to what the service is found to bear: see [`concurrency`].
    fn with_concurrency(self, handle: concurrency::Handle) -> ServiceBuilder<Then<ConcurrencyLayer, L>>;

    /// Limits how many calls run at a time: see [`bulkhead`].
    fn with_bulkhead(self, handle: bulkhead::Handle) -> ServiceBuilder<Then<BulkheadLayer, L>>;

    /// A whole stack: see [`stack`](crate::stack).
    fn with_stack<C, F, R>(self, stack: &Stack<C, F, R>) -> ServiceBuilder<Then<StackLayer<C, F, R>, L>>;
}

mod sealed {
    pub trait Sealed {}

    impl<L> Sealed for tower::ServiceBuilder<L> {}
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn with_fallback<F>(self, handle: fallback::Handle, strategy: F) -> ServiceBuilder<Then<FallbackLayer<F>, L>> {
        self.layer(FallbackLayer::new(handle, strategy))
    }

    fn with_load_shed(self, handle: load_shed::Handle) -> ServiceBuilder<Then<LoadShedLayer, L>> {
        self.layer(LoadShedLayer::new(handle))
    }

    fn with_rate_limit(self, handle: rate_limit::Handle) -> ServiceBuilder<Then<RateLimitLayer, L>> {
        self.layer(RateLimitLayer::new(handle))
    }

    fn with_timeout(self, handle: timeout::Handle) -> ServiceBuilder<Then<TimeoutLayer, L>> {
        self.layer(TimeoutLayer::with(handle))
    }

    fn with_retry(self, handle: retry::Handle) -> ServiceBuilder<Then<RetryLayer, L>> {
        self.layer(RetryLayer::new(handle))
    }

    fn with_hedge(self, handle: hedge::Handle) -> ServiceBuilder<Then<HedgeLayer, L>> {
        self.layer(HedgeLayer::new(handle))
    }

    fn with_breaker(self, handle: breaker::Handle) -> ServiceBuilder<Then<CircuitBreakerLayer, L>> {
        self.layer(CircuitBreakerLayer::new(handle))
    }

    fn with_concurrency(self, handle: concurrency::Handle) -> ServiceBuilder<Then<ConcurrencyLayer, L>> {
        self.layer(ConcurrencyLayer::new(handle))
    }

    fn with_bulkhead(self, handle: bulkhead::Handle) -> ServiceBuilder<Then<BulkheadLayer, L>> {
        self.layer(BulkheadLayer::new(handle))
    }

    fn with_stack<C, F, R>(self, stack: &Stack<C, F, R>) -> ServiceBuilder<Then<StackLayer<C, F, R>, L>> {
        self.layer(stack.layer())
    }
}
