use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    budget::BudgetConfig,
    hedge::raw::Raw,
    settings::{Checks, ConfigError, LONGEST, Span},
};

/// Long enough for most calls, while nothing is known of them.
const USUAL_DELAY: Duration = Duration::from_millis(500);

/// The settings of a hedge.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{hedge::Config, retry::BudgetConfig};
///
/// let config = Config::new()
///     .attempts(3)
///     .percentile(99.0)
///     .max_delay(Duration::from_secs(1))
///     .budget(BudgetConfig::new().ratio(0.05));
/// assert!(config.check().is_ok());
/// let file: Config =
///     toml::from_str("attempts = 3\npercentile = 99.0\nmax_delay = '1s'\nbudget = { ratio = 0.05 }").unwrap();
/// assert_eq!(file, config);
/// assert!(toml::from_str::<Config>("delay = '50ms'").is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) attempts: u32,
    // In place of the percentile.
    pub(super) delay: Option<Duration>,
    pub(super) percentile: f64,
    pub(super) min_samples: u32,
    pub(super) initial_delay: Option<Duration>,
    pub(super) min_delay: Duration,
    pub(super) max_delay: Duration,
    pub(super) budget: Option<BudgetConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: 2,
            delay: None,
            percentile: 95.0,
            min_samples: 20,
            initial_delay: None,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_secs(5),
            budget: Some(BudgetConfig::new()),
        }
    }
}

impl Config {
    /// The defaults: a second copy when a call takes longer than 95 of 100, under a budget of 20 % of the calls and 10
    /// a second.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many copies at most, the first among them. From 1 to 10, default 2: the second copy takes most of the tail
    /// away, and a third is seldom worth what it costs. With 1 there is never another.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The next copy is sent so long after the one before, in place of a percentile. Nothing, which sends all copies at
    /// once, to a year.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The next copy is sent when the one before has taken longer than this many of 100 calls do. From 1 to 99.9,
    /// default 95: then one call in twenty is sent twice.
    #[must_use]
    pub const fn percentile(mut self, percentile: f64) -> Self {
        self.percentile = percentile;
        self.delay = None;
        self
    }

    /// So many calls must have been measured before the percentile means something. From 1 to 1 000 000, default 20.
    #[must_use]
    pub const fn min_samples(mut self, calls: u32) -> Self {
        self.min_samples = calls;
        self
    }

    /// The delay until then, between `min_delay` and `max_delay`; by default 500 ms, or the nearest to it that these
    /// allow. Rather too long: while nothing is known of the calls, most copies would be for nothing.
    #[must_use]
    pub const fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = Some(delay);
        self
    }

    /// The delay is no shorter than this, whatever the percentile says. From 1 ms, the default and the finest that
    /// timers tell apart, to a year.
    #[must_use]
    pub const fn min_delay(mut self, delay: Duration) -> Self {
        self.min_delay = delay;
        self
    }

    /// The delay is no longer than this, whatever the percentile says. From `min_delay` to a year, default 5 s: a
    /// service that has become slow for everybody is not to lose its second copies altogether.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How many further copies there may be, of all calls together. Default: 20 % of the calls and 10 a second, of
    /// which 100 are saved, as for a retry. A service that is slow for everybody gets few more calls than one that is
    /// not.
    #[must_use]
    pub const fn budget(mut self, budget: BudgetConfig) -> Self {
        self.budget = Some(budget);
        self
    }

    /// No limit on the further copies of all calls together. A service that is slow for everybody then gets
    /// [`attempts`](Self::attempts) times the calls.
    #[must_use]
    pub const fn no_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    pub(crate) const fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason. Settings read with serde have been checked.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("attempts", self.attempts, 1..=10);
        if let Some(delay) = self.delay.filter(|delay| *delay > LONGEST) {
            checks.refuse("delay", Span::from(delay), "must be at most 365d");
        }
        self.check_percentile(&mut checks);
        self.budget.iter().for_each(|budget| budget.check_into(&mut checks));
        checks.finish()
    }

    fn check_percentile(&self, checks: &mut Checks) {
        let percentile = self.percentile;
        if percentile > 0.0 && percentile < 1.0 {
            let why = format!("must be in 1..=99.9; did you mean {}? (share given)", percentile * 100.0);
            checks.refuse("percentile", percentile, why);
        } else {
            checks.range("percentile", percentile, 1.0..=99.9);
        }
        checks.range("min_samples", self.min_samples, 1..=1_000_000);
        checks.duration("min_delay", self.min_delay);
        checks.duration("max_delay", self.max_delay);
        if self.max_delay < self.min_delay {
            let why = format!("must be at least min_delay, {}", Span::from(self.min_delay));
            checks.refuse("max_delay", Span::from(self.max_delay), why);
        } else if let Some(initial) = self.initial_delay.filter(|it| *it < self.min_delay || *it > self.max_delay) {
            let (least, most) = (Span::from(self.min_delay), Span::from(self.max_delay));
            let why = format!("must be from min_delay, {least}, to max_delay, {most}");
            checks.refuse("initial_delay", Span::from(initial), why);
        }
    }

    pub(super) fn initial(&self) -> Duration {
        self.initial_delay.unwrap_or_else(|| USUAL_DELAY.min(self.max_delay).max(self.min_delay))
    }
}
