use std::{fmt, sync::Arc, time::Duration};

use crate::{
    breaker,
    contract::Invocation,
    fallback::Strategy,
    isolation::strategy::AnyStrategy,
    settings::{Checks, ConfigError, LONGEST, Span},
};

/// What answers when a service has no answer, and how much is tried before.
///
/// The strategy is whatever [`Fallback`](crate::fallback::Fallback) makes, for requests that are an [`Invocation`], or
/// a [`Strategy`] of your own. The other settings stand in place of those in the service's [`Config`](super::Config);
/// they hold whether the fallback is enabled or not.
///
/// ```
/// use std::{io, time::Duration};
/// use mainstay::{Error, breaker, contract::Invocation, fallback::{CacheConfig, Fallback}, isolation::FallbackConfig};
///
/// let key = |call: &Invocation<u64>| Some((call.method.clone(), call.request));
/// let last_good = Fallback::cached(CacheConfig::new(), key);
/// let config: FallbackConfig<u64, String, Error<io::Error>> =
///     FallbackConfig::new(last_good.or(Fallback::value("guest".to_owned())))
///         .max_retries(2)
///         .retry_delay(Duration::from_millis(50))
///         .timeout(Duration::from_secs(1))
///         .circuit_breaker(breaker::Config::basic());
/// assert!(config.check().is_ok() && config.is_enabled());
/// ```
pub struct FallbackConfig<Req, T, E> {
    pub(super) enabled: bool,
    pub(super) strategy: Option<Arc<dyn AnyStrategy<Req, T, E>>>,
    pub(super) tries: Tries,
    pub(super) circuit_breaker: CircuitBreaker,
}

/// How much is tried, where it is not left to the service's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    pub(super) max_retries: Option<u32>,
    pub(super) retry_delay: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

/// Whether a service has a circuit breaker at the levels that have one. `true`, `false` and settings are one.
#[derive(Debug, Clone, Default)]
pub enum CircuitBreaker {
    /// As the service's [`Config`](super::Config) says.
    #[default]
    AsConfigured,
    /// It has none.
    Off,
    /// It has one with these settings.
    With(Box<breaker::Config>),
}

impl From<bool> for CircuitBreaker {
    fn from(on: bool) -> Self {
        if on { Self::AsConfigured } else { Self::Off }
    }
}

impl From<breaker::Config> for CircuitBreaker {
    fn from(config: breaker::Config) -> Self {
        Self::With(Box::new(config))
    }
}

impl<Req, T, E> FallbackConfig<Req, T, E> {
    /// A fallback that is enabled.
    #[must_use]
    pub fn new<S>(strategy: S) -> Self
    where
        S: Strategy<Invocation<Req>, T, E> + Send + Sync + 'static,
        S::Kept: Send + 'static,
        S::Future: Send + 'static,
        Req: 'static,
        T: 'static,
        E: 'static,
    {
        Self::none().strategy(strategy).enabled(true)
    }

    /// No fallback: callers get the original error.
    #[must_use]
    pub const fn none() -> Self {
        let tries = Tries { max_retries: None, retry_delay: None, timeout: None };
        Self { enabled: false, strategy: None, tries, circuit_breaker: CircuitBreaker::AsConfigured }
    }

    /// Whether the fallback answers. One that does not keeps its strategy, and with it what that has learnt, and
    /// callers get the original error.
    #[must_use]
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Another strategy.
    #[must_use]
    pub fn strategy<S>(mut self, strategy: S) -> Self
    where
        S: Strategy<Invocation<Req>, T, E> + Send + Sync + 'static,
        S::Kept: Send + 'static,
        S::Future: Send + 'static,
        Req: 'static,
        T: 'static,
        E: 'static,
    {
        self.strategy = Some(Arc::new(strategy));
        self
    }

    /// A failed call is tried again so often before the fallback answers, from 0 to 99: up to one attempt more than
    /// this. What is tried again, and the budget for it, are those of the service's [`retry`](super::Config::retry).
    #[must_use]
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.tries.max_retries = Some(retries);
        self
    }

    /// Each retry comes exactly so long after the failure before it, without jitter; later only if the failure says how
    /// long the service is to be left alone. Up to a year.
    #[must_use]
    pub const fn retry_delay(mut self, delay: Duration) -> Self {
        self.tries.retry_delay = Some(delay);
        self
    }

    /// The service gets so long, all attempts and the waits between them together; then the fallback answers. From 1 ms
    /// to a year. A wait that would not end within it is not begun.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.tries.timeout = Some(limit);
        self
    }

    /// Whether the levels that have a circuit breaker use one: `true` for the one of the service's
    /// [`Config`](super::Config), `false`, or settings for it.
    #[must_use]
    pub fn circuit_breaker(mut self, breaker: impl Into<CircuitBreaker>) -> Self {
        self.circuit_breaker = breaker.into();
        self
    }

    /// Whether it is enabled, and there is a strategy.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled && self.strategy.is_some()
    }

    /// What it says of the circuit breaker.
    #[must_use]
    pub const fn breaker_settings(&self) -> &CircuitBreaker {
        &self.circuit_breaker
    }

    /// Whether `other` has the same strategy: is a clone of this, whatever was changed since.
    #[must_use]
    pub fn has_strategy_of(&self, other: &Self) -> bool {
        match (&self.strategy, &other.strategy) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        let Tries { max_retries, retry_delay, timeout } = self.tries;
        max_retries.iter().for_each(|retries| checks.range("max_retries", *retries, 0..=99));
        if let Some(delay) = retry_delay.filter(|delay| *delay > LONGEST) {
            checks.refuse("retry_delay", Span::from(delay), "must be at most 365d");
        }
        timeout.iter().for_each(|limit| checks.duration("timeout", *limit));
        if let CircuitBreaker::With(config) = &self.circuit_breaker {
            checks.section("circuit_breaker", Some(config.check()));
        }
        checks.finish()
    }
}

impl<Req, T, E> Default for FallbackConfig<Req, T, E> {
    fn default() -> Self {
        Self::none()
    }
}

impl<Req, T, E> Clone for FallbackConfig<Req, T, E> {
    fn clone(&self) -> Self {
        let Self { enabled, strategy, tries, circuit_breaker } = self;
        Self { enabled: *enabled, strategy: strategy.clone(), tries: *tries, circuit_breaker: circuit_breaker.clone() }
    }
}

impl<Req, T, E> fmt::Debug for FallbackConfig<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackConfig")
            .field("enabled", &self.enabled)
            .field("has_strategy", &self.strategy.is_some())
            .field("tries", &self.tries)
            .field("circuit_breaker", &self.circuit_breaker)
            .finish()
    }
}
