use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    rate_limit::gcra::Quota,
    settings::{Checks, ConfigError, Span},
};

const MOST: u32 = 1_000_000_000;

/// The settings of a rate limit.
///
/// ```
/// use std::time::Duration;
/// use mainstay::rate_limit::Config;
///
/// let config = Config::new(100, Duration::from_secs(1)).burst(20).max_wait(Duration::from_millis(250));
/// assert!(config.check().is_ok());
/// let file: Config = toml::from_str("calls = 100\nper = '1s'\nburst = 20\nmax_wait = '250ms'").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) calls: u32,
    pub(super) per: Duration,
    pub(super) burst: u32,
    pub(super) max_wait: Option<Duration>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    calls: u32,
    per: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<Span>,
}

impl Config {
    /// `calls` calls in every `per`, evenly: 10 in a second is one every 100 ms. `calls` from 1 to 10^9, `per` from 1
    /// ms to a year.
    #[must_use]
    pub const fn new(calls: u32, per: Duration) -> Self {
        Self { calls, per, burst: 1, max_wait: None }
    }

    /// So many calls a second, and as many at once after a pause.
    #[must_use]
    pub const fn per_second(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(1)).burst(calls)
    }

    /// So many calls may come at once after a pause, from 1, the default, to 10^9. The rate holds all the same.
    #[must_use]
    pub const fn burst(mut self, calls: u32) -> Self {
        self.burst = calls;
        self
    }

    /// A call that comes too early waits for its turn, if that comes within this time: through a
    /// [queued](crate::admission::AdmissionLayer::queued) layer or [`Handle::acquire`](super::Handle::acquire). From 1
    /// ms to a year; by default no call waits.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("calls", self.calls, 1..=MOST);
        checks.duration("per", self.per);
        checks.range("burst", self.burst, 1..=MOST);
        self.max_wait.into_iter().for_each(|wait| checks.duration("max_wait", wait));
        checks.finish()
    }

    pub(super) fn quota(&self) -> Quota {
        Quota::new(self.calls, self.per, self.burst)
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut period = |field, span: Span| match span.or_refuse(field) {
            Ok(period) => Some(period),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        let per = period("per", raw.per).unwrap_or(Duration::from_secs(1));
        let max_wait = raw.max_wait.and_then(|wait| period("max_wait", wait));
        let config = Self { calls: raw.calls, per, burst: raw.burst.unwrap_or(1), max_wait };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let Config { calls, per, burst, max_wait } = config;
        Self { calls, per: per.into(), burst: Some(burst), max_wait: max_wait.map(Span::from) }
    }
}
