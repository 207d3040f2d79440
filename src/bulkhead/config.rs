use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    admission::Readiness,
    settings::{Checks, ConfigError, LONGEST, Span},
};

const MOST: u32 = 1_000_000;

/// The settings of a bulkhead.
///
/// ```
/// use std::time::Duration;
/// use mainstay::bulkhead::Config;
///
/// let config = Config::new(64).max_queue(128).max_wait(Duration::from_millis(100)).reserve(8);
/// assert!(config.check().is_ok());
/// let file: Config = toml::from_str("limit = 64\nmax_queue = 128\nmax_wait = '100ms'\nreserve = 8").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) limit: u32,
    pub(super) max_queue: u32,
    pub(super) max_wait: Duration,
    pub(super) reserve: u32,
    pub(super) readiness: Readiness,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    limit: u32,
    #[serde(default)]
    max_queue: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<Span>,
    #[serde(default)]
    reserve: u32,
    #[serde(default)]
    readiness: Readiness,
}

impl Config {
    /// At most `limit` calls run at a time, from 1 to 1 000 000; nobody waits.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, max_queue: 0, max_wait: LONGEST, reserve: 0, readiness: Readiness::Reject }
    }

    /// Preset for one service: 64 calls, and as many may wait for 100 ms.
    #[must_use]
    pub const fn basic() -> Self {
        Self::new(64).max_queue(64).max_wait(Duration::from_millis(100))
    }

    /// Preset for one tenant among many: 10 calls, nobody waits, so that a busy tenant keeps nothing but its own
    /// places.
    #[must_use]
    pub const fn tenant() -> Self {
        Self::new(10)
    }

    /// Preset for one operation of a service: 25 calls, 25 wait for 50 ms.
    #[must_use]
    pub const fn operation() -> Self {
        Self::new(25).max_queue(25).max_wait(Duration::from_millis(50))
    }

    /// Preset for calls of different weight: 64 calls, 8 of them only for high priority, and 256 may wait for a second.
    #[must_use]
    pub const fn priority() -> Self {
        Self::new(64).reserve(8).max_queue(256).max_wait(Duration::from_secs(1))
    }

    /// So many calls may wait, from none, the default, to 1 000 000. A call waits only through a
    /// [queued](crate::admission::AdmissionLayer::queued) layer or [`Handle::acquire`](super::Handle::acquire).
    #[must_use]
    pub const fn max_queue(mut self, calls: u32) -> Self {
        self.max_queue = calls;
        self
    }

    /// A call waits for so long at most, from 1 ms to a year; by default for as long as its caller does.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Keeps so many places for calls of high priority; less than the limit, none by default.
    #[must_use]
    pub const fn reserve(mut self, places: u32) -> Self {
        self.reserve = places;
        self
    }

    /// What `poll_ready` says while every place is taken. Default [`Readiness::Reject`]: ready, and the call is turned
    /// away or queued.
    #[must_use]
    pub const fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("limit", self.limit, 1..=MOST);
        checks.range("max_queue", self.max_queue, 0..=MOST);
        checks.duration("max_wait", self.max_wait);
        if self.reserve > 0 && self.reserve >= self.limit {
            checks.refuse("reserve", self.reserve, format!("must be less than the limit, {}", self.limit));
        }
        checks.finish()
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let Raw { limit, max_queue, max_wait, reserve, readiness } = raw;
        let mut problems = Vec::new();
        let max_wait = max_wait.map_or(Ok(LONGEST), |wait| wait.or_refuse("max_wait")).unwrap_or_else(|problem| {
            problems.push(problem);
            LONGEST
        });
        let config = Self { limit, max_queue, max_wait, reserve, readiness };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let Config { limit, max_queue, max_wait, reserve, readiness } = config;
        let max_wait = (max_wait != LONGEST).then(|| max_wait.into());
        Self { limit, max_queue, max_wait, reserve, readiness }
    }
}
