//! What a fallback is for: which results count as failures, and which of those a strategy covers.

use std::fmt;

use crate::{
    error::{CarryRejection, Reason, Rejection},
    fallback::strategy::Strategy,
    outcome::{Classify, Outcome},
};

/// Every error is a failure: the service's own, and every rejection by a policy. The default, which needs to know
/// nothing of the types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnyError;

impl<T, E> Classify<T, E> for AnyError {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

/// What a [`Classify`]r calls a failure, responses among them, and every rejection by a policy: a caller who was turned
/// away has no answer, whoever is to blame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classified<C>(pub C);

impl<T, E: CarryRejection, C: Classify<T, E>> Classify<T, E> for Classified<C> {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result.err().and_then(E::rejection) {
            Some(_) => Outcome::Failure,
            None => self.0.classify(result),
        }
    }
}

/// A strategy for rejections with one of these reasons only. Made by [`Fallback::on`](super::Fallback::on).
#[derive(Debug, Clone)]
pub struct On<S> {
    pub(super) strategy: S,
    pub(super) reasons: Vec<Reason>,
}

/// A strategy for some errors only. Made by [`Fallback::when`](super::Fallback::when).
#[derive(Clone)]
pub struct When<S, P> {
    pub(super) strategy: S,
    pub(super) predicate: P,
}

impl<S: fmt::Debug, P> fmt::Debug for When<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").field("strategy", &self.strategy).finish_non_exhaustive()
    }
}

impl<Req, T, E: CarryRejection, S: Strategy<Req, T, E>> Strategy<Req, T, E> for On<S> {
    type Kept = S::Kept;
    type Future = S::Future;

    const PLAIN: bool = S::PLAIN;

    #[inline]
    fn keep(&self, request: &mut Req) -> S::Kept {
        self.strategy.keep(request)
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        let reason = failed.err().and_then(E::rejection).map(Rejection::reason);
        reason.is_some_and(|reason| self.reasons.contains(&reason)) && self.strategy.covers(failed)
    }

    #[inline]
    fn succeeded(&self, kept: &S::Kept, response: &T) {
        self.strategy.succeeded(kept, response);
    }

    fn fall_back(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.fall_back(kept, failed)
    }

    fn next(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.next(kept, failed)
    }
}

impl<Req, T, E, S: Strategy<Req, T, E>, P: Fn(&E) -> bool> Strategy<Req, T, E> for When<S, P> {
    type Kept = S::Kept;
    type Future = S::Future;

    const PLAIN: bool = S::PLAIN;

    #[inline]
    fn keep(&self, request: &mut Req) -> S::Kept {
        self.strategy.keep(request)
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        failed.err().is_some_and(&self.predicate) && self.strategy.covers(failed)
    }

    #[inline]
    fn succeeded(&self, kept: &S::Kept, response: &T) {
        self.strategy.succeeded(kept, response);
    }

    fn fall_back(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.fall_back(kept, failed)
    }

    fn next(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.next(kept, failed)
    }
}
