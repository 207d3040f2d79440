//! Conformance: sliding windows. Time is an argument, so these need no clock.
//!
//! A window here counts calls and keeps no durations; the sums and averages that some scenarios give are left aside.

use std::time::Duration;

use mainstay::{
    time::Tick,
    window::{CountWindow, Counts, Kind, TimeWindow},
};

/// Scenarios that need what mainstay does not have.
pub(crate) const LEFT_OUT: &[(&str, &str)] =
    &[("WIN-12", "a moving average with a half-life in place of a window; windows here count exactly")];

const S: Kind = Kind::Success;
const F: Kind = Kind::Failure;
const SS: Kind = Kind::SlowSuccess;
const SF: Kind = Kind::SlowFailure;

fn ms(n: u64) -> Tick {
    Tick::from_nanos(n * 1_000_000)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Calls, successes, failures.
fn tally(counts: Counts) -> (u64, u64, u64) {
    (counts.calls(), counts.successes(), counts.failures())
}

fn record(window: &TimeWindow, at: Tick, kinds: &[Kind]) {
    for kind in kinds {
        assert!(window.record(at, 0, *kind));
    }
}

#[test]
fn win_01_the_oldest_call_leaves_a_count_window() {
    let window = CountWindow::new(4);
    let mut seen = Vec::new();
    for kind in [F, S, S, S, S] {
        assert!(window.record(0, kind));
        seen.push((tally(window.counts()), window.counts().failure_rate()));
    }
    let expected = [
        ((1, 0, 1), Some(1.0)),
        ((2, 1, 1), Some(0.5)),
        ((3, 2, 1), Some(1.0 / 3.0)),
        ((4, 3, 1), Some(0.25)),
        ((4, 4, 0), Some(0.0)),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn win_02_slow_calls_leave_a_count_window_too() {
    let window = CountWindow::new(2);
    let mut seen = Vec::new();
    for kind in [SF, SS, S, S, S] {
        assert!(window.record(0, kind));
        let counts = window.counts();
        seen.push((tally(counts), counts.slow(), counts.slow_failure));
    }
    let expected = [((1, 0, 1), 1, 1), ((2, 1, 1), 2, 1), ((2, 2, 0), 1, 0), ((2, 2, 0), 0, 0), ((2, 2, 0), 0, 0)];
    assert_eq!(seen, expected);
}

#[test]
fn win_03_slow_share_in_both_windows() {
    let (last_five, last_seconds) = (CountWindow::new(5), TimeWindow::new(seconds(5), 5));
    for kind in [SS, SF, S, S, S] {
        assert!(last_five.record(0, kind));
        assert!(last_seconds.record(ms(100), 0, kind));
    }
    for counts in [last_five.counts(), last_seconds.counts(ms(100))] {
        assert_eq!(tally(counts), (5, 4, 1));
        assert_eq!((counts.slow(), counts.slow_success, counts.slow_failure), (2, 1, 1));
        assert_eq!(counts.slow_rate(), Some(0.4));
    }
}

#[test]
fn win_04_a_time_window_of_whole_seconds() {
    let window = TimeWindow::new(seconds(5), 5);
    record(&window, ms(0), &[F]);
    record(&window, ms(100), &[S]);
    assert_eq!(tally(window.counts(ms(100))), (2, 1, 1));
    record(&window, ms(800), &[SF]);
    assert_eq!(tally(window.counts(ms(800))), (3, 1, 2));
    assert_eq!(window.counts(ms(800)).slow(), 1);
    assert_eq!(tally(window.counts(ms(4_800))), (3, 1, 2));
    assert_eq!(window.counts(ms(5_800)), Counts::default());
    record(&window, ms(5_900), &[S]);
    assert_eq!(tally(window.counts(ms(5_900))), (1, 1, 0));
    record(&window, ms(10_900), &[S]);
    assert_eq!(tally(window.counts(ms(10_900))), (1, 1, 0));
}

#[test]
fn win_05_a_time_window_slides_bucket_by_bucket() {
    let window = TimeWindow::new(seconds(5), 5);
    record(&window, ms(0), &[F]);
    record(&window, ms(100), &[S]);
    record(&window, ms(200), &[S]);
    assert_eq!(tally(window.counts(ms(200))), (3, 2, 1));
    let steps = [
        (1_200, S, (4, 3, 1)),
        (2_200, S, (5, 4, 1)),
        (3_200, F, (6, 4, 2)),
        (4_200, S, (7, 5, 2)),
        // The first bucket drops out whole: a failure and two successes.
        (5_200, S, (5, 4, 1)),
        (6_200, S, (5, 4, 1)),
        (11_200, S, (1, 1, 0)),
    ];
    for (at, kind, expected) in steps {
        record(&window, ms(at), &[kind]);
        assert_eq!(tally(window.counts(ms(at))), expected, "at {at} ms");
    }
}

/// Throughput, failure rate and failures.
fn health(window: &TimeWindow, at: Tick) -> (u64, f64, u64) {
    let counts = window.counts(at);
    (counts.calls(), counts.failure_rate().unwrap_or_default(), counts.failures())
}

#[test]
fn win_08_ten_sub_windows_roll() {
    let window = TimeWindow::new(seconds(10), 10);
    let mut seen = Vec::new();
    for i in 0..5 {
        let second = if i < 2 { F } else { S };
        record(&window, ms(i * 2_000), &[S, second]);
        seen.push(health(&window, ms((i + 1) * 2_000)));
    }
    assert_eq!([seen[0], seen[1], seen[3], seen[4]], [(2, 0.5, 1), (4, 0.5, 2), (8, 0.25, 2), (8, 0.125, 1)]);
    assert_eq!(health(&window, ms(12_000)), (6, 0.0, 0));
}

#[test]
fn win_08_the_capacity_is_ten_sub_windows_with_the_present_one() {
    let window = TimeWindow::new(seconds(10), 10);
    (0..10).for_each(|i| record(&window, ms(i * 1_000), &[S]));
    assert_eq!(window.counts(ms(10_000)).calls(), 9);
    assert_eq!(window.counts(ms(11_000)).calls(), 8);
    for end in [10_000, 10_001] {
        let window = TimeWindow::new(seconds(10), 10);
        record(&window, ms(0), &[S, S]);
        assert_eq!(health(&window, ms(end)), (0, 0.0, 0));
    }
}

// How many sub-windows there are is a setting here, and does not hang on the length.
#[test]
fn win_08_a_single_sub_window_drops_everything_at_once() {
    let window = TimeWindow::new(Duration::from_millis(199), 1);
    record(&window, ms(0), &[S]);
    record(&window, ms(198), &[F]);
    assert_eq!(window.counts(ms(198)).calls(), 2);
    assert_eq!(window.counts(ms(199)).calls(), 0);
}

#[test]
fn win_09_a_count_window_of_a_hundred() {
    let window = CountWindow::new(100);
    for i in 0..50 {
        assert!(window.record(0, if i % 3 == 0 { S } else { F }));
    }
    assert_eq!(tally(window.counts()), (50, 17, 33));
    (0..100).for_each(|_| assert!(window.record(0, S)));
    assert_eq!(tally(window.counts()), (100, 100, 0));
}

/// Requests and successes.
fn requests(window: &TimeWindow, at: Tick) -> (u64, u64) {
    let counts = window.counts(at);
    (counts.calls(), counts.successes())
}

#[test]
fn win_13_an_admission_window_of_five_seconds() {
    let window = TimeWindow::new(seconds(5), 5);
    record(&window, ms(0), &[F]);
    assert_eq!(requests(&window, ms(0)), (1, 0));
    record(&window, ms(0), &[S]);
    assert_eq!(requests(&window, ms(0)), (2, 1));

    let window = TimeWindow::new(seconds(5), 5);
    (0..=5).for_each(|second| record(&window, ms(second * 1_000), &[S]));
    assert_eq!(requests(&window, ms(5_000)), (5, 5), "the oldest is gone");
    let idle = seconds(24 * 60 * 60);
    assert_eq!(requests(&window, ms(5_000) + idle), (0, 0));
}

#[test]
fn win_13_whole_requests_per_second() {
    let window = TimeWindow::new(seconds(5), 5);
    let per_second = |at| window.counts(at).calls() / window.length().as_secs();
    record(&window, ms(0), &[S, S]);
    assert_eq!(per_second(ms(0)), 0);
    record(&window, ms(0), &[S, S, S]);
    assert_eq!(per_second(ms(0)), 1);
    assert_eq!(per_second(ms(5_000)), 0);
}
