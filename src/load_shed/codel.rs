//! Whether a queue is a good one, which takes up a burst, or a bad one, in which every call waits for nothing: the pure
//! rule, after "Controlling Queue Delay" (Nichols and Jacobson, 2012).
//!
//! What tells the two apart is not the length of the queue but for how long its oldest call has been waiting too long:
//! a burst is gone within an interval. The rejected design looks at the wait of the calls that are served, as routers
//! do; once the newest are served first those have hardly waited, and the queue would look well again at once. So a
//! standing queue stands until it has been empty.

use std::time::Duration;

use crate::time::Tick;

/// What a queue is measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// A wait that nobody minds.
    pub(super) target: Duration,
    /// A time in which a burst is over.
    pub(super) interval: Duration,
}

impl Bounds {
    /// How long a call may wait that comes now.
    pub(super) fn allowed(&self, standing: bool) -> Duration {
        if standing { self.target } else { self.interval }
    }
}

/// What is remembered of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Codel {
    // When somebody last looked, and since when the oldest call then had been waiting.
    looked_at: Tick,
    oldest: Option<Tick>,
    // The last time at which no call had waited longer than the target.
    good_at: Tick,
    standing: bool,
}

impl Codel {
    /// Looks at the queue, after every change of it: since when its oldest call has been waiting. Whether it stands.
    pub(super) fn look(&mut self, oldest: Option<Tick>, now: Tick, bounds: &Bounds) -> bool {
        // The oldest of the last look has been the oldest until now; within the target it was for a while, or not at
        // all.
        let good_until = self.oldest.map_or(now, |since| now.min(since + bounds.target));
        if good_until >= self.looked_at {
            self.good_at = self.good_at.max(good_until);
        }
        if oldest.is_none_or(|since| now.since(since) <= bounds.target) {
            self.good_at = self.good_at.max(now);
        }
        (self.looked_at, self.oldest) = (now, oldest);
        self.standing = oldest.is_some() && (self.standing || now.since(self.good_at) >= bounds.interval);
        self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { target: Duration::from_millis(10), interval: Duration::from_millis(50) };

    fn ms(n: u64) -> Tick {
        Tick::from_nanos(n * 1_000_000)
    }

    /// Looks at (time, since when the oldest waits) one after the other.
    fn looks(queue: &[(u64, Option<u64>)]) -> Vec<bool> {
        let mut codel = Codel::default();
        queue.iter().map(|(now, oldest)| codel.look(oldest.map(ms), ms(*now), &BOUNDS)).collect()
    }

    #[test]
    fn a_queue_stands_once_its_oldest_has_waited_too_long_for_an_interval() {
        assert_eq!(looks(&[(100, Some(100)), (159, Some(100))]), [false, false]);
        assert_eq!(looks(&[(100, Some(100)), (160, Some(100))]), [false, true]);
        // Another one is the oldest every time, and each of them has waited too long.
        let ages: Vec<(u64, Option<u64>)> = (100..=180).step_by(20).map(|now| (now, Some(now - 20))).collect();
        assert_eq!(looks(&[&[(80, Some(80))], &ages[..]].concat()), [false, false, false, true, true, true]);
        // One that has not is enough for it to be well again.
        assert_eq!(looks(&[(100, Some(100)), (150, Some(145)), (200, Some(145)), (204, Some(145))]), [false; 4]);
        assert_eq!(looks(&[(100, Some(100)), (150, Some(145)), (205, Some(145))]), [false, false, true]);
    }

    #[test]
    fn it_stands_until_it_has_been_empty() {
        assert_eq!(looks(&[(0, Some(0)), (60, Some(0)), (61, Some(60)), (90, Some(89))]), [false, true, true, true]);
        let emptied = [(0, Some(0)), (60, Some(0)), (61, None), (62, Some(62)), (120, Some(62))];
        assert_eq!(looks(&emptied), [false, true, false, false, false]);
        assert_eq!((BOUNDS.allowed(false), BOUNDS.allowed(true)), (BOUNDS.interval, BOUNDS.target));
    }

    #[test]
    fn time_that_runs_backwards_or_far_ahead_does_no_harm() {
        let far = u64::MAX / 1_000_000;
        assert_eq!(looks(&[(1_000, Some(990)), (5, Some(1_000)), (far, Some(5))]), [false, false, true]);
    }

    proptest::proptest! {
        #[test]
        fn calls_served_in_time_never_make_a_queue_stand(waits in proptest::collection::vec(0_u64..=10, 1..200)) {
            let (mut codel, mut now) = (Codel::default(), 1_000);
            for wait in waits {
                codel.look(Some(ms(now)), ms(now), &BOUNDS);
                now += wait;
                proptest::prop_assert!(!codel.look(Some(ms(now)), ms(now), &BOUNDS));
            }
        }
    }
}
