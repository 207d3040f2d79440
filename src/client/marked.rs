use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    client::{call::Call, trail::Trail},
    fallback::Strategy,
};

/// A fallback that leaves its mark on the trails of the calls it answers.
#[derive(Debug)]
pub(super) struct Marked<F>(pub(super) Arc<F>);

pub(super) struct Kept<K> {
    kept: K,
    trail: Arc<Trail>,
}

impl<K> Kept<K> {
    fn mark<A>(&self, answer: A) -> Answering<A> {
        Answering { answer, trail: Arc::clone(&self.trail) }
    }
}

impl<Req, T, E, F: Strategy<Call<Req>, T, E>> Strategy<Call<Req>, T, E> for Marked<F> {
    type Kept = Kept<F::Kept>;
    type Future = Answering<F::Future>;

    const NONE: bool = F::NONE;
    const PLAIN: bool = F::PLAIN;

    fn keep(&self, call: &mut Call<Req>) -> Self::Kept {
        let trail = Arc::clone(&call.trail);
        Kept { kept: self.0.keep(call), trail }
    }

    fn covers(&self, failed: Result<&T, &E>) -> bool {
        self.0.covers(failed)
    }

    fn succeeded(&self, kept: &Self::Kept, response: &T) {
        self.0.succeeded(&kept.kept, response);
    }

    fn fall_back(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        let answer = self.0.fall_back(&mut kept.kept, failed)?;
        Some(kept.mark(answer))
    }

    fn next(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        let answer = self.0.next(&mut kept.kept, failed)?;
        Some(kept.mark(answer))
    }
}

pin_project! {
    pub(super) struct Answering<A> {
        #[pin]
        answer: A,
        trail: Arc<Trail>,
    }
}

impl<T, E, A: Future<Output = Result<T, E>>> Future for Answering<A> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        if answer.is_ok() {
            this.trail.fell_back();
        }
        Poll::Ready(answer)
    }
}
