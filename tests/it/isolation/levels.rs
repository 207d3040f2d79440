//! What each level has, and that switching it keeps what the policies know.

use mainstay::{
    Reason, breaker, bulkhead,
    contract::{Health, HealthStatus, Invocation},
    fallback::Fallback,
    isolation::{Config, Level},
    load_shed, rate_limit, retry,
};
use tokio_test::{assert_pending, task};
use tower::Service;

use super::*;

fn guest() -> Fallbacks {
    Fallbacks::new(Fallback::value("guest".to_owned()))
}

/// Three attempts at once, half a second for an attempt and two for a call.
fn quick() -> Config {
    Config::new()
        .timeout(ms(2_000))
        .attempt_timeout(ms(500))
        .retry(retry::Config::custom(|_| Duration::ZERO).no_budget())
        .breaker(consecutive(4))
        .bulkhead(bulkhead::Config::new(2))
}

#[tokio::test(start_paused = true)]
async fn level_none_is_direct() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails));
    manager.register_with("x", lab.clone(), quick().level(Level::None), guest()).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)), "no fallback");
    assert_eq!(lab.calls(), 1, "no retry");
    lab.set(Mode::Hangs);
    let mut hangs = task::spawn(manager.execute("x", get(), 1));
    assert_pending!(hangs.poll());
    advance(ms(1_000_000)).await;
    assert_pending!(hangs.poll(), "no timeout");
    manager.breaker("x").unwrap().force_open();
    let calls: Vec<_> = (0..10).map(|n| task::spawn(manager.execute("x", get(), n))).collect();
    assert_eq!(manager.info("x").unwrap().in_flight, 11, "no bulkhead and no breaker");
    drop(calls);
    let info = manager.info("x").unwrap();
    assert_eq!((info.calls, info.failed, info.dropped, info.in_flight), (12, 1, 10, 1));
    assert!(info.policies.timeout.is_none() && info.policies.retry.is_none() && info.policies.breaker.is_none());
}

#[tokio::test(start_paused = true)]
async fn level_basic_has_timeout_retry_and_fallback_and_no_more() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails));
    manager.register_with("x", lab.clone(), quick().level(Level::Basic), guest()).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()));
    assert_eq!(lab.calls(), 3);
    lab.set(Mode::Hangs);
    let began = mainstay::time::Tick::now();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()));
    assert_eq!((mainstay::time::Tick::now().since(began), lab.calls()), (ms(1_500), 6));
    manager.breaker("x").unwrap().force_open();
    lab.set(Mode::Answers);
    assert_eq!(manager.execute("x", get(), 1).await, Ok("x:get:1".into()), "no breaker");
    let policies = manager.info("x").unwrap().policies;
    assert!(policies.timeout.is_some() && policies.retry.is_some() && policies.attempt_timeout.is_some());
    assert!(policies.breaker.is_none() && policies.bulkhead.is_none());
    assert!(policies.rate_limit.is_none() && policies.load_shed.is_none());
}

#[tokio::test(start_paused = true)]
async fn level_enhanced_has_a_breaker_too() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails));
    manager.register_with("x", lab.clone(), quick().level(Level::Enhanced), none()).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen);
    assert_eq!(lab.calls(), 4, "the fourth failure opened the circuit");
    let policies = manager.info("x").unwrap().policies;
    assert_eq!(policies.breaker.unwrap().state, breaker::State::Open);
    assert!(policies.bulkhead.is_none() && policies.rate_limit.is_none() && policies.load_shed.is_none());
    manager.update_fallback("x", guest()).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()), "rejections are covered");
    assert_eq!(lab.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn level_full_has_bulkhead_rate_limit_and_load_shed_too() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Hangs));
    let config = quick()
        .rate_limit(rate_limit::Config::new(5, ms(60_000)).burst(5))
        .load_shed(load_shed::Config::new().in_flight(3).shares(1.0, 1.0));
    manager.register_with("x", lab.clone(), config, none()).unwrap();
    let mut two: Vec<_> = (0..2).map(|n| task::spawn(manager.execute("x", get(), n))).collect();
    two.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(reason(manager.execute("x", get(), 3).await), Reason::BulkheadFull);
    let third = task::spawn(manager.execute("x", get(), 4));
    assert_eq!(reason(manager.execute("x", get(), 5).await), Reason::Overloaded);
    drop((two, third));
    lab.set(Mode::Answers);
    assert_eq!(manager.execute("x", get(), 6).await, Ok("x:get:6".into()));
    assert_eq!(reason(manager.execute("x", get(), 7).await), Reason::RateLimited);
    let policies = manager.info("x").unwrap().policies;
    assert!(policies.breaker.is_some() && policies.bulkhead.is_some());
    assert!(policies.rate_limit.is_some() && policies.load_shed.is_some());
}

#[test]
fn the_usual_settings_have_all_that_level_full_says() {
    let manager = Manager::new();
    manager.register("x", Lab::new("x"), Level::Full, none()).unwrap();
    assert_eq!(manager.bulkhead("x").unwrap().snapshot().limit, 256);
    let json = serde_json::to_value(Config::new()).unwrap();
    assert_eq!((&json["rate_limit"]["calls"], &json["load_shed"]["in_flight"]), (&10_000.into(), &1_000.into()));
    assert_eq!((&json["timeout"], &json["attempt_timeout"]), (&"10s".into(), &"3s".into()));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_stays_open_and_places_stay_taken_over_switches() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Hangs));
    manager.register_with("x", lab.clone(), quick(), none()).unwrap();
    let mut two: Vec<_> = (0..2).map(|n| task::spawn(manager.execute("x", get(), n))).collect();
    two.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(manager.set_level("x", Level::None), Ok(Level::Full));
    assert_eq!(manager.set_level("x", Level::Full), Ok(Level::None));
    assert_eq!(manager.bulkhead("x").unwrap().running(), 2);
    assert_eq!(reason(manager.execute("x", get(), 3).await), Reason::BulkheadFull, "the places are still taken");
    drop(two);
    lab.set(Mode::Fails);
    assert_eq!(manager.execute("x", get(), 4).await, Err(Error::Inner(Boom)));
    assert_eq!(reason(manager.execute("x", get(), 4).await), Reason::CircuitOpen);
    manager.set_level("x", Level::Basic).unwrap();
    lab.set(Mode::Answers);
    assert_eq!(manager.execute("x", get(), 5).await, Ok("x:get:5".into()));
    manager.set_level("x", Level::Enhanced).unwrap();
    assert_eq!(reason(manager.execute("x", get(), 6).await), Reason::CircuitOpen, "as it was left");
    advance(ms(10_000)).await;
    assert_eq!(manager.execute("x", get(), 7).await, Ok("x:get:7".into()), "and probed on time");
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_finish_under_the_rules_they_began_with() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails).takes(100));
    manager.register_with("x", lab.clone(), quick().level(Level::Basic), guest()).unwrap();
    let mut old = task::spawn(manager.execute("x", get(), 1));
    let mut limited = task::spawn(manager.execute("x", get(), 2));
    assert_pending!(old.poll());
    assert_pending!(limited.poll());
    manager.update_fallback("x", none().timeout(ms(1)).max_retries(0)).unwrap();
    manager.update_health("x", HealthStatus::Unhealthy).unwrap();
    manager.set_level("x", Level::None).unwrap();
    let mut new = task::spawn(manager.execute("x", get(), 3));
    assert_pending!(new.poll());
    for _ in 0..2 {
        advance(ms(100)).await;
        assert_pending!(old.poll());
        assert_pending!(limited.poll());
        advance(ms(0)).await;
        assert_pending!(old.poll());
        assert_pending!(limited.poll());
    }
    assert_eq!(new.await, Err(Error::Inner(Boom)));
    assert_eq!((old.await, limited.await), (Ok("guest".into()), Ok("guest".into())));
    assert_eq!(lab.calls(), 7, "three, three and one attempts");
    let info = manager.info("x").unwrap();
    assert_eq!((info.answered, info.failed, info.in_flight, info.fallbacks_used), (2, 1, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_handle_follows_every_switch() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails));
    let mut service = manager.register_with("x", lab.clone(), quick().level(Level::None), guest()).unwrap();
    let mut clone = service.clone();
    let call = async |service: &mut mainstay::isolation::Isolated<u32, String, Error<Boom>>| {
        let before = lab.calls();
        let answer = service.call(Invocation::new(get(), 1)).await;
        (answer, lab.calls() - before)
    };
    for _ in 0..3 {
        assert_eq!(call(&mut service).await, (Err(Error::Inner(Boom)), 1));
        manager.set_level("x", Level::Basic).unwrap();
        assert_eq!(call(&mut service).await, (Ok("guest".into()), 3));
        assert_eq!(call(&mut clone).await, (Ok("guest".into()), 3));
        manager.update_health("x", Health::unhealthy("down")).unwrap();
        assert_eq!(call(&mut service).await, (Ok("guest".into()), 0));
        manager.update_fallback("x", none()).unwrap();
        let (answer, calls) = call(&mut clone).await;
        assert_eq!((reason(answer), calls), (Reason::Unhealthy, 0));
        manager.update_health("x", Health::healthy()).unwrap();
        manager.update_fallback("x", guest()).unwrap();
        manager.set_level("x", Level::None).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_service_is_not_asked_and_a_degraded_one_is() {
    let (manager, lab) = (Manager::new(), Lab::new("x"));
    let told = Fallbacks::new(Fallback::with(|error: &Error<Boom>| format!("told: {error}")));
    manager.register_with("x", lab.clone(), quick(), told).unwrap();
    assert_eq!(manager.health("x").unwrap().status(), HealthStatus::Healthy);
    let before = manager.update_health("x", Health::unhealthy("no disk").with_detail("disk", "/dev/sda")).unwrap();
    assert_eq!(before.status(), HealthStatus::Healthy);
    for level in [Level::Basic, Level::Enhanced, Level::Full] {
        manager.set_level("x", level).unwrap();
        assert_eq!(manager.execute("x", get(), 1).await, Ok("told: \"x\" is unhealthy".into()));
    }
    assert_eq!(lab.calls(), 0);
    let fallback = manager.fallback("x").unwrap();
    manager.update_fallback("x", fallback.enabled(false)).unwrap();
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::Unhealthy);
    manager.set_level("x", Level::None).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("x:get:1".into()), "direct is direct");
    manager.set_level("x", Level::Full).unwrap();
    let before = manager.update_health("x", Health::degraded("slow")).unwrap();
    assert_eq!((before.message(), before.details()["disk"].as_str()), (Some("no disk"), "/dev/sda"));
    assert_eq!(manager.execute("x", get(), 2).await, Ok("x:get:2".into()));
    assert_eq!(manager.info("x").unwrap().health.to_string(), "degraded: slow");
    assert!(manager.info("x").unwrap().policies.breaker.unwrap().totals.calls.failures() == 0, "nobody is blamed");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_is_part_of_the_attempt() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::NeverReady));
    manager.register_with("x", lab.clone(), quick().level(Level::Enhanced), none()).unwrap();
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::TimedOut);
    lab.set(Mode::NotReady);
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen);
    assert_eq!((lab.calls(), manager.breaker("x").unwrap().state()), (0, breaker::State::Open));
    lab.set(Mode::Answers);
    advance(ms(10_000)).await;
    assert_eq!(manager.execute("x", get(), 1).await, Ok("x:get:1".into()), "not dropped for good");
}
