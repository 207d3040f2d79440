use std::time::Duration;

use crate::{
    concurrency::{Algorithm, Sample},
    settings::Checks,
};

/// Additive increase, multiplicative decrease: one call more after a window without drops, a tenth less after one with.
///
/// Knows nothing of a base latency, and so has nothing to learn wrong: it goes up until calls are dropped or too slow.
/// For services that say when they have had enough, and callers who know which latency is too long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aimd {
    pub(super) increase: u32,
    pub(super) backoff: f64,
    pub(super) max_latency: Duration,
}

impl Default for Aimd {
    fn default() -> Self {
        Self { increase: 1, backoff: 0.9, max_latency: Duration::from_secs(5) }
    }
}

impl Aimd {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many calls more after a window without drops; from 1, the default, to 1000.
    #[must_use]
    pub const fn increase(mut self, calls: u32) -> Self {
        self.increase = calls;
        self
    }

    /// The limit is multiplied with this after a window with drops; in [0.5, 1), default 0.9.
    #[must_use]
    pub const fn backoff(mut self, ratio: f64) -> Self {
        self.backoff = ratio;
        self
    }

    /// A window whose latency is longer counts as one with drops. From 1 ms to a year; default 5 s, which is more than
    /// anybody wants to wait.
    #[must_use]
    pub const fn max_latency(mut self, latency: Duration) -> Self {
        self.max_latency = latency;
        self
    }

    pub(super) fn check(&self, checks: &mut Checks) {
        checks.range("increase", self.increase, 1..=1_000);
        check_backoff(checks, self.backoff);
        checks.duration("max_latency", self.max_latency);
    }
}

/// The range that every algorithm's backoff is in: a smaller one makes a single bad window an outage of its own.
pub(super) fn check_backoff(checks: &mut Checks, backoff: f64) {
    if !(0.5..1.0).contains(&backoff) {
        checks.refuse("backoff", backoff, "must be a number in [0.5, 1)");
    }
}

impl Algorithm for Aimd {
    fn next_limit(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.overloaded || sample.latency.is_some_and(|latency| latency > self.max_latency) {
            limit * self.backoff
        } else if sample.is_idle(limit) {
            limit
        } else {
            limit + f64::from(self.increase)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_by_one_down_by_a_tenth_and_unused_as_it_was() {
        let ms = Duration::from_millis;
        for (limit, sample, next) in [
            (20.0, Sample::new(ms(1), 10), 21.0),
            (20.0, Sample::new(ms(1), 9), 20.0),
            (30.0, Sample::dropped(30), 27.0),
            (30.0, Sample::dropped(1), 27.0),
            (10.0, Sample::new(ms(5_000), 10), 11.0),
            (10.0, Sample::new(ms(5_001), 10), 9.0),
            (1.0, Sample::new(ms(1), 1), 2.0),
        ] {
            assert_eq!(Aimd::new().next_limit(limit, &sample), next, "{limit} {sample:?}");
        }
        assert_eq!(Aimd::new().increase(5).backoff(0.5).next_limit(8.0, &Sample::dropped(8)), 4.0);
    }
}
