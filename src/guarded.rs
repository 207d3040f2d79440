//! The user's code where a panic in it must not take the call along: hooks, classifiers, texts of errors.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Runs it. A panic is told, and goes no further; the call goes on as if it had not been asked.
#[inline]
pub(crate) fn guarded<R>(whose: &'static str, run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => Some(value),
        Err(_) => {
            tracing::error!("a {whose} panicked; the call goes on without it");
            None
        }
    }
}

/// Runs a future in the same way: none when it panics.
pub(crate) async fn guarded_future<F: Future>(whose: &'static str, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let poll = |polled: Option<Poll<F::Output>>| polled.map_or(Poll::Ready(None), |polled| polled.map(Some));
    poll_fn(|cx| poll(guarded(whose, || future.as_mut().poll(cx)))).await
}
