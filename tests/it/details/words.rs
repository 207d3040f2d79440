//! What errors and lists say of themselves.

use mainstay::{
    Error, Name, Reason, Rejection, breaker, bulkhead,
    client::{Client, Config},
    contract::{Contract, Instance, Version},
    discovery::InMemory,
    keyed::{self, Levels, LevelsConfig, Tenant},
    registry::{PoliciesSnapshot, Registry},
};

use crate::support::*;

#[test]
fn a_wait_is_told_in_whole_milliseconds_and_never_too_short() {
    let told = |nanos| {
        let rejection = Rejection::new(Reason::Overloaded, Name::new("search").unwrap());
        rejection.with_retry_after(std::time::Duration::from_nanos(nanos)).to_string()
    };
    for (nanos, wait) in
        [(250_000, "250µs"), (1_000_000, "1ms"), (1_000_001, "2ms"), (1_000_400_000, "1.001s"), (7_000_000_000, "7s")]
    {
        assert_eq!(told(nanos), format!("\"search\" is overloaded, retry in {wait}"));
    }
}

#[test]
fn an_error_of_the_services_own_is_given_back() {
    assert_eq!(Error::Inner(Boom).into_inner(), Some(Boom));
    let rejection = Rejection::new(Reason::Overloaded, Name::new("search").unwrap());
    assert_eq!(Error::<Boom>::Rejected(rejection).into_inner(), None);
}

#[test]
fn a_registry_with_a_service_is_not_empty_and_policies_that_say_something_are_some() {
    let registry = Registry::new();
    assert!(registry.is_empty());
    let _held = registry.register(Contract::new("users", Version::new(1, 0, 0)).unwrap(), ()).unwrap();
    assert_eq!((registry.is_empty(), registry.len()), (false, 1));
    assert!(PoliciesSnapshot::None.is_none());
    assert!(!PoliciesSnapshot::facts([("calls", 7)]).is_none());
}

#[test]
fn every_reason_has_a_word_and_a_sentence_of_its_own() {
    use Reason::*;
    let all = [
        Aborted,
        BulkheadFull,
        CircuitOpen,
        CircuitProbing,
        DeadlinePassed,
        NoInstance,
        Overloaded,
        RateLimited,
        TimedOut,
        Unhealthy,
        UnknownMethod,
        UnknownService,
    ];
    let words: std::collections::BTreeSet<&str> = all.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), all.len());
    for reason in all {
        let snake = |c: char| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() };
        let name: String = format!("{reason:?}").chars().map(snake).collect();
        assert_eq!(format!("_{}", reason.as_str()), name);
        let sentence = Rejection::new(reason, Name::new("search").unwrap()).to_string();
        assert!(sentence.contains("\"search\""), "{sentence}");
    }
    assert_eq!(Error::Inner(Boom).retry_after(), None);
}

#[test]
fn all_that_is_wrong_is_told_at_once_wherever_it_is() {
    let fields = |error: mainstay::ConfigError| -> Vec<String> {
        error.problems().map(|problem| problem.field().to_owned()).collect()
    };
    assert_eq!(fields(Instance::new("", "", "10.0.0.1", 80).unwrap_err()), ["service", "id"]);
    assert_eq!(fields(Instance::new("users", "", "10.0.0.1", 80).unwrap_err()), ["id"]);
    assert_eq!(fields(Instance::new("", "a", "10.0.0.1", 80).unwrap_err()), ["service"]);

    let wrong = || LevelsConfig::new(bulkhead::Config::new(0));
    assert_eq!(fields(Levels::try_new("-", wrong()).unwrap_err()).len(), 2);

    let unready = consecutive(0).readiness(breaker::Readiness::Unready);
    let config = keyed::Config::<Tenant, breaker::Config>::new(unready);
    let told = fields(config.check().unwrap_err());
    assert_eq!(told, ["default.consecutive_failures", "default.readiness"]);
}

#[test]
#[should_panic(expected = "client: first_wait = ")]
fn a_client_with_settings_that_cannot_be_says_which() {
    let transport = tower::service_fn(|instance: Instance| {
        let wire = tower::service_fn(move |_: mainstay::contract::Invocation<u32>| {
            let id = instance.id().to_string();
            std::future::ready(Ok::<_, Error<Boom>>(id))
        });
        std::future::ready(Ok::<_, std::convert::Infallible>(wire))
    });
    let config = Config::new().first_wait(std::time::Duration::from_secs(366 * 86_400));
    let _: Client<u32, String, Error<Boom>> = Client::builder(InMemory::new(), transport).config(config).build();
}
