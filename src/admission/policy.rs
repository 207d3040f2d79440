use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{error::Rejection, time::Moment};

/// How a call ended, as told to a [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The service did its work.
    Success,
    /// The service failed, and may have asked to be left alone for a while.
    Failure {
        /// How long the service asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The call says nothing about the service.
    Ignored,
    /// The call was given up before it ended.
    Cancelled,
    /// The answer had begun, and was given up before it ended. What counts against the service is not how long the
    /// caller took to read, but how long it had then been waiting for the next piece.
    BrokenOff {
        /// How long the caller had been waiting; zero when the service was not to blame for the wait.
        waited: Duration,
    },
    /// The call was never made: the permit is given back as if it had not been taken.
    Unused,
}

/// Whether a policy would let a call in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It would, as far as can be known before the call.
    Open,
    /// It would turn the call away.
    Shut,
}

/// Something that lets calls in or turns them away, and is told how they ended.
///
/// Sealed: the handles of this crate implement it, and pairs of them.
pub trait Policy: Sealed + Clone {
    /// What a call holds while it runs. It is always settled.
    type Permit;

    /// What a clone of the service remembers while it waits to be ready.
    type Waiting: Default;

    /// Lets a call in.
    ///
    /// # Errors
    ///
    /// The rejection, when it does not; it is counted and told.
    fn admit(&self, now: &mut Moment) -> Result<Self::Permit, Rejection>;

    /// Lets a call in if that needs no second look. None says nothing yet: ask [`admit`](Self::admit) or
    /// [`enter`](crate::admission::Queue::enter) then. Most calls come in here, without the room that a rejection or a
    /// place in a queue would take.
    #[inline]
    fn at_once(&self, now: &mut Moment) -> Option<Self::Permit> {
        let _ = now;
        None
    }

    /// The rejection of a call for which the gate was shut when the service was asked whether it is ready, and is not
    /// any more: come again at once. It is counted and told as those of `admit` are. None, as by default, when there is
    /// no policy that could have shut its gate.
    fn come_again(&self) -> Option<Rejection> {
        None
    }

    /// Takes the permit back, with the end of the call.
    fn settle(&self, permit: Self::Permit, verdict: Verdict, now: &mut Moment);

    /// Looks whether a call would be let in. Pending for a policy that holds callers back instead of turning them away.
    fn poll_gate(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>) -> Poll<Gate>;

    /// Has the task woken when the answer of `poll_gate` may change. The caller asks again at once after this.
    fn watch(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>);
}

/// What readiness means while a policy lets nothing through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Ready at once; the call is answered with a rejection. What most callers want.
    #[default]
    Reject,
    /// Not ready until a call may be let in, and woken then. For balancers, which pick another instance meanwhile, and
    /// for callers who want back-pressure.
    Unready,
}

/// Keeps the set of policies in this crate's hands.
pub trait Sealed {}

impl<A: Sealed, B: Sealed> Sealed for (A, B) {}

impl<P: Sealed> Sealed for &P {}

/// A policy by reference: for pairs that are put together for one call.
impl<P: Policy> Policy for &P {
    type Permit = P::Permit;
    type Waiting = P::Waiting;

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<P::Permit, Rejection> {
        (**self).admit(now)
    }

    #[inline(always)]
    fn at_once(&self, now: &mut Moment) -> Option<P::Permit> {
        (**self).at_once(now)
    }

    fn come_again(&self) -> Option<Rejection> {
        (**self).come_again()
    }

    #[inline]
    fn settle(&self, permit: P::Permit, verdict: Verdict, now: &mut Moment) {
        (**self).settle(permit, verdict, now);
    }

    fn poll_gate(&self, waiting: &mut P::Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        (**self).poll_gate(waiting, cx)
    }

    fn watch(&self, waiting: &mut P::Waiting, cx: &mut Context<'_>) {
        (**self).watch(waiting, cx);
    }
}

/// Two policies as one: the first is asked first. Nest pairs for more: `(a, (b, c))`.
impl<A: Policy, B: Policy> Policy for (A, B) {
    type Permit = (A::Permit, B::Permit);
    type Waiting = (A::Waiting, B::Waiting);

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Self::Permit, Rejection> {
        let first = self.0.admit(now)?;
        match self.1.admit(now) {
            Ok(second) => Ok((first, second)),
            Err(rejection) => {
                self.0.settle(first, Verdict::Unused, now);
                Err(rejection)
            }
        }
    }

    #[inline(always)]
    fn at_once(&self, now: &mut Moment) -> Option<Self::Permit> {
        let first = self.0.at_once(now)?;
        if let Some(second) = self.1.at_once(now) {
            return Some((first, second));
        }
        self.0.settle(first, Verdict::Unused, now);
        None
    }

    fn come_again(&self) -> Option<Rejection> {
        self.0.come_again().or_else(|| self.1.come_again())
    }

    #[inline(always)]
    fn settle(&self, (first, second): Self::Permit, verdict: Verdict, now: &mut Moment) {
        self.1.settle(second, verdict, now);
        self.0.settle(first, verdict, now);
    }

    #[inline(always)]
    fn poll_gate(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        if ready!(self.0.poll_gate(&mut waiting.0, cx)) == Gate::Shut {
            return Poll::Ready(Gate::Shut);
        }
        if let Poll::Ready(gate) = self.1.poll_gate(&mut waiting.1, cx) {
            return Poll::Ready(gate);
        }
        // While the second holds the caller back, the first may shut its gate, and the caller need not wait any more.
        self.0.watch(&mut waiting.0, cx);
        match self.0.poll_gate(&mut waiting.0, cx) {
            Poll::Ready(Gate::Shut) => Poll::Ready(Gate::Shut),
            Poll::Ready(Gate::Open) | Poll::Pending => Poll::Pending,
        }
    }

    fn watch(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>) {
        self.0.watch(&mut waiting.0, cx);
        self.1.watch(&mut waiting.1, cx);
    }
}

/// A policy that may be absent: then every call is let in.
impl<P: Sealed> Sealed for Option<P> {}

impl<P: Policy> Policy for Option<P> {
    type Permit = Option<P::Permit>;
    type Waiting = P::Waiting;

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Self::Permit, Rejection> {
        self.as_ref().map(|policy| policy.admit(now)).transpose()
    }

    #[inline(always)]
    fn at_once(&self, now: &mut Moment) -> Option<Self::Permit> {
        match self {
            Some(policy) => policy.at_once(now).map(Some),
            None => Some(None),
        }
    }

    fn come_again(&self) -> Option<Rejection> {
        self.as_ref().and_then(P::come_again)
    }

    #[inline(always)]
    fn settle(&self, permit: Self::Permit, verdict: Verdict, now: &mut Moment) {
        if let (Some(policy), Some(permit)) = (self, permit) {
            policy.settle(permit, verdict, now);
        }
    }

    #[inline(always)]
    fn poll_gate(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        self.as_ref().map_or(Poll::Ready(Gate::Open), |policy| policy.poll_gate(waiting, cx))
    }

    fn watch(&self, waiting: &mut Self::Waiting, cx: &mut Context<'_>) {
        if let Some(policy) = self {
            policy.watch(waiting, cx);
        }
    }
}
