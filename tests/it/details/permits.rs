//! Permits taken by hand, and what is told with them.

use mainstay::{
    Outcome, breaker, concurrency, load_shed,
    load_shed::{Config, Throttle},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_circuits_permit_takes_a_result_an_outcome_or_nothing() {
    let breaker = breaker::Handle::new("x", breaker::Config::new());
    breaker.acquire().unwrap().record_result(&Ok::<_, Boom>(1));
    breaker.acquire().unwrap().record_result(&Err::<u32, _>(Boom));
    breaker.acquire().unwrap().record_result(&Err::<u32, _>(Boom));
    breaker.acquire().unwrap().record(Outcome::Ignored);
    breaker.acquire().unwrap().failure_with_retry_after(ms(1));
    drop(breaker.acquire().unwrap());
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.success, totals.calls.failure, totals.ignored, totals.cancelled), (1, 3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_hears_of_permits_that_fail_and_of_those_that_do_not() {
    let throttle = Throttle::new().k(1.5).min_requests(10);
    let shedder = load_shed::Handle::new("x", Config::new().in_flight(100).throttle(throttle));
    let calls = |how: fn(load_shed::Permit)| (0..100).filter(|_| shedder.try_acquire().map(how).is_ok()).count();
    assert_eq!(calls(load_shed::Permit::success), 100, "what succeeds is not throttled");
    assert_eq!(calls(|permit| permit.record(Outcome::Ignored)), 100, "nor what says nothing");
    let failing = calls(load_shed::Permit::failure);
    assert!(failing < 100, "of a hundred failures some are not made: {failing}");
    assert!(shedder.snapshot().shed.throttle > 0);
    assert_eq!(shedder.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limits_permit_counts_until_it_ends_however_it_does() {
    let limit = concurrency::Handle::new("x", concurrency::Config::aimd().initial(4).floor(1).ceiling(4));
    let permits: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
    assert_eq!((permits.len(), limit.snapshot().in_flight), (4, 4));
    for (number, permit) in permits.into_iter().enumerate() {
        match number {
            0 => permit.success(),
            1 => permit.dropped(),
            2 => permit.failure(),
            _ => drop(permit),
        }
        assert_eq!(limit.snapshot().in_flight, 3 - number as u32);
    }
}
