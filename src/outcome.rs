//! What a finished call means: [`Outcome`], and who decides it: [`Classify`].

use std::time::Duration;

use serde::Serialize;

use crate::error::{CarryRejection, Reason, Rejection};

/// What a call says about the service behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// The service failed.
    Failure,
    /// The call says nothing about the service: a bad request, say, or a rejection by another policy.
    Ignored,
}

/// Decides what a result means, for results of any type.
///
/// [`OnError`] is the default and needs to know nothing of the types. A closure can decide too, through
/// [`classify_fn`]:
///
/// ```
/// use mainstay::{Outcome, classify_fn};
///
/// struct Row(Option<String>);
/// enum DbError { Gone, BadQuery }
///
/// let by_kind = classify_fn(|result: Result<&Row, &DbError>| match result {
///     Ok(_) => Outcome::Success,
///     Err(DbError::BadQuery) => Outcome::Ignored,
///     Err(DbError::Gone) => Outcome::Failure,
/// });
/// ```
///
/// A classifier that panics counts as [`Outcome::Failure`]; the caller still gets its result.
pub trait Classify<T, E> {
    /// What this result means.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;

    /// How long the service asks to be left alone, where the result says so (`Retry-After`).
    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        let _ = result;
        None
    }

    /// Whether every `Ok` is a success without a question. Saves a call what keeps a panic in a classifier from it.
    #[doc(hidden)]
    #[inline]
    fn takes_any_ok(&self) -> bool {
        false
    }
}

impl<T, E, F: Fn(Result<&T, &E>) -> Outcome> Classify<T, E> for F {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// Gives a closure the signature of a classifier, so that the compiler need not be told it.
pub fn classify_fn<T, E, F: Fn(Result<&T, &E>) -> Outcome>(classify: F) -> F {
    classify
}

/// The default classifier: `Ok` is a success, `Err` a failure.
///
/// A rejection by another layer of this crate is not the service's failure and is ignored, except for a time-out,
/// which is: the service was called and did not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnError;

impl<T, E: CarryRejection> Classify<T, E> for OnError {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => classify_error(error),
        }
    }

    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        result.err()?.rejection()?.retry_after()
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        true
    }
}

/// What an error says about the service: a failure, unless it is another policy's rejection.
pub fn classify_error<E: CarryRejection>(error: &E) -> Outcome {
    match error.rejection() {
        Some(rejection) if !rejection.reason().blames_service() => Outcome::Ignored,
        _ => Outcome::Failure,
    }
}

/// The classifier of those who ask about capacity only: a time-out, a full bulkhead and shed load are failures, every
/// other error is ignored. For policies that let fewer calls in when a service fails, where an error says nothing about
/// how busy the service is.
///
/// ```
/// use mainstay::{Classify, Error, Name, OnOverload, Outcome, Reason, Rejection};
///
/// type Answer = Result<(), Error<std::io::Error>>;
/// let rejected = |reason| Answer::Err(Error::Rejected(Rejection::new(reason, Name::new("search").unwrap())));
/// assert_eq!(OnOverload.classify(rejected(Reason::TimedOut).as_ref()), Outcome::Failure);
/// assert_eq!(OnOverload.classify(rejected(Reason::CircuitOpen).as_ref()), Outcome::Ignored);
/// let failed = Answer::Err(Error::Inner(std::io::Error::other("no such row")));
/// assert_eq!(OnOverload.classify(failed.as_ref()), Outcome::Ignored);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnOverload;

impl<T, E: CarryRejection> Classify<T, E> for OnOverload {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        let Err(error) = result else { return Outcome::Success };
        match error.rejection().map(Rejection::reason) {
            Some(Reason::TimedOut | Reason::Overloaded | Reason::BulkheadFull) => Outcome::Failure,
            _ => Outcome::Ignored,
        }
    }

    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        OnError.retry_after(result)
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        true
    }
}
