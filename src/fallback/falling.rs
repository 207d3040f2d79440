use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    fallback::{core::Core, strategy::Strategy},
    guarded::guarded,
};

pin_project! {
    /// A call that failed, while its fallback runs.
    ///
    /// It is no future by itself: who polls it has the strategy, and lends it. So a service and a stack can both have
    /// it inside of their own.
    pub(crate) struct Falling<Req, T, E, S>
    where
        S: Strategy<Req, T, E>,
    {
        #[pin]
        future: S::Future,
        kept: S::Kept,
        // What the caller gets if all fails. It has to stay: there is no second one.
        failed: Option<Result<T, E>>,
    }
}

impl<Req, T, E, S: Strategy<Req, T, E>> Falling<Req, T, E, S> {
    /// After [`Core::step`] gave a future.
    pub(crate) fn new(future: S::Future, kept: S::Kept, failed: Result<T, E>) -> Self {
        Self { future, kept, failed: Some(failed) }
    }

    /// The answer: the fallback's, or the failed one when all fails.
    pub(crate) fn poll(self: Pin<&mut Self>, core: &Core, strategy: &S, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        E: fmt::Display,
    {
        let mut this = self.project();
        let failed = this.failed.as_ref().expect("polled again after it answered").as_ref();
        let next = loop {
            let second = match guarded("fallback", || this.future.as_mut().poll(cx)) {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(Ok(answer))) => {
                    core.answered(failed);
                    *this.failed = None;
                    return Poll::Ready(Ok(answer));
                }
                Some(Poll::Ready(Err(second))) => Some(second),
                None => None,
            };
            match core.after_failure(strategy, this.kept, failed, second.as_ref()) {
                Some(next) => this.future.set(next),
                None => break this.failed.take(),
            }
        };
        Poll::Ready(next.expect("it was there above"))
    }
}
