use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    load_shed::{
        raw::Raw,
        throttle::{odds, shifted},
    },
    priority::Priority,
    settings::{Checks, ConfigError, Span},
};

pub(super) const MOST: u32 = 1_000_000;

/// The settings of a shedder: which of its triggers are switched on, and when they fire. All are off at first.
///
/// ```
/// use std::time::Duration;
/// use mainstay::load_shed::{Config, QueueDelay, Throttle};
///
/// let config = Config::new()
///     .in_flight(200)
///     .shares(0.9, 0.5)
///     .queue_delay(QueueDelay::new().target(Duration::from_millis(10)))
///     .throttle(Throttle::new().k(1.5));
/// assert!(config.check().is_ok());
/// ```
///
/// From a file, a part of the settings is enough; a trigger that is not there is off:
///
/// ```
/// let config: mainstay::load_shed::Config = toml::from_str(r#"
///     in_flight = 200
///     normal_share = 0.9
///     low_share = 0.5
///     queue_delay = { target = "10ms", interval = "100ms", max_queue = 100 }
///     throttle = { k = 1.5, min_requests = 50, cap = 0.9, window = "10s", buckets = 10 }
/// "#)?;
///
/// let error = toml::from_str::<mainstay::load_shed::Config>("throttle = { k = 0.5 }").unwrap_err();
/// assert!(error.to_string().contains("throttle.k = 0.5: must be a number in [1, 100]"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) in_flight: Option<u32>,
    pub(super) normal_share: f64,
    pub(super) low_share: f64,
    pub(super) queue_delay: Option<QueueDelay>,
    pub(super) throttle: Option<Throttle>,
}

impl Default for Config {
    fn default() -> Self {
        Self { in_flight: None, normal_share: 0.9, low_share: 0.7, queue_delay: None, throttle: None }
    }
}

impl Config {
    /// Nothing is switched on: nothing is shed but what a [`ShedUnreadyLayer`](super::ShedUnreadyLayer) finds not
    /// ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Preset for a server in front of its own work: so many calls at a time, and a queue that takes up bursts and does
    /// not stand.
    #[must_use]
    pub fn server(limit: u32) -> Self {
        Self::new().in_flight(limit).queue_delay(QueueDelay::new())
    }

    /// Preset for a client of a service that others call too: calls are turned away when few are accepted.
    #[must_use]
    pub fn client() -> Self {
        Self::new().throttle(Throttle::new())
    }

    /// Turns calls away when so many run, from 1 to 1 000 000; counted here, whatever the service says of its
    /// readiness.
    #[must_use]
    pub const fn in_flight(mut self, limit: u32) -> Self {
        self.in_flight = Some(limit);
        self
    }

    /// The shares of the limit that calls of normal and of low priority may take, rounded down to whole calls, one at
    /// least; high ones may take all of it. In (0, 1] each, the low share not above the normal one. Default 0.9 and
    /// 0.7: the last tenth is for what matters, and batch work is the first to go.
    #[must_use]
    pub const fn shares(mut self, normal: f64, low: f64) -> Self {
        self.normal_share = normal;
        self.low_share = low;
        self
    }

    /// Has calls over the limit wait in a queue that is not allowed to stand. Needs [`in_flight`](Self::in_flight); a
    /// call waits only through a [queued](crate::admission::AdmissionLayer::queued) layer or
    /// [`Handle::acquire`](super::Handle::acquire).
    #[must_use]
    pub const fn queue_delay(mut self, queue_delay: QueueDelay) -> Self {
        self.queue_delay = Some(queue_delay);
        self
    }

    /// Turns a share of the calls away when the service accepts few of them.
    #[must_use]
    pub const fn throttle(mut self, throttle: Throttle) -> Self {
        self.throttle = Some(throttle);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        if let Some(limit) = self.in_flight {
            checks.range("in_flight", limit, 1..=MOST);
        }
        checks.rate("normal_share", self.normal_share);
        checks.rate("low_share", self.low_share);
        if self.low_share > self.normal_share {
            checks.refuse("low_share", self.low_share, format!("must be at most normal_share, {}", self.normal_share));
        }
        if let Some(queue) = &self.queue_delay {
            queue.check(&mut checks);
            if self.in_flight.is_none() {
                checks.refuse("queue_delay", "on", "needs in_flight: a queue is of calls over a limit");
            }
        }
        if let Some(throttle) = &self.throttle {
            throttle.check(&mut checks);
        }
        checks.finish()
    }
}

/// When a queue stands, and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDelay {
    pub(super) target: Duration,
    pub(super) interval: Duration,
    pub(super) max_queue: u32,
}

impl Default for QueueDelay {
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100), max_queue: 256 }
    }
}

impl QueueDelay {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A wait that nobody minds, and all that is allowed once the queue stands. From 1 ms to the interval; default 5
    /// ms, CoDel's own.
    #[must_use]
    pub const fn target(mut self, wait: Duration) -> Self {
        self.target = wait;
        self
    }

    /// The time in which a burst is over: the queue stands when calls have waited longer than the target for so long,
    /// and until then a call may wait for so long. From the target to a year; default 100 ms, CoDel's own.
    #[must_use]
    pub const fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// So many calls may wait, from 1 to 1 000 000. Default 256: what is served in an interval, by most services.
    #[must_use]
    pub const fn max_queue(mut self, calls: u32) -> Self {
        self.max_queue = calls;
        self
    }

    fn check(&self, checks: &mut Checks) {
        checks.duration("queue_delay.target", self.target);
        checks.duration("queue_delay.interval", self.interval);
        if self.target > self.interval {
            let why = format!("must be at most queue_delay.interval, {}", Span::from(self.interval));
            checks.refuse("queue_delay.target", Span::from(self.target), why);
        }
        checks.range("queue_delay.max_queue", self.max_queue, 1..=MOST);
    }
}

/// When a caller turns its own calls away, because few are accepted.
///
/// A request is accepted when the classifier calls its result a success, and is not when it calls it a failure; what it
/// ignores, and what is cancelled, counts as neither. Calls that were turned away here count as requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    pub(super) k: f64,
    pub(super) min_requests: u64,
    pub(super) cap: f64,
    pub(super) window: Duration,
    pub(super) buckets: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { k: 2.0, min_requests: 20, cap: 0.9, window: Duration::from_secs(10), buckets: 10 }
    }
}

impl Throttle {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many requests are made for each that is accepted, before any is turned away. In [1, 100], default 2, as in
    /// the book: half of the calls may fail. What is above 1 is half for calls of low priority and double for high
    /// ones.
    #[must_use]
    pub const fn k(mut self, requests: f64) -> Self {
        self.k = requests;
        self
    }

    /// With fewer requests in the window nothing is turned away. From 1 to 10^12, default 20, as for a breaker: a few
    /// failures in the night are no overload.
    #[must_use]
    pub const fn min_requests(mut self, requests: u64) -> Self {
        self.min_requests = requests;
        self
    }

    /// No larger share of the calls is turned away. In (0, 1], default 0.9: one call in ten finds out whether the
    /// service accepts calls again.
    #[must_use]
    pub const fn cap(mut self, share: f64) -> Self {
        self.cap = share;
        self
    }

    /// The time that is looked at, and into how many buckets it is cut. From 1 ms to a year, in 1 to 3600 buckets;
    /// default 10 s in 10. Cannot change while in use.
    #[must_use]
    pub const fn window(mut self, time: Duration, buckets: u32) -> Self {
        self.window = time;
        self.buckets = buckets;
        self
    }

    /// The share of the calls of this priority that is turned away after so many requests, of which so many were
    /// accepted: `max(0, (requests - k * accepts) / (requests + 1))`, at most the cap.
    ///
    /// ```
    /// use mainstay::{Priority, load_shed::Throttle};
    ///
    /// let throttle = Throttle::new();
    /// assert_eq!(throttle.share(1_000, 500, Priority::Normal), 0.0);
    /// assert_eq!(throttle.share(999, 250, Priority::Normal), 0.499);
    /// assert_eq!(throttle.share(999, 0, Priority::Normal), 0.9);
    /// ```
    #[must_use]
    pub fn share(&self, requests: u64, accepts: u64, priority: Priority) -> f64 {
        if requests < self.min_requests {
            return 0.0;
        }
        odds(requests, accepts, shifted(self.k, priority)).min(self.cap)
    }

    fn check(&self, checks: &mut Checks) {
        if !(1.0..=100.0).contains(&self.k) {
            checks.refuse("throttle.k", self.k, "must be a number in [1, 100]");
        }
        checks.range("throttle.min_requests", self.min_requests, 1..=1_000_000_000_000);
        checks.rate("throttle.cap", self.cap);
        checks.duration("throttle.window", self.window);
        checks.range("throttle.buckets", self.buckets, 1..=3_600);
    }
}
