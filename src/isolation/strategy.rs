//! Fallback strategies without their types: they can be changed for others while in use.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    contract::Invocation,
    fallback::Strategy,
    isolation::{
        erased::Answer,
        meter::{Count, Meters},
    },
};

pub(super) trait AnyStrategy<Req, T, E>: Send + Sync {
    fn begin(self: Arc<Self>, call: &mut Invocation<Req>) -> Box<dyn AnyKept<T, E>>;
    fn is_for(&self, failed: Result<&T, &E>) -> bool;
}

/// What a strategy keeps of a request, and the strategy: apart nobody would know that they belong together.
pub(super) trait AnyKept<T, E>: Send {
    fn learn(&self, response: &T);
    fn answer(&mut self, failed: Result<&T, &E>) -> Option<Answer<T, E>>;
    fn another(&mut self, failed: Result<&T, &E>) -> Option<Answer<T, E>>;
}

struct Held<S: Strategy<Invocation<Req>, T, E>, Req, T, E> {
    kept: S::Kept,
    strategy: Arc<S>,
}

impl<S, Req, T, E> AnyStrategy<Req, T, E> for S
where
    S: Strategy<Invocation<Req>, T, E> + Send + Sync + 'static,
    S::Kept: Send + 'static,
    S::Future: Send + 'static,
    Req: 'static,
    T: 'static,
    E: 'static,
{
    fn begin(self: Arc<Self>, call: &mut Invocation<Req>) -> Box<dyn AnyKept<T, E>> {
        let kept = self.keep(call);
        Box::new(Held { kept, strategy: self })
    }

    fn is_for(&self, failed: Result<&T, &E>) -> bool {
        self.covers(failed)
    }
}

impl<S, Req, T, E> AnyKept<T, E> for Held<S, Req, T, E>
where
    S: Strategy<Invocation<Req>, T, E> + Send + Sync + 'static,
    S::Kept: Send + 'static,
    S::Future: Send + 'static,
    Req: 'static,
    T: 'static,
    E: 'static,
{
    fn learn(&self, response: &T) {
        self.strategy.succeeded(&self.kept, response);
    }

    fn answer(&mut self, failed: Result<&T, &E>) -> Option<Answer<T, E>> {
        self.strategy.fall_back(&mut self.kept, failed).map(|answer| Box::pin(answer) as Answer<T, E>)
    }

    fn another(&mut self, failed: Result<&T, &E>) -> Option<Answer<T, E>> {
        self.strategy.next(&mut self.kept, failed).map(|answer| Box::pin(answer) as Answer<T, E>)
    }
}

/// The strategy of a plan, which counts its answers.
pub(super) struct Counting<Req, T, E> {
    pub(super) strategy: Arc<dyn AnyStrategy<Req, T, E>>,
    pub(super) meters: Arc<Meters>,
}

impl<Req, T, E> Counting<Req, T, E> {
    fn counted(&self, answer: Answer<T, E>) -> Counted<T, E> {
        Counted { answer, meters: Arc::clone(&self.meters) }
    }
}

impl<Req, T, E> Strategy<Invocation<Req>, T, E> for Counting<Req, T, E> {
    type Kept = Box<dyn AnyKept<T, E>>;
    type Future = Counted<T, E>;

    fn keep(&self, call: &mut Invocation<Req>) -> Self::Kept {
        Arc::clone(&self.strategy).begin(call)
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        self.strategy.is_for(failed)
    }

    fn succeeded(&self, kept: &Self::Kept, response: &T) {
        kept.learn(response);
    }

    fn fall_back(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Counted<T, E>> {
        kept.answer(failed).map(|answer| self.counted(answer))
    }

    fn next(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Counted<T, E>> {
        kept.another(failed).map(|answer| self.counted(answer))
    }
}

/// The answer of a fallback.
pub(super) struct Counted<T, E> {
    answer: Answer<T, E>,
    meters: Arc<Meters>,
}

impl<T, E> Future for Counted<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let polled = self.answer.as_mut().poll(cx);
        if let Poll::Ready(Ok(_)) = &polled {
            self.meters.count(Count::FellBack);
        }
        polled
    }
}
