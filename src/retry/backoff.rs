//! How long to wait before the next attempt. Pure: the number of the retry, the wait before it and a random number go
//! in, a wait comes out.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{settings::LONGEST, time::nanos};

/// The cap of a growing wait for which none was set.
const USUAL_CAP: Duration = Duration::from_secs(5);

/// How waits grow from one retry to the next, before jitter.
///
/// ```
/// use std::time::Duration;
/// use mainstay::retry::Backoff;
///
/// let ms = Duration::from_millis;
/// let backoff = Backoff::exponential(ms(100), 2.0).cap(ms(5_000));
/// let waits: Vec<_> = (1..=7).map(|retry| backoff.wait(retry)).collect();
/// assert_eq!(waits, [ms(100), ms(200), ms(400), ms(800), ms(1_600), ms(3_200), ms(5_000)]);
/// ```
#[derive(Clone)]
pub struct Backoff {
    pub(super) growth: Growth,
    pub(super) cap: Option<Duration>,
}

pub(super) type Custom = Arc<dyn Fn(u32) -> Duration + Send + Sync>;

#[derive(Clone)]
pub(super) enum Growth {
    Fixed(Duration),
    Linear(Duration),
    Exponential { initial: Duration, factor: f64 },
    Custom(Custom),
}

/// How chance changes a wait, so that callers which failed together do not come back together.
///
/// In a file: `"none"`, `"full"`, `"equal"`, `"decorrelated"`, or `{ range = 0.2 }`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Not at all.
    None,
    /// Anything from nothing to the wait. Spreads best, and the default for that.
    #[default]
    Full,
    /// Half of the wait, and anything up to the other half.
    Equal,
    /// Anything from the initial wait to three times the wait before, up to the cap; the growth of the backoff plays no
    /// part.
    Decorrelated,
    /// Anything from this share below to this share above the wait: in [0, 1]. May go above the cap by that share, so
    /// that callers at the cap still do not come together.
    Range(f64),
}

impl Backoff {
    /// The same wait each time. No cap, unless one is set.
    #[must_use]
    pub const fn fixed(wait: Duration) -> Self {
        Self { growth: Growth::Fixed(wait), cap: None }
    }

    /// The initial wait, twice, three times the initial wait, and so on.
    #[must_use]
    pub const fn linear(initial: Duration) -> Self {
        Self { growth: Growth::Linear(initial), cap: None }
    }

    /// The initial wait, and each further one `factor` times as long. `factor` from 1 to 100.
    #[must_use]
    pub const fn exponential(initial: Duration, factor: f64) -> Self {
        Self { growth: Growth::Exponential { initial, factor }, cap: None }
    }

    /// What a function says for the first, second, third retry, counted from 1. No cap, unless one is set; jitter comes
    /// on top, as for the others. When it panics, the call is not tried again. Cannot be read from a file.
    #[must_use]
    pub fn custom(wait: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self { growth: Growth::Custom(Arc::new(wait)), cap: None }
    }

    /// No wait is longer. At least the initial wait, at most a year; by default 5 s for waits that grow, or the initial
    /// wait if that is longer.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = Some(cap);
        self
    }

    /// The wait before the first, second, third retry, counted from 1, without jitter.
    #[must_use]
    pub fn wait(&self, retry: u32) -> Duration {
        Duration::from_nanos(self.wait_nanos(retry))
    }

    /// The wait with jitter. `previous` is the wait before the retry before, nothing for the first; `random` a number
    /// from 0 to 1.
    #[must_use]
    pub fn jittered(&self, jitter: Jitter, retry: u32, previous: Duration, random: f64) -> Duration {
        let from_to = |low: u64, high: u64| low + scale(high - low, random).min(high - low);
        Duration::from_nanos(match jitter {
            Jitter::None => self.wait_nanos(retry),
            Jitter::Full => from_to(0, self.wait_nanos(retry)),
            Jitter::Equal => {
                let wait = self.wait_nanos(retry);
                from_to(wait / 2, wait)
            }
            Jitter::Decorrelated => {
                let initial = self.wait_nanos(1);
                let highest = nanos(previous).max(initial).saturating_mul(3).min(self.cap_nanos());
                from_to(initial, highest.max(initial))
            }
            Jitter::Range(share) => scale(self.wait_nanos(retry), 1.0 + share * (2.0 * random - 1.0)),
        })
    }

    fn wait_nanos(&self, retry: u32) -> u64 {
        let retry = retry.max(1);
        let wait = match &self.growth {
            Growth::Fixed(wait) => nanos(*wait),
            Growth::Linear(initial) => nanos(*initial).saturating_mul(retry.into()),
            Growth::Exponential { initial, factor } => {
                let exponent = i32::try_from(retry - 1).unwrap_or(i32::MAX);
                scale(nanos(*initial), factor.powi(exponent))
            }
            Growth::Custom(wait) => nanos(wait(retry)),
        };
        wait.min(self.cap_nanos())
    }

    fn cap_nanos(&self) -> u64 {
        nanos(self.cap.unwrap_or_else(|| match &self.growth {
            Growth::Fixed(_) | Growth::Custom(_) => LONGEST,
            Growth::Linear(initial) | Growth::Exponential { initial, .. } => USUAL_CAP.max(*initial),
        }))
    }

    /// The first wait, where it is known.
    pub(super) fn initial(&self) -> Option<Duration> {
        match &self.growth {
            Growth::Fixed(initial) | Growth::Linear(initial) | Growth::Exponential { initial, .. } => Some(*initial),
            Growth::Custom(_) => None,
        }
    }
}

/// Saturates at both ends, and is nothing when nothing is multiplied by what has no bounds.
fn scale(nanos: u64, by: f64) -> u64 {
    (nanos as f64 * by).round() as u64
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Backoff");
        match &self.growth {
            Growth::Fixed(wait) => shown.field("fixed", wait),
            Growth::Linear(initial) => shown.field("linear", initial),
            Growth::Exponential { initial, factor } => shown.field("exponential", initial).field("factor", factor),
            Growth::Custom(_) => shown.field("custom", &format_args!("_")),
        };
        shown.field("cap", &self.cap).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn waits(backoff: &Backoff) -> Vec<u128> {
        (1..=7).map(|retry| backoff.wait(retry).as_millis()).collect()
    }

    #[test]
    fn each_strategy_grows_as_it_says() {
        assert_eq!(waits(&Backoff::fixed(MS * 70)), [70; 7]);
        assert_eq!(waits(&Backoff::fixed(MS * 20_000)), [20_000; 7]);
        assert_eq!(waits(&Backoff::linear(MS * 100)), [100, 200, 300, 400, 500, 600, 700]);
        assert_eq!(waits(&Backoff::linear(MS * 1_000).cap(MS * 2_500))[..4], [1_000, 2_000, 2_500, 2_500]);
        assert_eq!(waits(&Backoff::exponential(MS * 100, 2.0)), [100, 200, 400, 800, 1_600, 3_200, 5_000]);
        assert_eq!(waits(&Backoff::exponential(MS * 7_000, 2.0)), [7_000; 7]);
        assert_eq!(waits(&Backoff::custom(|n| MS * n * n)), [1, 4, 9, 16, 25, 36, 49]);
        assert_eq!(waits(&Backoff::custom(|n| MS * n * n).cap(MS * 10)), [1, 4, 9, 10, 10, 10, 10]);
        assert_eq!(Backoff::linear(MS).wait(0), MS, "there is no retry before the first");
    }

    #[test]
    fn each_jitter_stays_where_it_says() {
        let backoff = Backoff::exponential(MS * 100, 2.0).cap(MS * 1_000);
        for (jitter, random, wait) in [
            (Jitter::None, 0.9, 400),
            (Jitter::Full, 0.0, 0),
            (Jitter::Full, 0.25, 100),
            (Jitter::Full, 1.0, 400),
            (Jitter::Equal, 0.0, 200),
            (Jitter::Equal, 0.5, 300),
            (Jitter::Equal, 1.0, 400),
            (Jitter::Decorrelated, 0.0, 100),
            (Jitter::Decorrelated, 0.5, 350),
            (Jitter::Decorrelated, 1.0, 600),
            (Jitter::Range(0.5), 0.0, 200),
            (Jitter::Range(0.5), 0.5, 400),
            (Jitter::Range(0.5), 1.0, 600),
            (Jitter::Range(1.0), 0.0, 0),
            (Jitter::Range(0.0), 0.0, 400),
        ] {
            assert_eq!(backoff.jittered(jitter, 3, MS * 200, random), MS * wait, "{jitter:?} at {random}");
        }
        assert_eq!(backoff.jittered(Jitter::Decorrelated, 9, MS * 900, 1.0), MS * 1_000);
        assert_eq!(backoff.jittered(Jitter::Decorrelated, 1, Duration::ZERO, 1.0), MS * 300);
        assert_eq!(Backoff::fixed(MS).jittered(Jitter::Range(0.0), 1, MS, 0.3), MS);
    }

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let length = prop_oneof![Just(0_u64), any::<u64>(), 1_u64..10_000_000_000].prop_map(Duration::from_nanos);
        let cap = proptest::option::of(length.clone());
        (0..4, length, any::<f64>(), cap).prop_map(|(kind, length, factor, cap)| {
            let backoff = match kind {
                0 => Backoff::fixed(length),
                1 => Backoff::linear(length),
                2 => Backoff::exponential(length, factor),
                _ => Backoff::custom(move |_| length),
            };
            Backoff { cap, ..backoff }
        })
    }

    proptest! {
        #[test]
        fn no_numbers_overflow_and_the_cap_holds(
            backoff in any_backoff(),
            retry in prop_oneof![0_u32..10, Just(u32::MAX), any::<u32>()],
            (previous, random, share) in (any::<u64>(), 0.0..=1.0_f64, 0.0..=1.0_f64),
        ) {
            let previous = Duration::from_nanos(previous);
            for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
                let wait = backoff.jittered(jitter, retry, previous, random);
                prop_assert!(wait.as_nanos() <= backoff.cap_nanos().into());
            }
            let wait = backoff.wait(retry).as_nanos() as f64;
            let ranged = backoff.jittered(Jitter::Range(share), retry, previous, random).as_nanos() as f64;
            let slack = 1.0 + wait * 1e-9;
            prop_assert!(ranged >= (wait * (1.0 - share)).min(1.8e19) - slack);
            prop_assert!(ranged <= wait * (1.0 + share) + slack);
        }
    }
}
