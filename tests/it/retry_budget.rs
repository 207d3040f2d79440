//! The budget: exact, shared, never more than it should be.

use std::{future::ready, thread};

use mainstay::{
    Error,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, RetryLayer},
    time::{Moment, Tick},
    window::Seat,
};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// A share of the calls and nothing else.
fn share(ratio: f64) -> BudgetConfig {
    BudgetConfig::new().ratio(ratio).min_per_second(0).cap(1_000_000)
}

fn withdraw_all(budget: &Budget) -> u64 {
    (0..).take_while(|_| budget.withdraw()).count() as u64
}

/// How many of so many calls that all fail are tried again, as a retry is wanted after each of them.
fn granted(settings: BudgetConfig, calls: u64, each: u64) -> u64 {
    let budget = Budget::new(settings);
    let call = |_| {
        budget.deposit();
        (0..each).filter(|_| budget.withdraw()).count() as u64
    };
    (0..calls).map(call).sum()
}

#[test]
fn a_share_lets_that_share_of_the_calls_through() {
    for (ratio, retries) in [
        (0.0001, 1),
        (0.0002, 2),
        (0.00015, 1),
        (0.001, 10),
        (0.01, 100),
        (0.1, 1_000),
        (0.2, 2_000),
        (0.3, 3_000),
        (1.0 / 3.0, 3_333),
        (0.6, 6_000),
        (2.0 / 3.0, 6_666),
        (0.7, 7_000),
        (0.9999, 9_999),
        (1.0, 10_000),
        (1.1, 11_000),
        (1.5, 15_000),
        (1.9999, 19_999),
        (2.0, 20_000),
        (0.0, 0),
    ] {
        assert_eq!(granted(share(ratio), 10_000, 3), retries, "{ratio}, a retry wanted after each call");
        assert_eq!(granted(share(ratio).cap(100), 10_000, 3), retries, "{ratio}, with the usual cap");
        let budget = Budget::new(share(ratio));
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!(budget.available(), retries, "{ratio}");
        assert_eq!(withdraw_all(&budget), retries, "{ratio}, all retries wanted at the end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_share_is_exact_to_one_over_ten_thousand_calls(ratio in 0.0001..=2.0_f64) {
        let wanted = ratio * 10_000.0;
        for retries in [granted(share(ratio), 10_000, 3), granted(share(ratio).cap(2), 10_000, 3)] {
            prop_assert!((retries as f64 - wanted).abs() <= 1.0, "{retries} of {wanted}");
        }
    }

    #[test]
    fn calls_and_retries_in_any_order_get_what_a_bucket_of_tokens_gives(
        (part, whole) in (0_u128..200, 1_u128..100),
        (cap, rate) in (1_u32..50, 0_u32..50),
        steps in proptest::collection::vec((0_u64..30, 0_u64..30, 0_u64..200), 1..60),
    ) {
        prop_assume!(part <= 10 * whole && part <= whole * u128::from(cap));
        let settings = BudgetConfig::new().ratio(part as f64 / whole as f64).min_per_second(rate).cap(cap);
        let budget = Budget::with_seats(settings, 1, Tick::default());
        // The model counts in the same units, and fills, cuts off and empties a bucket in turn.
        let units = (1..=whole).rev().find(|n| part % n == 0 && whole % n == 0).unwrap_or(1);
        let (part, whole) = (part / units, whole / units);
        let by_time = |millis: u64| u128::from(millis + 1_000) * u128::from(rate) * whole / 1_000;
        let full = (u128::from(cap) + 1) * whole - 1;
        let (mut balance, mut millis) = (by_time(0), 0);
        for (calls, wanted, passed) in steps {
            (0..calls).for_each(|_| budget.deposit_in(Seat::numbered(0)));
            balance += u128::from(calls) * part + by_time(millis + passed) - by_time(millis);
            millis += passed;
            for _ in 0..wanted {
                balance = balance.min(full);
                let granted = budget.withdraw_at(&mut Moment::from(Tick::from_nanos(millis * 1_000_000)));
                prop_assert_eq!(granted, balance >= whole, "{} of {}", balance, whole);
                balance -= if granted { whole } else { 0 };
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_floor_gives_a_second_at_the_start_and_its_rate_from_then_on() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.0).min_per_second(10));
    assert_eq!(withdraw_all(&budget), 10);
    advance(ms(99)).await;
    assert!(!budget.withdraw());
    advance(ms(1)).await;
    assert!(budget.withdraw() && !budget.withdraw());
    advance(ms(1_250)).await;
    assert_eq!(withdraw_all(&budget), 12);
    advance(ms(49)).await;
    assert!(!budget.withdraw());
    advance(ms(1)).await;
    assert_eq!(withdraw_all(&budget), 1);
    advance(ms(86_400_000)).await;
    assert_eq!((budget.available(), withdraw_all(&budget)), (100, 100), "no more than the cap is saved");
}

#[tokio::test(start_paused = true)]
async fn what_is_above_the_cap_is_forgotten() {
    let budget = Budget::new(share(0.5).cap(3));
    (0..1_000).for_each(|_| budget.deposit());
    assert_eq!((budget.available(), withdraw_all(&budget)), (3, 3));
    (0..4).for_each(|_| budget.deposit());
    assert_eq!(withdraw_all(&budget), 2);
}

#[test]
fn a_reservation_that_is_not_spent_goes_back() {
    let budget = Budget::new(share(1.0).cap(2));
    (0..5).for_each(|_| budget.deposit());
    let (first, second) = (budget.reserve().unwrap(), budget.reserve().unwrap());
    assert!(budget.reserve().is_none());
    drop(first);
    assert_eq!(budget.available(), 1);
    second.spend();
    assert_eq!(withdraw_all(&budget), 1);
    let kept = budget.clone();
    assert!(kept.is_same(&budget) && format!("{kept:?}").contains("available: 0"));
}

#[test]
fn threads_lose_no_deposit_and_take_no_more_than_there_is() {
    let budget = Budget::new(share(0.3));
    let taken: u64 = thread::scope(|scope| {
        let work = || {
            let mut taken = 0;
            for _ in 0..20_000 {
                budget.deposit();
                taken += u64::from(budget.withdraw());
            }
            taken
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken + withdraw_all(&budget), 48_000);
}

#[tokio::test(start_paused = true)]
async fn through_a_service_a_budget_of_p_lets_p_of_the_calls_be_tried_again() {
    for (ratio, retries) in [(0.0001, 1), (0.1, 1_000), (0.25, 2_500), (1.0, 10_000), (2.0, 20_000)] {
        let config = Config::new().backoff(Backoff::fixed(ms(0))).budget(share(ratio));
        let retry = Handle::new("x", config);
        let service = RetryLayer::new(retry.clone()).layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
        for _ in 0..10_000 {
            assert!(service.clone().oneshot(1).await.is_err());
        }
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries), (10_000, retries), "{ratio}");
        assert_eq!(snapshot.budget_refused + snapshot.exhausted, 10_000);
    }
}

#[tokio::test(start_paused = true)]
async fn several_retries_share_one_budget_and_each_counts_its_own_calls() {
    let budget = Budget::new(share(0.5));
    let config = || Config::new().attempts(2).backoff(Backoff::fixed(ms(0)));
    let (reads, writes) = (Handle::new("r", config()), Handle::new("w", config()));
    let (reads, writes) = (reads.with_budget(&budget), writes.with_budget(&budget));
    for _ in 0..6 {
        assert_eq!(reads.run(|| ready(Answer::Ok(1))).await, Ok(1));
    }
    for _ in 0..4 {
        assert!(writes.run(|| ready(Answer::Err(Error::Inner(Boom)))).await.is_err());
    }
    let (read, written) = (reads.snapshot(), writes.snapshot());
    assert_eq!((read.calls, written.calls, written.retries, written.budget_refused), (6, 4, 4, 0));
    assert_eq!((read.budget_available, budget.available()), (Some(1), 1), "10 calls paid for 5 retries");
    let free = Handle::new("x", config().no_budget());
    assert!(free.run(|| ready(Answer::Err(Error::Inner(Boom)))).await.is_err());
    assert_eq!((free.snapshot().calls, free.snapshot().budget_available), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_gets_little_more_than_the_calls() {
    // 100 calls a second for ten seconds, all failing, at any number of attempts.
    for attempts in [2, 3, 10, 100] {
        let retry = Handle::new("x", Config::new().attempts(attempts).backoff(Backoff::fixed(ms(0))));
        for _ in 0..1_000 {
            assert!(retry.run(|| ready(Answer::Err(Error::Inner(Boom)))).await.is_err());
            advance(ms(10)).await;
        }
        // A fifth of the calls, ten a second, and the second it began with.
        let retries = retry.snapshot().retries;
        assert!((305..=310).contains(&retries), "{retries} with {attempts} attempts");
    }
}

#[test]
fn a_budget_of_a_file_is_checked_where_it_is_read() {
    for (file, told) in [
        (r#"{"ratio": -1}"#, "budget.ratio = -1: must be 0, or a finite number in 0.0001..=10"),
        (r#"{"ratio": 20}"#, "did you mean 0.2? (percent given)"),
        (r#"{"cap": 0}"#, "budget.cap = 0: must be in 1..=1000000"),
        (r#"{"min_per_second": 1000001}"#, "budget.min_per_second = 1000001: must be in 0..=1000000"),
        (r#"{"share": 0.2}"#, "unknown field `share`"),
    ] {
        let error = serde_json::from_str::<BudgetConfig>(file).unwrap_err().to_string();
        assert!(error.contains(told), "{file}: {error}");
    }
    let read: BudgetConfig = serde_json::from_str(r#"{"ratio": 0.1}"#).unwrap();
    assert_eq!(read, BudgetConfig::new().ratio(0.1));
}
