//! Whether to believe a backend: its errors, and its silence. Pure: time comes in as an argument.

use std::time::Duration;

use crate::time::Tick;

/// What is held back, and until when.
#[derive(Debug)]
pub(super) struct Hold {
    empty_grace: Duration,
    invalidate_after: Option<Duration>,
    empty_until: Tick,
    invalid_at: Tick,
}

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is the truth now.
    Take,
    /// It is empty where it was not before: the known set stays for a while.
    Doubt,
}

/// Whose time has come: the known set goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The backend has answered with nothing for long enough.
    Empty,
    /// The backend has failed for too long.
    Invalid,
}

impl Hold {
    pub(super) const fn new(empty_grace: Duration, invalidate_after: Option<Duration>) -> Self {
        Self { empty_grace, invalidate_after, empty_until: Tick::NEVER, invalid_at: Tick::NEVER }
    }

    /// A whole set came.
    pub(super) fn on_set(&mut self, is_empty: bool, knows_some: bool, now: Tick) -> Answer {
        self.invalid_at = Tick::NEVER;
        if !is_empty || !knows_some || self.empty_grace.is_zero() {
            self.empty_until = Tick::NEVER;
            return Answer::Take;
        }
        // Nothing once more does not begin the wait anew.
        if self.empty_until == Tick::NEVER {
            self.empty_until = now + self.empty_grace;
        }
        Answer::Doubt
    }

    /// A single change came: the backend knows what it says.
    pub(super) fn on_change(&mut self) {
        (self.empty_until, self.invalid_at) = (Tick::NEVER, Tick::NEVER);
    }

    /// The backend failed. A second error keeps the time of the first; an empty answer before it proves nothing any
    /// more.
    pub(super) fn on_error(&mut self, now: Tick) {
        self.empty_until = Tick::NEVER;
        if let Some(after) = self.invalidate_after.filter(|_| self.invalid_at == Tick::NEVER) {
            self.invalid_at = now + after;
        }
    }

    /// What is due, once.
    pub(super) fn due(&mut self, now: Tick) -> Option<Due> {
        if self.next() > now {
            return None;
        }
        let due = if self.empty_until <= now { Due::Empty } else { Due::Invalid };
        self.on_change();
        Some(due)
    }

    pub(super) fn next(&self) -> Tick {
        self.empty_until.min(self.invalid_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Tick {
        Tick::from_nanos(secs * 1_000_000_000)
    }

    fn hold() -> Hold {
        Hold::new(Duration::from_secs(30), Some(Duration::from_secs(100)))
    }

    #[test]
    fn an_empty_answer_is_believed_after_its_grace_and_not_before() {
        let mut hold = hold();
        assert_eq!(hold.on_set(true, false, at(0)), Answer::Take, "there was nothing before");
        assert_eq!(hold.on_set(true, true, at(10)), Answer::Doubt);
        assert_eq!(hold.on_set(true, true, at(20)), Answer::Doubt);
        assert_eq!((hold.due(at(39)), hold.next()), (None, at(40)));
        assert_eq!((hold.due(at(40)), hold.due(at(40))), (Some(Due::Empty), None));
        assert_eq!(hold.on_set(true, true, at(50)), Answer::Doubt);
        assert_eq!(hold.on_set(false, true, at(60)), Answer::Take);
        assert_eq!(hold.due(Tick::from_nanos(u64::MAX - 1)), None);
        let mut none = Hold::new(Duration::ZERO, None);
        assert_eq!(none.on_set(true, true, at(0)), Answer::Take);
    }

    #[test]
    fn an_error_counts_from_the_first_of_a_row_and_ends_with_an_answer() {
        let mut hold = hold();
        hold.on_error(at(0));
        hold.on_error(at(50));
        assert_eq!((hold.due(at(99)), hold.due(at(100)), hold.due(at(100))), (None, Some(Due::Invalid), None));
        hold.on_error(at(200));
        assert_eq!(hold.on_set(true, true, at(250)), Answer::Doubt);
        assert_eq!(hold.next(), at(280), "nothing is an answer too");
        hold.on_error(at(260));
        assert_eq!(hold.next(), at(360), "and proves nothing once the backend fails again");
        hold.on_change();
        assert_eq!(hold.next(), Tick::NEVER);
        let mut patient = Hold::new(Duration::ZERO, None);
        patient.on_error(at(0));
        assert_eq!(patient.next(), Tick::NEVER);
    }
}
