//! Permits taken by hand, and what is told with them.

use mainstay::{
    Outcome, breaker, bulkhead, concurrency, load_shed,
    load_shed::{Config, Snapshot, Throttle},
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
    let limit = concurrency::Handle::new("x", concurrency::Config::aimd().initial(5).floor(1).ceiling(5));
    let permits: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
    assert_eq!((permits.len(), limit.snapshot().in_flight), (5, 5));
    for (number, permit) in permits.into_iter().enumerate() {
        match number {
            0 => permit.success(),
            1 => permit.dropped(),
            2 => permit.failure(),
            3 => permit.record(Outcome::Ignored),
            _ => drop(permit),
        }
        assert_eq!(limit.snapshot().in_flight, 4 - number as u32);
    }
}

#[test]
fn a_function_that_panics_in_its_place_leaves_it() {
    let bulkhead = bulkhead::Handle::new("x", bulkhead::Config::new(1));
    assert!(panics(|| drop(bulkhead.call(|| -> Result<(), Boom> { panic!("in the function") }))));
    assert_eq!(bulkhead.running(), 0);
    assert_eq!(bulkhead.call(|| Ok::<_, Boom>(7)), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn the_share_that_a_throttle_turns_away_is_told_and_follows_the_settings() {
    let throttle = Throttle::new().k(1.5).min_requests(50).cap(0.9);
    let shedder = load_shed::Handle::new("x", Config::new().throttle(throttle));
    let permits: Vec<_> = (0..49).map(|_| shedder.try_acquire().unwrap()).collect();
    assert_eq!(shedder.snapshot().throttled, 0.0);
    permits.into_iter().for_each(load_shed::Permit::failure);
    assert_eq!(shedder.snapshot().throttled, 0.0, "too few to say anything");
    shedder.try_acquire().unwrap().failure();
    assert!((shedder.snapshot().throttled - 0.9).abs() < 1e-9, "the cap: {:?}", shedder.snapshot());
    shedder.reconfigure(Config::new().throttle(throttle.min_requests(51))).unwrap();
    assert_eq!(shedder.snapshot().throttled, 0.0);
    shedder.reconfigure(Config::new().throttle(throttle.min_requests(50).cap(0.5))).unwrap();
    assert!((shedder.snapshot().throttled - 0.5).abs() < 1e-9);
    shedder.reconfigure(Config::new().throttle(throttle.min_requests(1_000))).unwrap();
    (0..30).for_each(|_| shedder.try_acquire().unwrap().success());
    shedder.reconfigure(Config::new().throttle(throttle.min_requests(1))).unwrap();
    let Snapshot { requests, accepts, throttled, .. } = shedder.snapshot();
    assert_eq!(accepts, 30);
    let share = (requests as f64 - 1.5 * 30.0) / (requests as f64 + 1.0);
    assert!((throttled - share).abs() < 1e-9 && throttled > 0.0, "{throttled}, {share}");
    shedder.reconfigure(Config::new().in_flight(7)).unwrap();
    assert_eq!(shedder.snapshot().throttled, 0.0, "there is none");
}

#[test]
fn all_that_was_shed_is_the_sum_of_the_causes() {
    let places = load_shed::Handle::new("x", Config::new().in_flight(1));
    let held = places.try_acquire().unwrap();
    (0..3).for_each(|_| assert!(places.try_acquire().is_err()));
    drop(held);
    let mut shed = places.snapshot().shed;
    assert_eq!((shed.in_flight, shed.total()), (3, 3));
    (shed.queue_delay, shed.throttle, shed.not_ready) = (50, 700, 11_000);
    assert_eq!(shed.total(), 11_753);
}

/// Changes the limit it is asked for while it is asked.
#[derive(Debug, Clone)]
struct Usurped(std::sync::Arc<std::sync::OnceLock<concurrency::Handle>>);

impl concurrency::Algorithm for Usurped {
    fn next_limit(&mut self, _: f64, _: &concurrency::Sample) -> f64 {
        if let Some(limit) = self.0.get() {
            limit.reconfigure(concurrency::Config::aimd().initial(5).floor(1).ceiling(100)).unwrap();
        }
        2.0
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_algorithm_says_that_was_replaced_while_it_was_asked_counts_no_more() {
    let handle = std::sync::Arc::default();
    let config = concurrency::Config::custom(Usurped(std::sync::Arc::clone(&handle)));
    let limit = concurrency::Handle::new("x", config.initial(7).floor(1).ceiling(100).window(ms(10)).min_calls(1));
    let _ = handle.set(limit.clone());
    let permit = limit.try_acquire().unwrap();
    advance(ms(20)).await;
    permit.success();
    assert_eq!(limit.snapshot().limit, 7, "as it was, and not 2");
}

#[test]
fn a_sample_of_one_dropped_call_is_that() {
    let sample = concurrency::Sample::dropped(3);
    assert_eq!((sample.in_flight, sample.calls, sample.dropped, sample.overloaded), (3, 1, 1, true));
    assert_eq!(sample.latency, None);
}

#[test]
fn an_algorithm_of_ones_own_is_written_as_that_and_read_by_nobody() {
    let config = concurrency::Config::custom(Usurped(std::sync::Arc::default()));
    let written = serde_json::to_value(config).unwrap();
    assert_eq!(written["kind"], "custom");
    assert!(serde_json::from_value::<concurrency::Config>(written).is_err());
}

/// Counts how often it is asked.
#[derive(Clone, Default)]
struct Asked(std::rc::Rc<std::cell::Cell<u32>>);

impl tower::Service<u32> for Asked {
    type Response = u32;
    type Error = mainstay::Error<Boom>;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.set(self.0.get() + 1);
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        std::future::ready(Ok(n))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_once_for_a_call_that_is_let_in_and_for_one_that_waits() {
    use tower::{Layer, Service, ServiceExt};
    let bulkhead = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(1));
    let asked = Asked::default();
    let mut service = bulkhead::BulkheadLayer::new(bulkhead.clone()).queued().layer(asked.clone());
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
    assert_eq!(asked.0.get(), 1);
    let permit = bulkhead.try_acquire().unwrap();
    let waits = service.ready().await.unwrap().call(2);
    assert_eq!((asked.0.get(), bulkhead.snapshot().waiting), (2, 1));
    drop(permit);
    assert_eq!(waits.await, Ok(2));
    let mut plain = bulkhead::BulkheadLayer::new(bulkhead).layer(asked.clone());
    assert_eq!(plain.ready().await.unwrap().call(3).await, Ok(3));
    assert_eq!(asked.0.get(), 3);
}
