//! The present from the processor's counter, at a third of the price of asking the system's clock.
//!
//! The counter is not trusted: each thread asks the system's clock once a millisecond, and counts on from there. So
//! whatever the counter does (drift, stop while the machine is suspended, differ among processors) a reading is less
//! than about a millisecond off, and in practice less than a microsecond. Where there is no such counter, the crate
//! that reads it asks the system.

use std::{cell::Cell, sync::OnceLock};

use quanta::Clock;

use crate::time::{nanos, os_now};

/// How long the counter is followed.
const SPAN: u64 = 1_000_000;

/// Both clocks are taken to have been read at once when no more than this passed between.
const AT_ONCE: u64 = 2_000;
const TRIES: u32 = 4;

/// What one step of the counter means is kept in 2^-32 ns.
const FRACTION: u32 = 32;

struct Counter {
    clock: Clock,
    scale: u64,
    // The span and the longest bracket, in steps of the counter.
    span: u64,
    at_once: u64,
}

/// A time at which both clocks were read.
#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    count: u64,
    nanos: u64,
    good_for: u64,
    scale: u64,
}

impl Anchor {
    /// The time at which the counter stood at `count`, while that is near enough.
    #[inline]
    const fn at(self, count: u64) -> Option<u64> {
        // A counter that ran back seems to have run far ahead.
        let steps = count.wrapping_sub(self.count);
        if steps < self.good_for { Some(self.nanos.wrapping_add((steps * self.scale) >> FRACTION)) } else { None }
    }
}

thread_local! {
    static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor { count: 0, nanos: 0, good_for: 0, scale: 0 }) };
}

/// Nanoseconds since the first tick.
#[inline]
pub(super) fn now() -> u64 {
    let counter = counter();
    let count = counter.clock.raw();
    ANCHOR.with(|anchor| match anchor.get().at(count) {
        Some(nanos) => nanos,
        None => renew(counter, anchor),
    })
}

#[cold]
fn renew(counter: &Counter, anchor: &Cell<Anchor>) -> u64 {
    let mut tries = TRIES;
    let (count, nanos) = loop {
        let before = counter.clock.raw();
        let nanos = os_now();
        let between = counter.clock.raw().wrapping_sub(before);
        tries -= 1;
        if between <= counter.at_once || tries == 0 {
            break (before.wrapping_add(between / 2), nanos);
        }
    };
    anchor.set(Anchor { count, nanos, good_for: counter.span, scale: counter.scale });
    nanos
}

#[inline]
fn counter() -> &'static Counter {
    static COUNTER: OnceLock<Counter> = OnceLock::new();
    COUNTER.get_or_init(|| {
        let clock = Clock::new();
        // A counter of more than 2^20 steps a nanosecond, or of fewer than one a second, is none that exists.
        let scale = nanos(clock.delta(0, 1 << FRACTION)).clamp(1 << (FRACTION - 20), 1 << 62);
        let steps = |nanos: u64| ((u128::from(nanos) << FRACTION) / u128::from(scale)) as u64;
        Counter { clock, scale, span: steps(SPAN), at_once: steps(AT_ONCE) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_counts_on_for_its_span_and_no_further() {
        // Half a nanosecond a step.
        let anchor = Anchor { count: 100, nanos: 7_000, good_for: 2_000, scale: 1 << 31 };
        assert_eq!(anchor.at(100), Some(7_000));
        assert_eq!(anchor.at(301), Some(7_100));
        assert_eq!(anchor.at(2_099), Some(7_999));
        assert_eq!(anchor.at(2_100), None);
        assert_eq!(anchor.at(99), None);
        assert_eq!(Anchor::default().at(0), None);
        let wrapping = Anchor { count: u64::MAX, ..anchor };
        assert_eq!(wrapping.at(1), Some(7_001));
    }

    #[test]
    fn the_counter_is_followed_for_a_millisecond() {
        let Counter { scale, span, at_once, .. } = *counter();
        let nanos = |steps: u64| ((u128::from(steps) * u128::from(scale)) >> FRACTION) as u64;
        // Rounded down to a step, which may be a microsecond where there is a slow counter.
        assert!((SPAN - 1_000..=SPAN).contains(&nanos(span)), "{}", nanos(span));
        assert!((AT_ONCE - 1_000..=AT_ONCE).contains(&nanos(at_once)), "{}", nanos(at_once));
    }

    #[test]
    fn where_the_clocks_are_never_read_at_once_the_last_try_has_to_do() {
        let Counter { clock, scale, span, .. } = counter();
        let slow = Counter { clock: clock.clone(), scale: *scale, span: *span, at_once: 0 };
        let anchor = Cell::default();
        let (begin, nanos, end) = (os_now(), renew(&slow, &anchor), os_now());
        assert!((begin..=end).contains(&nanos));
        assert_eq!((anchor.get().nanos, anchor.get().good_for), (nanos, *span));
    }

    #[test]
    fn the_counter_agrees_with_the_systems_clock() {
        let begin = os_now();
        let (mut last, mut readings) = (0, 0_u32);
        while last < begin + 5 * SPAN {
            let before = os_now();
            let read = now();
            let after = os_now();
            // A virtual machine may give the counter of another processor now and then.
            assert!(before < read + 100_000 && read < after + 100_000, "{before} {read} {after}");
            last = after;
            readings += 1;
        }
        assert!(readings > 0);
    }
}
