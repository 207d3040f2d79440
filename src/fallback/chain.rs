use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{fallback::strategy::Strategy, guarded::guarded};

/// One strategy, and another where the first has nothing or fails. Made by [`Fallback::or`](super::Fallback::or).
#[derive(Debug, Clone)]
pub struct Or<A, B> {
    pub(super) first: A,
    pub(super) second: B,
}

/// What both keep, and which of the two is asked.
#[derive(Debug)]
pub struct OrKept<A, B> {
    // None where it panicked: the other is still there.
    first: Option<A>,
    second: Option<B>,
    at_second: bool,
}

/// What one of the two keeps. A panic in it is not to cost the other.
#[inline]
fn keep<Req, T, E, S: Strategy<Req, T, E>>(strategy: &S, request: &mut Req) -> Option<S::Kept> {
    if S::PLAIN { Some(strategy.keep(request)) } else { guarded("fallback", || strategy.keep(request)) }
}

fn covers<Req, T, E, S: Strategy<Req, T, E>>(strategy: &S, failed: Result<&T, &E>) -> bool {
    guarded("fallback", || strategy.covers(failed)).unwrap_or(false)
}

fn learn<Req, T, E, S: Strategy<Req, T, E>>(strategy: &S, kept: Option<&S::Kept>, response: &T) {
    if let (false, Some(kept)) = (S::PLAIN, kept) {
        guarded("fallback", || strategy.succeeded(kept, response));
    }
}

impl<A, B> Or<A, B> {
    fn second<Req, T, E>(
        &self,
        kept: &mut OrKept<A::Kept, B::Kept>,
        failed: Result<&T, &E>,
    ) -> Option<OrFuture<A::Future, B::Future>>
    where
        A: Strategy<Req, T, E>,
        B: Strategy<Req, T, E>,
    {
        kept.at_second = true;
        let kept = kept.second.as_mut().filter(|_| covers(&self.second, failed))?;
        self.second.fall_back(kept, failed).map(OrFuture::second)
    }
}

impl<Req, T, E, A, B> Strategy<Req, T, E> for Or<A, B>
where
    A: Strategy<Req, T, E>,
    B: Strategy<Req, T, E>,
{
    type Kept = OrKept<A::Kept, B::Kept>;
    type Future = OrFuture<A::Future, B::Future>;

    const PLAIN: bool = A::PLAIN && B::PLAIN;

    #[inline]
    fn keep(&self, request: &mut Req) -> Self::Kept {
        OrKept { first: keep(&self.first, request), second: keep(&self.second, request), at_second: false }
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        covers(&self.first, failed) || covers(&self.second, failed)
    }

    #[inline]
    fn succeeded(&self, kept: &Self::Kept, response: &T) {
        learn(&self.first, kept.first.as_ref(), response);
        learn(&self.second, kept.second.as_ref(), response);
    }

    fn fall_back(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        let first = kept.first.as_mut().filter(|_| covers(&self.first, failed));
        match first.and_then(|kept| self.first.fall_back(kept, failed)) {
            Some(future) => Some(OrFuture::first(future)),
            None => self.second(kept, failed),
        }
    }

    fn next(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        if kept.at_second {
            return self.second.next(kept.second.as_mut()?, failed).map(OrFuture::second);
        }
        let first = kept.first.as_mut();
        match first.and_then(|kept| guarded("fallback", || self.first.next(kept, failed)).flatten()) {
            Some(future) => Some(OrFuture::first(future)),
            None => self.second(kept, failed),
        }
    }
}

pin_project! {
    /// The answer of the one or of the other.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct OrFuture<A, B> {
        #[pin]
        either: Either<A, B>,
    }
}

pin_project! {
    #[project = EitherProjection]
    #[derive(Debug)]
    enum Either<A, B> {
        First { #[pin] future: A },
        Second { #[pin] future: B },
    }
}

impl<A, B> OrFuture<A, B> {
    fn first(future: A) -> Self {
        Self { either: Either::First { future } }
    }

    fn second(future: B) -> Self {
        Self { either: Either::Second { future } }
    }
}

impl<A: Future, B: Future<Output = A::Output>> Future for OrFuture<A, B> {
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        match self.project().either.project() {
            EitherProjection::First { future } => future.poll(cx),
            EitherProjection::Second { future } => future.poll(cx),
        }
    }
}
