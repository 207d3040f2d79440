//! The one timer of a call: for the limit of the call, of an attempt, and for the wait before a retry, whichever comes
//! first.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    rare::Rare,
    time::{Moment, Tick},
};

/// Made when a call first has to wait: most never need one. In a box, so that the future around it can be moved.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Rare<Pin<Box<Sleep>>>,
    at: Tick,
}

/// One poll of a call: the present, read once if at all, and whether the alarm went off, so that somebody's time may
/// have come.
#[derive(Debug, Default)]
pub(super) struct Beat {
    pub(super) now: Moment,
    rang: bool,
}

impl Beat {
    /// Whether a time has come. Reads no clock unless the alarm went off.
    #[inline]
    pub(super) fn has_come(&mut self, time: Tick) -> bool {
        self.rang && self.now.tick() >= time
    }
}

impl Alarm {
    /// Waits until a time, whatever it waited for before.
    pub(super) fn poll(&mut self, at: Tick, now: &mut Moment, cx: &mut Context<'_>) -> Poll<Beat> {
        if at == Tick::NEVER {
            return Poll::Pending;
        }
        if self.at != at || self.sleep.is_none() {
            // The present is read anew for a timer that is set anew: what ran since may have taken long.
            let now = if self.sleep.is_none() { now } else { &mut Moment::new() };
            let Some(instant) = at.to_instant_at(now) else { return Poll::Pending };
            match &mut *self.sleep {
                Some(sleep) => sleep.as_mut().reset(instant),
                none => *none = Some(Box::pin(sleep_until(instant))),
            }
            self.at = at;
        }
        let Some(sleep) = &mut *self.sleep else { return Poll::Pending };
        // Without tokio's cooperative budget: a service that has used it up would keep the alarm from going off for
        // ever, and such a service is just what a limit is for.
        ready!(pin!(tokio::task::unconstrained(sleep.as_mut())).poll(cx));
        Poll::Ready(Beat { now: Moment::from(Tick::now().max(at)), rang: true })
    }
}
