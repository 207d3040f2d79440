//! What errors and lists say of themselves.

use mainstay::{
    Error, Name, Reason, Rejection,
    contract::{Contract, Version},
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
