//! What who holds an isolated service sees of what others do to it.

use mainstay::{
    Error,
    contract::Invocation,
    fallback::Fallback,
    isolation::{Config, FallbackConfig, Level},
    retry,
};
use tokio_test::task;
use tower::Service;

use crate::{
    isolation::{Fallbacks, Lab, Manager, Mode, get, none},
    support::*,
};

fn once(level: Level) -> Config {
    Config::new().level(level).retry(retry::Config::new().attempts(1))
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_set_while_a_call_runs_is_that_of_the_next_call() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Hangs));
    let guest = Fallbacks::new(Fallback::value("guest".to_owned()));
    manager.register_with("x", lab.clone(), once(Level::None), guest).unwrap();
    let mut service = manager.service("x").unwrap();
    assert!(service.is_registered());
    let mut runs = task::spawn(service.call(Invocation::new(get(), 1)));
    assert!(runs.poll().is_pending(), "it holds the plan that it began with");
    lab.set(Mode::Fails);
    assert_eq!(service.call(Invocation::new(get(), 2)).await, Err(Error::Inner(Boom)), "no fallback at this level");
    for (level, answer) in [
        (Level::Basic, Ok("guest".to_owned())),
        (Level::None, Err(Error::Inner(Boom))),
        (Level::Full, Ok("guest".into())),
    ] {
        manager.set_level("x", level).unwrap();
        assert_eq!(service.call(Invocation::new(get(), 3)).await, answer, "{level:?}");
    }
    manager.unregister("x").unwrap();
    assert!(!service.is_registered());
    drop(runs);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_goes_on_to_its_next_strategy_and_is_for_what_it_says() {
    let lab = Lab::that("x", Mode::Fails);
    let never = || Fallback::run(|_: &Error<Boom>| std::future::ready(Err::<String, _>(Error::Inner(Boom))));
    let chain = || never().or(Fallback::value("second".to_owned()));
    for (fallback, answer) in [
        (Fallbacks::new(chain()), Ok("second".to_owned())),
        (Fallbacks::new(chain().when(|error: &Error<Boom>| matches!(error, Error::Inner(_)))), Ok("second".to_owned())),
        (
            Fallbacks::new(chain().when(|error: &Error<Boom>| matches!(error, Error::Rejected(_)))),
            Err(Error::Inner(Boom)),
        ),
        (none(), Err(Error::Inner(Boom))),
    ] {
        let manager = Manager::new();
        manager.register_with("x", lab.clone(), once(Level::Basic), fallback).unwrap();
        assert_eq!(manager.execute("x", get(), 1).await, answer);
    }
}

#[test]
fn a_wait_of_a_year_is_one_that_a_fallback_can_have() {
    let year = std::time::Duration::from_secs(365 * 86_400);
    let config = || FallbackConfig::<u32, String, Error<Boom>>::none();
    assert_eq!(config().retry_delay(year).check(), Ok(()));
    let error = config().retry_delay(year + ms(1)).check().unwrap_err();
    assert_eq!(error.field(), "retry_delay");
}
