use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    breaker, bulkhead,
    isolation::{level::Level, raw::Raw},
    load_shed, rate_limit, retry,
    settings::ConfigError,
    stack,
};

/// The settings of one service: its level, and those of the policies that the levels put before it.
///
/// All policies have settings, whatever the level, so that the level can be changed while in use.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{bulkhead, isolation::{Config, Level}, rate_limit};
///
/// let config = Config::new()
///     .level(Level::Full)
///     .timeout(Duration::from_secs(2))
///     .attempt_timeout(Duration::from_millis(500))
///     .bulkhead(bulkhead::Config::new(64))
///     .rate_limit(rate_limit::Config::per_second(200));
/// assert!(config.check().is_ok());
/// ```
///
/// From a file, a part of the settings is enough. Every problem is reported at once, with field, value and reason:
///
/// ```
/// let config: mainstay::isolation::Config = toml::from_str(r#"
///     level = "enhanced"
///     timeout = "2s"
///     attempt_timeout = "500ms"
///     [breaker]
///     failure_rate = 0.3
/// "#)?;
///
/// let error = toml::from_str::<mainstay::isolation::Config>("timeout = '0s'\n[bulkhead]\nlimit = 0").unwrap_err();
/// assert!(error.message().contains("timeout = 0s: must be at least 1ms"));
/// assert!(error.message().contains("bulkhead.limit = 0: must be in"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) level: Level,
    pub(super) timeout: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) retry: retry::Config,
    pub(super) breaker: breaker::Config,
    pub(super) bulkhead: bulkhead::Config,
    pub(super) rate_limit: rate_limit::Config,
    pub(super) load_shed: load_shed::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: Level::default(),
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(3),
            retry: retry::Config::new(),
            breaker: breaker::Config::new(),
            bulkhead: bulkhead::Config::new(256),
            rate_limit: rate_limit::Config::per_second(10_000),
            load_shed: load_shed::Config::new().in_flight(1_000).shares(1.0, 1.0),
        }
    }
}

impl Config {
    /// The defaults: level full; the policies as in [`stack::Config::standard`]; 10 000 calls a second; 1000 calls at a
    /// time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The level. Default [`Level::Full`].
    #[must_use]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Cuts off a call with all its attempts and the waits between them. From 1 ms to a year, default 10 s. From level
    /// basic on. A wait that would not end within it is not begun. An [`attempt_timeout`](Self::attempt_timeout) that
    /// is longer becomes as long.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        // Who says how long a call may take, and no more, has not said that an attempt may take longer.
        if self.attempt_timeout.as_nanos() > limit.as_nanos() {
            self.attempt_timeout = limit;
        }
        self
    }

    /// Cuts off a single attempt, which is a failure to the breaker. From 1 ms to a year, no longer than `timeout`;
    /// default 3 s, so that there is time for another. From level basic on.
    #[must_use]
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Makes a call again that failed. Default: 3 attempts, a budget of 20 % of the calls and 10 a second. From level
    /// basic on.
    #[must_use]
    pub fn retry(mut self, retry: retry::Config) -> Self {
        self.retry = retry;
        self
    }

    /// Leaves a service alone that fails. Default: opens at 50 % of 20 or more calls in 10 s, for 30 s. From level
    /// enhanced on. Calls do not wait for it, whatever its [readiness](breaker::Config::readiness).
    #[must_use]
    pub fn breaker(mut self, breaker: breaker::Config) -> Self {
        self.breaker = breaker;
        self
    }

    /// Limits how many attempts run at a time. Default 256, as in a standard stack. At level full.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: bulkhead::Config) -> Self {
        self.bulkhead = bulkhead;
        self
    }

    /// Limits how many calls are made in a time. Default 10 000 a second, which is far above what a service that is
    /// called over a network gets from one process, and far below what a loop that has gone wild sends. At level full.
    #[must_use]
    pub const fn rate_limit(mut self, limit: rate_limit::Config) -> Self {
        self.rate_limit = limit;
        self
    }

    /// Turns calls away early when there are too many. Default: when 1000 run, those among them that wait between two
    /// attempts or for a place of the bulkhead. At level full.
    #[must_use]
    pub const fn load_shed(mut self, load_shed: load_shed::Config) -> Self {
        self.load_shed = load_shed;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with section and field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { timeout, attempt_timeout, rate_limit, load_shed, .. } = *self;
        let mut policies = stack::Config::new();
        policies.timeout = Some(timeout);
        policies.attempt_timeout = Some(attempt_timeout);
        policies.retry = Some(self.retry.clone());
        policies.breaker = Some(self.breaker.clone());
        policies.bulkhead = Some(self.bulkhead.clone());
        policies.rate_limit = Some(rate_limit);
        policies.load_shed = Some(load_shed);
        policies.check()
    }
}
