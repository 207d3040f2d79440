use std::time::Duration;

use crate::time::Tick;

/// What the calls of one window have shown.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When the window closed.
    pub at: Tick,
    /// The latency of the calls that succeeded, at the percentile of the settings; none when none did.
    pub latency: Option<Duration>,
    /// The most calls that ran at a time.
    pub in_flight: u32,
    /// How many calls ended, drops among them. Calls that say nothing about capacity are not.
    pub calls: u32,
    /// How many of them were dropped: timed out, or turned away for overload.
    pub dropped: u32,
    /// Whether more were dropped than the settings tolerate.
    pub overloaded: bool,
    /// A number from 0 up to but not including 1, for those who need chance.
    pub random: f64,
}

impl Sample {
    /// A window of one call that succeeded.
    #[must_use]
    pub const fn new(latency: Duration, in_flight: u32) -> Self {
        Self {
            at: Tick::from_nanos(0),
            latency: Some(latency),
            in_flight,
            calls: 1,
            dropped: 0,
            overloaded: false,
            random: 0.5,
        }
    }

    /// A window of one call that was dropped.
    #[must_use]
    pub const fn dropped(in_flight: u32) -> Self {
        let sample = Self::new(Duration::ZERO, in_flight);
        Self { latency: None, dropped: 1, overloaded: true, ..sample }
    }

    /// The same, closed at this tick.
    #[must_use]
    pub const fn at(self, at: Tick) -> Self {
        Self { at, ..self }
    }

    /// Whether less than half of the limit was used. What the calls have shown is then no reason to raise it: nobody
    /// knows how the service would bear more.
    #[must_use]
    pub fn is_idle(&self, limit: f64) -> bool {
        // Calls are compared with whole limits.
        f64::from(self.in_flight) * 2.0 < limit.floor()
    }
}

/// Says how many calls a service bears, from what the calls have shown.
///
/// Pure but for what it remembers itself: time and chance come with the sample, and nothing else is to be asked. It is
/// asked once a window and never under a lock; one that panics leaves the limit as it was.
///
/// The policy keeps the answer between floor and ceiling, takes one that is no number for "as it was", and does not let
/// a limit grow that is [not used](Sample::is_idle), whatever the algorithm says.
///
/// ```
/// use mainstay::concurrency::{Algorithm, Config, Handle, Sample};
///
/// /// Half as many after a drop, ten more otherwise.
/// #[derive(Clone)]
/// struct Brisk;
///
/// impl Algorithm for Brisk {
///     fn next_limit(&mut self, limit: f64, sample: &Sample) -> f64 {
///         if sample.overloaded { limit / 2.0 } else { limit + 10.0 }
///     }
/// }
///
/// let limit = Handle::new("search", Config::custom(Brisk));
/// ```
pub trait Algorithm: Send + 'static {
    /// The limit after a window, from the limit in it.
    fn next_limit(&mut self, limit: f64, sample: &Sample) -> f64;

    /// The limit to begin with; what the settings say, unless it has to find out something first.
    fn first_limit(&mut self, initial: f64) -> f64 {
        initial
    }

    /// The latency of the service when it is not busy, where it is known.
    fn base_latency(&self) -> Option<Duration> {
        None
    }

    /// For an algorithm that measures something under a limit of its own: while this says so many calls, a window
    /// closes as soon as so many have ended, and calls that began before the measurement are left out of it.
    fn measures(&self) -> Option<u32> {
        None
    }
}
