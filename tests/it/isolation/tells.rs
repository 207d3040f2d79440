//! What a manager tells: counts, observers, the log.

use std::sync::Mutex;

use allocation_counter::measure;
use mainstay::{
    Reason,
    contract::{Health, HealthStatus, Invocation},
    fallback::Fallback,
    isolation::{Config, Level},
    observe::Event,
    retry,
};

use tower::Service;

use super::*;

#[tokio::test(start_paused = true)]
async fn stats_count_services_and_calls_also_of_those_that_are_gone() {
    let manager = Manager::new();
    let guest = || Fallbacks::new(Fallback::value("guest".to_owned())).max_retries(0);
    manager.register("a", Lab::new("a"), Level::None, none()).unwrap();
    manager.register("b", Lab::that("b", Mode::Fails), Level::Basic, guest()).unwrap();
    manager.register("c", Lab::that("c", Mode::Fails), Level::Full, guest().enabled(false)).unwrap();
    manager.register("d", Lab::new("d"), Level::Full, guest()).unwrap();
    manager.update_health("c", HealthStatus::Degraded).unwrap();
    manager.update_health("d", Health::unhealthy("down")).unwrap();
    for name in ["a", "b", "b", "c", "d", "e"] {
        let _ = manager.execute(name, get(), 1).await;
    }
    let running = manager.execute("a", get(), 1);
    let json = serde_json::to_value(manager.stats()).unwrap();
    let expected = serde_json::json!({
        "services": 4,
        "levels": { "none": 1, "basic": 1, "enhanced": 0, "full": 2 },
        "health": { "healthy": 2, "degraded": 1, "unhealthy": 1 },
        "fallbacks_enabled": 2,
        "calls": 6, "answered": 4, "failed": 1, "dropped": 0, "in_flight": 1, "fallbacks_used": 3, "unknown": 1,
    });
    assert_eq!(json, expected);
    let sum: u64 = manager.list().iter().map(|info| info.calls).sum();
    assert_eq!(sum, 6);
    manager.unregister("b").unwrap();
    drop(running);
    let stats = manager.stats();
    assert_eq!((stats.services, stats.calls, stats.dropped, stats.fallbacks_used), (3, 6, 1, 3));
    assert_eq!((stats.levels.basic, stats.fallbacks_enabled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn info_and_list_are_plain_json() {
    let manager = Manager::new();
    for name in ["b", "a"] {
        manager.register(name, Lab::new(name), Level::Enhanced, none()).unwrap();
    }
    manager.execute("a", get(), 1).await.unwrap();
    let json = serde_json::to_value(manager.list()).unwrap();
    assert_eq!((&json[0]["service"], &json[1]["service"]), (&"a".into(), &"b".into()));
    assert_eq!(
        (&json[0]["level"], &json[0]["calls"], &json[0]["fallback"]),
        (&"enhanced".into(), &1.into(), &false.into())
    );
    assert_eq!(json[0]["health"]["status"], "healthy");
    assert_eq!(json[0]["policies"]["breaker"]["state"], "closed");
    assert!(json[0]["policies"]["bulkhead"].is_null());
    assert_eq!(json[0], serde_json::to_value(manager.info("a").unwrap()).unwrap());
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_all_services_those_that_come_later_too() {
    let (manager, heard) = (Manager::new(), Arc::new(Mutex::new(Vec::new())));
    let guest = Fallbacks::new(Fallback::value("guest".to_owned()));
    let config = Config::new().breaker(consecutive(3)).retry(retry::Config::custom(|_| ms(1)));
    let lab = Lab::that("x", Mode::Fails);
    manager.register_with("before", lab.clone(), config.clone(), guest.clone()).unwrap();
    let log = Arc::clone(&heard);
    let inside = manager.clone();
    manager.observe(move |event: &Event<'_>| {
        let what = match event {
            Event::Transition(change) => format!("{}", change.to),
            Event::Rejected(rejection) => format!("{}", rejection.reason()),
            Event::Retry(_) => "retry".to_owned(),
            Event::Fallback { .. } => "fallback".to_owned(),
            _ => "other".to_owned(),
        };
        // It may ask the manager, since no lock is held.
        assert!(inside.len() < 3);
        log.lock().unwrap().push(format!("{} {what}", event.policy()));
    });
    let take = || std::mem::take(&mut *heard.lock().unwrap()).join(", ");
    manager.register_with("later", lab, config, guest.clone()).unwrap();
    for name in ["before", "later"] {
        manager.execute(name, get(), 1).await.unwrap();
        let told = "retry, NAME retry, NAME open, NAME other, NAME fallback".replace("NAME", name);
        assert_eq!(take(), format!("{name} {told}"));
    }
    // The retry of other settings is watched too.
    manager.update_fallback("later", guest.max_retries(1)).unwrap();
    manager.breaker("later").unwrap().reset();
    take();
    manager.execute("later", get(), 1).await.unwrap();
    assert!(take().starts_with("later retry, "));
    manager.update_health("later", Health::unhealthy("down")).unwrap();
    manager.execute("later", get(), 1).await.unwrap();
    assert_eq!(take(), "later unhealthy, later fallback");
    assert_eq!(reason(manager.execute("nobody", get(), 1).await), Reason::UnknownService);
    assert_eq!(take(), "nobody unknown_service");
}

#[test]
fn switches_are_logged() {
    crate::log::listen();
    let (manager, name) = (Manager::new(), "isolation-log");
    manager.register(name, Lab::new("x"), Level::Basic, none()).unwrap();
    manager.set_level(name, Level::Full).unwrap();
    manager.update_health(name, Health::unhealthy("down")).unwrap();
    manager.update_fallback(name, Fallbacks::new(Fallback::value(String::new()))).unwrap();
    manager.unregister(name).unwrap();
    let lines = crate::log::lines("service", name);
    let changes: Vec<_> = lines.iter().map(|(_, fields)| fields.get("from").zip(fields.get("to"))).collect();
    let changes: Vec<_> = changes.into_iter().map(|change| change.map(|(from, to)| format!("{from}>{to}"))).collect();
    let expected = [None, Some("basic>full"), Some("healthy>unhealthy"), Some("false>true"), None];
    assert_eq!(changes, expected.map(|change| change.map(str::to_owned)));
}

#[test]
fn a_call_costs_one_allocation_for_its_attempt_and_one_for_what_its_fallback_keeps() {
    let manager = IsolationManager::<u32, u32, Error<Boom>>::new();
    let service = tower::service_fn(|call: Invocation<u32>| std::future::ready(Ok(call.request)));
    let value = FallbackConfig::new(Fallback::value(0));
    let method = get();
    for level in Level::ALL {
        let name = level.as_str();
        let mut handle = manager.register(name, service, level, value.clone()).unwrap();
        let mut count = |by_name: bool| {
            let mut call = || {
                let mut answer = match by_name {
                    true => manager.execute(name, &method, 1),
                    false => handle.call(Invocation::new(method.clone(), 1)),
                };
                assert_eq!(poll_once(&mut answer), Poll::Ready(Ok(1)));
            };
            (0..3).for_each(|_| call());
            measure(|| (0..100).for_each(|_| call())).count_total
        };
        let expected = if level == Level::None { 100 } else { 200 };
        assert_eq!((count(true), count(false)), (expected, expected), "{level}");
        manager.update_fallback(name, FallbackConfig::none()).unwrap();
        assert_eq!((count(true), count(false)), (100, 100), "{level} without a fallback");
    }
}
