//! When a success has to look at the thresholds: hardly ever.
//!
//! A success can open a circuit, by completing the minimum of calls, or because old successes dropped out of the
//! window. But it need not add up the window each time: while nothing in it counts against the service, or nothing has
//! dropped out since somebody looked, nothing can have changed. So whoever looks writes down when it is due again, and
//! a success compares that with the time.

use crate::{
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
    time::Tick,
};

/// The time of the next review, in steps of 2^16 ns, and in the lower 16 bits a number that changes with every failure
/// and every change of the settings, so that the note of who looked before does not replace theirs.
#[derive(Debug)]
pub(super) struct Review(AtomicU64);

const STEP: u32 = 16;

/// What a success read before it looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen(u64);

impl Seen {
    /// Whether a review may be due at all; if not, the clock need not be read.
    #[inline]
    pub(super) fn may_be_due(self) -> bool {
        self.0 >> STEP != u64::MAX >> STEP
    }

    #[inline]
    pub(super) fn is_due(self, now: Tick) -> bool {
        now.as_nanos() >> STEP >= self.0 >> STEP
    }
}

impl Review {
    pub(super) fn new(due: Tick) -> Self {
        Self(AtomicU64::new(due.as_nanos()))
    }

    #[inline]
    pub(super) fn seen(&self) -> Seen {
        Seen(self.0.load(Relaxed))
    }

    /// The note of a success: it counts unless something failed since `seen`.
    pub(super) fn note(&self, seen: Seen, due: Tick) {
        let word = due.as_nanos() >> STEP << STEP | seen.0 & ((1 << STEP) - 1);
        let _ = self.0.compare_exchange(seen.0, word, AcqRel, Relaxed);
    }

    /// The note of a failure: it stands, unless somebody else has noted an earlier time since `seen`. That may be one
    /// who has changed the settings while this one looked with those of before.
    pub(super) fn note_failure(&self, seen: Seen, due: Tick) {
        self.write(|now| if now == seen.0 { due } else { due.min(time(now)) });
    }

    /// The note of who has changed more than the counts.
    pub(super) fn set(&self, due: Tick) {
        self.write(|_| due);
    }

    fn write(&self, due: impl Fn(u64) -> Tick) {
        let word = |now: u64| due(now).as_nanos() >> STEP << STEP | now.wrapping_add(1) & ((1 << STEP) - 1);
        let _ = self.0.fetch_update(AcqRel, Relaxed, |now| Some(word(now)));
    }
}

/// What a word says, in full steps.
fn time(word: u64) -> Tick {
    Tick::from_nanos(word >> STEP << STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_not_forgotten_by_a_success_that_looked_before() {
        let review = Review::new(Tick::NEVER);
        assert!(!review.seen().may_be_due());
        let before = review.seen();
        review.note_failure(before, Tick::from_nanos(0));
        review.note(before, Tick::NEVER);
        assert!(review.seen().is_due(Tick::from_nanos(0)));
        review.note(review.seen(), Tick::NEVER);
        assert!(!review.seen().may_be_due());
    }

    #[test]
    fn a_failure_that_looked_before_the_settings_changed_does_not_put_off_their_review() {
        let review = Review::new(Tick::NEVER);
        let before = review.seen();
        review.set(Tick::default());
        review.note_failure(before, Tick::NEVER);
        assert!(review.seen().is_due(Tick::default()));
        review.note_failure(review.seen(), Tick::NEVER);
        assert!(!review.seen().may_be_due());
    }

    #[test]
    fn a_review_is_due_at_its_time_and_not_a_step_before() {
        let review = Review::new(Tick::NEVER);
        let due = Tick::from_nanos(1 << 30);
        review.set(due);
        assert!(review.seen().may_be_due());
        assert!(!review.seen().is_due(Tick::from_nanos((1 << 30) - (1 << STEP))));
        assert!(review.seen().is_due(due));
    }

    /// A time of so many full steps.
    fn step(n: u64) -> Tick {
        Tick::from_nanos(n << STEP)
    }

    #[test]
    fn what_is_noted_is_due_at_its_time_whatever_was_noted_before() {
        for (before, due) in [(0b1111, 0b1010_0000), (0b1010_0001, 0b0101_0000), (0xffff_ffff, 2)] {
            let review = Review::new(step(before));
            let is_due_at = |due| {
                assert!(!review.seen().is_due(step(due - 1)), "{due:b} after {before:b}");
                assert!(review.seen().is_due(step(due)), "{due:b} after {before:b}");
            };
            is_due_at(before);
            review.note(review.seen(), step(due));
            is_due_at(due);
            review.set(step(before));
            is_due_at(before);
            review.note_failure(review.seen(), step(due));
            is_due_at(due);
        }
    }

    #[test]
    fn of_a_failure_and_who_was_quicker_the_earlier_time_stands() {
        for (theirs, ours) in [(0b1010_0000, 0b1_0000_0101), (0b1_0000_0101, 0b1010_0000)] {
            let review = Review::new(Tick::NEVER);
            let seen = review.seen();
            review.set(step(theirs));
            review.note_failure(seen, step(ours));
            let due = theirs.min(ours);
            assert!(!review.seen().is_due(step(due - 1)) && review.seen().is_due(step(due)), "{theirs} {ours}");
        }
    }

    #[test]
    fn a_note_of_a_success_changes_no_number_of_failures() {
        let review = Review::new(step(1));
        review.set(step(1));
        let before = review.seen();
        review.note(before, step(1));
        assert_eq!(review.seen().0, before.0);
        review.set(step(1));
        assert_ne!(review.seen().0, before.0);
    }
}
