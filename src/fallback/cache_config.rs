use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Checks, ConfigError, LONGEST, Span};

/// The settings of a [`LastGood`](super::LastGood).
///
/// ```
/// use std::time::Duration;
/// use mainstay::fallback::CacheConfig;
///
/// let config = CacheConfig::new().max_entries(500).max_age(Duration::from_secs(3_600));
/// assert!(config.check().is_ok());
/// let file: CacheConfig = toml::from_str("max_entries = 500\nmax_age = '1h'").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct CacheConfig {
    pub(super) max_entries: u32,
    pub(super) max_age: Duration,
    pub(super) refresh: Duration,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    max_entries: Option<u32>,
    max_age: Option<Span>,
    refresh: Option<Span>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_entries: 1_000, max_age: Duration::from_secs(300), refresh: Duration::from_secs(1) }
    }
}

impl CacheConfig {
    /// The defaults: 1000 answers, none older than 5 minutes, each renewed once a second.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many answers are kept, from 1 to 1 000 000; default 1000. When there is no room, the one that was written
    /// longest ago leaves, so a flood of new keys takes no more memory than this.
    #[must_use]
    pub const fn max_entries(mut self, entries: u32) -> Self {
        self.max_entries = entries;
        self
    }

    /// No answer older than this is given, from 1 ms to a year. Default 5 minutes: longer than a restart or a failover
    /// takes, and not so long that the answer has nothing to do with the present.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// A good answer replaces the one before when that is older than this, up to `max_age`. Default 1 s: an answer
    /// costs a clone when it is kept, and at a thousand calls a second one of them pays for it. With nothing, every
    /// good answer is kept.
    #[must_use]
    pub const fn refresh(mut self, interval: Duration) -> Self {
        self.refresh = interval;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("max_entries", self.max_entries, 1..=1_000_000);
        checks.duration("max_age", self.max_age);
        if self.refresh > LONGEST {
            checks.refuse("refresh", Span::from(self.refresh), "must be at most 365d");
        } else if self.refresh > self.max_age {
            let why = format!("must be at most max_age, {}", Span::from(self.max_age));
            checks.refuse("refresh", Span::from(self.refresh), why);
        }
        checks.finish()
    }
}

impl TryFrom<Raw> for CacheConfig {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut read = |field, span: Option<Span>, usual| match span.map(|span| span.or_refuse(field)) {
            Some(Ok(duration)) => duration,
            Some(Err(problem)) => {
                problems.push(problem);
                usual
            }
            None => usual,
        };
        let usual = Self::default();
        let max_age = read("max_age", raw.max_age, usual.max_age);
        let refresh = read("refresh", raw.refresh, usual.refresh.min(max_age));
        let config = Self { max_entries: raw.max_entries.unwrap_or(usual.max_entries), max_age, refresh };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<CacheConfig> for Raw {
    fn from(config: CacheConfig) -> Self {
        Self {
            max_entries: Some(config.max_entries),
            max_age: Some(config.max_age.into()),
            refresh: Some(config.refresh.into()),
        }
    }
}
