use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    breaker, bulkhead, concurrency, hedge, load_shed, rate_limit, retry,
    settings::{Checks, ConfigError},
    stack::raw::Raw,
};

/// The settings of a whole stack: what is `None` is not part of it.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{retry, stack::Config};
///
/// let mut config = Config::standard();
/// config.timeout = Some(Duration::from_secs(2));
/// config.attempt_timeout = Some(Duration::from_millis(500));
/// config.retry = Some(retry::Config::new().attempts(2));
/// let stack = config.builder("user-db").build();
/// ```
///
/// From a file, each policy is a section. Every problem is reported at once, with field, value and reason:
///
/// ```
/// use mainstay::stack::Config;
///
/// let config: Config = toml::from_str(r#"
///     timeout = "2s"
///     attempt_timeout = "250ms"
///     [retry]
///     attempts = 4
///     [breaker]
///     failure_rate = 0.3
///     [bulkhead]
///     limit = 64
/// "#)?;
/// assert!(config.breaker.is_some() && config.rate_limit.is_none());
///
/// let error = toml::from_str::<Config>("timeout = '0s'\n[bulkhead]\nlimit = 0").unwrap_err();
/// assert!(error.message().contains("timeout = 0s: must be at least 1ms; bulkhead.limit = 0: must be in"));
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// A file may begin with one of the presets and replace parts of it: `preset = "database"`.
#[non_exhaustive]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    /// Turns calls away early when there are too many.
    pub load_shed: Option<load_shed::Config>,
    /// Limits how many calls are made in a time.
    pub rate_limit: Option<rate_limit::Config>,
    /// Cuts off a call with all its attempts and the waits between them. From 1 ms to a year.
    pub timeout: Option<Duration>,
    /// Makes a call again that failed.
    pub retry: Option<retry::Config>,
    /// Sends another copy of an attempt that takes too long.
    pub hedge: Option<hedge::Config>,
    /// Leaves a service alone that fails.
    pub breaker: Option<breaker::Config>,
    /// Limits how many attempts run at a time, to what the service is found to bear.
    pub concurrency: Option<concurrency::Config>,
    /// Limits how many attempts run at a time.
    pub bulkhead: Option<bulkhead::Config>,
    /// Cuts off a single attempt. From 1 ms to a year, no longer than `timeout`.
    pub attempt_timeout: Option<Duration>,
}

impl Config {
    /// A stack without policies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Preset for any service that is called over a network: 10 s for a call, 3 s for an attempt; 3 attempts; a breaker
    /// at 50 % of 20 or more calls in 10 s; at most 256 attempts at a time.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            timeout: Some(Duration::from_secs(10)),
            retry: Some(retry::Config::new()),
            breaker: Some(breaker::Config::new()),
            bulkhead: Some(bulkhead::Config::new(256)),
            attempt_timeout: Some(Duration::from_secs(3)),
            ..Self::default()
        }
    }

    /// Preset for a service called over HTTP: 30 s for a call, 10 s for an attempt; 3 attempts, a `Retry-After` of up
    /// to a minute among the waits; a breaker at 50 % of 20 or more calls in 10 s; at most 256 attempts at a time. Goes
    /// with the classifier and the replay hook of the feature `http`, as `Stack::http_client` has them.
    #[must_use]
    pub fn http_client() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            retry: Some(retry::Config::http()),
            attempt_timeout: Some(Duration::from_secs(10)),
            ..Self::standard()
        }
    }

    /// Preset for a database: 5 s for a call, 2 s for an attempt; 4 attempts with short waits; at most 32 at a time, as
    /// many as a pool has connections, while 128 more wait for up to half a second.
    #[must_use]
    pub fn database() -> Self {
        Self {
            timeout: Some(Duration::from_secs(5)),
            retry: Some(retry::Config::database()),
            breaker: Some(breaker::Config::new()),
            bulkhead: Some(bulkhead::Config::new(32).max_queue(128).max_wait(Duration::from_millis(500))),
            attempt_timeout: Some(Duration::from_secs(2)),
            ..Self::default()
        }
    }

    /// Preset for a cache, which is only of use while it is fast: 100 ms for a call and no retry, since the next thing
    /// to ask is what the cache stands for; a breaker that opens for 5 s; at most 256 calls at a time.
    #[must_use]
    pub fn cache() -> Self {
        Self {
            timeout: Some(Duration::from_millis(100)),
            breaker: Some(breaker::Config::new().open_for(Duration::from_secs(5))),
            bulkhead: Some(bulkhead::Config::new(256)),
            ..Self::default()
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with section and field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        self.timeout.iter().for_each(|limit| checks.duration("timeout", *limit));
        self.attempt_timeout.iter().for_each(|limit| checks.duration("attempt_timeout", *limit));
        checks.at_most("attempt_timeout", self.attempt_timeout, "timeout", self.timeout);
        checks.section("load_shed", self.load_shed.as_ref().map(load_shed::Config::check));
        checks.section("rate_limit", self.rate_limit.as_ref().map(rate_limit::Config::check));
        checks.section("retry", self.retry.as_ref().map(retry::Config::check));
        checks.section("hedge", self.hedge.as_ref().map(hedge::Config::check));
        checks.section("breaker", self.breaker.as_ref().map(breaker::Config::check));
        checks.section("concurrency", self.concurrency.as_ref().map(concurrency::Config::check));
        checks.section("bulkhead", self.bulkhead.as_ref().map(bulkhead::Config::check));
        checks.finish()
    }
}
