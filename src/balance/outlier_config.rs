use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    balance::outlier::{Rules, Terms},
    settings::{Checks, ConfigError, Span},
};

/// Whether outliers are ejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are. The default.
    #[default]
    Enforce,
    /// It is told who would be, and nobody is: to try settings out.
    Shadow,
    /// Nobody looks.
    Off,
}

/// When an instance is left alone for a while because it does worse than the others.
///
/// ```
/// use std::time::Duration;
/// use mainstay::balance::Outlier;
///
/// let outlier = Outlier::new().consecutive_failures(3).eject_for(Duration::from_secs(10)).max_ejected(0.3);
/// let file: Outlier = toml::from_str("consecutive_failures = 3\neject_for = '10s'\nmax_ejected = 0.3").unwrap();
/// assert_eq!(file, outlier);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawOutlier", into = "RawOutlier")]
pub struct Outlier {
    pub(super) mode: Mode,
    pub(super) consecutive_failures: u32,
    pub(super) deviations: f64,
    pub(super) success_floor: f64,
    pub(super) failure_rate: Option<f64>,
    pub(super) min_instances: u32,
    pub(super) min_calls: u64,
    pub(super) interval: Duration,
    pub(super) eject_for: Duration,
    pub(super) eject_cap: Duration,
    pub(super) eject_jitter: Duration,
    pub(super) max_ejected: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawOutlier {
    mode: Mode,
    consecutive_failures: Option<u32>,
    deviations: Option<f64>,
    success_floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_rate: Option<f64>,
    min_instances: Option<u32>,
    min_calls: Option<u64>,
    interval: Option<Span>,
    eject_for: Option<Span>,
    eject_cap: Option<Span>,
    eject_jitter: Option<Span>,
    max_ejected: Option<f64>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            consecutive_failures: 5,
            deviations: 1.9,
            success_floor: 0.9,
            failure_rate: None,
            min_instances: 5,
            min_calls: 100,
            interval: Duration::from_secs(10),
            eject_for: Duration::from_secs(30),
            eject_cap: Duration::from_secs(300),
            eject_jitter: Duration::ZERO,
            max_ejected: 0.1,
        }
    }
}

impl Outlier {
    /// The defaults, which are Envoy's, and a floor.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nobody is ejected, except by hand.
    #[must_use]
    pub fn off() -> Self {
        Self { mode: Mode::Off, ..Self::default() }
    }

    /// Whether outliers are ejected, or only told. Default [`Mode::Enforce`].
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// So many failures in a row eject at once, without waiting for a sweep. Default 5, as Envoy's and Finagle's; 0 for
    /// never.
    #[must_use]
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// A sweep ejects whose success rate lies more than so many standard deviations below the mean of all. Default 1.9,
    /// up to 100; 0 for never.
    #[must_use]
    pub const fn deviations(mut self, deviations: f64) -> Self {
        self.deviations = deviations;
        self
    }

    /// Whose success rate is at least this is no outlier, however well the others do: where all succeed, one failure is
    /// many deviations. From 0 to 1, default 0.9.
    #[must_use]
    pub const fn success_floor(mut self, rate: f64) -> Self {
        self.success_floor = rate;
        self
    }

    /// A sweep ejects whose share of failures is at least this, whatever the others do; more than 0, at most 1. Off by
    /// default: an outage of what all instances depend on is nobody's own.
    #[must_use]
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// A sweep judges when so many instances had [enough calls](Self::min_calls). From 1, default 5: of fewer no mean
    /// says much.
    #[must_use]
    pub const fn min_instances(mut self, instances: u32) -> Self {
        self.min_instances = instances;
        self
    }

    /// A sweep judges instances that had so many calls since the last one. From 1, default 100.
    #[must_use]
    pub const fn min_calls(mut self, calls: u64) -> Self {
        self.min_calls = calls;
        self
    }

    /// The time between two sweeps, from 1 ms to a year. Default 10 s. A sweep is made by the first call after it is
    /// due, as long as something has failed of late; after that a period begins with the next failure.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The time of a first ejection, from 1 ms to a year. Default 30 s. The n-th takes n times as long; each sweep in
    /// which an instance was not ejected takes one off.
    #[must_use]
    pub fn eject_for(mut self, time: Duration) -> Self {
        // A cap that nobody set follows.
        if self.eject_cap == Self::default().eject_cap {
            self.eject_cap = self.eject_cap.max(time);
        }
        self.eject_for = time;
        self
    }

    /// The longest an ejection takes, not less than the first. Default 300 s, or the first if that is longer.
    #[must_use]
    pub const fn eject_cap(mut self, time: Duration) -> Self {
        self.eject_cap = time;
        self
    }

    /// Up to so much more at random, so that instances which went together do not come back together. From 0, the
    /// default, to a year.
    #[must_use]
    pub const fn eject_jitter(mut self, most: Duration) -> Self {
        self.eject_jitter = most;
        self
    }

    /// At most this share of the members is ejected at a time, from 0 to 1; one may always be, and one always stays.
    /// Default 0.1: when many look like outliers, the fault lies elsewhere.
    #[must_use]
    pub const fn max_ejected(mut self, share: f64) -> Self {
        self.max_ejected = share;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("consecutive_failures", self.consecutive_failures, 0..=1_000_000);
        checks.range("deviations", self.deviations, 0.0..=100.0);
        checks.fraction("success_floor", self.success_floor);
        if let Some(rate) = self.failure_rate {
            checks.rate("failure_rate", rate);
        }
        checks.range("min_instances", self.min_instances, 1..=1_000_000);
        checks.range("min_calls", self.min_calls, 1..=1_000_000_000);
        checks.duration("interval", self.interval);
        checks.duration("eject_for", self.eject_for);
        checks.duration("eject_cap", self.eject_cap);
        checks.at_most("eject_for", Some(self.eject_for), "eject_cap", Some(self.eject_cap));
        if !self.eject_jitter.is_zero() {
            checks.duration("eject_jitter", self.eject_jitter);
        }
        checks.fraction("max_ejected", self.max_ejected);
        checks.finish()
    }

    /// Whether sweeps find anything.
    pub(super) fn sweeps(&self) -> bool {
        self.mode != Mode::Off
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            deviations: (self.deviations > 0.0).then_some(self.deviations),
            floor: self.success_floor,
            failure_rate: self.failure_rate,
            min_instances: self.min_instances,
            min_calls: self.min_calls,
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms { base: self.eject_for, cap: self.eject_cap, jitter: self.eject_jitter }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl TryFrom<RawOutlier> for Outlier {
    type Error = ConfigError;

    fn try_from(raw: RawOutlier) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut span =
            |field, span: Option<Span>| span?.or_refuse(field).map_err(|problem| problems.push(problem)).ok();
        let mut outlier = Self::default();
        set(&mut outlier.interval, span("interval", raw.interval));
        if let Some(time) = span("eject_for", raw.eject_for) {
            outlier = outlier.eject_for(time);
        }
        set(&mut outlier.eject_cap, span("eject_cap", raw.eject_cap));
        set(&mut outlier.eject_jitter, span("eject_jitter", raw.eject_jitter));
        outlier.mode = raw.mode;
        set(&mut outlier.consecutive_failures, raw.consecutive_failures);
        set(&mut outlier.deviations, raw.deviations);
        set(&mut outlier.success_floor, raw.success_floor);
        outlier.failure_rate = raw.failure_rate;
        set(&mut outlier.min_instances, raw.min_instances);
        set(&mut outlier.min_calls, raw.min_calls);
        set(&mut outlier.max_ejected, raw.max_ejected);
        problems.extend(outlier.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(outlier), Err)
    }
}

impl From<Outlier> for RawOutlier {
    fn from(outlier: Outlier) -> Self {
        Self {
            mode: outlier.mode,
            consecutive_failures: Some(outlier.consecutive_failures),
            deviations: Some(outlier.deviations),
            success_floor: Some(outlier.success_floor),
            failure_rate: outlier.failure_rate,
            min_instances: Some(outlier.min_instances),
            min_calls: Some(outlier.min_calls),
            interval: Some(outlier.interval.into()),
            eject_for: Some(outlier.eject_for.into()),
            eject_cap: Some(outlier.eject_cap.into()),
            eject_jitter: Some(outlier.eject_jitter.into()),
            max_ejected: Some(outlier.max_ejected),
        }
    }
}
