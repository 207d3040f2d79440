//! Orders of switches, and services that change themselves.

use mainstay::{
    Reason,
    contract::{Health, Invocation},
    fallback::Fallback,
    isolation::{Config, Level},
    observe::Event,
    retry,
};
use tower::service_fn;

use super::*;

fn guest() -> Fallbacks {
    Fallbacks::new(Fallback::value("guest".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn the_breaker_is_as_configured_again_whatever_was_in_between() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = Manager::new();
    let config = Config::new().level(Level::Enhanced).retry(retry::Config::new().attempts(1)).breaker(consecutive(3));
    manager.register_with("x", lab.clone(), config, none().circuit_breaker(consecutive(1))).unwrap();
    manager.update_fallback("x", none().circuit_breaker(false)).unwrap();
    manager.update_fallback("x", none()).unwrap();
    for n in 0..3 {
        assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)), "call {n}");
    }
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_service_may_unregister_itself_and_register_another_from_inside_its_own_call() {
    for level in Level::ALL {
        let manager = Manager::new();
        let inside = manager.clone();
        let lab = Lab::new("heir");
        let heir = lab.clone();
        let own = service_fn(move |call: Invocation<u32>| {
            let (inside, heir) = (inside.clone(), heir.clone());
            async move {
                inside.unregister("x").unwrap();
                inside.register("x", heir, level, guest()).unwrap();
                inside.set_level("x", Level::Basic).unwrap();
                inside.execute("x", call.method, call.request + 1).await
            }
        });
        let mut old = manager.register("x", own, level, guest()).unwrap();
        assert_eq!(manager.execute("x", get(), 1).await, Ok("heir:get:2".into()), "{level}");
        assert_eq!(manager.execute("x", get(), 5).await, Ok("heir:get:5".into()));
        assert_eq!(reason(old.call(Invocation::new(get(), 1)).await), Reason::UnknownService);
        let stats = manager.stats();
        assert_eq!((stats.calls, stats.answered, stats.in_flight, stats.unknown), (3, 3, 0, 1));
        drop(old);
        let gone = lab.gone();
        drop(lab);
        manager.unregister("x").unwrap();
        assert_eq!(gone.load(SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_call_and_switch_the_manager_and_add_another() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = Manager::new();
    manager.register("x", lab.clone(), Level::Full, guest().max_retries(1).retry_delay(ms(1))).unwrap();
    manager.register("y", Lab::new("y"), Level::Full, none()).unwrap();
    let (inside, heard) = (manager.clone(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&heard);
    manager.observe(move |event: &Event<'_>| {
        if event.policy() != "x" || count.fetch_add(1, SeqCst) > 3 {
            return;
        }
        inside.set_level("x", Level::Basic).unwrap();
        inside.update_health("x", Health::unhealthy("seen")).unwrap();
        inside.update_fallback("x", guest().circuit_breaker(consecutive(1))).unwrap();
        let _ = (inside.stats(), inside.list(), inside.info("x").unwrap());
        assert_eq!(poll_once(&mut inside.execute("y", get(), 1)), Poll::Ready(Ok("y:get:1".into())));
        let more = Arc::clone(&count);
        inside.observe(move |_: &Event<'_>| {
            more.fetch_add(100, SeqCst);
        });
    });
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()));
    assert!(heard.load(SeqCst) > 1);
    assert_eq!(manager.level("x"), Ok(Level::Basic));
    let calls = lab.calls();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()));
    assert_eq!(lab.calls(), calls, "unhealthy by now");
}

#[tokio::test(start_paused = true)]
async fn every_setting_of_a_fallback_holds_at_every_level_that_has_it() {
    for level in Level::ALL {
        for enabled in [true, false] {
            for off in [true, false] {
                for health in [Health::healthy(), Health::degraded("so"), Health::unhealthy("down")] {
                    let lab = Lab::that("x", Mode::Fails);
                    let manager = Manager::new();
                    let config = Config::new().level(level).breaker(consecutive(2));
                    let tries = guest().enabled(enabled).max_retries(1).retry_delay(ms(30)).timeout(ms(50));
                    let tries = if off { tries.circuit_breaker(false) } else { tries };
                    manager.register_with("x", lab.clone(), config, tries).unwrap();
                    let down = health.status() == mainstay::contract::HealthStatus::Unhealthy;
                    manager.update_health("x", health.clone()).unwrap();
                    let began = mainstay::time::Tick::now();
                    let answer = manager.execute("x", get(), 1).await;
                    let took = mainstay::time::Tick::now().since(began);
                    let case = format!("{level} {enabled} {off} {health:?}");
                    let asked = level == Level::None || !down;
                    let expected = match (level == Level::None, enabled, down) {
                        (false, true, _) => Ok("guest".to_owned()),
                        (false, false, true) => {
                            assert_eq!(reason(answer.clone()), Reason::Unhealthy, "{case}");
                            answer.clone()
                        }
                        _ => Err(Error::Inner(Boom)),
                    };
                    assert_eq!(answer, expected, "{case}");
                    let attempts = if !asked {
                        0
                    } else if level == Level::None {
                        1
                    } else {
                        2
                    };
                    assert_eq!(lab.calls(), attempts, "{case}");
                    let waited = if attempts == 2 { ms(30) } else { ms(0) };
                    assert_eq!(took, waited, "{case}");
                    let has_breaker = level >= Level::Enhanced && !off;
                    let opened = has_breaker && attempts == 2;
                    let open = manager.breaker("x").unwrap().state() == mainstay::breaker::State::Open;
                    assert_eq!(open, opened, "{case}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_alone_is_enough_to_say_in_code_as_in_a_file() {
    let file: Config = toml::from_str("timeout = '2s'\nlevel = 'basic'").unwrap();
    for config in [file, Config::new().level(Level::Basic).timeout(ms(2_000))] {
        let manager = Manager::new();
        manager.register_with("x", Lab::that("x", Mode::Hangs), config, none().max_retries(0)).unwrap();
        let began = mainstay::time::Tick::now();
        assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::TimedOut);
        assert_eq!(mainstay::time::Tick::now().since(began), ms(2_000));
    }
    assert!(Config::new().timeout(ms(100)).attempt_timeout(ms(200)).check().is_err(), "who says both is told");
}

#[tokio::test(start_paused = true)]
async fn names_are_registered_and_unregistered_under_calls_and_each_gets_an_answer() {
    let manager = Manager::new();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..3_000_u32 {
        if n % 7 == 0 {
            let _ = manager.unregister("x");
        }
        if n % 7 == 3 {
            let name = format!("x{n}");
            let _ = manager.register("x", Lab::new(&name).takes(u64::from(n % 5)), Level::ALL[n as usize % 4], none());
        }
        let answer = manager.execute("x", get(), n);
        calls.spawn(async move { (n, answer.await) });
        if n % 50 == 0 {
            advance(ms(3)).await;
        }
    }
    let (mut good, mut unknown) = (0, 0);
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            (n, Ok(answer)) => {
                assert!(answer.ends_with(&format!(":get:{n}")));
                good += 1;
            }
            (_, answer) => {
                assert_eq!(reason(answer), Reason::UnknownService);
                unknown += 1;
            }
        }
    }
    let stats = manager.stats();
    assert_eq!((stats.calls, stats.answered, stats.unknown), (good, good, unknown));
    assert_eq!((good + unknown, stats.in_flight, stats.failed, stats.dropped), (3_000, 0, 0, 0));
}
