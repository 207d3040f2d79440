use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::fallback::strategy::Strategy;

/// One strategy, and another where the first has nothing or fails. Made by [`Fallback::or`](super::Fallback::or).
#[derive(Debug, Clone)]
pub struct Or<A, B> {
    pub(super) first: A,
    pub(super) second: B,
}

/// What both keep, and which of the two is asked.
#[derive(Debug)]
pub struct OrKept<A, B> {
    first: A,
    second: B,
    at_second: bool,
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
        let covered = self.second.covers(failed);
        covered.then(|| self.second.fall_back(&mut kept.second, failed)).flatten().map(OrFuture::second)
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
        OrKept { first: self.first.keep(request), second: self.second.keep(request), at_second: false }
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        self.first.covers(failed) || self.second.covers(failed)
    }

    #[inline]
    fn succeeded(&self, kept: &Self::Kept, response: &T) {
        self.first.succeeded(&kept.first, response);
        self.second.succeeded(&kept.second, response);
    }

    fn fall_back(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        let covered = self.first.covers(failed);
        match covered.then(|| self.first.fall_back(&mut kept.first, failed)).flatten() {
            Some(future) => Some(OrFuture::first(future)),
            None => self.second(kept, failed),
        }
    }

    fn next(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        if kept.at_second {
            return self.second.next(&mut kept.second, failed).map(OrFuture::second);
        }
        match self.first.next(&mut kept.first, failed) {
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
