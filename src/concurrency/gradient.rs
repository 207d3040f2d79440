use std::time::Duration;

use crate::{
    concurrency::{Algorithm, Sample, aimd::check_backoff},
    settings::Checks,
    time::Tick,
};

/// Compares the latency of now with the base latency, and lowers the limit by their ratio; a few calls of headroom let
/// it grow while the two are alike.
///
/// The base latency is the average of a long time (the default), which follows the service slowly and falls at once
/// when the service recovers; or it is [measured](Self::remeasure_every) from time to time, with the limit at its floor
/// for as long as that takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient {
    pub(super) tolerance: f64,
    pub(super) smoothing: f64,
    pub(super) headroom: u32,
    pub(super) backoff: f64,
    pub(super) history: u32,
    pub(super) measure: Option<Measure>,
    base: Average,
    phase: Phase,
    // What was asked for last: a limit above it was held up by the floor.
    asked: f64,
}

/// How the base latency is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) every: Duration,
    pub(super) calls: u32,
    pub(super) jitter: f64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { every: Duration::from_secs(60), calls: 50, jitter: 0.15 }
    }
}

impl Measure {
    /// How long until the next measurement: jitter keeps the clients of one service from measuring together.
    fn wait(&self, random: f64) -> Duration {
        Duration::from_nanos((in_nanos(self.every) * (1.0 + self.jitter * random)) as u64)
    }
}

/// A measurement, or the time between two.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// At the floor, until there are enough calls; then back to the limit before.
    Measuring { restore: f64 },
    /// How many updates in a row the floor has held the limit up.
    Running { until: Tick, held_up: u32 },
}

/// An average that is plain at first, and forgets the oldest slowly from then on. In nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Average {
    value: f64,
    samples: u32,
}

/// The samples of a plain average, so that the first window does not weigh for minutes.
const WARM_UP: u32 = 10;

/// A base latency so often above the present one is of a time before.
const OUTDATED: f64 = 2.0;

/// After so many updates at the floor the base latency is in doubt.
const LONGEST_AT_FLOOR: u32 = 5;

impl Average {
    fn add(&mut self, value: f64, history: u32) {
        self.samples = self.samples.saturating_add(1).min(history);
        let weight = if self.samples <= WARM_UP { 1.0 / f64::from(self.samples) } else { 2.0 / f64::from(history + 1) };
        self.value += (value - self.value) * weight;
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self {
            tolerance: 1.5,
            smoothing: 0.2,
            headroom: 4,
            backoff: 0.9,
            history: 600,
            measure: None,
            base: Average::default(),
            phase: Phase::Running { until: Tick::NEVER, held_up: 0 },
            asked: 0.0,
        }
    }
}

impl Gradient {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A latency up to so many times the base latency is no sign of a queue. From 1 to 10, default 1.5.
    #[must_use]
    pub const fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// The share of the way to the new limit that is gone in one window. In (0, 1], default 0.2.
    #[must_use]
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// So many calls may stand in the queue of the service: what the limit grows by. From 1 to 1000, default 4.
    #[must_use]
    pub const fn headroom(mut self, calls: u32) -> Self {
        self.headroom = calls;
        self
    }

    /// The limit is multiplied with this after a window with drops; in [0.5, 1), default 0.9.
    #[must_use]
    pub const fn backoff(mut self, ratio: f64) -> Self {
        self.backoff = ratio;
        self
    }

    /// The base latency is the average of about so many windows. From 10 to 100 000, default 600: a minute under load
    /// with the default window.
    #[must_use]
    pub const fn history(mut self, windows: u32) -> Self {
        self.history = windows;
        self
    }

    /// Measures the base latency in place of averaging: at the start, and then in such intervals, the limit is at its
    /// floor until [enough calls](Self::remeasure_calls) have ended. Exact even under a load that never ends, at the
    /// price of the calls that are turned away meanwhile. From 1 ms to a year; off by default.
    #[must_use]
    pub fn remeasure_every(mut self, interval: Duration) -> Self {
        self.measure = Some(Measure { every: interval, ..self.measure.unwrap_or_default() });
        self
    }

    /// So many calls are measured, from 1 to 10 000, default 50. Every 60 s, unless said otherwise.
    #[must_use]
    pub fn remeasure_calls(mut self, calls: u32) -> Self {
        self.measure = Some(Measure { calls, ..self.measure.unwrap_or_default() });
        self
    }

    /// The interval is longer by up to this share, at random, so that clients do not measure together. In [0, 1],
    /// default 0.15.
    #[must_use]
    pub fn remeasure_jitter(mut self, share: f64) -> Self {
        self.measure = Some(Measure { jitter: share, ..self.measure.unwrap_or_default() });
        self
    }

    pub(super) fn check(&self, checks: &mut Checks) {
        checks.range("tolerance", self.tolerance, 1.0..=10.0);
        checks.rate("smoothing", self.smoothing);
        checks.range("headroom", self.headroom, 1..=1_000);
        check_backoff(checks, self.backoff);
        checks.range("history", self.history, 10..=100_000);
        if let Some(measure) = &self.measure {
            checks.duration("remeasure_every", measure.every);
            checks.range("remeasure_calls", measure.calls, 1..=10_000);
            checks.fraction("remeasure_jitter", measure.jitter);
        }
    }

    /// Ends a measurement that has come to a latency.
    fn measured(&mut self, measure: Measure, restore: f64, sample: &Sample) -> f64 {
        // Drops do not keep it from ending: a service that always drops some would be held at the floor for ever.
        let Some(latency) = sample.latency else { return 0.0 };
        self.base = Average { value: in_nanos(latency), samples: 1 };
        self.phase = Phase::Running { until: sample.at + measure.wait(sample.random), held_up: 0 };
        restore
    }

    /// Whether it is time to measure again.
    fn is_due(&mut self, limit: f64, at: Tick) -> bool {
        let Phase::Running { until, held_up } = &mut self.phase else { return false };
        *held_up = if limit > self.asked { *held_up + 1 } else { 0 };
        at >= *until || *held_up >= LONGEST_AT_FLOOR
    }

    fn follow(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.overloaded {
            return limit * self.backoff;
        }
        let Some(latency) = sample.latency.map(in_nanos) else { return limit };
        if self.measure.is_none() {
            self.base.add(latency, self.history);
            if self.base.value > latency * OUTDATED {
                self.base.value *= 0.95;
            }
        }
        if sample.is_idle(limit) || latency == 0.0 {
            return limit;
        }
        let gradient = (self.tolerance * self.base.value / latency).clamp(0.5, 1.0);
        let target = gradient * limit + f64::from(self.headroom);
        limit * (1.0 - self.smoothing) + target * self.smoothing
    }
}

fn in_nanos(latency: Duration) -> f64 {
    latency.as_nanos() as f64
}

impl Algorithm for Gradient {
    fn next_limit(&mut self, limit: f64, sample: &Sample) -> f64 {
        let next = match (self.measure, self.phase) {
            (Some(measure), Phase::Measuring { restore }) => return self.measured(measure, restore, sample),
            (Some(_), Phase::Running { .. }) if self.is_due(limit, sample.at) => return self.first_limit(limit),
            _ => self.follow(limit, sample),
        };
        self.asked = next;
        next
    }

    fn first_limit(&mut self, initial: f64) -> f64 {
        if self.measure.is_none() {
            return initial;
        }
        self.phase = Phase::Measuring { restore: initial };
        // Nothing, of which the floor remains.
        self.asked = initial;
        0.0
    }

    fn base_latency(&self) -> Option<Duration> {
        (self.base.samples > 0).then(|| Duration::from_nanos(self.base.value as u64))
    }

    fn measures(&self) -> Option<u32> {
        let measuring = matches!(self.phase, Phase::Measuring { .. });
        self.measure.filter(|_| measuring).map(|measure| measure.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(latency: u64) -> Sample {
        Sample::new(Duration::from_millis(latency), 1_000)
    }

    fn at(latency: u64, at: u64) -> Sample {
        sample(latency).at(Tick::from_nanos(at * MS))
    }

    /// One whose average has settled.
    fn settled(base: u64) -> Gradient {
        let mut gradient = Gradient::new();
        gradient.base = Average { value: (base * MS) as f64, samples: 600 };
        gradient
    }

    #[test]
    fn the_limit_goes_a_fifth_of_the_way_to_what_the_gradient_says() {
        for (base, latency, limit, next) in [
            (100, 100, 20.0, 20.8),
            (100, 100, 200.0, 200.8),
            // A latency of half as much again is tolerated: no less than the limit, and the headroom.
            (100, 149, 100.0, 100.8),
            // Twice and four times the tolerated: half of the limit at least remains the aim.
            (100, 300, 100.0, 100.0 * 0.8 + 0.2 * 54.0),
            (100, 900, 100.0, 100.0 * 0.8 + 0.2 * 54.0),
        ] {
            let next_limit = settled(base).next_limit(limit, &sample(latency));
            // The present latency has moved the average a little.
            assert!((next_limit - next).abs() < 0.2, "{latency} ms: {next_limit} for {next}");
        }
    }

    #[test]
    fn a_limit_that_is_not_used_stays_and_a_drop_lowers_it() {
        let quiet = Sample::new(Duration::from_millis(100), 49);
        assert_eq!(settled(100).next_limit(100.0, &quiet), 100.0);
        assert_eq!(settled(100).next_limit(100.0, &Sample::dropped(1)), 90.0);
        assert_eq!(settled(100).next_limit(100.0, &Sample::new(Duration::ZERO, 100)), 100.0);
    }

    #[test]
    fn the_average_is_plain_at_first_then_slow_and_falls_fast_when_the_service_recovers() {
        let mut gradient = Gradient::new();
        let mut base = |latency, times: u32| {
            (0..times).for_each(|_| {
                gradient.next_limit(20.0, &sample(latency));
            });
            gradient.base_latency().map_or(0, |base| base.as_millis())
        };
        assert_eq!(base(100, 5), 100);
        assert_eq!(base(200, 5), 150);
        assert!((151..160).contains(&base(300, 10)), "ten windows of six hundred");
        assert!(base(10, 60) < 30, "far above the present latency it is of a time before");
    }

    #[test]
    fn what_was_measured_stays_until_it_is_measured_again() {
        let mut gradient = Gradient::new().remeasure_every(Duration::from_secs(100)).remeasure_jitter(0.1);
        assert_eq!((gradient.first_limit(50.0), gradient.measures()), (0.0, Some(50)));
        assert_eq!(gradient.next_limit(3.0, &Sample::dropped(3)), 0.0);
        assert_eq!(gradient.next_limit(3.0, &at(13, 1_000)), 50.0);
        assert_eq!((gradient.base_latency(), gradient.measures()), (Some(Duration::from_millis(13)), None));
        // In the middle of the jitter: 105 s after the measurement.
        assert!(gradient.next_limit(50.0, &at(20, 105_999)) < 51.0);
        assert_eq!(gradient.base_latency(), Some(Duration::from_millis(13)));
        assert_eq!((gradient.next_limit(60.0, &at(20, 106_000)), gradient.measures()), (0.0, Some(50)));
        assert_eq!(gradient.next_limit(3.0, &at(15, 106_100)), 60.0);
    }

    #[test]
    fn five_updates_that_the_floor_holds_up_and_it_measures() {
        let mut gradient = Gradient::new().remeasure_every(Duration::from_secs(1_000));
        gradient.first_limit(20.0);
        assert_eq!(gradient.next_limit(5.0, &at(10, 0)), 20.0);
        let held: Vec<bool> = (0..7)
            .map(|n| {
                gradient.next_limit(20.0, &Sample::dropped(20).at(Tick::from_nanos(n)));
                gradient.measures().is_some()
            })
            .collect();
        assert_eq!(held, [false, false, false, false, false, true, true]);
    }

    proptest::proptest! {
        #[test]
        fn no_sample_makes_it_less_than_nothing_or_no_number(
            limit in 1.0_f64..1e6, latency: u64, in_flight: u32, calls in 0_u32..1_000, seen in 0_usize..30,
        ) {
            let mut gradient = Gradient::new();
            let sample = Sample { calls, ..Sample::new(Duration::from_nanos(latency), in_flight) };
            (0..seen).for_each(|_| { gradient.next_limit(limit, &sample); });
            let next = gradient.next_limit(limit, &sample);
            proptest::prop_assert!(next.is_finite() && next > 0.0 && next <= limit + 4.0, "{next}");
        }
    }

    #[test]
    fn the_average_is_plain_at_first_and_then_forgets_by_its_history() {
        let mut average = Average::default();
        (0..10).for_each(|_| average.add(100.0, 19));
        assert_eq!((average.value, average.samples), (100.0, 10));
        average.add(200.0, 19);
        assert!((average.value - 110.0).abs() < 1e-9, "one tenth of it: {}", average.value);
    }

    #[test]
    fn a_base_is_outdated_above_twice_the_latency_only() {
        for (base, latency, kept) in [(100, 60, true), (100, 51, true), (100, 49, false)] {
            let mut gradient = settled(base);
            gradient.next_limit(20.0, &sample(latency));
            let learnt = (100.0 * 599.0 + 2.0 * latency as f64) / 601.0 * MS as f64;
            let there = (gradient.base.value - learnt).abs() < 1.0;
            assert_eq!(there, kept, "{latency}: {}", gradient.base.value);
        }
        assert_eq!(Gradient::new().base_latency(), None, "there was no sample");
    }
}
