//! When a circuit opens: the pure rule.

use crate::{observe::Cause, settings::Ratio, window::Counts};

/// What a window must not reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub(super) failure_rate: Option<Ratio>,
    pub(super) slow_rate: Option<Ratio>,
    pub(super) minimum_calls: u64,
    pub(super) consecutive_failures: Option<u64>,
}

impl Thresholds {
    /// Every reason to open, the first one first. Rates are compared in integers, and reaching one is enough.
    pub(super) fn reached(&self, counts: &Counts, failures_in_a_row: u64) -> impl Iterator<Item = Cause> + use<> {
        let enough = counts.calls() >= self.minimum_calls;
        let rate = |ratio: Option<Ratio>, part| enough && ratio.is_some_and(|r| r.reached_by(part, counts.calls()));
        let reasons = [
            (self.consecutive_failures.is_some_and(|most| failures_in_a_row >= most), Cause::ConsecutiveFailures),
            (rate(self.failure_rate, counts.failures()), Cause::FailureRate),
            (rate(self.slow_rate, counts.slow()), Cause::SlowRate),
        ];
        reasons.into_iter().filter_map(|(reached, cause)| reached.then_some(cause))
    }

    /// Whether a success, or the mere passing of time, can reach a threshold with what the window holds now.
    pub(super) fn pending(&self, counts: &Counts) -> Pending {
        let by_rate = |ratio: Option<Ratio>, part| ratio.is_some() && part > 0;
        if !by_rate(self.failure_rate, counts.failures()) && !by_rate(self.slow_rate, counts.slow()) {
            Pending::No
        } else if counts.calls() < self.minimum_calls {
            Pending::NextCall
        } else {
            Pending::NextSlide
        }
    }
}

/// When to look at the thresholds again if nothing but successes comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// Not before something fails: nothing in the window counts against the service.
    No,
    /// At the next call: it may complete the minimum.
    NextCall,
    /// When old calls drop out of the window: the failures' share may grow.
    NextSlide,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(success: u64, failure: u64, slow_success: u64) -> Counts {
        Counts { success, failure, slow_success, slow_failure: 0 }
    }

    fn first(thresholds: &Thresholds, counts: Counts, in_a_row: u64) -> Option<Cause> {
        thresholds.reached(&counts, in_a_row).next()
    }

    #[test]
    fn cb_35_ratio_and_minimum_throughput() {
        for (calls, failures, minimum, trips) in
            [(10, 0, 10, false), (10, 1, 10, true), (10, 2, 10, true), (11, 3, 10, true), (9, 1, 10, false)]
        {
            let rule =
                Thresholds { failure_rate: Some(Ratio::of(0.1)), minimum_calls: minimum, ..Thresholds::default() };
            let reached = first(&rule, counts(calls - failures, failures, 0), 0);
            assert_eq!(reached, trips.then_some(Cause::FailureRate), "{failures} of {calls}");
        }
    }

    #[test]
    fn cb_48_g_consecutive_comes_first_when_both_are_reached() {
        let rule = Thresholds {
            failure_rate: Some(Ratio::of(0.8)),
            slow_rate: Some(Ratio::of(0.1)),
            minimum_calls: 1,
            consecutive_failures: Some(3),
        };
        let all: Vec<Cause> = rule.reached(&counts(0, 3, 1), 3).collect();
        assert_eq!(all, [Cause::ConsecutiveFailures, Cause::SlowRate]);
        assert_eq!(first(&rule, counts(0, 4, 0), 2), Some(Cause::FailureRate));
    }

    #[test]
    fn successes_matter_only_while_something_counts_against_the_service() {
        let rule = Thresholds { failure_rate: Some(Ratio::of(0.5)), minimum_calls: 5, ..Thresholds::default() };
        assert_eq!(rule.pending(&counts(100, 0, 0)), Pending::No);
        assert_eq!(rule.pending(&counts(0, 0, 3)), Pending::No);
        assert_eq!(rule.pending(&counts(1, 3, 0)), Pending::NextCall);
        assert_eq!(rule.pending(&counts(4, 3, 0)), Pending::NextSlide);
    }
}
