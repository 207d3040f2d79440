use std::time::Duration;

use crate::{
    concurrency::{Algorithm, Sample, aimd::check_backoff},
    settings::Checks,
    time::Tick,
};

/// After TCP Vegas: guesses from latency and base latency how many of the calls in flight stand in a queue, and keeps
/// their number between two bounds.
///
/// The base latency is the lowest of the last one to two [periods](Self::relearn_every): a service that has become
/// slower for good is not held to what it once was. A period in which the limit is used begins with ten calls under
/// half of it: under a load that never ends, what it learnt would else be its own queue, and the limit would creep up
/// for ever. The bounds, and the step of the limit, grow with the number of its
/// digits: 3 to 6 calls and a step of 1 up to a limit of 99, 6 to 12 and a step of 2 up to 999.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vegas {
    pub(super) alpha: u32,
    pub(super) beta: u32,
    pub(super) backoff: f64,
    pub(super) relearn_every: Duration,
    lowest: Lowest,
    // The limit before, while a period begins.
    restore: Option<f64>,
}

/// The lowest latency of this period and of the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Lowest {
    began: Option<Tick>,
    before: Option<Duration>,
    here: Option<Duration>,
}

/// The calls with which a period begins.
const MEASURED: u32 = 10;

impl Lowest {
    fn is_over(&self, at: Tick, period: Duration) -> bool {
        self.began.is_some_and(|began| at.since(began) >= period)
    }

    fn learn(&mut self, at: Tick, latency: Duration, period: Duration) -> Duration {
        if at.since(*self.began.get_or_insert(at)) >= period {
            (self.began, self.before, self.here) = (Some(at), self.here, None);
        }
        let here = self.here.map_or(latency, |here| here.min(latency));
        self.here = Some(here);
        self.before.map_or(here, |before| before.min(here))
    }

    fn known(&self) -> Option<Duration> {
        self.before.into_iter().chain(self.here).min()
    }
}

impl Default for Vegas {
    fn default() -> Self {
        let lowest = Lowest::default();
        Self { alpha: 3, beta: 6, backoff: 0.9, relearn_every: Duration::from_secs(30), lowest, restore: None }
    }
}

impl Vegas {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With fewer calls than `alpha` in the queue the limit goes up, with more than `beta` down. 1 to 1000 each,
    /// `alpha` not above `beta`; default 3 and 6.
    #[must_use]
    pub const fn queue(mut self, alpha: u32, beta: u32) -> Self {
        self.alpha = alpha;
        self.beta = beta;
        self
    }

    /// The limit is multiplied with this after a window with drops; in [0.5, 1), default 0.9.
    #[must_use]
    pub const fn backoff(mut self, ratio: f64) -> Self {
        self.backoff = ratio;
        self
    }

    /// The base latency of a time before is forgotten after one to two such periods. From 1 ms to a year, default 30 s.
    #[must_use]
    pub const fn relearn_every(mut self, period: Duration) -> Self {
        self.relearn_every = period;
        self
    }

    pub(super) fn check(&self, checks: &mut Checks) {
        checks.range("alpha", self.alpha, 1..=1_000);
        checks.range("beta", self.beta, 1..=1_000);
        if self.alpha > self.beta {
            checks.refuse("alpha", self.alpha, format!("must be at most beta, {}", self.beta));
        }
        check_backoff(checks, self.backoff);
        checks.duration("relearn_every", self.relearn_every);
    }
}

impl Algorithm for Vegas {
    fn next_limit(&mut self, limit: f64, sample: &Sample) -> f64 {
        if let Some(restore) = self.restore.take() {
            if let Some(latency) = sample.latency {
                self.lowest.learn(sample.at, latency, self.relearn_every);
            }
            return restore;
        }
        if sample.overloaded {
            return limit * self.backoff;
        }
        let Some(latency) = sample.latency else { return limit };
        if self.lowest.is_over(sample.at, self.relearn_every) && !sample.is_idle(limit) {
            self.restore = Some(limit);
            return limit / 2.0;
        }
        let base = self.lowest.learn(sample.at, latency, self.relearn_every);
        if sample.is_idle(limit) || latency.is_zero() {
            return limit;
        }
        let queue = limit * (1.0 - base.as_secs_f64() / latency.as_secs_f64());
        let scale = limit.max(10.0).log10().floor();
        if queue < f64::from(self.alpha) * scale {
            limit + scale
        } else if queue > f64::from(self.beta) * scale {
            limit - scale
        } else {
            limit
        }
    }

    fn base_latency(&self) -> Option<Duration> {
        self.lowest.known()
    }

    fn measures(&self) -> Option<u32> {
        self.restore.map(|_| MEASURED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(latency: u64, at: u64) -> Sample {
        Sample::new(Duration::from_millis(latency), 1_000).at(Tick::from_nanos(at * MS))
    }

    #[test]
    fn between_the_bounds_it_stays_and_steps_grow_with_the_limit() {
        for (limit, latency, next) in [
            (20.0, 100, 21.0),
            (20.0, 117, 21.0),
            (20.0, 118, 20.0),
            (20.0, 142, 20.0),
            (20.0, 143, 19.0),
            (200.0, 100, 202.0),
            (200.0, 104, 200.0),
            (200.0, 107, 198.0),
            (1.0, 100, 2.0),
        ] {
            let mut vegas = Vegas::new();
            vegas.next_limit(0.0, &sample(100, 0));
            assert_eq!(vegas.next_limit(limit, &sample(latency, 1)), next, "{limit} at {latency} ms");
        }
    }

    #[test]
    fn drops_count_before_anything_else_and_teach_no_base() {
        let mut vegas = Vegas::new();
        assert_eq!(vegas.next_limit(100.0, &Sample::dropped(1)), 90.0);
        assert_eq!(vegas.base_latency(), None);
    }

    #[test]
    fn an_old_base_is_forgotten_after_one_to_two_periods() {
        let mut vegas = Vegas::new().relearn_every(Duration::from_millis(100));
        let mut base = |latency, at| {
            if vegas.next_limit(10.0, &sample(latency, at)) == 5.0 {
                assert_eq!(vegas.measures(), Some(MEASURED));
                assert_eq!(vegas.next_limit(5.0, &sample(latency, at)), 10.0);
            }
            vegas.base_latency().map(|base| base.as_millis())
        };
        assert_eq!(base(5, 0), Some(5));
        assert_eq!(base(20, 99), Some(5));
        assert_eq!(base(30, 100), Some(5));
        assert_eq!(base(20, 199), Some(5));
        assert_eq!(base(25, 200), Some(20));
        assert_eq!(base(40, 5_000), Some(25));
        assert_eq!(base(40, 6_000), Some(40));
    }

    #[test]
    fn at_the_bounds_themselves_it_stays() {
        // A queue of three and of six, exactly; with twice the scale, of six and of twelve.
        for (limit, base, latency, next) in [
            (12.0, 9, 12, 12.0),
            (16.0, 10, 16, 16.0),
            (192.0, 62, 64, 192.0),
            (192.0, 60, 64, 192.0),
            (160.0, 31, 32, 162.0),
        ] {
            let mut vegas = Vegas::new().queue(3, 6);
            vegas.next_limit(0.0, &sample(base, 0));
            assert_eq!(vegas.next_limit(limit, &sample(latency, 1)), next, "{limit} at {latency} ms");
        }
        let mut checks = Checks::default();
        Vegas::new().queue(5, 5).check(&mut checks);
        assert!(checks.finish().is_ok());
    }
}
