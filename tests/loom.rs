//! The windows, the retry budget, the tallies of an adaptive limit and the places of a bulkhead under loom, which tries
//! every order of their atomic operations: `RUSTFLAGS="--cfg mainstay_loom" cargo test --release --test loom`.

#![cfg(mainstay_loom)]
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use loom::{
    sync::{Arc, Mutex},
    thread,
};
use mainstay::{
    bulkhead::{Join, Places, Take},
    concurrency::{Sum, Tallies},
    retry::{Budget, BudgetConfig},
    time::{Moment, Tick},
    window::{CountWindow, Counts, Kind, Seat, TimeWindow},
};

fn model(run: impl Fn() + Sync + Send + 'static) {
    model_of(3, run);
}

/// With so many interruptions of a thread at most. Two for models of three threads, which take minutes with more.
fn model_of(interruptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(run);
}

fn at(bucket: u64) -> Tick {
    Tick::from_nanos(bucket * 1_000_000)
}

fn time_window(buckets: u32) -> Arc<TimeWindow> {
    Arc::new(TimeWindow::with_seats(Duration::from_millis(buckets.into()), buckets, 1))
}

const OWNER: Seat = Seat::numbered(0);

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

/// So many hundredths of a retry for each call, and one thread that counts alone.
fn budget(hundredths: u32, cap: u32) -> Budget {
    let settings = BudgetConfig::new().ratio(f64::from(hundredths) / 100.0).min_per_second(0).cap(cap);
    Budget::with_seats(settings, 1, Tick::default())
}

fn withdraw(budget: &Budget) -> u64 {
    u64::from(budget.withdraw_at(&mut Moment::from(Tick::default())))
}

fn withdraw_all(budget: &Budget) -> u64 {
    (0..).take_while(|_| withdraw(budget) == 1).count() as u64
}

#[test]
fn budget_no_deposit_is_lost_and_no_retry_is_given_twice() {
    model(|| {
        let budget = budget(50, 9);
        let other = budget.clone();
        let thread = thread::spawn(move || {
            other.deposit_in(Seat::SHARED);
            other.deposit_in(Seat::SHARED);
            let taken = withdraw(&other);
            other.deposit_in(Seat::SHARED);
            taken
        });
        budget.deposit_in(OWNER);
        let taken = withdraw(&budget);
        let taken = taken + thread.join().unwrap();
        assert_eq!(taken + withdraw_all(&budget), 2, "four calls pay for two retries");
    });
}

#[test]
fn budget_the_last_retry_is_given_once() {
    model(|| {
        let budget = budget(100, 9);
        budget.deposit_in(OWNER);
        let other = budget.clone();
        let thread = thread::spawn(move || withdraw(&other));
        let taken = withdraw(&budget);
        assert_eq!(taken + thread.join().unwrap(), 1);
        assert_eq!(withdraw_all(&budget), 0);
    });
}

#[test]
fn budget_what_is_given_back_can_be_taken_again_and_the_cap_holds() {
    model(|| {
        let budget = budget(100, 1);
        (0..3).for_each(|_| budget.deposit_in(OWNER));
        let other = budget.clone();
        let thread = thread::spawn(move || {
            let reserved = other.reserve();
            let taken = u64::from(reserved.is_some());
            drop(reserved);
            other.deposit_in(Seat::SHARED);
            taken
        });
        let taken = withdraw(&budget);
        assert!(taken + thread.join().unwrap() >= 1);
        // One retry is saved of the three calls before, and the fourth call pays for one more, unless the cap was full.
        let left = withdraw_all(&budget);
        assert!(left <= 1 && taken + left >= 1, "{taken} taken, {left} left");
    });
}

fn close(tallies: &Tallies) -> Vec<u64> {
    let mut sum = Sum::default();
    tallies.close(&mut sum);
    assert!(sum.latencies.len() <= sum.calls as usize && sum.dropped <= sum.calls);
    assert!(sum.calls == 0 || (1..=9).contains(&sum.in_flight), "{sum:?}");
    sum.latencies
}

#[test]
fn tallies_a_closer_sees_latencies_that_were_and_none_twice() {
    for seats in [[OWNER, Seat::SHARED], [Seat::SHARED, Seat::SHARED]] {
        model(move || {
            let tallies = Arc::new(Tallies::with_seats(1));
            // What is left of a window before.
            for seat in seats {
                (0..2).for_each(|_| tallies.add_in(seat, Some(8), 9));
            }
            close(&tallies);
            // The closer is a thread of its own, because loom tries its reads against what was written before, and
            // not a write against what was read before.
            let (closing, writing) = (Arc::clone(&tallies), Arc::clone(&tallies));
            let closer = thread::spawn(move || close(&closing));
            let writer = thread::spawn(move || writing.add_in(seats[1], Some(3), 9));
            tallies.add_in(seats[0], Some(1), 9);
            tallies.add_in(seats[0], Some(2), 9);
            writer.join().unwrap();
            let mut seen = closer.join().unwrap();
            seen.extend(close(&tallies));
            seen.sort_unstable();
            assert!(seen.iter().all(|latency| (1..=3).contains(latency)), "{seen:?}");
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
            // Nothing is on its way any more: a window that is closed leaves nothing to the next.
            assert_eq!(close(&tallies), []);
            tallies.add_in(OWNER, Some(5), 1);
            assert_eq!(close(&tallies), [5]);
        });
    }
}

#[test]
fn tallies_without_a_closer_an_owner_loses_nothing() {
    model(|| {
        let tallies = Arc::new(Tallies::with_seats(1));
        let other = Arc::clone(&tallies);
        let thread = thread::spawn(move || other.add_in(Seat::SHARED, Some(3), 9));
        tallies.add_in(OWNER, Some(1), 2);
        tallies.add_in(OWNER, None, 3);
        thread.join().unwrap();
        let mut sum = Sum::default();
        tallies.close(&mut sum);
        assert_eq!((sum.calls, sum.dropped, sum.in_flight, sum.latencies), (3, 1, 9, vec![1, 3]));
    });
}

/// Places with the lock that is the queue's in a bulkhead, and a count of those in use that loom knows nothing of.
struct Bulkhead {
    places: Places,
    lock: Mutex<()>,
    room: u32,
    in_use: AtomicU32,
}

/// A lane of its own, and the one that is shared; a thread takes `batch` places at once for its lane.
fn bulkhead(room: u32, batch: u32) -> Arc<Bulkhead> {
    let places = Places::with_seats(8 * batch, 1);
    Arc::new(Bulkhead { places, lock: Mutex::new(()), room, in_use: AtomicU32::new(0) })
}

impl Bulkhead {
    fn took(&self) {
        assert!(self.in_use.fetch_add(1, SeqCst) < self.room, "more in use than there are");
    }

    fn take(&self, seat: Seat) -> bool {
        loop {
            match self.places.take_in(seat, self.room) {
                Take::Taken => {
                    self.took();
                    return true;
                }
                Take::Full | Take::Behind => return false,
                Take::Stray => self.handed(self.places.give_to_word(1)),
                Take::Unswept => {
                    let _lock = self.lock.lock().unwrap();
                    self.places.sweep();
                }
            }
        }
    }

    fn give(&self, seat: Seat) {
        self.in_use.fetch_sub(1, SeqCst);
        self.handed(self.places.give_in(seat));
    }

    fn handed(&self, left: u32) {
        if left > 0 {
            let _lock = self.lock.lock().unwrap();
            self.places.hand_back(left);
            while self.places.waiting() > 0 && self.places.taken() < self.room {
                self.places.grant();
                self.took();
            }
        }
    }

    /// A place at once, or one in the queue.
    fn take_or_join(&self) -> Join {
        let _lock = self.lock.lock().unwrap();
        loop {
            match self.places.take_or_join(self.room, 1) {
                Join::Took => {
                    self.took();
                    return Join::Took;
                }
                Join::Unswept => self.places.sweep(),
                other => return other,
            }
        }
    }

    /// Nothing is in use; all can be taken, from any seat, and no more.
    fn is_whole(&self) {
        assert_eq!((self.in_use.load(SeqCst), self.places.running(), self.places.waiting()), (0, 0, 0));
        for seat in [OWNER, Seat::SHARED] {
            assert_eq!((0..=self.room).filter(|_| self.take(seat)).count(), self.room as usize);
            (0..self.room).for_each(|_| self.give(seat));
        }
        assert_eq!(self.places.running(), 0);
    }
}

#[test]
fn bulkhead_as_many_places_as_threads_are_enough() {
    for (room, batch, seats) in
        [(2, 1, [OWNER, Seat::SHARED]), (2, 1, [Seat::SHARED, Seat::SHARED]), (3, 2, [OWNER, Seat::SHARED])]
    {
        model(move || {
            let bulkhead = bulkhead(room, batch);
            // Some are held all the time: a place for each thread is left.
            (2..room).for_each(|_| assert!(bulkhead.take(OWNER)));
            let other = Arc::clone(&bulkhead);
            let thread = thread::spawn(move || {
                for _ in 0..2 {
                    assert!(other.take(seats[1]), "turned away, and a place was free");
                    other.give(seats[1]);
                }
            });
            assert!(bulkhead.take(seats[0]), "turned away, and a place was free");
            bulkhead.give(seats[0]);
            thread.join().unwrap();
            (2..room).for_each(|_| bulkhead.give(Seat::SHARED));
            bulkhead.is_whole();
        });
    }
}

#[test]
fn bulkhead_no_more_are_in_use_than_there_are_and_none_is_lost() {
    model_of(2, || {
        let bulkhead = bulkhead(1, 1);
        let worker = |seat: Seat| {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                if bulkhead.take(seat) {
                    bulkhead.give(seat);
                }
            })
        };
        let (one, two) = (worker(Seat::SHARED), worker(OWNER));
        if bulkhead.take(OWNER) {
            bulkhead.give(Seat::SHARED);
        }
        one.join().unwrap();
        two.join().unwrap();
        bulkhead.is_whole();
    });
}

#[test]
fn bulkhead_a_lane_that_overflows_keeps_no_place_from_another_thread() {
    for batch in [1, 2] {
        model(move || {
            // The lane is full, one place is held, and one is left in the word.
            let bulkhead = bulkhead(2 * batch + 2, batch);
            (0..=2 * batch).for_each(|_| assert!(bulkhead.take(OWNER)));
            (0..2 * batch).for_each(|_| bulkhead.give(OWNER));
            let other = Arc::clone(&bulkhead);
            let thread = thread::spawn(move || {
                let all = 2 * batch + 1;
                (0..all).for_each(|_| assert!(other.take(Seat::SHARED), "turned away, and a place was free"));
                (0..all).for_each(|_| other.give(Seat::SHARED));
            });
            bulkhead.give(OWNER);
            thread.join().unwrap();
            bulkhead.is_whole();
        });
    }
}

#[test]
fn bulkhead_who_waits_is_served() {
    model_of(2, || {
        let bulkhead = bulkhead(1, 1);
        assert!(bulkhead.take(OWNER));
        let (giving, taking) = (Arc::clone(&bulkhead), Arc::clone(&bulkhead));
        let gives = thread::spawn(move || giving.give(OWNER));
        let takes = thread::spawn(move || {
            if taking.take(OWNER) {
                taking.give(OWNER);
            }
        });
        assert_ne!(bulkhead.take_or_join(), Join::TurnedAway);
        gives.join().unwrap();
        takes.join().unwrap();
        assert_eq!((bulkhead.places.waiting(), bulkhead.in_use.load(SeqCst)), (0, 1));
        bulkhead.give(OWNER);
        bulkhead.is_whole();
    });
}

#[test]
fn bulkhead_other_limits_lose_no_place() {
    model(|| {
        let bulkhead = bulkhead(2, 1);
        assert!(bulkhead.take(OWNER));
        let other = Arc::clone(&bulkhead);
        let thread = thread::spawn(move || {
            assert!(other.take(Seat::SHARED), "turned away, and a place was free");
            other.give(OWNER);
        });
        {
            let _lock = bulkhead.lock.lock().unwrap();
            bulkhead.places.set(2, true);
        }
        bulkhead.give(OWNER);
        thread.join().unwrap();
        bulkhead.is_whole();
    });
}
