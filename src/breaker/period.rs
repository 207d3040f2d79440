//! How long a circuit stays open: the pure rule.

use std::time::Duration;

/// The open period and how it changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OpenPeriod {
    pub(super) base: Duration,
    /// Each failed probing multiplies the period by this, up to the cap.
    pub(super) growth: f64,
    pub(super) cap: Duration,
    /// The period is drawn evenly from so much of it below to so much of it above.
    pub(super) jitter: f64,
}

impl OpenPeriod {
    /// The period after `failed` failed probings in a row, with a random number from 0 to 1, which is only drawn where
    /// there is a jitter.
    ///
    /// The jitter comes after the cap, and may pass it: else circuits that have reached the cap would all come back at
    /// the same time.
    pub(super) fn after(&self, failed: u32, random: impl FnOnce() -> f64) -> Duration {
        // The exponent is capped because the power of a large one is infinite; 1.01 to the 8192nd passes any cap.
        let grown = self.base.as_secs_f64() * self.growth.powi(failed.min(8_192) as i32);
        let period = Duration::try_from_secs_f64(grown).map_or(self.cap, |grown| grown.min(self.cap));
        let period = if failed == 0 || self.growth == 1.0 { self.base } else { period.max(self.base.min(self.cap)) };
        if self.jitter == 0.0 {
            return period;
        }
        let factor = 1.0 + self.jitter * (2.0 * random() - 1.0);
        Duration::try_from_secs_f64(period.as_secs_f64() * factor).unwrap_or(period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn cb_57_the_period_doubles_up_to_the_cap() {
        let period = OpenPeriod { base: ms(10), growth: 2.0, cap: ms(200), jitter: 0.0 };
        let periods: Vec<Duration> = (0..7).map(|failed| period.after(failed, || 0.5)).collect();
        assert_eq!(periods, [10, 20, 40, 80, 160, 200, 200].map(ms));
        assert_eq!(period.after(u32::MAX, || 0.5), ms(200));
        assert_eq!(OpenPeriod { cap: ms(11), ..period }.after(1, || 0.0), ms(11));
    }

    #[test]
    fn without_growth_or_jitter_the_period_is_what_was_set() {
        let base = Duration::from_nanos(30_000_000_001);
        let period = OpenPeriod { base, growth: 1.0, cap: ms(1), jitter: 0.0 };
        assert_eq!(period.after(0, || 0.9), base);
        assert_eq!(period.after(9, || 0.9), base);
    }

    #[test]
    fn jitter_goes_both_ways() {
        let period = OpenPeriod { base: ms(1_000), growth: 1.0, cap: ms(1_000), jitter: 0.2 };
        assert_eq!(period.after(0, || 0.0), ms(800));
        assert_eq!(period.after(0, || 0.5), ms(1_000));
        assert_eq!(period.after(3, || 1.0), ms(1_200));
        let wild = OpenPeriod { base: Duration::MAX, growth: f64::MAX, cap: Duration::MAX, jitter: 1.0 };
        assert_eq!(wild.after(7, || 1.0), Duration::MAX);
    }
}
