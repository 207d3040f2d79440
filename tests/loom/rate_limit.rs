//! The one word of a rate limit.

use std::{task::Poll, time::Duration};

use loom::thread;
use mainstay::rate_limit::{Config, Handle};

use crate::support::{at_second, model, poll_once};

/// So long that no timer that waits for it rings.
const DAYS: u64 = 100 * 24 * 60 * 60;

fn per_hundred_days(burst: u32) -> Config {
    Config::new(1, Duration::from_secs(DAYS)).burst(burst)
}

fn take(limit: &Handle) -> u32 {
    u32::from(limit.try_acquire().is_ok())
}

#[test]
fn rate_limit_a_burst_is_let_through_once() {
    for burst in [1, 2, 3] {
        model(move || {
            let limit = Handle::new("x", per_hundred_days(burst));
            let taker = || {
                let limit = limit.clone();
                thread::spawn(move || take(&limit))
            };
            let (one, two) = (taker(), taker());
            let taken = take(&limit) + one.join().unwrap() + two.join().unwrap();
            assert_eq!((taken, limit.snapshot().rejected), (burst, u64::from(3 - burst)));
            assert_eq!(limit.snapshot().available, 0);
        });
    }
}

#[test]
fn rate_limit_many_at_once_are_all_let_through_or_none() {
    model(|| {
        let limit = Handle::new("x", per_hundred_days(3));
        let taker = |cost: u32| {
            let limit = limit.clone();
            thread::spawn(move || if limit.try_acquire_many(cost).is_ok() { u64::from(cost) } else { 0 })
        };
        let (one, two) = (taker(2), taker(2));
        let taken = u64::from(take(&limit));
        let taken = taken + one.join().unwrap() + two.join().unwrap();
        assert!(taken == 2 || taken == 3, "{taken}");
        assert_eq!(limit.snapshot().available, 3 - taken);
    });
}

#[test]
fn rate_limit_a_turn_that_is_given_back_is_there_for_the_next() {
    model(|| {
        let limit = Handle::new("x", per_hundred_days(1).max_wait(Duration::from_secs(DAYS)));
        assert_eq!(take(&limit), 1);
        let mut waits = limit.acquire();
        assert!(poll_once(&mut waits).is_pending());
        let other = limit.clone();
        let taking = thread::spawn(move || {
            at_second(DAYS);
            take(&other)
        });
        // Its turn would be at the same time.
        drop(waits);
        let taken = taking.join().unwrap();
        at_second(DAYS);
        assert_eq!(limit.snapshot().available, u64::from(1 - taken));
        assert_eq!(take(&limit), 1 - taken);
    });
}

#[test]
fn rate_limit_turns_are_one_after_the_other_and_none_is_lost() {
    model(|| {
        let limit = Handle::new("x", per_hundred_days(1).max_wait(Duration::from_secs(3 * DAYS)));
        let waiter = || {
            let limit = limit.clone();
            thread::spawn(move || {
                let mut turn = limit.acquire();
                let waits = poll_once(&mut turn).is_pending();
                drop(turn);
                waits
            })
        };
        let (one, two) = (waiter(), waiter());
        let mut kept = limit.acquire();
        let now = !poll_once(&mut kept).is_pending();
        let waited = u64::from(one.join().unwrap()) + u64::from(two.join().unwrap()) + u64::from(!now);
        assert_eq!((waited, limit.snapshot().waited), (2, 2), "one of three is at once");
        // Of those that gave their turns back nothing is left, except the one that was let in.
        drop(kept);
        assert_eq!(take(&limit), 0);
        at_second(DAYS);
        assert_eq!(limit.snapshot().available, 1);
    });
}

#[test]
fn rate_limit_other_settings_let_through_no_more_than_the_larger_burst() {
    model(|| {
        let limit = Handle::new("x", per_hundred_days(1));
        let taker = || {
            let limit = limit.clone();
            thread::spawn(move || take(&limit))
        };
        let (one, two) = (taker(), taker());
        limit.reconfigure(per_hundred_days(2)).unwrap();
        let taken = one.join().unwrap() + two.join().unwrap();
        assert!(taken >= 1);
        assert_eq!(limit.snapshot().available, u64::from(2 - taken));
        assert!(matches!(poll_once(&mut limit.acquire()), Poll::Ready(Ok(())) if taken == 1) || taken == 2);
    });
}
