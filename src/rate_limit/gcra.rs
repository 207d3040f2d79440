//! The generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): the pure rule.
//!
//! All that is remembered is one time: when the calls let in so far will have been paid for, at one interval a call. A
//! call may come as much before that time as the burst allows. So there is no window whose edge lets double pass, and
//! the wait for the next call is known exactly.

use std::time::Duration;

use crate::time::nanos;

/// A quota. Times are in sixteenths of a nanosecond, so that an interval that is no whole number of nanoseconds is
/// rounded by less than a part in a billion at a million calls a second; up, so that never more pass than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    interval: u64,
    // How far ahead of its time a call may come.
    tolerance: u64,
}

const PARTS: u64 = 16;

/// The time that a call has paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    from: u64,
    until: u64,
}

/// The state and the wait after a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// What the call pays for, if it is let in.
    pub(super) cell: Cell,
    /// Nanoseconds until the call conforms; none when it does now.
    pub(super) wait: u64,
}

impl Decision {
    /// The time to remember, if the call is let in.
    pub(super) fn paid_until(&self) -> u64 {
        self.cell.until
    }
}

impl Quota {
    pub(super) fn new(calls: u32, period: Duration, burst: u32) -> Self {
        let interval = (u128::from(nanos(period)) * u128::from(PARTS)).div_ceil(u128::from(calls.max(1)));
        let interval = u64::try_from(interval).unwrap_or(u64::MAX).max(1);
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst.max(1) - 1)) }
    }

    pub(super) fn from_parts(interval: u64, tolerance: u64) -> Self {
        Self { interval, tolerance }
    }

    pub(super) fn parts(self) -> (u64, u64) {
        (self.interval, self.tolerance)
    }

    /// Decides about `cost` calls at `now` nanoseconds, with what is remembered.
    pub(super) fn decide(self, paid_until: u64, now: u64, cost: u32) -> Decision {
        let now = now.saturating_mul(PARTS);
        let from = paid_until.max(now);
        // The last of the calls decides: all but the first use up the tolerance.
        let last = from.saturating_add(self.interval.saturating_mul(u64::from(cost.max(1) - 1)));
        let early = last.saturating_sub(now).saturating_sub(self.tolerance);
        let price = self.interval.saturating_mul(u64::from(cost));
        Decision { cell: Cell { from, until: from.saturating_add(price) }, wait: early.div_ceil(PARTS) }
    }

    /// What is remembered once a turn is taken back: less what of its time is still to come. What of it has passed is
    /// nobody's any more, for those who came since have paid from then on; to give it back too would let through more
    /// than the burst at once.
    pub(super) fn refund(paid_until: u64, cell: Cell, now: u64) -> u64 {
        let now = now.saturating_mul(PARTS);
        paid_until.saturating_sub(cell.until.saturating_sub(cell.from.max(now)))
    }

    /// Whether everything that was let in is paid for: the state is then that of the beginning.
    pub(super) fn is_full(paid_until: u64, now: u64) -> bool {
        paid_until <= now.saturating_mul(PARTS)
    }

    /// How many calls would be let in at once.
    pub(super) fn available(self, paid_until: u64, now: u64) -> u64 {
        let now = now.saturating_mul(PARTS);
        let ahead = paid_until.max(now) - now;
        match (self.tolerance).checked_sub(ahead) {
            Some(left) => left / self.interval + 1,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Runs reservations of (time, cost) and gives the waits, all in milliseconds.
    fn waits(quota: Quota, calls: &[(u64, u32)]) -> Vec<u64> {
        let mut paid_until = 0;
        let wait = |&(at, cost): &(u64, u32)| {
            let decision = quota.decide(paid_until, at * MS, cost);
            paid_until = decision.paid_until();
            decision.wait / MS
        };
        calls.iter().map(wait).collect()
    }

    #[test]
    fn rl_03_smooth_limiter_trace() {
        let every = |ms| Quota::new(1, Duration::from_millis(ms), 1);
        let first: Vec<(u64, u32)> = vec![(0, 1); 7];
        let calls = [&first[..], &[(800, 3), (2_300, 1), (3_500, 3), (9_100, 3), (11_000, 1)]].concat();
        // The source's waits are those of the last call of each; its 900 at 9.1 s rounds to its own grid of intervals,
        // ours begins anew with the first call after a pause.
        assert_eq!(waits(every(500), &calls)[6..], [3_000, 3_700, 2_700, 3_000, 1_000, 0]);
        assert_eq!(waits(every(200), &[(0, 3), (550, 2), (2_210, 2)]), [400, 250, 200]);
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let quota = Quota::new(10, Duration::from_secs(1), 5);
        assert_eq!(waits(quota, &[(0, 1); 8]), [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(quota.available(0, 0), 5);
        let spent = quota.decide(0, 0, 5);
        assert_eq!((quota.available(spent.paid_until(), 0), quota.available(spent.paid_until(), 250 * MS)), (0, 2));
    }

    #[test]
    fn of_a_turn_that_is_taken_back_only_what_is_to_come_is_given_back() {
        let quota = Quota::new(10, Duration::from_secs(1), 5);
        let first = quota.decide(0, 0, 2);
        let second = quota.decide(first.paid_until(), 0, 3);
        let left = |now, cell| quota.available(Quota::refund(second.paid_until(), cell, now), now);
        // All of it at once, of whichever was let in first.
        assert_eq!((left(0, first.cell), left(0, second.cell)), (2, 3));
        // The first two of five have passed when the turn of the second begins.
        assert_eq!(left(200 * MS, second.cell), 5);
        assert_eq!((left(100 * MS, first.cell), left(200 * MS, first.cell)), (2, 2));
        let whole = Cell { from: 0, until: u64::MAX };
        assert_eq!(Quota::refund(5, whole, 0), 0);
        assert_eq!(Quota::refund(5, whole, u64::MAX), 5);
    }

    #[test]
    fn no_period_lets_more_pass_than_quota_and_burst() {
        for (calls, burst) in [(3, 1), (7, 7), (1_000, 10), (999_983, 10)] {
            let quota = Quota::new(calls, Duration::from_secs(1), burst);
            let (mut paid_until, mut passed) = (0, 0);
            // Asked very often for a second.
            for step in 0..2_000_000_u64 {
                let decision = quota.decide(paid_until, step * 500, 1);
                if decision.wait == 0 {
                    paid_until = decision.paid_until();
                    passed += 1;
                }
            }
            assert!(passed <= calls + burst, "{passed} of {calls} with a burst of {burst}");
            assert!(passed >= calls.min(999_000), "{passed} of {calls}");
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let quota = Quota::new(1, Duration::MAX, u32::MAX);
        let decision = quota.decide(u64::MAX, u64::MAX, u32::MAX);
        assert_eq!(decision.paid_until(), u64::MAX);
        assert_eq!(Quota::new(0, Duration::ZERO, 0).decide(0, 0, 0).wait, 0);
        let _ = quota.available(u64::MAX, 0);
    }
}
