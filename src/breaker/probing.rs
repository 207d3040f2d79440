//! What happens while a circuit is half-open: the pure rule.
//!
//! A probe holds a place for a limited time. The rejected design is a counter of places: a probe that never reports,
//! for it hangs or was forgotten, then keeps its place for ever, and with the last place the circuit is wedged.

use std::time::Duration;

use crate::{
    settings::Ratio,
    time::Tick,
    window::{Counts, Kind},
};

/// How probes decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeRules {
    /// At most this many run at a time; with a failure rate, so many results decide.
    pub(super) probes: u32,
    /// So many successes close the circuit, unless a failure rate decides.
    pub(super) close_after: u32,
    /// The rate of failures among the results that opens the circuit again; without it, one failure does.
    pub(super) failure_rate: Option<Ratio>,
    /// The rate of slow calls among the results that opens the circuit again.
    pub(super) slow_rate: Option<Ratio>,
    /// After this long without a report, the place of a probe is given to the next call.
    pub(super) lease: Duration,
}

/// The probes of one half-open period.
#[derive(Debug, Default)]
pub(super) struct Probing {
    running: Vec<Probe>,
    next: u32,
    results: Counts,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u32,
    since: Tick,
}

/// What the report of a probe leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The place was given to another call before.
    TooLate,
    /// More results are needed.
    Undecided,
    /// The service is well.
    Close,
    /// It is not.
    Reopen,
}

impl Probing {
    pub(super) fn restart(&mut self) {
        self.running.clear();
        self.results = Counts::default();
    }

    pub(super) fn results(&self) -> Counts {
        self.results
    }

    pub(super) fn running(&self) -> u32 {
        self.running.len() as u32
    }

    /// Takes a place for a probe. Ids start at 1.
    pub(super) fn take(&mut self, now: Tick, rules: &ProbeRules) -> Option<u32> {
        if !self.has_place(now, rules) {
            return None;
        }
        self.running.retain(|probe| !overdue(probe, now, rules));
        self.next = self.next.checked_add(1).unwrap_or(1);
        self.running.push(Probe { id: self.next, since: now });
        Some(self.next)
    }

    /// Whether there is a place: below the limit, and for a result that can still matter.
    pub(super) fn has_place(&self, now: Tick, rules: &ProbeRules) -> bool {
        let running = self.running.iter().filter(|probe| !overdue(probe, now, rules)).count() as u64;
        let (done, needed) = match rules.failure_rate {
            Some(_) => (self.results.calls(), rules.probes),
            None => (self.results.successes(), rules.close_after),
        };
        running < u64::from(rules.probes) && running + done < u64::from(needed)
    }

    /// When a place is taken back at the latest.
    pub(super) fn next_place(&self, rules: &ProbeRules) -> Tick {
        let oldest = self.running.iter().map(|probe| probe.since).min();
        oldest.map_or(Tick::NEVER, |since| since + rules.lease)
    }

    /// Whether a probe still has its place.
    pub(super) fn holds(&self, id: u32) -> bool {
        self.running.iter().any(|probe| probe.id == id)
    }

    /// A probe ended without a result. Whether it still had its place.
    pub(super) fn give_back(&mut self, id: u32) -> bool {
        let place = self.running.iter().position(|probe| probe.id == id);
        place.map(|place| self.running.swap_remove(place)).is_some()
    }

    /// A probe has a result.
    pub(super) fn report(&mut self, id: u32, kind: Kind, rules: &ProbeRules) -> Decision {
        if !self.give_back(id) {
            return Decision::TooLate;
        }
        match kind {
            Kind::Success => self.results.success += 1,
            Kind::Failure => self.results.failure += 1,
            Kind::SlowSuccess => self.results.slow_success += 1,
            Kind::SlowFailure => self.results.slow_failure += 1,
        }
        self.decision(rules)
    }

    /// What the results that are in lead to: asked for after each, and when the rules change, for no place is given
    /// to a call whose result can change nothing.
    pub(super) fn decision(&self, rules: &ProbeRules) -> Decision {
        let reached = |ratio: Option<Ratio>, part| ratio.is_some_and(|r| r.reached_by(part, self.results.calls()));
        let needed = if rules.failure_rate.is_some() { rules.probes } else { rules.close_after };
        if rules.failure_rate.is_none() && self.results.failures() > 0 {
            Decision::Reopen
        } else if self.results.calls() < u64::from(needed) {
            Decision::Undecided
        } else if reached(rules.failure_rate, self.results.failures()) || reached(rules.slow_rate, self.results.slow())
        {
            Decision::Reopen
        } else {
            Decision::Close
        }
    }
}

fn overdue(probe: &Probe, now: Tick, rules: &ProbeRules) -> bool {
    now >= probe.since + rules.lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ProbeRules =
        ProbeRules { probes: 3, close_after: 3, failure_rate: None, slow_rate: None, lease: Duration::from_secs(1) };

    fn second(n: u64) -> Tick {
        Tick::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn no_more_probes_run_than_can_still_matter() {
        let mut probing = Probing::default();
        let first = probing.take(second(0), &RULES).unwrap();
        assert_eq!(probing.report(first, Kind::Success, &RULES), Decision::Undecided);
        assert!(probing.take(second(0), &RULES).is_some());
        assert!(probing.take(second(0), &RULES).is_some());
        assert_eq!(probing.take(second(0), &RULES), None);
    }

    #[test]
    fn a_place_is_taken_back_after_its_time_and_its_report_comes_too_late() {
        let mut probing = Probing::default();
        let hung: Vec<u32> = (0..3).filter_map(|_| probing.take(second(0), &RULES)).collect();
        assert_eq!(hung.len(), 3);
        assert_eq!(probing.next_place(&RULES), second(1));
        assert_eq!(probing.take(second(1) - Duration::from_nanos(1), &RULES), None);
        assert!(probing.take(second(1), &RULES).is_some());
        assert_eq!(probing.report(hung[0], Kind::Failure, &RULES), Decision::TooLate);
        assert_eq!(probing.running(), 1);
    }

    #[test]
    fn with_a_rate_exactly_so_many_results_decide() {
        let rules = ProbeRules { probes: 4, failure_rate: Some(Ratio::of(0.5)), ..RULES };
        for (failures, decision) in [(1, Decision::Close), (2, Decision::Reopen), (4, Decision::Reopen)] {
            let mut probing = Probing::default();
            let ids: Vec<u32> = (0..4).filter_map(|_| probing.take(second(0), &rules)).collect();
            assert_eq!(probing.take(second(0), &rules), None);
            let mut last = Decision::Undecided;
            for (i, id) in ids.into_iter().enumerate() {
                assert_eq!(last, Decision::Undecided);
                last = probing.report(id, Kind::of(i < failures, false), &rules);
            }
            assert_eq!(last, decision, "{failures} failures");
        }
    }

    #[test]
    fn slow_probes_count_to_the_slow_rate_once_the_results_are_in() {
        let rules = ProbeRules { slow_rate: Some(Ratio::of(0.5)), ..RULES };
        let mut probing = Probing::default();
        let mut run = |kind| {
            let id = probing.take(second(0), &rules).unwrap();
            probing.report(id, kind, &rules)
        };
        assert_eq!(run(Kind::SlowSuccess), Decision::Undecided);
        assert_eq!(run(Kind::Success), Decision::Undecided);
        assert_eq!(run(Kind::SlowSuccess), Decision::Reopen);
    }
}
