//! The only clock of the crate.
//!
//! It follows `tokio::time::pause` and `tokio::time::advance`, works without a runtime, and its arithmetic saturates:
//! no jump of the clock and no configured duration can make it panic.
//!
//! Where tokio's clock cannot be paused, because its feature `test-util` is not part of the build, nobody can tell it
//! from the processor's counter, which costs a third. That is read then, and checked against the system's clock once a
//! millisecond. So a tick may be some microseconds before one that was read earlier, on the same thread too; whoever
//! compares ticks takes that for no time at all. The first reading of all finds out how fast the counter runs, which
//! takes some 0.6 ms, and up to 200 on a machine that is busy.

#![allow(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]

use std::{
    ops::{Add, Sub},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use serde::Serialize;

mod counter;
#[cfg(mainstay_loom)]
mod modelled;
mod pausable;
mod repeat;

#[cfg(mainstay_loom)]
use modelled::os_now;
#[cfg(mainstay_loom)]
pub(crate) use modelled::random;
#[cfg(mainstay_loom)]
pub use modelled::set_now;

/// Whether the present is read off the processor's counter.
const READS_COUNTER: bool = !pausable::IS_PAUSABLE && !cfg!(miri) && !cfg!(mainstay_loom);

/// More than the clocks of two threads differ by.
const LATE: Duration = Duration::from_micros(10);

/// A point in time: nanoseconds since a moment before the process first asked. 64 bits last for 584 years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Tick(u64);

impl Tick {
    /// The last tick there is: never.
    pub const NEVER: Self = Self(u64::MAX);

    /// The tick that many nanoseconds after the first.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the first tick.
    #[must_use]
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The present, by tokio's clock; see [the module](self) for how exact it is.
    #[must_use]
    pub fn now() -> Self {
        Self(if READS_COUNTER { counter::now() } else { os_now() })
    }

    /// Nanoseconds from `earlier` to this tick, none if `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this tick, none if `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The instant to hand to a timer of tokio, `None` when it lies beyond what the platform can say.
    pub(crate) fn to_instant(self) -> Option<tokio::time::Instant> {
        self.to_instant_at(&mut Moment::new())
    }

    /// [`to_instant`](Self::to_instant), for who knows the present already.
    pub(crate) fn to_instant_at(self, now: &mut Moment) -> Option<tokio::time::Instant> {
        if READS_COUNTER {
            // The clocks of the timer and of the ticks differ a little. Who is woken is to find that it is time.
            let left = self.since(now.tick());
            let late = if left.is_zero() { left } else { LATE };
            return instant_after(left.saturating_add(late));
        }
        epoch().checked_add(Duration::from_nanos(self.0)).map(tokio::time::Instant::from_std)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    #[inline]
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Self;

    #[inline]
    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(earlier)))
    }
}

/// A duration in whole nanoseconds, all ones when it is longer than 584 years.
#[must_use]
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    // `as_nanos` is 128-bit arithmetic; this is on the path of every call.
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// The present by tokio's clock, in nanoseconds since the first tick.
#[cfg(not(mainstay_loom))]
fn os_now() -> u64 {
    nanos(tokio::time::Instant::now().into_std().saturating_duration_since(epoch()))
}

/// The first tick. It lies before the first question, because a runtime whose clock was paused before that question
/// would else be in the past, where all its instants are one.
fn epoch() -> std::time::Instant {
    static EPOCH: OnceLock<std::time::Instant> = OnceLock::new();
    let repeated = if READS_COUNTER { None } else { repeat::epoch() };
    repeated.unwrap_or_else(|| *EPOCH.get_or_init(|| before(std::time::Instant::now())))
}

/// A day before, or as much of it as the platform can say.
fn before(now: std::time::Instant) -> std::time::Instant {
    [86_400, 3_600, 60, 1].into_iter().find_map(|s| now.checked_sub(Duration::from_secs(s))).unwrap_or(now)
}

/// Makes a test repeatable: from here on this thread draws its random numbers (for jitter, shares and picks) from
/// `seed`, and its ticks are counted from a day before the present, so that the buckets of windows begin at the same
/// times in every run.
///
/// For simulations on a paused clock in a runtime of one thread. Call it in the runtime, before anything is made: what
/// is older has ticks of another count. Where tokio's clock cannot be paused, ticks stay as they are. What hashes keys
/// does so with random numbers of its own, whatever the seed: which keys share a shard differs from run to run.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{retry::{Config, Handle}, time};
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let waits = async |seed| {
///     time::seed(seed);
///     let begin = Instant::now();
///     let _ = Handle::new("x", Config::new()).run_any(async || Err::<(), _>("down")).await;
///     begin.elapsed()
/// };
/// let first = waits(7).await;
/// assert_eq!(waits(7).await, first);
/// assert_ne!(waits(8).await, first);
/// # }
/// ```
pub fn seed(seed: u64) {
    let now = tokio::time::Instant::now().into_std();
    repeat::begin(seed, Some(before(now)));
}

/// The present, read at most once: everything that happens to one call in one poll shares one reading of the clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment(Option<Tick>);

impl Moment {
    /// A moment that has not been read yet.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(None)
    }

    /// The tick of this moment; the first question reads the clock.
    #[inline]
    pub fn tick(&mut self) -> Tick {
        *self.0.get_or_insert_with(Tick::now)
    }
}

impl From<Tick> for Moment {
    fn from(tick: Tick) -> Self {
        Self(Some(tick))
    }
}

/// The instant so long from now, `None` when it lies beyond what the platform can say. For timers that no tick is
/// compared with when they end.
pub(crate) fn instant_after(wait: Duration) -> Option<tokio::time::Instant> {
    tokio::time::Instant::now().checked_add(wait)
}

/// The wall clock, for dates in headers and for "when" in snapshots; never for a decision about waiting.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// A number from 0 up to but not including 1, for jitter. The middle on a thread that ends: the generator is a
/// thread-local, and panics where that is destroyed already.
#[cfg(not(mainstay_loom))]
pub(crate) fn random() -> f64 {
    repeat::random().unwrap_or_else(|| std::panic::catch_unwind(rand::random).unwrap_or(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_follow_the_paused_clock() {
        let start = Tick::now();
        assert_eq!(Tick::now(), start);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(Tick::now().since(start), Duration::from_secs(5));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Tick::NEVER + Duration::MAX, Tick::NEVER);
        assert_eq!(Tick::from_nanos(3) - Duration::MAX, Tick::default());
        assert_eq!(Tick::from_nanos(3) - Duration::from_nanos(2), Tick::from_nanos(1));
        assert_eq!(Tick::default().since(Tick::NEVER), Duration::ZERO);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert!(Tick::now().to_instant().is_some());
        let _ = Tick::NEVER.to_instant();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seeded_is_repeated() {
        let mut runs = [(); 2].map(|()| {
            seed(3);
            (Tick::now(), [(); 4].map(|()| random()))
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0].0, Tick::default() + Duration::from_secs(86_400));
        assert!(runs[0].1.iter().all(|number| (0.0..1.0).contains(number)));
        seed(4);
        runs[1].1 = [(); 4].map(|()| random());
        assert_ne!(runs[0].1, runs[1].1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(Tick::now().since(runs[0].0), Duration::from_secs(1));
    }

    #[test]
    fn a_random_number_may_be_drawn_while_its_thread_ends() {
        struct AtTheEnd(std::cell::RefCell<Option<std::sync::mpsc::Sender<f64>>>);

        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let told = self.0.take().map(|tell| tell.send(random()));
                assert!(told.is_none_or(|told| told.is_ok()));
            }
        }

        thread_local! {
            static AT_THE_END: AtTheEnd = const { AtTheEnd(std::cell::RefCell::new(None)) };
        }

        for before in [false, true] {
            let (tell, told) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let _ = before.then(random);
                AT_THE_END.with(|end| *end.0.borrow_mut() = Some(tell));
                let _ = random();
            });
            thread.join().unwrap();
            assert!((0.0..1.0).contains(&told.recv().unwrap()));
        }
    }
}
