use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Checks, ConfigError, Span};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);
const JITTER: f64 = 0.1;
const UP_AFTER: u32 = 2;
const DOWN_AFTER: u32 = 3;
const CONCURRENCY: u32 = 64;
const IDLE_FOR: Duration = Duration::from_secs(300);
const MOST_IN_A_ROW: u32 = 1_000;
const MOST_AT_A_TIME: u32 = 10_000;

/// The settings of health checks.
///
/// ```
/// use std::time::Duration;
/// use mainstay::discovery::health::Config;
///
/// let config = Config::new().interval(Duration::from_secs(5)).timeout(Duration::from_millis(500)).down_after(2);
/// assert!(config.check().is_ok());
/// let file: Config = toml::from_str("interval = '5s'\ntimeout = '500ms'\ndown_after = 2").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) interval: Duration,
    pub(super) jitter: f64,
    pub(super) timeout: Duration,
    pub(super) up_after: u32,
    pub(super) down_after: u32,
    pub(super) concurrency: u32,
    pub(super) start_healthy: bool,
    pub(super) idle_for: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_healthy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_for: Option<Span>,
}

impl Config {
    /// Every 10 s, for 2 s at most; unhealthy after three failures in a row, healthy again after two good checks; 64
    /// checks at a time.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            interval: INTERVAL,
            jitter: JITTER,
            timeout: TIMEOUT,
            up_after: UP_AFTER,
            down_after: DOWN_AFTER,
            concurrency: CONCURRENCY,
            start_healthy: true,
            idle_for: IDLE_FOR,
        }
    }

    /// How long after a check of an instance the next one comes, from 1 ms to a year, default 10 s. The first comes at
    /// once.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How much longer or shorter an interval is at random, from 0 to 1, default 0.1: so that checkers that start
    /// together do not check together.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// How long a check may take, from 1 ms to a year, default 2 s. One that takes longer has failed.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// An unhealthy instance is healthy again after so many good checks in a row, from 1 to 1 000, default 2.
    #[must_use]
    pub const fn up_after(mut self, checks: u32) -> Self {
        self.up_after = checks;
        self
    }

    /// An instance is unhealthy after so many failures in a row, from 1 to 1 000, default 3: one lost packet is no
    /// outage.
    #[must_use]
    pub const fn down_after(mut self, checks: u32) -> Self {
        self.down_after = checks;
        self
    }

    /// So many checks run at a time, of all services together, from 1 to 10 000, default 64. The others wait.
    #[must_use]
    pub const fn concurrency(mut self, checks: u32) -> Self {
        self.concurrency = checks;
        self
    }

    /// Whether an instance counts as healthy before its first check. Default true. Else it is unhealthy until a check
    /// finds it well; the first one that does is enough then.
    #[must_use]
    pub const fn start_healthy(mut self, healthy: bool) -> Self {
        self.start_healthy = healthy;
        self
    }

    /// A service that nobody watches or has asked for for so long is not checked any more, from 1 ms to a year,
    /// default 5 min. It is again when somebody does.
    #[must_use]
    pub const fn idle_for(mut self, time: Duration) -> Self {
        self.idle_for = time;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.duration("interval", self.interval);
        checks.fraction("jitter", self.jitter);
        checks.duration("timeout", self.timeout);
        checks.range("up_after", self.up_after, 1..=MOST_IN_A_ROW);
        checks.range("down_after", self.down_after, 1..=MOST_IN_A_ROW);
        checks.range("concurrency", self.concurrency, 1..=MOST_AT_A_TIME);
        checks.duration("idle_for", self.idle_for);
        checks.finish()
    }

    /// How long until the next check, by a random number from 0 to 1.
    pub(super) fn pause(&self, random: f64) -> Duration {
        self.interval.mul_f64(1.0 + self.jitter * (2.0 * random - 1.0))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut read = |field, span: Option<Span>, default: Duration| match span.map(|span| span.or_refuse(field)) {
            Some(Ok(time)) => time,
            Some(Err(problem)) => {
                problems.push(problem);
                default
            }
            None => default,
        };
        let config = Self {
            interval: read("interval", raw.interval, INTERVAL),
            jitter: raw.jitter.unwrap_or(JITTER),
            timeout: read("timeout", raw.timeout, TIMEOUT),
            up_after: raw.up_after.unwrap_or(UP_AFTER),
            down_after: raw.down_after.unwrap_or(DOWN_AFTER),
            concurrency: raw.concurrency.unwrap_or(CONCURRENCY),
            start_healthy: raw.start_healthy.unwrap_or(true),
            idle_for: read("idle_for", raw.idle_for, IDLE_FOR),
        };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            interval: Some(config.interval.into()),
            jitter: Some(config.jitter),
            timeout: Some(config.timeout.into()),
            up_after: Some(config.up_after),
            down_after: Some(config.down_after),
            concurrency: Some(config.concurrency),
            start_healthy: Some(config.start_healthy),
            idle_for: Some(config.idle_for.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_longer_or_shorter_by_its_jitter() {
        let config = Config::new().interval(Duration::from_secs(10)).jitter(0.2);
        for (random, millis) in [(0.0, 8_000), (0.5, 10_000), (1.0, 12_000)] {
            assert_eq!(config.pause(random), Duration::from_millis(millis));
        }
        let longest = Config::new().interval(crate::settings::LONGEST).jitter(1.0);
        assert_eq!((longest.pause(0.0), longest.pause(1.0)), (Duration::ZERO, crate::settings::LONGEST * 2));
    }
}
