use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    admission::Readiness,
    breaker::{period::OpenPeriod, probing::ProbeRules, raw::Raw, trip::Thresholds},
    settings::Ratio,
    window::{CountWindow, Counts, SlidingWindow, TimeWindow},
};

/// Which calls a breaker looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls, 1 to 1 000 000.
    Calls(usize),
    /// The calls of the last so much time, cut into 1 to 3600 buckets.
    Time {
        /// How far back, from 1 ms to a year.
        length: Duration,
        /// How many buckets.
        buckets: u32,
    },
}

impl Window {
    pub(super) fn build(self) -> SlidingWindow {
        match self {
            Self::Calls(size) => SlidingWindow::Count(CountWindow::new(size)),
            Self::Time { length, buckets } => SlidingWindow::Time(TimeWindow::new(length, buckets)),
        }
    }
}

/// Decides by the counts of the window whether a circuit opens.
pub(super) type Predicate = Arc<dyn Fn(&Counts) -> bool + Send + Sync>;

/// The settings of a circuit breaker.
///
/// ```
/// use std::time::Duration;
/// use mainstay::breaker::Config;
///
/// let config = Config::new()
///     .failure_rate(0.3)
///     .time_window(Duration::from_secs(30))
///     .minimum_calls(50)
///     .open_for(Duration::from_secs(5))
///     .open_jitter(0.2);
/// assert!(config.check().is_ok());
/// ```
///
/// From a file, a part of the settings is enough; the others keep their defaults. Unknown fields and impossible values
/// are errors that name the field, the value and the reason:
///
/// ```
/// let config: mainstay::breaker::Config = toml::from_str(r#"
///     failure_rate = 0.3
///     window = { time = "30s", buckets = 10 }
///     open_for = "5s"
/// "#)?;
///
/// let error = toml::from_str::<mainstay::breaker::Config>("failure_rate = 50").unwrap_err();
/// assert!(error.to_string().contains("failure_rate = 50: must be in (0, 1]; did you mean 0.5? (percent given)"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) window: Window,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_after: Option<Duration>,
    pub(super) slow_rate: f64,
    pub(super) minimum_calls: u64,
    pub(super) consecutive_failures: Option<u64>,
    pub(super) predicate: Option<Predicate>,
    pub(super) open_for: Duration,
    pub(super) open_growth: f64,
    pub(super) open_cap: Duration,
    pub(super) open_jitter: f64,
    pub(super) honor_retry_after: Option<Duration>,
    pub(super) wake_up: bool,
    pub(super) probes: u32,
    pub(super) close_after: Option<u32>,
    pub(super) probe_failure_rate: Option<f64>,
    pub(super) half_open_for: Duration,
    pub(super) count_cancelled_after: Option<Duration>,
    pub(super) readiness: Readiness,
    pub(super) measure_latency: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window::Time { length: Duration::from_secs(10), buckets: 10 },
            failure_rate: Some(0.5),
            slow_after: None,
            slow_rate: 1.0,
            minimum_calls: 20,
            consecutive_failures: None,
            predicate: None,
            open_for: Duration::from_secs(30),
            open_growth: 1.0,
            open_cap: Duration::from_secs(300),
            open_jitter: 0.0,
            honor_retry_after: None,
            wake_up: false,
            probes: 3,
            close_after: None,
            probe_failure_rate: None,
            half_open_for: Duration::from_secs(30),
            count_cancelled_after: None,
            readiness: Readiness::Reject,
            measure_latency: true,
        }
    }
}

impl Config {
    /// The defaults: opens at a failure rate of 50 % of 20 or more calls within 10 seconds, for 30 seconds; three
    /// probes that succeed close it again.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Preset for one service: opens at 50 % of 5 or more calls within 10 seconds, for 30 seconds, with 3 probes.
    #[must_use]
    pub fn basic() -> Self {
        Self::new().minimum_calls(5)
    }

    /// Preset for one tenant among many: tenants call seldom, so the window is long (a minute, in 6 buckets), 5
    /// failures in a row are enough, and a single probe decides after 10 seconds. The jitter keeps tenants that failed
    /// together from coming back together.
    #[must_use]
    pub fn tenant() -> Self {
        Self::new()
            .time_window(Duration::from_secs(60))
            .buckets(6)
            .minimum_calls(10)
            .consecutive_failures(5)
            .open_for(Duration::from_secs(10))
            .open_jitter(0.2)
            .probes(1)
    }

    /// Preset for one operation of a service: half the calls of 30 seconds, failed or slower than 2 seconds, open it
    /// for 15 seconds, which double up to 2 minutes while the probes fail.
    #[must_use]
    pub fn operation() -> Self {
        Self::new()
            .time_window(Duration::from_secs(30))
            .minimum_calls(10)
            .slow_calls(Duration::from_secs(2), 0.5)
            .open_for(Duration::from_secs(15))
            .open_growth(2.0, Duration::from_secs(120))
            .open_jitter(0.1)
    }

    /// Preset for a rule of your own over the counts of the window, in place of the rates. Goes with
    /// [`Handle::run_or_else`](super::Handle::run_or_else), which answers with a fallback while the circuit is open.
    #[must_use]
    pub fn advanced(predicate: impl Fn(&Counts) -> bool + Send + Sync + 'static) -> Self {
        Self::new().no_failure_rate().open_when(predicate)
    }

    /// Looks at the last `calls` calls. From 1 to 1 000 000.
    #[must_use]
    pub fn count_window(mut self, calls: usize) -> Self {
        self.window = Window::Calls(calls);
        self
    }

    /// Looks at the calls of the last `length`. Default 10 s, in 10 buckets; from 1 ms to a year. Long enough to see
    /// `minimum_calls`, short enough to forget an incident.
    #[must_use]
    pub fn time_window(mut self, length: Duration) -> Self {
        let buckets = match self.window {
            Window::Time { buckets, .. } => buckets,
            Window::Calls(_) => 10,
        };
        self.window = Window::Time { length, buckets };
        self
    }

    /// Cuts a time window into so many buckets, from 1 to 3600. Default 10: the window is then right to a tenth of its
    /// length. Without effect on a count window.
    #[must_use]
    pub fn buckets(mut self, count: u32) -> Self {
        if let Window::Time { buckets, .. } = &mut self.window {
            *buckets = count;
        }
        self
    }

    /// Opens when this share of the calls in the window failed, or more. In (0, 1], default 0.5.
    #[must_use]
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Does not look at the failure rate.
    #[must_use]
    pub fn no_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Calls that take longer than `after` are slow, whether they fail or not, and the circuit opens when this share of
    /// the calls in the window was slow, or more. `after` from 1 ms to a year, `rate` in (0, 1]. Off by default.
    ///
    /// Then calls that were given up after more than `after` count as failures, see
    /// [`count_cancelled_after`](Self::count_cancelled_after).
    #[must_use]
    pub fn slow_calls(mut self, after: Duration, rate: f64) -> Self {
        self.slow_after = Some(after);
        self.slow_rate = rate;
        self
    }

    /// No rate opens the circuit before the window holds so many calls. At least 1, at most the size of a count window;
    /// default 20, because of fewer calls half fail by chance.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Opens after so many failures in a row, whatever the window holds. At least 1; off by default.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u64) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Opens when `predicate` says so, by the counts of the window. It is asked after every call, outside every lock.
    /// So every call then adds up the window and takes a short lock to find the predicate, which the other rules do
    /// only when something failed. If it panics the circuit stays as it is. Cannot be read from a file.
    #[must_use]
    pub fn open_when(mut self, predicate: impl Fn(&Counts) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    /// Stays open for so long before the first probe. Default 30 s; from 1 ms to a year.
    #[must_use]
    pub fn open_for(mut self, period: Duration) -> Self {
        self.open_for = period;
        self
    }

    /// Each time the probes fail, the next open period is `factor` times as long, up to `cap`. `factor` from 1 to 100,
    /// `cap` from `open_for` to a year; by default a period is as long as the one before. The
    /// [jitter](Self::open_jitter) comes on top, and may pass the cap.
    #[must_use]
    pub fn open_growth(mut self, factor: f64, cap: Duration) -> Self {
        self.open_growth = factor;
        self.open_cap = cap;
        self
    }

    /// Draws each open period evenly from `share` below to `share` above it, so that callers which saw the service fail
    /// at the same time do not come back at the same time. In [0, 1], default 0; 0.2 is a good value for many callers.
    #[must_use]
    pub fn open_jitter(mut self, share: f64) -> Self {
        self.open_jitter = share;
        self
    }

    /// Stays open for as long as the failed calls asked for (`Retry-After`), `cap` at most, in place of the period set
    /// here. Off by default. What a call asks for is the classifier's to know, see
    /// [`Classify::retry_after`](crate::Classify::retry_after).
    #[must_use]
    pub fn honor_retry_after(mut self, cap: Duration) -> Self {
        self.honor_retry_after = Some(cap);
        self
    }

    /// Turns half-open on time although nobody calls or asks, by a task on the runtime in which the circuit opened. Off
    /// by default: without it, the first call or question after the open period does the same.
    #[must_use]
    pub fn wake_up(mut self, on: bool) -> Self {
        self.wake_up = on;
        self
    }

    /// So many calls at most run at the same time while half-open. From 1 to 10 000, default 3.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// So many probes must succeed to close the circuit; the first that fails opens it again. From 1 to 10 000,
    /// default: as many as `probes`.
    #[must_use]
    pub fn close_after(mut self, successes: u32) -> Self {
        self.close_after = Some(successes);
        self
    }

    /// Lets exactly `probes` results decide by their failure rate: at this rate or more the circuit opens again, else
    /// it closes. In (0, 1]; off by default, so that the first failure decides.
    #[must_use]
    pub fn probe_failure_rate(mut self, rate: f64) -> Self {
        self.probe_failure_rate = Some(rate);
        self
    }

    /// A probe that has not reported after so long loses its place to the next call. Default 30 s, from 1 ms to a year.
    #[must_use]
    pub fn half_open_for(mut self, period: Duration) -> Self {
        self.half_open_for = period;
        self
    }

    /// A call that is given up after running longer than this counts as a failure, so that callers who give up on a
    /// hung service do open its circuit. Default: the slow-call threshold if there is one, else a cancelled call counts
    /// as nothing. From 1 ms to a year.
    #[must_use]
    pub fn count_cancelled_after(mut self, period: Duration) -> Self {
        self.count_cancelled_after = Some(period);
        self
    }

    /// What `poll_ready` says while the circuit lets nothing through. Default [`Readiness::Reject`].
    #[must_use]
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Measures how long calls take, for the percentiles of the snapshot. On by default; it costs reading the clock
    /// once more per call. The slow-call rule measures in any case.
    #[must_use]
    pub fn measure_latency(mut self, on: bool) -> Self {
        self.measure_latency = on;
        self
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds {
            failure_rate: self.failure_rate.map(Ratio::of),
            slow_rate: self.slow_after.map(|_| Ratio::of(self.slow_rate)),
            minimum_calls: self.minimum_calls,
            consecutive_failures: self.consecutive_failures,
        }
    }

    pub(super) fn probe_rules(&self) -> ProbeRules {
        ProbeRules {
            probes: self.probes,
            close_after: self.close_after.unwrap_or(self.probes),
            failure_rate: self.probe_failure_rate.map(Ratio::of),
            slow_rate: self.slow_after.map(|_| Ratio::of(self.slow_rate)),
            lease: self.half_open_for,
        }
    }

    pub(super) fn open_period(&self) -> OpenPeriod {
        OpenPeriod { base: self.open_for, growth: self.open_growth, cap: self.open_cap, jitter: self.open_jitter }
    }

    pub(super) fn cancelled_after(&self) -> Option<Duration> {
        self.count_cancelled_after.or(self.slow_after)
    }

    /// Whether the start of a call has to be known.
    pub(super) fn is_timed(&self) -> bool {
        self.measure_latency || self.slow_after.is_some() || self.cancelled_after().is_some()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let predicate = self.predicate.is_some();
        f.debug_struct("Config").field("settings", &Raw::from(self.clone())).field("predicate", &predicate).finish()
    }
}
