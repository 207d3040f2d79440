use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Checks, ConfigError, LONGEST, Span};

const EVENTS: usize = 1_024;
const MOST_EVENTS: usize = 1_000_000;
const EMPTY_GRACE: Duration = Duration::from_secs(30);
const OVERRIDES_FOR: Duration = Duration::from_secs(3_600);

/// The settings of a backend: what it keeps for watchers, and when it stops to believe what it knew.
///
/// ```
/// use std::time::Duration;
/// use mainstay::discovery::Config;
///
/// let minute = Duration::from_secs(60);
/// let config = Config::new().events(256).empty_grace(minute).invalidate_after(10 * minute);
/// assert!(config.check().is_ok());
/// let file: Config = toml::from_str("events = 256\nempty_grace = '1m'\ninvalidate_after = '10m'").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) events: usize,
    pub(super) empty_grace: Duration,
    pub(super) invalidate_after: Option<Duration>,
    pub(super) overrides_for: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    empty_grace: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invalidate_after: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overrides_for: Option<Span>,
}

impl Config {
    /// 1 024 events for each service, 30 s of grace for an empty answer, and what is known never becomes invalid.
    #[must_use]
    pub const fn new() -> Self {
        Self { events: EVENTS, empty_grace: EMPTY_GRACE, invalidate_after: None, overrides_for: OVERRIDES_FOR }
    }

    /// So many events are kept for the watchers of each service, from 1 to 1 000 000, default 1 024: more than a
    /// deployment changes at once. A watcher that is further behind gets a fresh snapshot. Takes memory only where
    /// somebody watches.
    #[must_use]
    pub const fn events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    /// How long an answer without instances must last before it is believed, after one that had some; from nothing, for
    /// at once, to a year, default 30 s. Backends answer with nothing when they start anew or lose their quorum. For a
    /// [`Publisher`](super::Publisher) only.
    #[must_use]
    pub const fn empty_grace(mut self, grace: Duration) -> Self {
        self.empty_grace = grace;
        self
    }

    /// How long after a backend's first error what it had said is given up, from 1 ms to a year; by default never: a
    /// stale set is better than none. For a [`Publisher`](super::Publisher) only.
    #[must_use]
    pub const fn invalidate_after(mut self, time: Duration) -> Self {
        self.invalidate_after = Some(time);
        self
    }

    /// How long an operator's [override](super::InMemory::override_health) waits for an instance that is gone, from
    /// 1 ms to a year, default 1 h: longer than a restart.
    #[must_use]
    pub const fn overrides_for(mut self, time: Duration) -> Self {
        self.overrides_for = time;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("events", self.events, 1..=MOST_EVENTS);
        if !self.empty_grace.is_zero() {
            checks.duration("empty_grace", self.empty_grace);
        }
        self.invalidate_after.iter().for_each(|time| checks.duration("invalidate_after", *time));
        checks.duration("overrides_for", self.overrides_for);
        checks.finish()
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
            events: raw.events.unwrap_or(EVENTS),
            empty_grace: read("empty_grace", raw.empty_grace, EMPTY_GRACE),
            invalidate_after: raw.invalidate_after.map(|span| read("invalidate_after", Some(span), LONGEST)),
            overrides_for: read("overrides_for", raw.overrides_for, OVERRIDES_FOR),
        };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            events: Some(config.events),
            empty_grace: Some(config.empty_grace.into()),
            invalidate_after: config.invalidate_after.map(Span::from),
            overrides_for: Some(config.overrides_for.into()),
        }
    }
}
