use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    balance::{ewma::Pace, outlier_config::Outlier, ramp::SlowStart, raw::Raw},
    breaker,
    settings::{Checks, ConfigError},
};

/// The settings of a balancer: who may be picked. How one of them is picked, the picker says.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{breaker, balance::{Config, Outlier, SlowStart}};
///
/// let config = Config::new()
///     .panic_threshold(0.3)
///     .outlier(Outlier::new().consecutive_failures(3))
///     .breaker(breaker::Config::new())
///     .slow_start(SlowStart::new(Duration::from_secs(30)));
/// assert!(config.check().is_ok());
///
/// let file: Config = toml::from_str(r#"
///     panic_threshold = 0.3
///     outlier = { consecutive_failures = 3 }
///     breaker = {}
///     slow_start = { window = "30s" }
/// "#)?;
/// assert_eq!(format!("{file:?}"), format!("{config:?}"));
///
/// let error = toml::from_str::<Config>("outlier = { max_ejected = 50 }").unwrap_err();
/// assert!(error.to_string().contains("outlier.max_ejected = 50: must be a finite number in [0, 1]"), "{error}");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) panic_threshold: f64,
    pub(super) outlier: Outlier,
    pub(super) breaker: Option<breaker::Config>,
    pub(super) slow_start: Option<SlowStart>,
    pub(super) decay: Duration,
    pub(super) initial_latency: Duration,
    pub(super) failure_penalty: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            panic_threshold: 0.5,
            outlier: Outlier::new(),
            breaker: None,
            slow_start: None,
            decay: Duration::from_secs(10),
            initial_latency: Duration::from_millis(100),
            failure_penalty: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The defaults: outliers are ejected, half of the instances must be usable, no breakers and no slow start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When fewer than this share of the instances is usable, all that take calls are used, because the fault is then
    /// more likely in what tells their health, and the few that are left would go down under the load of all. From 0 to
    /// 1, default 0.5, as Envoy's; 0 for never.
    #[must_use]
    pub const fn panic_threshold(mut self, share: f64) -> Self {
        self.panic_threshold = share;
        self
    }

    /// When instances are left alone because they do worse than the others. Default [`Outlier::new`].
    #[must_use]
    pub const fn outlier(mut self, outlier: Outlier) -> Self {
        self.outlier = outlier;
        self
    }

    /// Gives each instance a circuit breaker with these settings, named by the balancer and the instance. None by
    /// default: ejection does most of it, and a breaker adds probes before the crowd comes back.
    #[must_use]
    pub fn breaker(mut self, breaker: breaker::Config) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Gives instances that have just come, or come back, few calls at first. Off by default.
    #[must_use]
    pub const fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// After so long a latency weighs 1/e to [`PeakEwma`](super::PeakEwma), from 1 ms to a year. Default 10 s, as
    /// Finagle's and Linkerd's.
    #[must_use]
    pub const fn decay(mut self, decay: Duration) -> Self {
        self.decay = decay;
        self
    }

    /// The latency of an instance that nothing is known of, from 1 ms to a year. Default 100 ms: higher than that of
    /// most, so that a new instance is tried and not swamped.
    #[must_use]
    pub const fn initial_latency(mut self, latency: Duration) -> Self {
        self.initial_latency = latency;
        self
    }

    /// What a failed call counts as taking at least, from 1 ms to a year. Default 5 s: an instance that fails at once
    /// is not fast.
    #[must_use]
    pub const fn failure_penalty(mut self, penalty: Duration) -> Self {
        self.failure_penalty = penalty;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.fraction("panic_threshold", self.panic_threshold);
        checks.section("outlier", Some(self.outlier.check()));
        checks.section("breaker", self.breaker.as_ref().map(breaker::Config::check));
        checks.section("slow_start", self.slow_start.map(|slow| slow.check()));
        checks.duration("decay", self.decay);
        checks.duration("initial_latency", self.initial_latency);
        checks.duration("failure_penalty", self.failure_penalty);
        checks.finish()
    }

    pub(super) const fn pace(&self) -> Pace {
        Pace { decay: self.decay, penalty: self.failure_penalty }
    }
}
