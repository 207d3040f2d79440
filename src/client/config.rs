use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    balance, breaker,
    client::{pick_by::PickBy, raw::Raw},
    settings::{Checks, ConfigError},
    stack,
};

/// The settings for one service: its policies, and how its instances share the calls.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{client::{Config, PickBy}, stack};
///
/// let mut policies = stack::Config::standard();
/// policies.timeout = Some(Duration::from_secs(20));
/// let config = Config::new().stack(policies).pick_by(PickBy::PeakEwma);
///
/// let file: Config = toml::from_str(r#"
///     pick_by = "peak_ewma"
///     [stack]
///     preset = "standard"
///     timeout = "20s"
///     [stack.rate_limit]
///     calls = 500
///     per = "1s"
///     [balance]
///     panic_threshold = 0.3
/// "#)?;
/// assert!(file.check().is_ok());
///
/// let error = toml::from_str::<Config>("stack = { timeout = '0s' }\nbalance = { decay = '0s' }").unwrap_err();
/// assert!(error.message().contains("stack.timeout = 0s: must be at least 1ms; balance.decay = 0s"), "{error}");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) stack: stack::Config,
    pub(super) balance: balance::Config,
    pub(super) pick_by: PickBy,
    pub(super) first_wait: Duration,
    pub(super) max_methods: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stack: stack::Config::standard(),
            balance: balance::Config::new().breaker(breaker::Config::new()),
            pick_by: PickBy::LeastLoaded,
            first_wait: Duration::from_secs(5),
            max_methods: 256,
        }
    }
}

impl Config {
    /// The defaults: [`stack::Config::standard`] for the service, a breaker and ejection for each instance, the less
    /// loaded of two instances for each attempt.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The policies of the service: what all its calls share, whichever instance they go to. A rate limit, a retry with
    /// its budget, limits of time, a breaker. Default [`stack::Config::standard`].
    #[must_use]
    pub fn stack(mut self, stack: stack::Config) -> Self {
        self.stack = stack;
        self
    }

    /// Who may be picked: breakers of single instances, ejection, slow start. Default: [`balance::Config::new`] with a
    /// breaker for each instance.
    #[must_use]
    pub fn balance(mut self, balance: balance::Config) -> Self {
        self.balance = balance;
        self
    }

    /// How one of the instances is picked. Default [`PickBy::LeastLoaded`].
    #[must_use]
    pub const fn pick_by(mut self, pick_by: PickBy) -> Self {
        self.pick_by = pick_by;
        self
    }

    /// How long the first calls wait until the instances are known, from 1 ms to a year, and no longer than the
    /// stack's [`timeout`](stack::Config::timeout), which begins when this wait is over. Default 5 s. Later calls
    /// never wait for instances: without one they are turned away at once.
    #[must_use]
    pub const fn first_wait(mut self, limit: Duration) -> Self {
        self.first_wait = limit;
        self
    }

    /// So many methods have metrics of their own, from 1 to 10 000; calls of further ones are counted together. Default
    /// 256, some 2.5 KiB each while one thread calls it.
    #[must_use]
    pub const fn max_methods(mut self, most: usize) -> Self {
        self.max_methods = most;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with section and field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.section("stack", Some(self.stack.check()));
        checks.section("balance", Some(self.balance.check()));
        checks.duration("first_wait", self.first_wait);
        checks.range("max_methods", self.max_methods, 1..=10_000);
        checks.finish()
    }
}
