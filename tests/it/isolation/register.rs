//! Registering, looking up, and bad input.

use mainstay::{
    ConfigError, Error, Reason, breaker, bulkhead,
    contract::{HealthStatus, Invocation},
    fallback::Fallback,
    isolation::{Config, FallbackConfig, IsolationError, IsolationManager, Level},
};
use tower::{Service, ServiceExt, service_fn};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_service_is_called_by_name_at_every_level_and_is_a_tower_service() {
    let manager = Manager::new();
    for level in Level::ALL {
        let mut service = manager.register(level.as_str(), Lab::new(level.as_str()), level, none()).unwrap();
        assert_eq!(manager.execute(level.as_str(), get(), 7).await, Ok(format!("{level}:get:7")));
        let call = Invocation::of("list", 8).unwrap();
        assert_eq!(service.ready().await.unwrap().call(call).await, Ok(format!("{level}:list:8")));
        assert_eq!(service.name().as_str(), level.as_str());
    }
    manager.register("plain", plain(), Level::Full, none()).unwrap();
    assert_eq!(manager.execute("plain", get(), 7).await, Ok("plain:7".into()));
    let again = manager.clone().service("full").unwrap();
    assert_eq!(again.oneshot(Invocation::new(get(), 9)).await, Ok("full:get:9".into()));
    let names: Vec<_> = manager.list().into_iter().map(|info| info.service.to_string()).collect();
    assert_eq!(names, ["basic", "enhanced", "full", "none", "plain"]);
    assert_eq!((manager.len(), manager.is_empty(), manager.contains("none")), (5, false, true));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_registered_is_a_rejection_in_the_callers_own_error() {
    let manager = Manager::new();
    for (name, policy) in [("users", "users"), ("no such", "no_such-"), ("", "not-a-service-name"), ("a\nb", "not-a")] {
        let error = manager.execute(name, get(), 7).await.unwrap_err();
        let Error::Rejected(rejection) = error else { panic!("no rejection") };
        assert_eq!(rejection.reason(), Reason::UnknownService);
        assert!(rejection.policy().starts_with(policy), "{}", rejection.policy());
    }
    let rejection = manager.execute("users", get(), 7).await.unwrap_err().to_string();
    assert_eq!(rejection, "no service \"users\" is registered");
    let stats = manager.stats();
    assert_eq!((stats.unknown, stats.calls, stats.in_flight, stats.services), (5, 0, 0, 0));
    manager.register("users", Lab::new("users"), Level::Full, none()).unwrap();
    assert_eq!(manager.execute("users", "list", 7).await, Ok("users:list:7".into()));
    assert_eq!(manager.execute("users", String::from("list"), 7).await, Ok("users:list:7".into()));
    for method in ["", "a\nb"] {
        assert_eq!(reason(manager.execute("users", method, 7).await), Reason::UnknownMethod);
    }
    assert_eq!((manager.stats().unknown, manager.info("users").unwrap().calls), (7, 2));
}

/// An error of the service's own, in a box.
#[tokio::test(start_paused = true)]
async fn no_level_changes_the_type_of_an_error_or_what_is_in_it() {
    let boxed = IsolationManager::<(), (), mainstay::BoxError>::new();
    let fails = service_fn(async |_: Invocation<()>| Err::<(), mainstay::BoxError>(Boom.into()));
    for level in Level::ALL {
        boxed.register(level.as_str(), fails, level, FallbackConfig::none()).unwrap();
        let error = boxed.execute(level.as_str(), "get", ()).await.unwrap_err();
        assert_eq!(error.downcast_ref::<Boom>(), Some(&Boom));
    }
    let error = boxed.execute("users", get(), ()).await.unwrap_err();
    assert!(error.downcast_ref::<mainstay::Rejection>().is_some(), "the type of the error is the caller's");
}

#[test]
fn what_is_asked_of_an_unknown_service_is_an_error_that_names_it() {
    let manager = Manager::new();
    let unknown = IsolationError::Unknown { service: "users".into() };
    assert_eq!(unknown.to_string(), "no service \"users\" is registered");
    assert_eq!(manager.unregister("users"), Err(unknown.clone()));
    assert_eq!(manager.set_level("users", Level::Full), Err(unknown.clone()));
    assert_eq!(manager.update_health("users", HealthStatus::Degraded), Err(unknown.clone()));
    assert_eq!(manager.update_fallback("users", none()).unwrap_err(), unknown);
    assert_eq!(manager.level("users"), Err(unknown.clone()));
    assert_eq!(manager.health("users"), Err(unknown.clone()));
    assert_eq!(manager.fallback("users").unwrap_err(), unknown);
    assert_eq!(manager.info("users").unwrap_err(), unknown);
    assert_eq!(manager.service("users").unwrap_err(), unknown);
    assert_eq!(manager.breaker("users").unwrap_err(), unknown);
    assert_eq!(manager.bulkhead("users").unwrap_err(), unknown);
    assert_eq!(manager.rate_limit("users").unwrap_err(), unknown);
    assert_eq!(manager.load_shed("users").unwrap_err(), unknown);
}

#[tokio::test(start_paused = true)]
async fn a_second_service_of_one_name_is_refused_and_the_first_stays() {
    let manager = Manager::new();
    let (first, second) = (Lab::new("first"), Lab::new("second"));
    manager.register("users", first, Level::Basic, none()).unwrap();
    let gone = second.gone();
    let error = manager.register("users", second, Level::Full, none()).unwrap_err();
    assert_eq!(error.to_string(), "a service \"users\" is registered already");
    assert!(matches!(error, IsolationError::Duplicate { service } if service == "users"));
    assert_eq!(gone.load(SeqCst), 1, "nothing keeps what was refused");
    assert_eq!(manager.execute("users", get(), 1).await, Ok("first:get:1".into()));
    assert_eq!(manager.level("users"), Ok(Level::Basic));
}

fn config_error(error: IsolationError) -> ConfigError {
    match error {
        IsolationError::Config(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn all_that_is_wrong_is_reported_together_and_nothing_is_registered() {
    let manager = Manager::new();
    let config = Config::new().timeout(ms(0)).bulkhead(bulkhead::Config::new(0)).attempt_timeout(ms(1));
    let fallback = none().max_retries(100).timeout(Duration::MAX).circuit_breaker(breaker::Config::new().probes(0));
    let error = manager.register_with("a\nb", Lab::new("x"), config, fallback.clone()).unwrap_err();
    let fields: Vec<_> = config_error(error).problems().map(|problem| problem.field().to_owned()).collect();
    assert_eq!(
        fields,
        [
            "service",
            "timeout",
            "attempt_timeout",
            "bulkhead.limit",
            "fallback.max_retries",
            "fallback.timeout",
            "fallback.circuit_breaker.probes",
        ]
    );
    assert!(manager.is_empty());
    manager.register("users", Lab::new("x"), Level::Basic, none()).unwrap();
    let error = config_error(manager.update_fallback("users", fallback).unwrap_err());
    assert_eq!((error.field(), error.value()), ("fallback.max_retries", "100"));
    let error = none().retry_delay(Duration::MAX).check().unwrap_err();
    assert_eq!((error.field(), error.why()), ("retry_delay", "must be at most 365d"));
    assert!(manager.fallback("users").unwrap().check().is_ok(), "it is left as it was");
}

#[test]
fn settings_are_read_from_files_and_written_back() {
    let text = "level = 'basic'\ntimeout = '2s'\n[retry]\nattempts = 5\n[rate_limit]\ncalls = 5\nper = '1s'";
    let config: Config = toml::from_str(text).unwrap();
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!((&json["level"], &json["timeout"]), (&"basic".into(), &"2s".into()));
    assert_eq!(json["attempt_timeout"], "2s", "an attempt may take no longer than the call");
    assert_eq!((&json["retry"]["attempts"], &json["rate_limit"]["calls"]), (&5.into(), &5.into()));
    let again: Config = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), json);
    let usual = serde_json::to_value(Config::new()).unwrap();
    assert_eq!(serde_json::to_value(toml::from_str::<Config>("").unwrap()).unwrap(), usual);
    assert_eq!(usual["level"], "full");
    for (bad, what) in [
        ("level = 'extreme'", "unknown variant"),
        ("timeouts = '2s'", "unknown field"),
        ("retry = [3]", "a section with the settings of the policy"),
        ("timeout = '1s'\nattempt_timeout = '2s'", "attempt_timeout = 2s: must be at most timeout, 1s"),
        ("timeout = '1 fortnight'\n[retry]\nattempts = 0", "retry.attempts = 0: must be in 1..=100"),
        ("[retry]\nattempts = 1\n[load_shed]\nin_flight = 0", "load_shed.in_flight = 0"),
    ] {
        let error = toml::from_str::<Config>(bad).unwrap_err();
        assert!(error.message().contains(what), "{bad}: {error}");
    }
}

#[test]
fn odd_names_have_policies_with_names_that_are_safe() {
    let manager = Manager::new();
    manager.register("user service 😀", Lab::new("x"), Level::Full, none()).unwrap();
    let info = manager.info("user service 😀").unwrap();
    assert!(info.policies.stack.as_str().starts_with("user_service"), "{}", info.policies.stack);
    assert_eq!(info.service, "user service 😀");
}

/// Requests that cannot be cloned.
#[derive(Debug)]
struct Unique(u32);

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_cloned_are_sent_once() {
    let manager = IsolationManager::<Unique, u32, Error<Boom>>::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let fails = service_fn(move |call: Invocation<Unique>| {
        counted.fetch_add(1, SeqCst);
        async move { if call.request.0 == 0 { Ok(0) } else { Err(Error::Inner(Boom)) } }
    });
    manager.register_once("users", fails, Config::new(), FallbackConfig::new(Fallback::value(9))).unwrap();
    assert_eq!(manager.execute("users", get(), Unique(0)).await, Ok(0));
    assert_eq!(manager.execute("users", get(), Unique(1)).await, Ok(9));
    assert_eq!(calls.load(SeqCst), 2);
}

#[test]
fn the_types_can_be_sent_and_shared_and_say_who_they_are() {
    fn sent_and_shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send + Unpin + 'static>(_: &T) {}
    let manager = Manager::default();
    let service = manager.register("users", Lab::new("x"), Level::Full, none()).unwrap();
    sent_and_shared(&manager);
    sent_and_shared(&service);
    sent_and_shared(&none());
    let answer = manager.execute("users", get(), 1);
    sent(&answer);
    assert_eq!(format!("{manager:?}"), "IsolationManager { services: 1, .. }");
    assert_eq!(format!("{service:?}"), "Isolated { service: \"users\", .. }");
    assert_eq!(format!("{answer:?}"), "ResponseFuture { service: Some(\"users\"), .. }");
    assert!(format!("{:?}", none()).starts_with("FallbackConfig { enabled: false"));
}
