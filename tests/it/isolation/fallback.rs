//! Each strategy, and each setting of a fallback, does what it says.

use mainstay::{
    Reason, breaker, bulkhead,
    contract::Invocation,
    fallback::{CacheConfig, Fallback},
    isolation::{Config, Level},
    retry,
    time::Tick,
};
use tower::service_fn;

use super::*;

/// One attempt, no limits that matter.
fn once() -> Config {
    Config::new().level(Level::Basic).retry(retry::Config::new().attempts(1))
}

fn with(lab: &Lab, fallback: Fallbacks) -> Manager {
    let manager = Manager::new();
    manager.register_with("x", lab.clone(), once(), fallback).unwrap();
    manager
}

/// The answer to `get(1)`, and how many milliseconds it took.
async fn timed(manager: &Manager) -> (Result, u128) {
    let began = Tick::now();
    let answer = manager.execute("x", get(), 1).await;
    (answer, Tick::now().since(began).as_millis())
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_strategy_answers() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = with(&lab, none());
    let other = Lab::new("other");
    let strategies: Vec<(Fallbacks, &str)> = vec![
        (Fallbacks::new(Fallback::value("guest".to_owned())), "guest"),
        (Fallbacks::new(Fallback::with(|error: &Error<Boom>| format!("after {error}"))), "after boom"),
        (
            Fallbacks::new(Fallback::with_result(|failed: std::result::Result<&String, &Error<Boom>>| {
                format!("{}", failed.is_err())
            })),
            "true",
        ),
        (
            Fallbacks::new(Fallback::run(|_: &Error<Boom>| async {
                tokio::time::sleep(ms(5)).await;
                Ok("later".to_owned())
            })),
            "later",
        ),
        (
            Fallbacks::new(Fallback::request(
                |call: &Invocation<u32>| call.clone(),
                |call, _: std::result::Result<&String, &Error<Boom>>| async move {
                    Ok(format!("{}({})", call.method, call.request))
                },
            )),
            "get(7)",
        ),
        (Fallbacks::new(Fallback::service(other.clone())), "other:get:7"),
        (
            Fallbacks::new(
                Fallback::value("shut".to_owned()).on([Reason::CircuitOpen]).or(Fallback::value("or".into())),
            ),
            "or",
        ),
    ];
    for (n, (fallback, expected)) in (1..).zip(strategies) {
        manager.update_fallback("x", fallback).unwrap();
        assert_eq!(manager.execute("x", get(), 7).await, Ok(expected.to_owned()));
        assert_eq!((lab.calls(), manager.info("x").unwrap().fallbacks_used), (n, u64::from(n)));
    }
    assert_eq!(other.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_kept_by_key_also_while_the_fallback_is_off() {
    let lab = Lab::new("x");
    let key = |call: &Invocation<u32>| Some((call.method.clone(), call.request));
    let manager = with(&lab, Fallbacks::new(Fallback::cached(CacheConfig::new(), key)));
    let list = Method::new("list").unwrap();
    for (method, n) in [(&get(), 1), (&list, 1), (&get(), 2)] {
        manager.execute("x", method, n).await.unwrap();
    }
    let cached = manager.fallback("x").unwrap();
    manager.update_fallback("x", cached.clone().enabled(false)).unwrap();
    lab.set(Mode::Fails);
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    let off = manager.update_fallback("x", cached.clone()).unwrap();
    assert!(off.has_strategy_of(&cached) && !off.is_enabled());
    for (method, n) in [(&get(), 1), (&list, 1), (&get(), 2)] {
        assert_eq!(manager.execute("x", method, n).await, Ok(format!("x:{method}:{n}")));
    }
    assert_eq!(manager.execute("x", &list, 2).await, Err(Error::Inner(Boom)), "nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn disabled_means_the_original_error_untouched() {
    let lab = Lab::that("x", Mode::Fails);
    let guest = Fallbacks::new(Fallback::value("guest".to_owned()));
    let manager = with(&lab, guest.clone().enabled(false));
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    assert!(!manager.info("x").unwrap().fallback);
    assert!(!none().enabled(true).is_enabled(), "there is nothing to enable");
    let before = manager.update_fallback("x", guest.clone()).unwrap();
    assert!(!before.is_enabled() && before.has_strategy_of(&guest) && !before.has_strategy_of(&none()));
    assert_eq!(manager.execute("x", get(), 1).await, Ok("guest".into()));
    let info = manager.info("x").unwrap();
    assert_eq!((info.fallback, info.failed, info.answered, info.fallbacks_used), (true, 1, 1, 1));
    assert_eq!((info.policies.fallback.used, info.policies.fallback.not_covered), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_fails_panics_or_has_nothing_gives_the_original_error() {
    let lab = Lab::that("x", Mode::Fails);
    let down = Error::Rejected(mainstay::Rejection::new(Reason::NoInstance, mainstay::Name::new("other").unwrap()));
    let failing = service_fn(move |_: Invocation<u32>| std::future::ready(Err::<String, _>(down.clone())));
    let panics = Lab::that("panics", Mode::Panics);
    let at_once = Lab::that("panics", Mode::PanicsAtOnce);
    let manager = with(&lab, none());
    for fallback in [
        Fallbacks::new(Fallback::service(failing)),
        Fallbacks::new(Fallback::service(panics)),
        Fallbacks::new(Fallback::service(at_once)),
        Fallbacks::new(Fallback::cached(CacheConfig::new(), |_: &Invocation<u32>| None::<u32>)),
        Fallbacks::new(Fallback::with(|_: &Error<Boom>| -> String { panic!("in the strategy") })),
    ] {
        manager.update_fallback("x", fallback).unwrap();
        assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    }
    let info = manager.info("x").unwrap();
    assert_eq!((info.failed, info.fallbacks_used, info.in_flight), (5, 0, 0));
    assert_eq!((info.policies.fallback.failed, info.policies.fallback.nothing), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn max_retries_says_how_often_a_call_is_tried_again() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = with(&lab, none());
    assert_eq!(timed(&manager).await.0, Err(Error::Inner(Boom)));
    assert_eq!(lab.calls(), 1, "as the service's settings say");
    for retries in [0, 1, 2, 5] {
        let before = lab.calls();
        let guest = Fallbacks::new(Fallback::value("guest".to_owned())).retry_delay(ms(1));
        manager.update_fallback("x", guest.max_retries(retries)).unwrap();
        assert_eq!(timed(&manager).await, (Ok("guest".into()), u128::from(retries)));
        assert_eq!(lab.calls() - before, retries + 1);
    }
    let before = lab.calls();
    manager.update_fallback("x", none().max_retries(3).retry_delay(Duration::ZERO)).unwrap();
    assert_eq!(timed(&manager).await, (Err(Error::Inner(Boom)), 0), "they hold without a fallback too");
    assert_eq!(lab.calls() - before, 4);
}

#[tokio::test(start_paused = true)]
async fn retry_delay_is_the_wait_before_each_retry_to_the_millisecond() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = with(&lab, none());
    for (retries, delay) in [(1, 7), (3, 100), (4, 333)] {
        manager.update_fallback("x", none().max_retries(retries).retry_delay(ms(delay))).unwrap();
        let (_, took) = timed(&manager).await;
        assert_eq!(took, u128::from(u64::from(retries) * delay));
    }
    let config = Config::new().level(Level::Basic).retry(retry::Config::custom(|n| ms(10) * n).attempts(4));
    manager.register_with("y", lab.clone(), config, none().max_retries(2)).unwrap();
    let began = Tick::now();
    manager.execute("y", get(), 1).await.unwrap_err();
    assert_eq!(Tick::now().since(began), ms(30), "two retries with the waits of the service's settings");
    manager.update_fallback("y", none().retry_delay(ms(1))).unwrap();
    let (began, before) = (Tick::now(), lab.calls());
    manager.execute("y", get(), 1).await.unwrap_err();
    assert_eq!((Tick::now().since(began), lab.calls() - before), (ms(3), 4), "and the attempts of the settings");
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_the_settings_holds_over_switches() {
    let lab = Lab::that("x", Mode::Fails);
    let budget = retry::BudgetConfig::new().ratio(0.0).min_per_second(10);
    let manager = Manager::new();
    let config = Config::new().level(Level::Basic).retry(retry::Config::new().budget(budget));
    manager.register_with("x", lab.clone(), config, none()).unwrap();
    let tokens = async |retries: u32| {
        let before = lab.calls();
        manager.update_fallback("x", none().max_retries(retries).retry_delay(Duration::ZERO)).unwrap();
        manager.execute("x", get(), 1).await.unwrap_err();
        lab.calls() - before - 1
    };
    assert_eq!([tokens(50).await, tokens(51).await, tokens(50).await], [10, 0, 0], "no switch fills it again");
}

#[tokio::test(start_paused = true)]
async fn timeout_says_how_long_the_service_gets_all_attempts_together() {
    let lab = Lab::that("x", Mode::Hangs);
    let guest = Fallbacks::new(Fallback::value("guest".to_owned()));
    let manager = with(&lab, guest.clone().timeout(ms(250)));
    assert_eq!(timed(&manager).await, (Ok("guest".into()), 250));
    manager.update_fallback("x", none().timeout(ms(400))).unwrap();
    let (answer, took) = timed(&manager).await;
    assert_eq!((reason(answer), took), (Reason::TimedOut, 400));
    assert_eq!(lab.running(), 0, "what is cut off is dropped");
    lab.set(Mode::Fails);
    manager.update_fallback("x", guest.clone().timeout(ms(250)).max_retries(9).retry_delay(ms(100))).unwrap();
    let before = lab.calls();
    assert_eq!(timed(&manager).await, (Ok("guest".into()), 200), "a wait that ends too late is not begun");
    assert_eq!(lab.calls() - before, 3);
    let lab = Lab::new("slow").takes(1_000);
    manager.register_with("slow", lab, once(), guest.timeout(ms(1_000))).unwrap();
    assert_eq!(manager.execute("slow", get(), 1).await, Ok("slow:get:1".into()), "an answer on time wins");
}

#[tokio::test(start_paused = true)]
async fn a_longer_timeout_leaves_attempts_as_long_as_they_were() {
    let lab = Lab::that("x", Mode::Hangs);
    let manager = Manager::new();
    let config = Config::new().level(Level::Basic).timeout(ms(1_000)).attempt_timeout(ms(300));
    let fallback = none().timeout(ms(60_000)).max_retries(3).retry_delay(ms(10));
    manager.register_with("x", lab.clone(), config, fallback).unwrap();
    let (answer, took) = timed(&manager).await;
    assert_eq!((reason(answer), took, lab.calls()), (Reason::TimedOut, 1_230, 4));
}

#[tokio::test(start_paused = true)]
async fn circuit_breaker_says_whether_and_with_which_settings_there_is_one() {
    let lab = Lab::that("x", Mode::Fails);
    let manager = Manager::new();
    let config = once().level(Level::Enhanced).breaker(consecutive(3));
    manager.register_with("x", lab.clone(), config, none().circuit_breaker(false)).unwrap();
    for _ in 0..10 {
        assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    }
    assert!(manager.info("x").unwrap().policies.breaker.is_none());
    manager.update_fallback("x", none().circuit_breaker(true)).unwrap();
    for _ in 0..3 {
        assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    }
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen, "three, as configured");
    manager.update_fallback("x", none().circuit_breaker(false)).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    manager.update_fallback("x", none().circuit_breaker(consecutive(1))).unwrap();
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen, "it is the same circuit");
    lab.set(Mode::Answers);
    advance(ms(10_000)).await;
    manager.execute("x", get(), 1).await.unwrap();
    lab.set(Mode::Fails);
    assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)));
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen, "one, as the fallback says");
    manager.update_fallback("x", none()).unwrap();
    lab.set(Mode::Answers);
    advance(ms(10_000)).await;
    manager.execute("x", get(), 1).await.unwrap();
    lab.set(Mode::Fails);
    for _ in 0..3 {
        assert_eq!(manager.execute("x", get(), 1).await, Err(Error::Inner(Boom)), "three again");
    }
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_with_another_window_begins_anew() {
    let lab = Lab::new("x");
    let manager = Manager::new();
    manager.register_with("x", lab.clone(), once().level(Level::Enhanced), none()).unwrap();
    let first = manager.breaker("x").unwrap();
    first.force_open();
    let windowed = breaker::Config::new().count_window(10).minimum_calls(5);
    manager.update_fallback("x", none().circuit_breaker(windowed.clone())).unwrap();
    let second = manager.breaker("x").unwrap();
    assert!(!second.is_same(&first) && second.state() == breaker::State::Closed);
    manager.execute("x", get(), 1).await.unwrap();
    manager.update_fallback("x", none().circuit_breaker(windowed.failure_rate(0.1))).unwrap();
    assert!(manager.breaker("x").unwrap().is_same(&second), "the same window is kept");
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_attempt_counts_against_the_service() {
    let lab = Lab::that("x", Mode::Hangs);
    let manager = Manager::new();
    let config = once().level(Level::Full).breaker(consecutive(2)).bulkhead(bulkhead::Config::new(1));
    manager.register_with("x", lab.clone(), config, none().timeout(ms(50))).unwrap();
    for _ in 0..2 {
        assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::TimedOut);
    }
    assert_eq!(reason(manager.execute("x", get(), 1).await), Reason::CircuitOpen);
    assert_eq!(manager.bulkhead("x").unwrap().running(), 0);
}
