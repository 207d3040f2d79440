use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
};

use crate::{
    admission::{Policy, Verdict},
    error::Rejection,
    outcome::{Classify, Outcome},
    own::Fork,
    time::Moment,
};

/// A policy, and who decides what a result means for it.
pub(crate) struct Parts<P, C> {
    pub(crate) policy: P,
    pub(crate) classify: Arc<C>,
}

impl<P: Clone, C> Fork for Parts<P, C> {
    fn fork(&self) -> Arc<Self> {
        Arc::new(Self { policy: self.policy.clone(), classify: Arc::clone(&self.classify) })
    }
}

/// Something through which a call reaches its policy while it runs.
pub(crate) trait Holds {
    type Policy: Policy;

    fn policy(&self) -> &Self::Policy;
}

impl<P: Policy, C> Holds for Arc<Parts<P, C>> {
    type Policy = P;

    #[inline]
    fn policy(&self) -> &P {
        &self.policy
    }
}

impl<P: Policy> Holds for &P {
    type Policy = P;

    #[inline]
    fn policy(&self) -> &P {
        self
    }
}

/// A call that was let in. Settles with what it is told, and as cancelled when it is dropped before.
pub(crate) struct Admitted<H: Holds> {
    holder: H,
    permit: Option<<H::Policy as Policy>::Permit>,
}

impl<H: Holds> Admitted<H> {
    #[inline]
    pub(crate) fn admit(holder: H, now: &mut Moment) -> Result<Self, Rejection> {
        let permit = Some(holder.policy().admit(now)?);
        Ok(Self { holder, permit })
    }

    pub(crate) fn policy(&self) -> &H::Policy {
        self.holder.policy()
    }

    /// The permit without its holder, who then has to see to it that it is settled.
    #[inline]
    pub(crate) fn into_permit(mut self) -> Option<<H::Policy as Policy>::Permit> {
        self.permit.take()
    }

    /// A call that was let in already.
    #[inline(always)]
    pub(crate) fn with(holder: H, permit: <H::Policy as Policy>::Permit) -> Self {
        Self { holder, permit: Some(permit) }
    }

    #[inline]
    pub(crate) fn settle(&mut self, verdict: Verdict) {
        if let Some(permit) = self.permit.take() {
            self.holder.policy().settle(permit, verdict, &mut Moment::new());
        }
    }

    /// Runs the service's own code: a panic in it settles as a failure and goes on.
    ///
    /// The panic is seen where it happens, and not when this is dropped: a runtime catches it and drops the future
    /// later, when nothing is panicking any more.
    #[inline]
    pub(crate) fn guard<R>(&mut self, run: impl FnOnce() -> R) -> R {
        struct Bomb<'a, H: Holds>(&'a mut Admitted<H>);

        impl<H: Holds> Drop for Bomb<'_, H> {
            fn drop(&mut self) {
                self.0.settle(Verdict::Failure { retry_after: None });
            }
        }

        let bomb = Bomb(self);
        let result = run();
        std::mem::forget(bomb);
        result
    }
}

impl<P: Policy, C> Admitted<Arc<Parts<P, C>>> {
    /// Settles with what the classifier makes of a result.
    #[inline]
    pub(crate) fn judge<T, E>(&mut self, result: Result<&T, &E>)
    where
        C: Classify<T, E>,
    {
        if self.permit.is_some() {
            let verdict = self.verdict(result);
            self.settle(verdict);
        }
    }

    /// What the classifier makes of a result, without settling yet.
    #[inline]
    pub(crate) fn verdict<T, E>(&self, result: Result<&T, &E>) -> Verdict
    where
        C: Classify<T, E>,
    {
        verdict(&*self.holder.classify, result)
    }
}

/// Runs the service's own code for a call whose permit lies elsewhere, as [`Admitted::guard`] does.
#[inline]
pub(crate) fn guard_permit<P: Policy, R>(policy: &P, permit: &mut Option<P::Permit>, run: impl FnOnce() -> R) -> R {
    struct Bomb<'a, P: Policy>(&'a P, &'a mut Option<P::Permit>);

    impl<P: Policy> Drop for Bomb<'_, P> {
        fn drop(&mut self) {
            settle_permit(self.0, self.1, || Verdict::Failure { retry_after: None });
        }
    }

    let bomb = Bomb(policy, permit);
    let result = run();
    std::mem::forget(bomb);
    result
}

/// Begins a call that was let in: runs the service's own code, as [`Admitted::guard`] does, and gives the permit back.
#[inline(always)]
pub(crate) fn guard_begin<P: Policy, R>(policy: &P, permit: P::Permit, run: impl FnOnce() -> R) -> (R, P::Permit) {
    struct Bomb<'a, P: Policy>(&'a P, Option<P::Permit>);

    impl<P: Policy> Drop for Bomb<'_, P> {
        #[inline(always)]
        fn drop(&mut self) {
            if let Some(permit) = self.1.take() {
                fail(self.0, permit);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn fail<P: Policy>(policy: &P, permit: P::Permit) {
        policy.settle(permit, Verdict::Failure { retry_after: None }, &mut Moment::new());
    }

    let mut bomb = Bomb(policy, Some(permit));
    let result = run();
    let permit = bomb.1.take().expect("it is only taken here, and when a panic drops it");
    (result, permit)
}

/// Settles a permit that lies elsewhere, once.
#[inline(always)]
pub(crate) fn settle_permit<P: Policy>(policy: &P, permit: &mut Option<P::Permit>, verdict: impl FnOnce() -> Verdict) {
    if let Some(permit) = permit.take() {
        policy.settle(permit, verdict(), &mut Moment::new());
    }
}

/// What a classifier makes of a result; a panic in it is a failure.
#[inline]
pub(crate) fn verdict<T, E, C: Classify<T, E>>(classify: &C, result: Result<&T, &E>) -> Verdict {
    if result.is_ok() && classify.takes_any_ok() {
        return Verdict::Success;
    }
    let judged = catch_unwind(AssertUnwindSafe(|| match classify.classify(result) {
        Outcome::Success => Verdict::Success,
        Outcome::Failure => Verdict::Failure { retry_after: classify.retry_after(result) },
        Outcome::Ignored => Verdict::Ignored,
    }));
    judged.unwrap_or_else(|_| {
        tracing::error!("a classifier panicked; the call counts as a failure");
        Verdict::Failure { retry_after: None }
    })
}

/// Runs a future that was let in, to its settlement.
pub(crate) async fn drive<P: Policy, T, E>(
    mut admitted: Admitted<&P>,
    classify: &impl Classify<T, E>,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut future = pin!(future);
    let result = std::future::poll_fn(|cx| admitted.guard(|| future.as_mut().poll(cx))).await;
    admitted.settle(verdict(classify, result.as_ref()));
    result
}

impl<H: Holds> Drop for Admitted<H> {
    fn drop(&mut self) {
        self.settle(Verdict::Cancelled);
    }
}

impl<H: Holds> fmt::Debug for Admitted<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("settled", &self.permit.is_none()).finish_non_exhaustive()
    }
}
