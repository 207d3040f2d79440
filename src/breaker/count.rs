//! How the results of calls are counted, and when the counts are looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    admission::Verdict,
    breaker::{
        core::{Core, Ticket},
        review::Seen,
        trip::Pending,
        word::Word,
    },
    lanes::Seat,
    observe::{Cause, CircuitState, Event, Tally},
    sync::atomic::{Ordering::SeqCst, fence},
    time::{Moment, Tick},
    window::{Counts, Kind},
};

impl Core {
    /// The way of nearly all calls, in one piece: each function more on it would cost as much as what it does.
    pub(super) fn succeed(&self, generation: u64, began: Tick, now: &mut Moment) {
        let ticket = Ticket { generation, began, probe: 0 };
        let took = ticket.took(now);
        let word = Word::new(generation, CircuitState::Closed);
        if self.word() == word && !took.is_some_and(|took| self.limits.is_slow(took)) {
            return self.count_success(word, took, now);
        }
        self.settle_otherwise(&ticket, Verdict::Success, took, now);
    }

    pub(super) fn record(&self, ticket: &Ticket, failed: bool, took: Option<u64>, now: &mut Moment) {
        let kind = Kind::of(failed, took.is_some_and(|took| self.limits.is_slow(took)));
        let word = self.word();
        if word.generation() != ticket.generation {
            self.stale();
        } else if word.counts() {
            self.count(word, kind, took, now);
        } else if word.state() == CircuitState::HalfOpen {
            self.report_probe(ticket, kind, took, now);
        }
    }

    #[cold]
    pub(super) fn stale(&self) {
        self.meter.tally(Tally::Stale);
        self.sink.tell(&self.name, || Event::Stale { policy: self.name.as_str() });
    }

    fn count(&self, word: Word, kind: Kind, took: Option<u64>, now: &mut Moment) {
        if kind == Kind::Success {
            return self.count_success(word, took, now);
        }
        let seat = Seat::here();
        // The window refuses a generation that ended since we looked.
        if !self.window.record_in(seat, now, word.generation(), kind) {
            return self.stale();
        }
        self.measure(seat, kind, took, now);
        self.count_against(word, kind, now);
    }

    #[inline(always)]
    fn count_success(&self, word: Word, took: Option<u64>, now: &mut Moment) {
        let seat = Seat::here();
        if !self.window.record_in(seat, now, word.generation(), Kind::Success) {
            return self.stale();
        }
        self.measure(seat, Kind::Success, took, now);
        self.row.end(word.generation());
        let seen = self.review.seen();
        if seen.may_be_due() && seen.is_due(now.tick()) {
            self.review_success(word, seen, now);
        }
    }

    #[cold]
    fn review_success(&self, word: Word, seen: Seen, now: &mut Moment) {
        if let Some(due) = self.review_thresholds(word, 0, now) {
            self.review.note(seen, due);
        }
    }

    #[inline(always)]
    pub(super) fn measure(&self, seat: Seat, kind: Kind, took: Option<u64>, now: &mut Moment) {
        match took.filter(|_| self.limits.is_measured()) {
            Some(took) => self.meter.measure(seat, kind, (now.tick(), took)),
            None => self.meter.count(seat, kind),
        }
    }

    fn count_against(&self, word: Word, kind: Kind, now: &mut Moment) {
        let in_a_row = match kind {
            Kind::Failure | Kind::SlowFailure => self.row.failed(word.generation()),
            Kind::Success | Kind::SlowSuccess => {
                self.row.end(word.generation());
                0
            }
        };
        let seen = self.review.seen();
        if let Some(due) = self.review_thresholds(word, in_a_row, now) {
            self.review.note_failure(seen, due);
        }
    }

    /// Compares the window with the thresholds. When the next success has to do so, unless the circuit opened.
    fn review_thresholds(&self, word: Word, in_a_row: u64, now: &mut Moment) -> Option<Tick> {
        // Two threads that record at the same time must not both miss what the other has recorded. And who has seen the
        // note of new settings sees those settings too.
        fence(SeqCst);
        let counts = self.window.counts(now);
        let thresholds = self.limits.thresholds();
        let mut reached = thresholds.reached(&counts, in_a_row).next();
        let asks = self.limits.has_predicate();
        if asks && reached.is_none() && self.predicate_says_open(&counts) {
            reached = Some(Cause::Predicate);
        }
        if reached.is_some_and(|cause| self.trip(word, cause, in_a_row, now.tick())) {
            return None;
        }
        Some(match thresholds.pending(&counts) {
            _ if asks => Tick::default(),
            Pending::No => Tick::NEVER,
            Pending::NextCall => Tick::default(),
            Pending::NextSlide => self.window.next_slide(now),
        })
    }

    fn predicate_says_open(&self, counts: &Counts) -> bool {
        // A copy, so that the predicate runs outside the lock.
        let predicate = self.cold.lock().config.predicate.clone();
        let asked = predicate.map(|predicate| catch_unwind(AssertUnwindSafe(|| predicate(counts))));
        asked.is_some_and(|answer| {
            answer.unwrap_or_else(|_| {
                tracing::error!(breaker = self.name.as_str(), "the predicate panicked; the circuit stays as it is");
                false
            })
        })
    }
}
