//! The user's code where a panic in it must not take the call along: hooks, classifiers, texts of errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
