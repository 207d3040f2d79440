//! Layers never change the error type: which types can carry a rejection, and what becomes of it in them.

use std::{error, fmt, future::ready};

use mainstay::{
    BoxError, CarryRejection, Error, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Handle},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// What a service answers whose circuit was opened by hand, and what it answers when it is closed.
async fn rejected_and_passed<E: CarryRejection>(result: impl Fn() -> Result<u32, E>) -> (E, Result<u32, E>) {
    let breaker = Handle::new("users", consecutive(1));
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| ready(result())));
    let mut service = service;
    breaker.force_open();
    let rejected = service.ready().await.ok().expect("ready").call(1).await.expect_err("rejected");
    breaker.reset();
    let passed = service.ready().await.ok().expect("ready").call(1).await;
    (rejected, passed)
}

#[derive(Debug, PartialEq)]
enum UserError {
    NotFound,
    Unavailable(Rejection),
}

impl CarryRejection for UserError {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Unavailable(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::NotFound => None,
            Self::Unavailable(rejection) => Some(rejection),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn our_error_carries_rejections_of_any_service() {
    let (rejected, passed) = rejected_and_passed(|| Answer::Err(Error::Inner(Boom))).await;
    assert!(matches!(rejected, Error::Rejected(r) if r.reason() == Reason::CircuitOpen && r.policy() == "users"));
    assert_eq!(passed, Err(Error::Inner(Boom)));
}

#[tokio::test(start_paused = true)]
async fn an_enum_of_the_users_carries_them_with_one_impl() {
    let (rejected, passed) = rejected_and_passed(|| Err::<u32, _>(UserError::NotFound)).await;
    assert!(matches!(rejected, UserError::Unavailable(_)));
    assert_eq!(passed, Err(UserError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn boxed_errors_carry_them_and_still_downcast() {
    let (rejected, passed) = rejected_and_passed(|| Err::<u32, BoxError>(Boom.into())).await;
    assert_eq!(rejected.downcast_ref::<Rejection>().unwrap().policy(), "users");
    assert!(passed.unwrap_err().downcast_ref::<Boom>().is_some());
    let (rejected, _) = rejected_and_passed(|| Err::<u32, Box<dyn error::Error>>(Boom.into())).await;
    assert!(rejected.rejection().is_some());
    let (rejected, _) = rejected_and_passed(|| Err::<u32, Box<dyn error::Error + Send>>(Box::new(Boom))).await;
    assert!(rejected.rejection().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_infallible_service_is_mapped_once_at_the_bottom() {
    let breaker = Handle::new("users", consecutive(1));
    let mut service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(Error::Inner)
        .service(service_fn(|n: u32| ready(infallible(n))));
    assert_eq!(service.ready().await.unwrap().call(3).await, Ok(3));
    breaker.force_open();
    assert!(service.ready().await.unwrap().call(3).await.unwrap_err().is_rejection());
}

#[tokio::test(start_paused = true)]
async fn anyhow_adopts_rejections_at_the_top() {
    let breaker = Handle::new("users", consecutive(2));
    let mut service = ServiceBuilder::new()
        .map_err(Error::<anyhow::Error>::flatten)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(Error::Inner)
        .service(service_fn(|_: u32| ready(Err::<u32, _>(anyhow::Error::new(Boom).context("reading the user")))));
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(error.to_string(), "reading the user");
    assert!(error.downcast_ref::<Boom>().is_some());
    breaker.force_open();
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Rejection>().unwrap().reason(), Reason::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn ten_layers_have_the_error_type_of_one() {
    let breakers: Vec<Handle> = (0..3).map(|n| Handle::new(&format!("b{n}"), consecutive(1))).collect();
    let layer = |n: usize| CircuitBreakerLayer::new(breakers[n].clone());
    let mut service = ServiceBuilder::new()
        .layer(layer(0))
        .layer(layer(1))
        .layer(layer(2))
        .service(service_fn(|n: u32| ready(Answer::Ok(n))));
    breakers[2].force_open();
    let error: Error<Boom> = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(r) if r.policy() == "b2"));
    assert_eq!(breakers[0].snapshot().totals.ignored, 1);
    assert_eq!(breakers[1].snapshot().totals.ignored, 1);
}

#[test]
fn sources_are_kept_and_a_rejection_is_found_down_the_chain() {
    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] Error<Boom>);

    let rejection = Rejection::new(Reason::RateLimited, mainstay::Name::new("api").unwrap()).with_retry_after(ms(250));
    let boxed: BoxError = Wrapped(Error::Rejected(rejection.clone())).into();
    assert_eq!(boxed.rejection(), Some(&rejection));
    assert_eq!(rejection.to_string(), "rate limit \"api\" is used up, retry in 250ms");
    let inner: BoxError = Wrapped(Error::Inner(Boom)).into();
    assert!(inner.rejection().is_none());
    let chain = error::Error::source(error::Error::source(&*inner).unwrap()).unwrap();
    assert!(chain.downcast_ref::<Boom>().is_some());
}

#[test]
fn an_error_goes_into_a_box_without_a_wrapper_even_when_it_is_one() {
    let boxed = Error::<BoxError>::Inner(Boom.into()).into_boxed();
    assert!(boxed.downcast_ref::<Boom>().is_some());
    let boxed = Error::Inner(Boom).into_boxed();
    assert!(boxed.downcast_ref::<Boom>().is_some());
    let rejection = Rejection::new(Reason::TimedOut, mainstay::Name::new("api").unwrap());
    assert!(Error::<BoxError>::Rejected(rejection).into_boxed().rejection().is_some());
}

#[test]
fn every_reason_names_the_policy() {
    let reasons = [
        Reason::BulkheadFull,
        Reason::CircuitOpen,
        Reason::CircuitProbing,
        Reason::DeadlinePassed,
        Reason::NoInstance,
        Reason::Overloaded,
        Reason::RateLimited,
        Reason::TimedOut,
    ];
    let mut texts: Vec<String> =
        reasons.iter().map(|reason| Rejection::new(*reason, mainstay::Name::new("api").unwrap()).to_string()).collect();
    assert!(texts.iter().all(|text| text.contains("\"api\"")), "{texts:?}");
    texts.dedup();
    assert_eq!(texts.len(), reasons.len());
    assert!(reasons.iter().all(|reason| fmt::format(format_args!("{reason}")) == reason.as_str()));
}
