//! Answers that are made on the spot: a value, or what a closure makes of the failure and of the request.

use std::{
    fmt,
    future::{Future, Ready, ready},
};

use crate::fallback::strategy::Strategy;

/// Always the same answer. Made by [`Fallback::value`](super::Fallback::value).
#[derive(Debug, Clone)]
pub struct Value<T>(pub(super) T);

/// An answer made from the error. Made by [`Fallback::with`](super::Fallback::with).
#[derive(Clone)]
pub struct With<F>(pub(super) F);

/// An answer made from the error or the failed response. Made by
/// [`Fallback::with_result`](super::Fallback::with_result).
#[derive(Clone)]
pub struct WithResult<F>(pub(super) F);

/// What an async closure answers to the error. Made by [`Fallback::run`](super::Fallback::run).
#[derive(Clone)]
pub struct Run<F>(pub(super) F);

/// What an async closure answers to something of the request and to the failure. Made by
/// [`Fallback::request`](super::Fallback::request).
#[derive(Clone)]
pub struct OfRequest<K, F> {
    pub(super) keep: K,
    pub(super) answer: F,
}

impl<Req, T: Clone, E> Strategy<Req, T, E> for Value<T> {
    type Kept = ();
    type Future = Ready<Result<T, E>>;

    const PLAIN: bool = true;

    #[inline]
    fn keep(&self, _: &mut Req) {}

    fn fall_back(&self, (): &mut (), _: Result<&T, &E>) -> Option<Self::Future> {
        Some(ready(Ok(self.0.clone())))
    }
}

impl<Req, T, E, F: Fn(&E) -> T> Strategy<Req, T, E> for With<F> {
    type Kept = ();
    type Future = Ready<Result<T, E>>;

    const PLAIN: bool = true;

    #[inline]
    fn keep(&self, _: &mut Req) {}

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        failed.is_err()
    }

    fn fall_back(&self, (): &mut (), failed: Result<&T, &E>) -> Option<Self::Future> {
        failed.err().map(|error| ready(Ok((self.0)(error))))
    }
}

impl<Req, T, E, F: Fn(Result<&T, &E>) -> T> Strategy<Req, T, E> for WithResult<F> {
    type Kept = ();
    type Future = Ready<Result<T, E>>;

    const PLAIN: bool = true;

    #[inline]
    fn keep(&self, _: &mut Req) {}

    fn fall_back(&self, (): &mut (), failed: Result<&T, &E>) -> Option<Self::Future> {
        Some(ready(Ok((self.0)(failed))))
    }
}

impl<Req, T, E, F, Fut> Strategy<Req, T, E> for Run<F>
where
    F: Fn(&E) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Kept = ();
    type Future = Fut;

    const PLAIN: bool = true;

    #[inline]
    fn keep(&self, _: &mut Req) {}

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        failed.is_err()
    }

    fn fall_back(&self, (): &mut (), failed: Result<&T, &E>) -> Option<Fut> {
        failed.err().map(&self.0)
    }
}

impl<Req, T, E, Q, K, F, Fut> Strategy<Req, T, E> for OfRequest<K, F>
where
    K: Fn(&Req) -> Q,
    F: Fn(Q, Result<&T, &E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Kept = Option<Q>;
    type Future = Fut;

    #[inline]
    fn keep(&self, request: &mut Req) -> Option<Q> {
        Some((self.keep)(request))
    }

    fn fall_back(&self, kept: &mut Option<Q>, failed: Result<&T, &E>) -> Option<Fut> {
        kept.take().map(|kept| (self.answer)(kept, failed))
    }
}

macro_rules! debug {
    ($($name:ident<$($parameter:ident),+>),+) => {$(
        impl<$($parameter),+> fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}

debug!(With<F>, WithResult<F>, Run<F>, OfRequest<K, F>);
