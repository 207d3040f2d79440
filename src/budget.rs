//! How many calls may be made beyond the first: a share of the calls, and a floor for services that are called seldom.
//!
//! It lies on the ground, because everything that calls a service more than once (a retry, a hedge) draws on the same
//! budget, and the rooms do not know each other.

mod settings;

use std::{fmt, num::NonZeroU64, sync::Arc};

use crate::{
    lanes::{Lanes, Seat},
    settings::{ConfigError, Ratio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Moment, Tick},
};

pub use settings::BudgetConfig;
pub(crate) use settings::RawBudget;

/// A budget of retries: every call adds a share of one, every retry takes one away.
///
/// Cheap to clone; all clones are one budget. Give one to several retries that call the same service, so that together
/// they do not overload it.
///
/// It is exact: the share is kept as a fraction, and with a share of 0.1 the tenth, twentieth, thirtieth call pays for
/// a retry. A call only adds to a counter of its own thread; the counters are added up when a retry is wanted.
///
/// ```
/// use mainstay::retry::{Budget, BudgetConfig};
///
/// let budget = Budget::new(BudgetConfig::new().ratio(0.1).min_per_second(0));
/// (0..25).for_each(|_| budget.deposit());
/// assert_eq!(budget.available(), 2);
/// assert!(budget.withdraw() && budget.withdraw() && !budget.withdraw());
/// ```
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    calls: Lanes<AtomicU64>,
    // What was spent and what was forgotten, in units, modulo 2^64: what was earned goes before it.
    spent: AtomicU64,
    rates: Rates,
    since: Tick,
}

fn counter() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Budget {
    /// A budget with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When a setting is impossible, with all that is wrong as the message. For values from outside, use
    /// [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(settings: BudgetConfig) -> Self {
        match Self::try_new(settings) {
            Ok(budget) => budget,
            Err(error) => panic!("budget: {error}"),
        }
    }

    /// A budget with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn try_new(settings: BudgetConfig) -> Result<Self, ConfigError> {
        settings.check()?;
        Ok(Self::of(&settings, Lanes::new(counter), Tick::now()))
    }

    /// With so many threads that count alone. Only for models, which play several threads.
    #[doc(hidden)]
    #[must_use]
    pub fn with_seats(settings: BudgetConfig, seats: usize, since: Tick) -> Self {
        Self::of(&settings, Lanes::with_owned(seats, counter), since)
    }

    fn of(settings: &BudgetConfig, calls: Lanes<AtomicU64>, since: Tick) -> Self {
        Self { shared: Arc::new(Shared { calls, spent: counter(), rates: Rates::of(settings), since }) }
    }

    /// A call is made, which adds its share. Not for retries: they would pay for one another.
    #[inline]
    pub fn deposit(&self) {
        self.deposit_in(Seat::here());
    }

    /// [`deposit`](Self::deposit) in the lane of a seat.
    #[doc(hidden)]
    #[inline]
    pub fn deposit_in(&self, seat: Seat) {
        let lane = self.shared.calls.get(seat, counter);
        lane.writer.add(lane.at, 1);
    }

    /// Takes one retry out, if there is one.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.withdraw_at(&mut Moment::new())
    }

    /// Takes one retry out that may yet be given back.
    #[must_use]
    pub fn reserve(&self) -> Option<Reservation> {
        self.reserve_at(&mut Moment::new())
    }

    pub(crate) fn reserve_at(&self, now: &mut Moment) -> Option<Reservation> {
        self.withdraw_at(now).then(|| Reservation { budget: Some(self.clone()) })
    }

    /// [`withdraw`](Self::withdraw) at a moment.
    #[doc(hidden)]
    #[must_use]
    pub fn withdraw_at(&self, now: &mut Moment) -> bool {
        let (shared, rates) = (&*self.shared, &self.shared.rates);
        let mut spent = shared.spent.load(Relaxed);
        loop {
            // What was earned is read anew after a lost race: the winner may have seen calls that we had not.
            let earned = shared.earned(now);
            let available = rates.available(earned, spent);
            if available < rates.whole.get() {
                return false;
            }
            // What is above the cap is forgotten here, and nowhere else: nobody can tell the difference.
            let next = earned.wrapping_sub(available).wrapping_add(rates.whole.get());
            // Nothing else is ordered by this word: that it counts is all.
            match shared.spent.compare_exchange_weak(spent, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => spent = other,
            }
        }
    }

    fn give_back(&self) {
        self.shared.spent.fetch_sub(self.shared.rates.whole.get(), Relaxed);
    }

    /// How many retries could be made now.
    #[must_use]
    pub fn available(&self) -> u64 {
        let shared = &*self.shared;
        let units = shared.rates.available(shared.earned(&mut Moment::new()), shared.spent.load(Relaxed));
        units / shared.rates.whole
    }

    /// How many calls were made on it.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls()
    }

    /// Whether `other` is a clone of this budget.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn heap_size(&self) -> usize {
        2 * size_of::<usize>() + size_of::<Shared>() + self.shared.calls.heap_size(0)
    }
}

impl Shared {
    fn calls(&self) -> u64 {
        self.calls.iter().fold(0, |sum, lane| sum.wrapping_add(lane.load(Relaxed)))
    }

    fn earned(&self, now: &mut Moment) -> u64 {
        let nanos = if self.rates.per_second > 0 { now.tick().nanos_since(self.since) } else { 0 };
        self.rates.earned(self.calls(), nanos)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// A retry that was taken out of a [`Budget`] and not made yet. Dropping it gives it back.
#[must_use = "a reservation that is dropped goes back into the budget"]
#[derive(Debug)]
pub struct Reservation {
    budget: Option<Budget>,
}

impl Reservation {
    /// For who has no budget and spends nothing.
    pub(crate) const fn free() -> Self {
        Self { budget: None }
    }

    /// The retry is made.
    pub fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.give_back();
        }
    }
}

/// The rates in whole units, so that nothing is ever rounded: a retry costs `whole` units and a call earns `part`.
///
/// One word holds the whole state, as in GCRA: what was earned follows from the counted calls and the clock, and only
/// what was spent is written. The rejected design is a balance that every call adds to, which all threads would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    part: u64,
    whole: NonZeroU64,
    per_second: u64,
    cap: u64,
}

/// Farther behind than calls in flight can bring it: the earned units have gone round 2^64.
const LAPPED: i64 = -(1 << 62);

impl Rates {
    fn of(settings: &BudgetConfig) -> Self {
        // A sixteenth is a share of at most one, and dividing by sixteen loses nothing of a float.
        let sixteenth = Ratio::of(settings.ratio / 16.0);
        let (part, whole) = (u64::from(sixteenth.part()) * 16, sixteenth.whole());
        let divisor = NonZeroU64::new(gcd(part, whole.get().into())).unwrap_or(NonZeroU64::MIN);
        let whole = NonZeroU64::new(u64::from(whole.get()) / divisor).unwrap_or(NonZeroU64::MIN);
        // So many whole retries, and what is on its way to one more: to cut that off would make the share inexact.
        let cap = (u64::from(settings.cap) + 1) * whole.get() - 1;
        let per_second = settings.min_per_second.into();
        Self { part: part / divisor, whole, per_second, cap }
    }

    /// What so many calls and so much time have earned, modulo 2^64, with what a budget begins with.
    fn earned(&self, calls: u64, nanos: u64) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        // Below 2^64 + 2^30, times 2^20, times 2^32: it fits.
        let floor = (u128::from(nanos) + SECOND) * u128::from(self.per_second) * u128::from(self.whole.get()) / SECOND;
        calls.wrapping_mul(self.part).wrapping_add(floor as u64)
    }

    /// The units that may be spent.
    fn available(&self, earned: u64, spent: u64) -> u64 {
        match earned.wrapping_sub(spent) as i64 {
            ahead @ 0.. => ahead.unsigned_abs().min(self.cap),
            behind if behind < LAPPED => self.cap,
            // Another thread has seen calls that this one has not.
            _ => 0,
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(all(test, not(mainstay_loom)))]
mod tests {
    use super::*;

    fn rates(ratio: f64) -> Rates {
        Rates::of(&BudgetConfig::new().ratio(ratio).min_per_second(0))
    }

    #[test]
    fn a_ratio_is_the_fraction_that_was_meant() {
        for (ratio, part, whole) in [
            (0.2, 1, 5),
            (0.1, 1, 10),
            (0.0001, 1, 10_000),
            (1.0, 1, 1),
            (1.1, 11, 10),
            (1.9, 19, 10),
            (2.0, 2, 1),
            (10.0, 10, 1),
            (1.0 / 3.0, 1, 3),
            (0.6, 3, 5),
        ] {
            assert_eq!((rates(ratio).part, rates(ratio).whole.get()), (part, whole), "{ratio}");
        }
        assert_eq!(rates(0.0).part, 0);
    }

    #[test]
    fn what_may_be_spent_is_capped_never_negative_and_survives_the_end_of_the_word() {
        let rates = rates(0.5);
        assert_eq!((rates.part, rates.whole.get(), rates.cap), (1, 2, 201));
        for (earned, spent, available) in [
            (0, 0, 0),
            (7, 3, 4),
            (3, 7, 0),
            (1_000_000, 0, 201),
            (2, u64::MAX - 1, 4),
            (u64::MAX, 4, 0),
            (1 << 63, 0, 201),
            ((1 << 63) + 5, 0, 201),
        ] {
            assert_eq!(rates.available(earned, spent), available, "{earned} earned, {spent} spent");
        }
    }

    #[test]
    fn no_time_and_no_number_of_calls_overflows() {
        let most = Rates::of(&BudgetConfig::new().ratio(9.999_999_9).min_per_second(1_000_000).cap(1_000_000));
        for calls in [0, 1, u64::MAX / 3, u64::MAX] {
            for nanos in [0, 1, u64::MAX / 3, u64::MAX] {
                let earned = most.earned(calls, nanos);
                assert!(most.available(earned, 0) <= most.cap);
            }
        }
    }

    #[test]
    fn the_floor_counts_by_the_nanosecond() {
        let rates = Rates::of(&BudgetConfig::new().ratio(0.0).min_per_second(10));
        assert_eq!(rates.earned(1_000, 0), 10);
        assert_eq!(rates.earned(1_000, 99_999_999), 10);
        assert_eq!(rates.earned(1_000, 100_000_000), 11);
    }
}
