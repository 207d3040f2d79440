//! What an instance's calls cost lately, in seconds: an average that jumps up with a slow or failed call and forgets.
//!
//! The pure rule, and the same in one atomic word.

use std::time::Duration;

use crate::{
    admission::Verdict,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Tick, nanos},
};

/// An exponentially weighted average; none yet is the same as infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ewma {
    value: f64,
    at: Tick,
}

/// Of so many samples in the time of a decay each counts: with the default, one every millisecond.
const GRAINS: u64 = 10_000;

/// The share of the past that is left after `elapsed`.
fn left(elapsed: Duration, decay: Duration) -> f64 {
    // A decay of nothing would divide by it.
    let decay = decay.max(Duration::from_millis(1));
    (-elapsed.as_secs_f64() / decay.as_secs_f64()).exp()
}

impl Ewma {
    pub(super) const fn new(value: f64, at: Tick) -> Self {
        Self { value, at }
    }

    /// What is left of the average at a later time, when nothing more was added.
    pub(super) fn get(self, now: Tick, decay: Duration) -> f64 {
        let elapsed = now.since(self.at);
        if elapsed.is_zero() { self.value } else { self.value * left(elapsed, decay) }
    }

    /// Takes a sample in by its age. One that is no later than the last, or hardly so, is not taken, unless it is the
    /// first.
    pub(super) fn add(self, value: f64, now: Tick, decay: Duration) -> Self {
        if self.value == f64::INFINITY {
            return Self::new(value, now);
        }
        // What the first of a crowd of samples changes is less than a short float can say: each would be lost, and the
        // time since the last with it.
        if now <= self.at || now.nanos_since(self.at).saturating_mul(GRAINS) < nanos(decay) {
            return self;
        }
        let past = left(now.since(self.at), decay);
        Self::new(self.value * past + value * (1.0 - past), now)
    }

    /// Like [`add`](Self::add), but a sample above what is left is taken whole and at once: cost is to be seen when it
    /// rises, and believed in when it falls only after a while.
    pub(super) fn add_peak(self, value: f64, now: Tick, decay: Duration) -> Self {
        if self.value != f64::INFINITY && value >= self.get(now, decay) {
            return Self::new(value, now.max(self.at));
        }
        self.add(value, now, decay)
    }
}

/// How the end of a call weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// After so long a sample weighs 1/e.
    pub(super) decay: Duration,
    /// What a failed call costs at least.
    pub(super) penalty: Duration,
}

/// However long a service asks to be left alone, its instance is tried again after a few of these.
const LONGEST_PENALTY: Duration = Duration::from_secs(300);

impl Pace {
    /// What is left of an average once a call has ended like this.
    pub(super) fn after(self, past: Ewma, verdict: Verdict, took: Duration, now: Tick) -> Ewma {
        let took = took.as_secs_f64();
        match verdict {
            Verdict::Success => past.add_peak(took, now, self.decay),
            // An instance that fails at once must not look fast.
            Verdict::Failure { retry_after } => {
                let asked = retry_after.unwrap_or_default().min(LONGEST_PENALTY);
                past.add_peak(took.max(asked.max(self.penalty).as_secs_f64()), now, self.decay)
            }
            // A call that was given up, or turned away further in, says that it took so long at least.
            Verdict::Cancelled | Verdict::BrokenOff { .. } | Verdict::Ignored if took > past.get(now, self.decay) => {
                past.add_peak(took, now, self.decay)
            }
            Verdict::Cancelled | Verdict::BrokenOff { .. } | Verdict::Ignored | Verdict::Unused => past,
        }
    }
}

/// An [`Ewma`] in one word: the value as a short float, the time in milliseconds. Samples of one millisecond count
/// once, except peaks.
///
/// The time has 37 bits, which last for four years. With 32 it came round after 49 days, and what was forgotten, the
/// failures of a day long ago, was there again.
#[derive(Debug)]
pub(super) struct AtomicEwma(AtomicU64);

const MILLI: u64 = 1_000_000;

impl AtomicEwma {
    pub(super) fn new(value: f64, now: Tick) -> Self {
        Self(AtomicU64::new(pack(Ewma::new(value, now))))
    }

    /// Whether it is nothing, whatever the time.
    #[inline]
    pub(super) fn is_zero(&self) -> bool {
        self.0.load(Relaxed) >> TIME_BITS == 0
    }

    pub(super) fn get(&self, now: Tick, decay: Duration) -> f64 {
        unpack(self.0.load(Relaxed), now).get(rounded(now), decay)
    }

    pub(super) fn update(&self, now: Tick, next: impl Fn(Ewma, Tick) -> Ewma) {
        let now = rounded(now);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let before = unpack(word, now);
            let (was, is) = (pack(before), pack(next(before, now)));
            (was != is).then_some(is)
        });
    }
}

const TIME_BITS: u32 = 37;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// What is left out of a float of 32 bits beside the sign, which none has: its last digits.
const LEFT_OUT: u32 = 4;
/// By so much the clock of one thread may be behind that of another.
const SKEW: u64 = 3_600_000;

fn rounded(now: Tick) -> Tick {
    Tick::from_nanos(now.as_nanos() / MILLI * MILLI)
}

fn pack(ewma: Ewma) -> u64 {
    let bits = (ewma.value as f32).to_bits() >> LEFT_OUT;
    u64::from(bits) << TIME_BITS | ((ewma.at.as_nanos() / MILLI) & TIME)
}

fn unpack(word: u64, now: Tick) -> Ewma {
    let value = f64::from(f32::from_bits((word >> TIME_BITS << LEFT_OUT) as u32));
    let now = now.as_nanos() / MILLI;
    let ago = now.wrapping_sub(word) & TIME;
    // Stamped by a thread whose clock was read a moment later.
    let ago = if ago > TIME - SKEW { 0 } else { ago };
    Ewma::new(value, Tick::from_nanos(now.saturating_sub(ago) * MILLI))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);
    const PACE: Pace = Pace { decay: DECAY, penalty: Duration::from_secs(5) };

    fn at(seconds: f64) -> Tick {
        Tick::default() + Duration::from_secs_f64(seconds)
    }

    fn of(samples: &[(f64, f64)]) -> Ewma {
        let first = Ewma::new(f64::INFINITY, at(0.0));
        samples.iter().fold(first, |ewma, (value, when)| ewma.add_peak(*value, at(*when), DECAY))
    }

    #[test]
    fn lb_03_ewma_primitive() {
        let new = Ewma::new(f64::INFINITY, at(1.0));
        assert_eq!(new.get(at(1.0), DECAY), f64::INFINITY);
        let one = new.add(1.0, at(1.0), DECAY);
        assert_eq!(one.get(at(1.0), DECAY), 1.0);
        assert_eq!(one.add(0.0, at(11.0), DECAY).get(at(11.0), DECAY), (-1.0_f64).exp());
        for late in [0.5, 1.0] {
            assert_eq!(one.add(7.0, at(late), DECAY), one, "a sample that is no later is not taken");
        }
        assert_eq!(of(&[(1.0, 1.0), (2.0, 2.0)]).get(at(2.0), DECAY), 2.0);
        assert_eq!(of(&[(10.0, 1.0), (1.0, 26.0)]).get(at(26.0), DECAY), 1.0);
        let near = of(&[(10.0, 1.0), (1.0, 1.1)]).get(at(1.1), DECAY);
        assert!(near > 9.0 && near < 10.0, "{near}");
        let quick = one.add(5.0, at(1.001), Duration::ZERO).get(at(1.001), Duration::ZERO);
        assert!((quick - (5.0 - 4.0 / 1_f64.exp())).abs() < 1e-6, "no decay is one of a millisecond: {quick}");
    }

    #[test]
    fn of_a_crowd_of_samples_one_every_millisecond_counts() {
        let (begin, nanos) = (at(1.0), Duration::from_nanos);
        let one = Ewma::new(1.0, begin);
        for early in [1, 500_000, 999_999] {
            assert_eq!(one.add(9.0, begin + nanos(early), DECAY), one, "{early}");
        }
        for later in [1_000_000, 1_000_001, 5_000_000] {
            let now = begin + nanos(later);
            assert!(one.add(9.0, now, DECAY).get(now, DECAY) > 1.0, "{later}");
        }
    }

    #[test]
    fn a_call_that_was_given_up_early_lowers_nothing() {
        let (past, now) = (Ewma::new(2.0, at(0.0)), at(5.0));
        for verdict in [Verdict::Cancelled, Verdict::Ignored, Verdict::Unused] {
            assert_eq!(PACE.after(past, verdict, Duration::from_millis(1), now), past, "{verdict:?}");
        }
        let left = past.get(now, DECAY);
        assert!(PACE.after(past, Verdict::Success, Duration::from_millis(1), now).get(now, DECAY) > left);
        assert_eq!(PACE.after(past, Verdict::Cancelled, Duration::from_secs(2), now).get(now, DECAY), 2.0);
    }

    #[test]
    fn it_is_nothing_only_when_nothing_was_added_whatever_the_time() {
        for seconds in [0.0, 1.0, 4_000_000.0] {
            assert!(AtomicEwma::new(0.0, at(seconds)).is_zero(), "{seconds}");
            assert!(!AtomicEwma::new(1.0, at(seconds)).is_zero(), "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_by_an_hour_at_most_reads_the_value_as_it_stands() {
        let ms = Duration::from_millis(1);
        let begin = at(1_000_000.0);
        let word = AtomicEwma::new(2.0, begin);
        for behind in [0, 1, 2, 1_000, 3_599_999, 3_600_000] {
            assert_eq!(word.get(begin - ms * behind, DECAY), 2.0, "{behind}");
        }
        // What is ahead by more is not from another thread, but of four years ago.
        assert!(word.get(begin - ms * 3_600_001, DECAY) < 1e-9);
    }

    #[test]
    fn lb_02_failures_weigh_in_the_cost() {
        let second = Duration::from_secs(1);
        let fresh = Ewma::new(0.1, at(0.0));
        let failed = |hint| Verdict::Failure { retry_after: hint };
        let after = |verdict, took| PACE.after(fresh, verdict, took, at(0.0)).get(at(0.0), DECAY);
        assert!((after(Verdict::Success, Duration::from_millis(250)) - 0.25).abs() < 1e-9);
        assert!(after(failed(None), Duration::ZERO) > 4.0, "an instance that fails at once is expensive");
        assert!(after(Verdict::Success, Duration::ZERO) <= 0.1);
        assert_eq!(after(failed(None), second * 7), 7.0, "a failure that took long costs what it took");
        let hints = [0, 1, 5, 30, 120, 300, 600].map(|secs| after(failed(Some(second * secs)), Duration::ZERO));
        assert_eq!(hints, [5.0, 5.0, 5.0, 30.0, 120.0, 300.0, 300.0]);
        let once = PACE.after(fresh, failed(None), Duration::ZERO, at(0.0));
        let later = once.get(at(10.0), DECAY);
        assert!(later > 1.0 && later < 2.5, "{later}");
        let often = [1.0, 2.0].iter().fold(once, |ewma, s| PACE.after(ewma, failed(None), Duration::ZERO, at(*s)));
        assert!((often.get(at(2.0), DECAY) - 5.0).abs() < 0.1);
        assert_eq!(after(Verdict::Cancelled, second * 3), 3.0, "a call that was given up took so long at least");
        assert_eq!(after(Verdict::Cancelled, Duration::from_millis(1)), 0.1);
        assert_eq!(after(Verdict::Ignored, Duration::ZERO), 0.1, "a quick refusal does not look like a quick service");
        assert_eq!(after(Verdict::Unused, second * 9), 0.1);
    }

    #[test]
    fn one_word_says_what_the_rule_says() {
        let mut rule = Ewma::new(0.1, at(3_000_000.0));
        let word = AtomicEwma::new(0.1, at(3_000_000.0));
        // Beyond 49 days, where 32 bits of milliseconds have wrapped.
        let mut when = 5_000_000.0;
        for (i, sample) in [0.2, 0.05, 5.0, 0.3, 0.01, 0.01, 4.0, 300.0, 0.0].into_iter().enumerate() {
            when += [0.001, 1.5, 0.2, 40.0][i % 4];
            let now = rounded(at(when));
            rule = rule.add_peak(sample, now, DECAY);
            word.update(now, |ewma, now| ewma.add_peak(sample, now, DECAY));
            if i > 0 {
                let (rule, word) = (rule.get(now, DECAY), word.get(now, DECAY));
                assert!((rule - word).abs() <= rule * 1e-4 + 1e-9, "{i}: {rule} and {word}");
            }
        }
        let later = word.get(at(when) - Duration::from_secs(1), DECAY);
        assert!(later.is_finite(), "a clock that lags reads the value as it stands");
    }

    #[test]
    fn what_was_long_ago_is_forgotten_for_good() {
        let day = Duration::from_secs(86_400);
        let begin = at(1_000.0);
        let word = AtomicEwma::new(5.0, begin);
        for days in [1, 24, 25, 30, 49, 50, 51, 75, 100, 365, 3_650] {
            let later = begin + day * days;
            assert!(word.get(later, DECAY) < 1e-9, "{days} days");
        }
        let later = begin + day * 30;
        word.update(later, |ewma, now| ewma.add_peak(0.2, now, DECAY));
        assert!((word.get(later, DECAY) - 0.2).abs() < 1e-4, "and a sample is taken");
    }

    #[test]
    fn a_peak_fades_under_a_crowd_of_samples_however_slow_the_decay() {
        for (decay, seconds) in [(10, 10), (3_600, 1_800), (86_400, 1_800)] {
            let decay = Duration::from_secs(decay);
            let word = AtomicEwma::new(5.0, at(0.0));
            for ms in 1..=seconds * 1_000 {
                let now = Tick::from_nanos(ms * MILLI);
                word.update(now, |ewma, now| ewma.add_peak(1.0, now, decay));
            }
            let due = 4.0 * left(Duration::from_secs(seconds), decay);
            let read = word.get(at(seconds as f64), decay) - 1.0;
            assert!((read - due).abs() < 0.05 * (4.0 - due), "{decay:?}: {read}, not {due}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_stays_between_nothing_and_the_largest_sample(
            samples in proptest::collection::vec((0.0..400.0_f64, 0_u64..30_000), 1..60),
        ) {
            let (mut now, word) = (1_000_000, AtomicEwma::new(0.1, Tick::from_nanos(0)));
            let largest = samples.iter().map(|(value, _)| *value).fold(0.1, f64::max);
            for (value, step) in samples {
                now += step;
                let tick = Tick::from_nanos(now * MILLI);
                word.update(tick, |ewma, now| ewma.add_peak(value, now, DECAY));
                let read = word.get(tick, DECAY);
                proptest::prop_assert!(read >= 0.0 && read <= largest * 1.000_001, "{} of {}", read, largest);
            }
        }
    }
}
