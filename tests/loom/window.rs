//! The sliding windows: a lane with one owner, a lane that is shared, and the epochs that a reset begins.

use std::time::Duration;

use loom::{sync::Arc, thread};
use mainstay::{
    time::Tick,
    window::{CountWindow, Counts, Kind, Seat, TimeWindow},
};

use crate::support::{OWNER, model};

fn at(bucket: u64) -> Tick {
    Tick::from_nanos(bucket * 1_000_000)
}

fn time_window(buckets: u32) -> Arc<TimeWindow> {
    Arc::new(TimeWindow::with_seats(Duration::from_millis(buckets.into()), buckets, 1))
}

#[test]
fn time_window_an_owner_and_a_sharer_lose_nothing() {
    model(|| {
        let window = time_window(2);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || {
            assert!(other.record_in(Seat::SHARED, at(0), 0, Kind::Failure));
            assert!(other.record_in(Seat::SHARED, at(1), 0, Kind::Failure));
        });
        assert!(window.record_in(OWNER, at(0), 0, Kind::Success));
        let seen = window.counts(at(1));
        assert!(seen.success == 1 && seen.failure <= 2, "a reader sees its own record and no more than there are");
        thread.join().unwrap();
        assert_eq!(window.counts(at(1)), Counts { success: 1, failure: 2, ..Counts::default() });
    });
}

#[test]
fn time_window_two_sharers_turn_to_a_new_bucket_together() {
    model(|| {
        let window = time_window(1);
        window.record_in(Seat::SHARED, at(0), 0, Kind::Failure);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record_in(Seat::SHARED, at(5), 0, Kind::Success));
        window.record_in(Seat::SHARED, at(5), 0, Kind::Success);
        thread.join().unwrap();
        assert_eq!(window.counts(at(5)), Counts { success: 2, ..Counts::default() });
    });
}

#[test]
fn time_window_no_record_of_an_old_epoch_is_seen_in_a_new_one() {
    for seat in [OWNER, Seat::SHARED] {
        model(move || {
            let window = time_window(2);
            let other = Arc::clone(&window);
            let thread = thread::spawn(move || other.record_in(seat, at(0), 0, Kind::Failure));
            window.advance(1);
            assert_eq!(window.counts(at(0)), Counts::default());
            thread.join().unwrap();
            assert_eq!(window.counts(at(0)), Counts::default());
            assert!(window.record_in(Seat::SHARED, at(0), 1, Kind::Success));
            assert_eq!(window.counts(at(0)), Counts { success: 1, ..Counts::default() });
        });
    }
}

#[test]
fn count_window_two_threads_lose_nothing_and_end_with_no_more_than_the_size() {
    for (seat, size) in [(OWNER, 3), (Seat::SHARED, 2), (OWNER, 2)] {
        model(move || {
            let window = Arc::new(CountWindow::with_seats(size, 1));
            let other = Arc::clone(&window);
            let thread = thread::spawn(move || {
                assert!(other.record_in(seat, 0, Kind::Failure));
            });
            assert!(window.record_in(Seat::SHARED, 0, Kind::Success));
            assert!(window.record_in(Seat::SHARED, 0, Kind::Success));
            // One record may be seen half: its call before the one it replaces is gone.
            assert!(window.counts().calls() <= size as u64 + 1);
            thread.join().unwrap();
            let counts = window.counts();
            assert_eq!(counts.calls(), 3.min(size as u64));
            assert!(counts.failure <= 1);
        });
    }
}

#[test]
fn count_window_no_record_of_an_old_epoch_stays_in_a_new_one() {
    model(|| {
        let window = Arc::new(CountWindow::with_seats(2, 1));
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record_in(OWNER, 0, Kind::Failure));
        window.advance_in(Seat::SHARED, 1);
        thread.join().unwrap();
        assert_eq!(window.counts(), Counts::default());
        assert!(window.record_in(Seat::SHARED, 1, Kind::Success));
        assert_eq!(window.counts(), Counts { success: 1, ..Counts::default() });
    });
}

#[test]
fn time_window_two_sharers_enter_a_new_epoch_together() {
    model(|| {
        let window = time_window(2);
        window.record_in(Seat::SHARED, at(3), 0, Kind::Failure);
        window.advance(1);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || assert!(other.record_in(Seat::SHARED, at(3), 1, Kind::Success)));
        assert!(window.record_in(Seat::SHARED, at(3), 1, Kind::Success));
        thread.join().unwrap();
        assert_eq!(window.counts(at(3)), Counts { success: 2, ..Counts::default() });
        assert_eq!(window.counts(at(5)), Counts::default());
    });
}

#[test]
fn time_window_a_sharer_that_clears_old_buckets_leaves_newer_ones() {
    model(|| {
        let window = time_window(1);
        window.record_in(Seat::SHARED, at(0), 0, Kind::Failure);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || assert!(other.record_in(Seat::SHARED, at(6), 0, Kind::Success)));
        window.record_in(Seat::SHARED, at(5), 0, Kind::Success);
        thread.join().unwrap();
        assert!(window.counts(at(6)).success >= 1, "the call in the last bucket counts");
    });
}
