//! Which instances are worse than the others, and how long they are left alone. The pure rules.

use std::time::Duration;

use serde::Serialize;

use crate::{
    observe::EjectionCause,
    settings::Ratio,
    time::{Tick, nanos},
};

/// What the calls to one instance came to since the last sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Period {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

impl Period {
    fn success_rate(self) -> f64 {
        1.0 - self.failures as f64 / self.calls as f64
    }
}

/// The thresholds of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rules {
    /// How many standard deviations below the mean an outlier is; none when success rates are not compared.
    pub(super) deviations: Option<f64>,
    /// Nobody who does as well as this is an outlier.
    pub(super) floor: f64,
    /// From this share of failures on an instance is an outlier, whatever the others do.
    pub(super) failure_rate: Option<f64>,
    /// So many instances must have enough calls.
    pub(super) min_instances: u32,
    /// So many calls are enough.
    pub(super) min_calls: u64,
}

/// What the success rates of a set come to, in parts of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    pub(super) mean: f64,
    pub(super) deviation: f64,
    /// Who is below this is an outlier.
    pub(super) threshold: f64,
}

/// Rates that differ by no more are equal: so much a mean of equal ones may differ from them.
const NOISE: f64 = 1e-9;

/// The mean of some rates, and what lies so many standard deviations below it; none of nothing.
pub(super) fn bar(rates: &[f64], deviations: f64) -> Option<Bar> {
    if rates.is_empty() {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let deviation = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count).sqrt();
    Some(Bar { mean, deviation, threshold: mean - deviations * deviation })
}

impl Rules {
    /// The outliers by their place in the list, the worst first.
    pub(super) fn outliers(&self, periods: &[Period]) -> Vec<(usize, EjectionCause)> {
        let enough = |period: &Period| period.calls > 0 && period.calls >= self.min_calls;
        let judged: Vec<(usize, Period)> =
            periods.iter().copied().enumerate().filter(|(_, period)| enough(period)).collect();
        if judged.len() < self.min_instances as usize {
            return Vec::new();
        }
        let rates: Vec<f64> = judged.iter().map(|(_, period)| period.success_rate()).collect();
        let threshold = self.deviations.and_then(|deviations| bar(&rates, deviations)).map(|bar| bar.threshold);
        let failure_rate = self.failure_rate.map(Ratio::of);
        let cause = |period: &Period| {
            let rate = period.success_rate();
            if threshold.is_some_and(|threshold| rate < threshold - NOISE && rate < self.floor) {
                return Some(EjectionCause::SuccessRate);
            }
            let reached = failure_rate.is_some_and(|rate| rate.reached_by(period.failures, period.calls));
            reached.then_some(EjectionCause::FailureRate)
        };
        let mut outliers: Vec<(usize, f64, EjectionCause)> = judged
            .iter()
            .filter_map(|(at, period)| cause(period).map(|cause| (*at, period.success_rate(), cause)))
            .collect();
        outliers.sort_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
        outliers.into_iter().map(|(at, _, cause)| (at, cause)).collect()
    }
}

/// Whether one more may be ejected of so many members that take calls, of which so many are ejected: always one, and
/// from then on up to a share of them, and never the last.
pub(super) fn may_eject(members: usize, ejected: usize, most: f64) -> bool {
    let next = ejected as u64 + 1;
    let most = Ratio::of(most);
    let share = u128::from(next) * u128::from(most.whole().get());
    let within = next == 1 || share <= members as u128 * u128::from(most.part());
    within && next < members as u64
}

/// How long an ejection lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) base: Duration,
    pub(super) cap: Duration,
    pub(super) jitter: Duration,
}

impl Terms {
    /// The time of the n-th ejection; `random` is from 0 up to but not including 1.
    pub(super) fn time(&self, ejections: u32, random: f64) -> Duration {
        let grown = self.base.saturating_mul(ejections.max(1)).min(self.cap.max(self.base));
        // In whole milliseconds, both ends included.
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let jitter = (random * most as f64) as u64;
        grown.saturating_add(Duration::from_millis(if self.jitter.is_zero() { 0 } else { jitter }))
    }
}

/// When the next sweep is due after settings have changed: the new interval counts from the last sweep.
pub(super) fn next_sweep(last: Tick, interval: Duration) -> Tick {
    Tick::from_nanos(last.as_nanos().saturating_add(nanos(interval)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { deviations: Some(1.9), floor: 0.9, failure_rate: None, min_instances: 5, min_calls: 100 };

    fn periods(of: &[(u64, u64)]) -> Vec<Period> {
        of.iter().map(|(calls, failures)| Period { calls: *calls, failures: *failures }).collect()
    }

    #[test]
    fn od_06_success_rate_by_standard_deviation() {
        let found = bar(&[0.5, 1.0, 1.0, 1.0, 1.0], 1.9).unwrap();
        assert!((found.mean - 0.9).abs() < 1e-9 && (found.threshold - 0.52).abs() < 1e-9, "{found:?}");
        let good = (200, 0);
        let one_bad = periods(&[good, good, good, good, (400, 200)]);
        assert_eq!(RULES.outliers(&one_bad), [(4, EjectionCause::SuccessRate)]);
        let too_few = periods(&[good, good, good, good, (50, 25)]);
        assert_eq!(RULES.outliers(&too_few), []);
    }

    #[test]
    fn od_15_the_deviation_is_that_of_the_whole_population() {
        let found = bar(&[600.0, 470.0, 170.0, 430.0, 300.0], 1.0).unwrap();
        assert_eq!((found.mean, found.deviation), (394.0, 147.322_774_885_623_18));
        let second = Duration::from_secs(1);
        assert_eq!(next_sweep(Tick::default(), second * 9).since(Tick::default() + second * 5), second * 4);
    }

    #[test]
    fn who_does_well_enough_is_no_outlier_however_well_the_others_do() {
        let nearly_all = [(1_000, 0); 20].iter().copied().chain([(1_000, 1)]).collect::<Vec<_>>();
        assert_eq!(RULES.outliers(&periods(&nearly_all)), []);
        let bare = Rules { floor: 1.0, ..RULES };
        assert_eq!(bare.outliers(&periods(&nearly_all)), [(20, EjectionCause::SuccessRate)], "without the floor it is");
    }

    #[test]
    fn od_08_failure_percentage() {
        let rules = Rules { deviations: None, failure_rate: Some(0.85), min_calls: 50, ..RULES };
        let set = periods(&[(50, 0), (50, 0), (50, 0), (300, 250), (350, 300)]);
        assert_eq!(rules.outliers(&set), [(4, EjectionCause::FailureRate)]);
        let exactly = periods(&[(100, 0), (100, 0), (100, 0), (100, 84), (100, 85)]);
        assert_eq!(rules.outliers(&exactly), [(4, EjectionCause::FailureRate)], "the threshold itself is reached");
    }

    #[test]
    fn od_10_and_od_12_nothing_to_divide_and_too_little_to_judge() {
        let none = Rules { min_instances: 0, min_calls: 0, failure_rate: Some(0.1), ..RULES };
        assert_eq!(none.outliers(&[]), []);
        assert_eq!(none.outliers(&periods(&[(0, 0), (0, 0)])), []);
        assert_eq!(bar(&[], 1.9), None);
        let rules = Rules { min_calls: 20, failure_rate: Some(0.5), ..RULES };
        let set = |bad| periods(&[(20, 0), (20, 0), (20, 0), (20, 0), (20, 0), (bad, bad)]);
        assert_eq!(rules.outliers(&set(19)), []);
        assert_eq!(rules.outliers(&set(20)).len(), 1);
        assert_eq!(rules.outliers(&set(20)[..4]), [], "too few instances");
        assert_eq!(Rules { min_calls: 100, ..rules }.outliers(&set(20)), []);
    }

    #[test]
    fn who_had_no_calls_says_nothing_of_the_others() {
        let rules = Rules { min_calls: 0, ..RULES };
        let (good, none) = ((10, 0), (0, 0));
        let set = periods(&[none, good, good, good, good, (10, 10), none]);
        assert_eq!(rules.outliers(&set), [(5, EjectionCause::SuccessRate)]);
        assert_eq!(rules.outliers(&set[2..]), [], "only four of these had any");
    }

    #[test]
    fn who_is_at_the_floor_does_well_enough() {
        let bad = |failures| periods(&[&[(100, 0); 9][..], &[(100, failures)]].concat());
        assert_eq!(RULES.outliers(&bad(10)), []);
        assert_eq!(RULES.outliers(&bad(11)), [(9, EjectionCause::SuccessRate)]);
    }

    #[test]
    fn who_is_no_worse_than_the_others_is_no_outlier() {
        let rules = Rules { floor: 1.0, deviations: Some(0.1), ..RULES };
        for failures in [1, 7, 33, 99] {
            assert_eq!(rules.outliers(&periods(&[(100, failures); 9])), [], "{failures}");
        }
        let half = periods(&[(100, 50), (100, 50), (100, 50), (100, 40), (100, 60)]);
        assert_eq!(rules.outliers(&half), [(4, EjectionCause::SuccessRate)]);
    }

    #[test]
    fn od_13_both_rules_together() {
        let rules =
            Rules { deviations: Some(1.0), floor: 0.9, failure_rate: Some(0.01), min_instances: 1, min_calls: 1 };
        let set = periods(&[(20, 20), (20, 20), (1, 1), (20, 0), (20, 0)]);
        let mut found: Vec<usize> = rules.outliers(&set).into_iter().map(|(at, _)| at).collect();
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2]);
    }

    #[test]
    fn among_equals_there_is_no_outlier() {
        for deviations in [0.1, 0.5, 1.0, 1.9] {
            let rules = Rules { deviations: Some(deviations), floor: 1.0, ..RULES };
            for (members, failures) in (5..200).flat_map(|members| (1..100).map(move |failures| (members, failures))) {
                let set = vec![Period { calls: 100, failures }; members];
                assert_eq!(rules.outliers(&set), [], "{members} with {failures} failures each at {deviations}");
            }
        }
    }

    #[test]
    fn the_worst_come_first() {
        let rules = Rules { deviations: None, failure_rate: Some(0.1), ..RULES };
        let set = periods(&[(100, 20), (100, 90), (100, 0), (100, 50), (100, 0)]);
        let found: Vec<usize> = rules.outliers(&set).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, [1, 3, 0]);
    }

    #[test]
    fn a_cap_on_how_many_are_ejected() {
        for (members, ejected, most, may) in [
            (10, 0, 0.1, true),
            (10, 1, 0.1, false),
            (20, 1, 0.1, true),
            (20, 2, 0.1, false),
            (2, 0, 0.0, true),
            (2, 1, 1.0, false),
            (1, 0, 1.0, false),
            (0, 0, 1.0, false),
            (3, 1, 1.0, true),
            (3, 2, 1.0, false),
            (100, 28, 0.29, true),
            (100, 29, 0.29, false),
            (100, 57, 0.58, true),
        ] {
            assert_eq!(may_eject(members, ejected, most), may, "{ejected} of {members}, {most}");
        }
    }

    #[test]
    fn od_04_maximum_ejection_time() {
        let second = Duration::from_secs(1);
        let terms = |base, cap| Terms { base: second * base, cap: second * cap, jitter: Duration::ZERO };
        for n in 1..=39 {
            assert_eq!(terms(10, 300).time(n, 0.9), second * (10 * n).min(300));
        }
        // The source looks at times on its sweeps only, where 305 becomes 310.
        assert_eq!(terms(10, 305).time(31, 0.9), second * 305);
        assert_eq!(terms(400, 300).time(5, 0.9), second * 400);
        assert_eq!(terms(30, 300).time(u32::MAX, 0.0), second * 300);
    }

    #[test]
    fn od_05_ejection_jitter() {
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
        let terms = Terms { base: second * 30, cap: second * 300, jitter: second * 10 };
        assert_eq!(terms.time(1, 4_445.5 / 10_001.0), second * 30 + ms * 4_445);
        assert_eq!(terms.time(1, 0.0), second * 30);
        assert_eq!(terms.time(1, 1.0 - f64::EPSILON), second * 40);
        assert_eq!(Terms { jitter: Duration::ZERO, ..terms }.time(1, 0.99), second * 30);
    }

    proptest::proptest! {
        #[test]
        fn only_who_has_failed_is_an_outlier(
            calls in proptest::collection::vec((0_u64..400, 0_u64..400), 0..30),
            deviations in 0.0..4.0_f64,
            failure_rate in 0.01..1.0_f64,
        ) {
            let period = |(calls, failures): &(u64, u64)| Period { calls: *calls, failures: *failures.min(calls) };
            let set: Vec<Period> = calls.iter().map(period).collect();
            let rules = Rules { deviations: Some(deviations), failure_rate: Some(failure_rate), ..RULES };
            let found = rules.outliers(&set);
            proptest::prop_assert!(found.iter().all(|(at, _)| set[*at].failures > 0 && set[*at].calls >= 100));
            let mut places: Vec<usize> = found.iter().map(|(at, _)| *at).collect();
            places.sort_unstable();
            places.dedup();
            proptest::prop_assert_eq!(places.len(), found.len());
        }
    }
}
