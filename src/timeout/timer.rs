//! The one timer of a call: made when the call first has to wait, and polled so that nothing can keep it from firing.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use crate::{deadline::Deadline, time::instant_after};

/// When a call is cut off.
#[derive(Debug, Default)]
pub(crate) enum Timer {
    /// Nothing was waited for yet, and no timer is made: most calls never need one.
    #[default]
    Idle,
    /// In a box, so that the future around it can be moved, and moving it costs nothing.
    Armed(Pin<Box<Sleep>>),
    /// The limit lies beyond what a clock can say.
    Never,
}

impl Timer {
    /// Whether the limit has passed. The first call arms the timer, and the limit runs from there; a deadline that is
    /// nearer cuts it short.
    pub(crate) fn poll(&mut self, limit: Duration, deadline: Option<Deadline>, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self, Self::Idle) {
            let left = deadline.map_or(limit, |deadline| limit.min(deadline.left()));
            *self = instant_after(left).map_or(Self::Never, |at| Self::Armed(Box::pin(tokio::time::sleep_until(at))));
        }
        match self {
            // Without tokio's cooperative budget: a service that has used it up would keep the timer from firing for
            // ever, and such a service is just what a limit is for.
            Self::Armed(sleep) => pin!(tokio::task::unconstrained(sleep.as_mut())).poll(cx),
            Self::Idle | Self::Never => Poll::Pending,
        }
    }

    /// Runs from the next poll on.
    #[cfg(feature = "http")]
    pub(crate) fn restart(&mut self) {
        *self = Self::Idle;
    }
}
