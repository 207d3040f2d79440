//! The windows against a model that keeps every call.

use std::time::Duration;

use mainstay::{
    time::Tick,
    window::{CountWindow, Counts, Kind, Seat, TimeWindow},
};
use proptest::prelude::*;

const KINDS: [Kind; 4] = [Kind::Success, Kind::Failure, Kind::SlowSuccess, Kind::SlowFailure];

fn add(counts: &mut Counts, kind: Kind) {
    match kind {
        Kind::Success => counts.success += 1,
        Kind::Failure => counts.failure += 1,
        Kind::SlowSuccess => counts.slow_success += 1,
        Kind::SlowFailure => counts.slow_failure += 1,
    }
}

/// All calls with the number of their bucket, in the order of their recording.
#[derive(Default)]
struct Model {
    calls: Vec<(u64, Kind)>,
    newest: u64,
}

impl Model {
    fn record(&mut self, bucket: u64, kind: Kind) {
        self.newest = self.newest.max(bucket);
        self.calls.push((self.newest, kind));
    }

    fn counts(&self, bucket: u64, buckets: u64) -> Counts {
        let newest = self.newest.max(bucket);
        let mut counts = Counts::default();
        self.calls.iter().filter(|(b, _)| b + buckets > newest).for_each(|(_, kind)| add(&mut counts, *kind));
        counts
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record(usize, u64),
    Pass(u64),
    Back(u64),
    Advance,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4_usize, 1..5_u64).prop_map(|(kind, times)| Step::Record(kind, times)),
        4 => (0..3_000_u64).prop_map(Step::Pass),
        1 => prop_oneof![Just(1_u64 << 24), Just(1 << 33), Just(1 << 45)].prop_map(Step::Pass),
        1 => any::<u32>().prop_map(|micros| Step::Pass(micros.into())),
        1 => (0..5_000_u64).prop_map(Step::Back),
        1 => Just(Step::Advance),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_time_window_counts_what_the_model_counts(
        steps in steps(),
        buckets in 1..40_u32,
        seat in prop_oneof![Just(Seat::numbered(0)), Just(Seat::SHARED)],
        width in prop_oneof![1..5_u64, 50..200_u64, Just(86_400_000_000_u64)],
    ) {
        let window = TimeWindow::with_seats(Duration::from_micros(width * u64::from(buckets)), buckets, 1);
        let (mut model, mut epoch, mut now, mut latest, mut began) = (Model::default(), 0, 0_u64, 0_u64, 0);
        let bucket = |now: u64| now / width;
        let at = |now: u64| Tick::from_nanos(now * 1_000);
        for step in steps {
            latest = latest.max(now);
            match step {
                Step::Record(kind, times) => for _ in 0..times {
                    prop_assert!(window.record_in(seat, at(now), epoch, KINDS[kind]));
                    model.record(bucket(now), KINDS[kind]);
                },
                Step::Pass(micros) => now = (now + micros).min(1 << 50),
                Step::Back(micros) => now = now.saturating_sub(micros).max(began),
                Step::Advance => {
                    // The clock does not run back behind the beginning of an epoch.
                    now = now.max(latest);
                    began = now;
                    epoch += 1;
                    window.advance(epoch);
                    prop_assert!(!window.record_in(seat, at(now), epoch - 1, Kind::Failure));
                    // An empty window has no newest bucket but the present one.
                    model = Model::default();
                }
            }
            if model.calls.is_empty() {
                prop_assert_eq!(window.counts(at(now)), Counts::default());
            } else {
                prop_assert_eq!(window.counts(at(now)), model.counts(bucket(now), buckets.into()));
            }
        }
    }

    #[test]
    fn a_count_window_counts_what_the_model_counts(
        kinds in proptest::collection::vec(0..4_usize, 1..600),
        seat in prop_oneof![Just(Seat::numbered(0)), Just(Seat::SHARED)],
        size in 1..300_usize,
        clear_at in 0..600_usize,
    ) {
        let window = CountWindow::with_seats(size, 1);
        let mut model = Vec::new();
        let mut epoch = 0;
        for (i, kind) in kinds.into_iter().enumerate() {
            if i == clear_at {
                epoch += 1;
                window.advance_in(seat, epoch);
                prop_assert!(!window.record_in(seat, epoch - 1, Kind::Failure));
                model.clear();
            }
            prop_assert!(window.record_in(seat, epoch, KINDS[kind]));
            model.push(KINDS[kind]);
            let mut expected = Counts::default();
            model.iter().rev().take(size).for_each(|kind| add(&mut expected, *kind));
            prop_assert_eq!(window.counts(), expected);
        }
    }
}

#[test]
fn windows_from_a_millisecond_to_days_hold_what_they_should() {
    for length in [1, 10, 1_000, 60_000, 86_400_000, 7 * 86_400_000].map(Duration::from_millis) {
        let window = TimeWindow::new(length, 10);
        let step = length / 10;
        let at = |n: u32| Tick::default() + step * n;
        (0..10).for_each(|n| {
            window.record(at(n), 0, Kind::Success);
        });
        for gone in 0..=10 {
            assert_eq!(window.counts(at(9 + gone)).calls(), u64::from(10 - gone), "{length:?}");
        }
        assert_eq!(window.length(), length);
    }
}

#[test]
fn threads_lose_nothing() {
    let time = TimeWindow::new(Duration::from_secs(10), 10);
    let count = CountWindow::new(1_000_000);
    std::thread::scope(|scope| {
        for n in 0..8_u64 {
            let (time, count) = (&time, &count);
            scope.spawn(move || {
                for i in 0..50_000 {
                    let kind = KINDS[(i % 4) as usize];
                    time.record(Tick::from_nanos(i * 20_000 + n), 0, kind);
                    count.record(0, kind);
                }
            });
        }
    });
    let each = 8 * 50_000 / 4;
    let all = Counts { success: each, failure: each, slow_success: each, slow_failure: each };
    assert_eq!(time.counts(Tick::from_nanos(1_000_000_000)), all);
    assert_eq!(count.counts(), all);
}
