use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    budget::BudgetConfig,
    error::Reason,
    retry::{
        backoff::{Backoff, Jitter},
        raw::Raw,
    },
};

/// The settings of a retry.
///
/// ```
/// use std::time::Duration;
/// use mainstay::retry::{Backoff, BudgetConfig, Config, Jitter};
///
/// let config = Config::new()
///     .attempts(5)
///     .backoff(Backoff::linear(Duration::from_millis(50)).cap(Duration::from_secs(1)))
///     .jitter(Jitter::Equal)
///     .budget(BudgetConfig::new().ratio(0.1))
///     .deadline(Duration::from_secs(3));
/// assert!(config.check().is_ok());
/// ```
///
/// From a file, a part of the settings is enough; the others keep their defaults. Unknown fields and impossible values
/// are errors that name the field, the value and the reason:
///
/// ```
/// let config: mainstay::retry::Config = toml::from_str(r#"
///     attempts = 4
///     backoff = { kind = "exponential", initial = "50ms", factor = 2.0, cap = "2s" }
///     jitter = { range = 0.25 }
///     budget = { ratio = 0.1, min_per_second = 5 }
///     retry_on = ["timed_out", "rate_limited"]
/// "#)?;
///
/// let error = toml::from_str::<mainstay::retry::Config>("attempts = 0").unwrap_err();
/// assert!(error.to_string().contains("attempts = 0: must be in 1..=100"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) jitter: Jitter,
    pub(super) budget: Option<BudgetConfig>,
    pub(super) retry_on: Vec<Reason>,
    pub(super) max_retry_after: Duration,
    pub(super) deadline: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::exponential(Duration::from_millis(100), 2.0),
            jitter: Jitter::Full,
            budget: Some(BudgetConfig::new()),
            retry_on: vec![Reason::TimedOut],
            max_retry_after: Duration::from_secs(30),
            deadline: None,
        }
    }
}

impl Config {
    /// The defaults: 3 attempts; waits of 100 ms, doubling up to 5 s, with full jitter; a budget of 20 % of the calls
    /// and 10 a second.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Preset for any service: the defaults.
    #[must_use]
    pub fn basic() -> Self {
        Self::new()
    }

    /// Preset for calls over HTTP: waits of 200 ms, doubling up to 10 s, and a `Retry-After` of up to a minute is
    /// waited for. Goes with `StatusClassify::retryable` and `Idempotent` of the feature `http`, which know the
    /// statuses and the methods.
    #[must_use]
    pub fn http() -> Self {
        Self::new()
            .backoff(Backoff::exponential(Duration::from_millis(200), 2.0).cap(Duration::from_secs(10)))
            .max_retry_after(Duration::from_secs(60))
    }

    /// Preset for a database: 4 attempts with short waits that drift apart, from 20 ms up to 1 s. Deadlocks and failed
    /// serialisations are over at once, a failover within seconds.
    #[must_use]
    pub fn database() -> Self {
        Self::new()
            .attempts(4)
            .backoff(Backoff::exponential(Duration::from_millis(20), 2.0).cap(Duration::from_secs(1)))
            .jitter(Jitter::Decorrelated)
    }

    /// Preset for waits of your own: the first, second, third retry, counted from 1, waits as long as the function
    /// says, without jitter.
    #[must_use]
    pub fn custom(wait: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::new().backoff(Backoff::custom(wait)).jitter(Jitter::None)
    }

    /// So many attempts at most, the first call among them. From 1 to 100, default 3: what fails three times in a row
    /// seldom succeeds the fourth time. With 1 nothing is ever tried again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long to wait before each retry. Default: 100 ms, doubling up to 5 s.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How chance changes the waits. Default [`Jitter::Full`], which spreads callers best.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many retries there may be, of all calls together. Default: 20 % of the calls and 10 a second, of which 100
    /// are saved. A service that is down gets few more calls than one that works, whatever the number of attempts.
    #[must_use]
    pub fn budget(mut self, budget: BudgetConfig) -> Self {
        self.budget = Some(budget);
        self
    }

    /// No limit on the retries of all calls together. For a job that runs alone; in a server, a failing service then
    /// gets [`attempts`](Self::attempts) times the calls.
    #[must_use]
    pub fn no_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Which rejections by policies further in are tried again, in place of those set before. Default:
    /// [`Reason::TimedOut`] alone. The others say that the service was not called in order to leave it alone, which a
    /// retry must not undo; [`Reason::RateLimited`] can make sense, since that rejection says when to come back.
    #[must_use]
    pub fn retry_on(mut self, reasons: impl IntoIterator<Item = Reason>) -> Self {
        self.retry_on = reasons.into_iter().collect();
        self
    }

    /// A service that asks to be left alone (`Retry-After`) is left alone for so long, or for the wait of the backoff
    /// if that is longer. One that asks for more than this is not called again: earlier would be too early, and later
    /// too late for the caller. Default 30 s, from 1 ms to a year.
    #[must_use]
    pub fn max_retry_after(mut self, cap: Duration) -> Self {
        self.max_retry_after = cap;
        self
    }

    /// No wait is begun that would end so long after the first attempt began, or later. From 1 ms to a year; by default
    /// there is no deadline. An attempt that runs is not cut off by it: that is a timeout's work.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    /// The same with a deadline that is no later than this.
    pub(crate) fn deadline_within(mut self, limit: Duration) -> Self {
        self.deadline = Some(self.deadline.map_or(limit, |own| own.min(limit)));
        self
    }

    pub(super) fn retries(&self, reason: Reason) -> bool {
        self.retry_on.contains(&reason)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("jitter", &self.jitter)
            .field("budget", &self.budget)
            .field("retry_on", &self.retry_on)
            .field("max_retry_after", &self.max_retry_after)
            .field("deadline", &self.deadline)
            .finish()
    }
}
