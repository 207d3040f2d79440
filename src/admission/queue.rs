use std::task::{Context, Poll, ready};

use crate::{
    admission::{Policy, Verdict},
    error::Rejection,
    time::Moment,
};

/// A policy that may let a call in later: the call waits in a queue, for as long as the policy says.
pub trait Queue: Policy {
    /// A place in the queue.
    type Wait;

    /// Lets a call in, or queues it.
    ///
    /// # Errors
    ///
    /// The rejection, when it does neither; it is counted and told.
    fn enter(&self, now: &mut Moment) -> Result<Entry<Self::Permit, Self::Wait>, Rejection>;

    /// Waits for the permit. After an answer the place is gone.
    fn poll_wait(&self, wait: &mut Self::Wait, cx: &mut Context<'_>) -> Poll<Result<Self::Permit, Rejection>>;

    /// Leaves the queue before the end of the wait. A permit that was granted meanwhile goes to the next.
    fn leave(&self, wait: Self::Wait);
}

/// How a call enters a [`Queue`].
#[derive(Debug)]
pub enum Entry<T, W> {
    /// It is let in.
    Admitted(T),
    /// It waits.
    Queued(W),
}

/// The place of a call in the queue of one of two policies.
#[derive(Debug)]
pub enum PairWait<T, A, B> {
    /// The first has not let it in yet.
    First(A),
    /// The first has let it in, the second has not. Emptied when it ends.
    Second(Option<T>, B),
}

impl<P: Queue> Queue for &P {
    type Wait = P::Wait;

    fn enter(&self, now: &mut Moment) -> Result<Entry<P::Permit, P::Wait>, Rejection> {
        (**self).enter(now)
    }

    fn poll_wait(&self, wait: &mut P::Wait, cx: &mut Context<'_>) -> Poll<Result<P::Permit, Rejection>> {
        (**self).poll_wait(wait, cx)
    }

    fn leave(&self, wait: P::Wait) {
        (**self).leave(wait);
    }
}

impl<A: Queue, B: Queue> Queue for (A, B) {
    type Wait = PairWait<A::Permit, A::Wait, B::Wait>;

    #[inline]
    fn enter(&self, now: &mut Moment) -> Result<Entry<Self::Permit, Self::Wait>, Rejection> {
        match self.0.enter(now)? {
            Entry::Admitted(first) => enter_second(self, first, now),
            Entry::Queued(wait) => Ok(Entry::Queued(PairWait::First(wait))),
        }
    }

    fn poll_wait(&self, wait: &mut Self::Wait, cx: &mut Context<'_>) -> Poll<Result<Self::Permit, Rejection>> {
        if let PairWait::First(first) = wait {
            let first = ready!(self.0.poll_wait(first, cx))?;
            match enter_second(self, first, &mut Moment::new())? {
                Entry::Admitted(both) => return Poll::Ready(Ok(both)),
                Entry::Queued(second) => *wait = second,
            }
        }
        let PairWait::Second(first, second) = wait else { return Poll::Pending };
        let second = ready!(self.1.poll_wait(second, cx));
        let Some(first) = first.take() else { return Poll::Pending };
        Poll::Ready(match second {
            Ok(second) => Ok((first, second)),
            Err(rejection) => {
                self.0.settle(first, Verdict::Unused, &mut Moment::new());
                Err(rejection)
            }
        })
    }

    fn leave(&self, wait: Self::Wait) {
        match wait {
            PairWait::First(wait) => self.0.leave(wait),
            PairWait::Second(Some(first), wait) => {
                self.1.leave(wait);
                self.0.settle(first, Verdict::Unused, &mut Moment::new());
            }
            PairWait::Second(None, _) => {}
        }
    }
}

type EntryOf<P> = Entry<<P as Policy>::Permit, <P as Queue>::Wait>;

/// The first of two has let a call in: now the second is asked, and if it refuses, the first takes back what it gave.
#[inline]
fn enter_second<A: Queue, B: Queue>(
    (one, two): &(A, B),
    first: A::Permit,
    now: &mut Moment,
) -> Result<EntryOf<(A, B)>, Rejection> {
    match two.enter(now) {
        Ok(Entry::Admitted(second)) => Ok(Entry::Admitted((first, second))),
        Ok(Entry::Queued(wait)) => Ok(Entry::Queued(PairWait::Second(Some(first), wait))),
        Err(rejection) => {
            one.settle(first, Verdict::Unused, now);
            Err(rejection)
        }
    }
}

impl<P: Queue> Queue for Option<P> {
    type Wait = P::Wait;

    #[inline]
    fn enter(&self, now: &mut Moment) -> Result<Entry<Self::Permit, P::Wait>, Rejection> {
        let Some(policy) = self else { return Ok(Entry::Admitted(None)) };
        Ok(match policy.enter(now)? {
            Entry::Admitted(permit) => Entry::Admitted(Some(permit)),
            Entry::Queued(wait) => Entry::Queued(wait),
        })
    }

    fn poll_wait(&self, wait: &mut P::Wait, cx: &mut Context<'_>) -> Poll<Result<Self::Permit, Rejection>> {
        let Some(policy) = self else { return Poll::Ready(Ok(None)) };
        policy.poll_wait(wait, cx).map_ok(Some)
    }

    fn leave(&self, wait: P::Wait) {
        if let Some(policy) = self {
            policy.leave(wait);
        }
    }
}
