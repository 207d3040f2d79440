//! How a policy and the readiness of the service behind it go together.

use std::{
    fmt,
    task::{Context, Poll, Waker, ready},
};

use crate::{
    admission::{Admitted, Entry, Gate, Holds, Policy, Queue, Verdict},
    error::{CarryRejection, Rejection},
    outcome::{Outcome, classify_error},
    time::Moment,
};

/// What a clone of a service knows of the policy before it: one for each clone.
pub(crate) struct Gatekeeper<P: Policy> {
    // The service was not asked, because the policy would turn the call away.
    shut: bool,
    watches: bool,
    waiting: P::Waiting,
}

/// How a call came in.
pub(crate) enum Entered<H: Holds>
where
    H::Policy: Queue,
{
    Admitted(Admitted<H>),
    Queued(InQueue<H>),
}

impl<P: Policy> Gatekeeper<P> {
    pub(crate) fn new() -> Self {
        Self { shut: false, watches: false, waiting: P::Waiting::default() }
    }

    /// Readiness of the service behind the policy: it is only asked when the policy would let a call in.
    #[inline(always)]
    pub(crate) fn poll_ready<E: CarryRejection>(
        &mut self,
        policy: &P,
        cx: &mut Context<'_>,
        mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let Poll::Ready(gate) = policy.poll_gate(&mut self.waiting, cx) else {
            self.watches = true;
            return Poll::Pending;
        };
        self.shut = gate == Gate::Shut;
        if self.shut {
            self.stop_watching();
            return Poll::Ready(Ok(()));
        }
        match inner(cx) {
            Poll::Ready(Ok(())) => {
                self.stop_watching();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.stop_watching();
                count_readiness_error(policy, &error);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                policy.watch(&mut self.waiting, cx);
                self.watches = true;
                // The policy may have changed its mind before we were on its list.
                match ready!(policy.poll_gate(&mut self.waiting, cx)) {
                    Gate::Open => Poll::Pending,
                    Gate::Shut => {
                        self.shut = true;
                        self.stop_watching();
                        Poll::Ready(Ok(()))
                    }
                }
            }
        }
    }

    /// An idle, ready clone is on nobody's list.
    #[inline]
    fn stop_watching(&mut self) {
        if std::mem::take(&mut self.watches) {
            self.waiting = P::Waiting::default();
        }
    }

    /// Lets a call in if that needs no second look, with a permit that the caller sees to.
    #[inline(always)]
    pub(crate) fn at_once(&self, policy: &P, now: &mut Moment) -> Option<P::Permit> {
        if self.shut { None } else { policy.at_once(now) }
    }

    /// Lets a call in, or queues it, as `enter` says. The service is asked whether it is ready if it was not asked
    /// before.
    #[inline]
    pub(crate) fn enter<H: Holds<Policy = P>, E: CarryRejection>(
        &mut self,
        holder: H,
        mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
        enter: impl FnOnce(&P) -> Result<Entry<P::Permit, P::Wait>, Rejection>,
    ) -> Result<Entered<H>, Rejection>
    where
        P: Queue,
    {
        let asked = self.was_asked();
        match enter(holder.policy())? {
            Entry::Admitted(permit) => {
                let admitted = Admitted::with(holder, permit);
                Ok(Entered::Admitted(if asked { admitted } else { make_ready(admitted, inner)? }))
            }
            Entry::Queued(wait) => {
                let place = InQueue::new(holder, wait);
                let ready = asked || matches!(inner(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
                if ready { Ok(Entered::Queued(place)) } else { Err(come_again(place.holder.policy())) }
            }
        }
    }

    /// Whether the service was asked when this was last asked whether it is ready. The next call has to ask anew.
    #[inline]
    pub(super) const fn was_asked(&mut self) -> bool {
        let asked = !self.shut;
        self.shut = false;
        asked
    }
}

/// A service that cannot even become ready has failed, as one that answers with an error has.
#[cold]
fn count_readiness_error<P: Policy, E: CarryRejection>(policy: &P, error: &E) {
    if classify_error(error) == Outcome::Failure {
        let mut now = Moment::new();
        if let Ok(permit) = policy.admit(&mut now) {
            policy.settle(permit, Verdict::Failure { retry_after: None }, &mut now);
        }
    }
}

/// The policy lets calls in, but did not when it was asked for readiness, so that the service was not asked. A host may
/// keep a ready service for long before it calls it: the service is asked now, and the call is turned away only if it
/// is not ready at once, for a call cannot wait.
#[cold]
pub(super) fn make_ready<H: Holds, E: CarryRejection>(
    mut admitted: Admitted<H>,
    mut inner: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
) -> Result<Admitted<H>, Rejection> {
    // Nobody is to be woken: who calls again asks for readiness again.
    match admitted.guard(|| inner(&mut Context::from_waker(Waker::noop()))) {
        Poll::Ready(Ok(())) => return Ok(admitted),
        Poll::Ready(Err(error)) if classify_error(&error) == Outcome::Failure => {
            admitted.settle(Verdict::Failure { retry_after: None });
        }
        Poll::Ready(Err(_)) | Poll::Pending => admitted.settle(Verdict::Unused),
    }
    Err(come_again(admitted.policy()))
}

fn come_again<P: Policy>(policy: &P) -> Rejection {
    policy.come_again().expect("a gate that was shut belongs to a policy")
}

/// A place in the queue, left when dropped.
pub(crate) struct InQueue<H: Holds>
where
    H::Policy: Queue,
{
    holder: H,
    wait: Option<<H::Policy as Queue>::Wait>,
}

impl<H: Holds + Clone> InQueue<H>
where
    H::Policy: Queue,
{
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Admitted<H>, Rejection>> {
        let Some(wait) = &mut self.wait else { return Poll::Pending };
        let permit = ready!(self.holder.policy().poll_wait(wait, cx));
        self.wait = None;
        Poll::Ready(permit.map(|permit| Admitted::with(self.holder.clone(), permit)))
    }
}

impl<H: Holds> InQueue<H>
where
    H::Policy: Queue,
{
    pub(crate) fn new(holder: H, wait: <H::Policy as Queue>::Wait) -> Self {
        Self { holder, wait: Some(wait) }
    }

    /// The place without its holder, who then has to see to it that it is left.
    pub(crate) fn into_wait(mut self) -> Option<<H::Policy as Queue>::Wait> {
        self.wait.take()
    }
}

impl<H: Holds> Drop for InQueue<H>
where
    H::Policy: Queue,
{
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.holder.policy().leave(wait);
        }
    }
}

impl<P: Policy> fmt::Debug for Gatekeeper<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatekeeper").field("shut", &self.shut).finish_non_exhaustive()
    }
}
