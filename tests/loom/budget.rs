//! The retry budget.

use loom::thread;
use mainstay::{
    retry::{Budget, BudgetConfig},
    time::{Moment, Tick},
    window::Seat,
};

use crate::support::{OWNER, model};

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
