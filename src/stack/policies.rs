//! What a stack consists of.

use std::sync::Arc;

use crate::{
    breaker, bulkhead, concurrency, deadline::Deadline, fallback, hedge, load_shed, name::Name, own::Fork, rate_limit,
    retry, time::Moment, timeout,
};

/// What lets a call in before anything else.
pub(super) type Outer = (Option<load_shed::Handle>, Option<rate_limit::Handle>);

/// What lets each attempt in, outside in. Any of them may be absent.
pub type Innermost = (Option<breaker::Handle>, (Option<concurrency::Handle>, Option<bulkhead::Handle>));

pub(super) type Inner = Innermost;

/// The policies of a stack, outside in. Any of them may be absent.
#[derive(Debug, Clone)]
pub(super) struct Policies {
    pub(super) name: Name,
    pub(super) fallback: fallback::Handle,
    pub(super) outer: Outer,
    pub(super) timeout: Option<timeout::Handle>,
    pub(super) retry: Option<retry::Handle>,
    pub(super) hedge: Option<hedge::Handle>,
    pub(super) inner: Inner,
    pub(super) attempt_timeout: Option<timeout::Handle>,
}

impl Policies {
    /// Whether there is nothing that looks at a call before its attempts.
    #[inline]
    pub(super) const fn lets_all_in(&self) -> bool {
        matches!(self.outer, (None, None))
    }

    /// Whether nobody waits any more for a call that begins.
    #[inline]
    pub(super) fn is_too_late(&self, deadline: Option<Deadline>, now: &mut Moment) -> bool {
        deadline.is_some_and(|deadline| self.timeout.is_some() && deadline.has_passed(now))
    }
}

/// The policies, and the code that goes with them: who judges results, how requests are sent again, what answers in
/// place of a service that failed.
pub(super) struct Parts<C, F, R> {
    pub(super) policies: Policies,
    pub(super) rule: Arc<C>,
    pub(super) strategy: Arc<F>,
    pub(super) replay: Arc<R>,
}

impl<C, F, R> Clone for Parts<C, F, R> {
    fn clone(&self) -> Self {
        Self {
            policies: self.policies.clone(),
            rule: Arc::clone(&self.rule),
            strategy: Arc::clone(&self.strategy),
            replay: Arc::clone(&self.replay),
        }
    }
}

impl<C, F, R> Fork for Parts<C, F, R> {
    fn fork(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }
}

/// How a call reaches the parts of its stack: by a count of its own, or by reference.
pub(super) trait Shared {
    type Rule;
    type Strategy;
    type Replay;

    fn policies(&self) -> &Policies;
    fn rule(&self) -> &Self::Rule;
    fn strategy(&self) -> &Self::Strategy;
    fn replay(&self) -> &Self::Replay;
}

impl<C, F, R> Shared for Arc<Parts<C, F, R>> {
    type Rule = C;
    type Strategy = F;
    type Replay = R;

    #[inline]
    fn policies(&self) -> &Policies {
        &self.policies
    }

    #[inline]
    fn rule(&self) -> &C {
        &self.rule
    }

    #[inline]
    fn strategy(&self) -> &F {
        &self.strategy
    }

    #[inline]
    fn replay(&self) -> &R {
        &self.replay
    }
}

/// The parts, for an operation that is made anew for each attempt and has no request.
pub(super) struct ByReference<'a, C, F, R>(pub(super) &'a Parts<C, F, R>);

impl<C, F, R> Shared for ByReference<'_, C, F, R> {
    type Rule = C;
    type Strategy = F;
    type Replay = retry::Cloned;

    #[inline]
    fn policies(&self) -> &Policies {
        &self.0.policies
    }

    #[inline]
    fn rule(&self) -> &C {
        &self.0.rule
    }

    #[inline]
    fn strategy(&self) -> &F {
        &self.0.strategy
    }

    #[inline]
    fn replay(&self) -> &retry::Cloned {
        &retry::Cloned
    }
}
