use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::{
    breaker, bulkhead, concurrency, fallback, hedge, load_shed, observe, rate_limit, retry, stack, stack::Stack,
    timeout,
};

/// The policies before a service, for those who want to see what they know.
///
/// A [`Stack`] is one, so is the handle of a single policy, `()` for none, a pair of two, and a closure that gives what
/// becomes a [`PoliciesSnapshot`]. A registry only asks; what the policies do is up to whoever calls the service.
///
/// ```
/// use mainstay::{Stack, breaker, registry::{Policies, PoliciesSnapshot}};
///
/// let stack = Stack::standard("users");
/// assert!(matches!(Policies::snapshot(&stack), PoliciesSnapshot::Stack(_)));
/// let breaker = breaker::Handle::new("users", breaker::Config::new());
/// assert!(matches!((breaker, stack).snapshot(), PoliciesSnapshot::Several(both) if both.len() == 2));
/// let pool = || PoliciesSnapshot::facts([("connections", 7)]);
/// assert_eq!(serde_json::to_string(&pool.snapshot())?, r#"{"connections":"7"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub trait Policies: Send + Sync + 'static {
    /// What they know now. Not on the way of a call.
    fn snapshot(&self) -> PoliciesSnapshot;
}

/// What the policies before a service know. Serialises to plain JSON: each policy as its own snapshot, which says by
/// `kind` what it is.
#[non_exhaustive]
#[derive(Debug, Clone, Default, Serialize)]
#[serde(untagged)]
pub enum PoliciesSnapshot {
    /// There are none.
    #[default]
    None,
    /// A whole stack.
    Stack(Box<stack::Snapshot>),
    /// A circuit breaker.
    Breaker(Box<observe::Snapshot>),
    /// A bulkhead.
    Bulkhead(Box<bulkhead::Snapshot>),
    /// An adaptive limit.
    Concurrency(Box<concurrency::Snapshot>),
    /// A fallback.
    Fallback(Box<fallback::Snapshot>),
    /// A hedge.
    Hedge(Box<hedge::Snapshot>),
    /// A load shedder.
    LoadShed(Box<load_shed::Snapshot>),
    /// A rate limit.
    RateLimit(Box<rate_limit::Snapshot>),
    /// A retry.
    Retry(Box<retry::Snapshot>),
    /// A timeout.
    Timeout(Box<timeout::Snapshot>),
    /// Several policies.
    Several(Vec<PoliciesSnapshot>),
    /// What a policy of your own says of itself.
    Facts(BTreeMap<String, String>),
}

impl PoliciesSnapshot {
    /// What a policy of your own says of itself.
    pub fn facts<K: Into<String>, V: ToString>(facts: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Facts(facts.into_iter().map(|(key, value)| (key.into(), value.to_string())).collect())
    }

    /// Whether there are no policies.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Several in one list, without lists in it and without what says nothing.
    fn into_list(self) -> Vec<Self> {
        match self {
            Self::None => Vec::new(),
            Self::Several(several) => several,
            one => vec![one],
        }
    }
}

macro_rules! snapshots {
    ($($variant:ident($snapshot:ty) of $handle:ty;)*) => {$(
        impl From<$snapshot> for PoliciesSnapshot {
            fn from(snapshot: $snapshot) -> Self {
                Self::$variant(Box::new(snapshot))
            }
        }

        impl Policies for $handle {
            fn snapshot(&self) -> PoliciesSnapshot {
                <$handle>::snapshot(self).into()
            }
        }
    )*};
}

snapshots! {
    Breaker(observe::Snapshot) of breaker::Handle;
    Bulkhead(bulkhead::Snapshot) of bulkhead::Handle;
    Concurrency(concurrency::Snapshot) of concurrency::Handle;
    Fallback(fallback::Snapshot) of fallback::Handle;
    Hedge(hedge::Snapshot) of hedge::Handle;
    LoadShed(load_shed::Snapshot) of load_shed::Handle;
    RateLimit(rate_limit::Snapshot) of rate_limit::Handle;
    Retry(retry::Snapshot) of retry::Handle;
    Timeout(timeout::Snapshot) of timeout::Handle;
}

impl From<stack::Snapshot> for PoliciesSnapshot {
    fn from(snapshot: stack::Snapshot) -> Self {
        Self::Stack(Box::new(snapshot))
    }
}

/// Nothing, where there is nothing: for policies that may be gone.
impl<S: Into<Self>> From<Option<S>> for PoliciesSnapshot {
    fn from(snapshot: Option<S>) -> Self {
        snapshot.map_or(Self::None, Into::into)
    }
}

impl<C, F, R> Policies for Stack<C, F, R>
where
    C: Send + Sync + 'static,
    F: Send + Sync + 'static,
    R: Send + Sync + 'static,
{
    fn snapshot(&self) -> PoliciesSnapshot {
        Self::snapshot(self).into()
    }
}

impl Policies for () {
    fn snapshot(&self) -> PoliciesSnapshot {
        PoliciesSnapshot::None
    }
}

impl<A: Policies, B: Policies> Policies for (A, B) {
    fn snapshot(&self) -> PoliciesSnapshot {
        let mut both = self.0.snapshot().into_list();
        both.extend(self.1.snapshot().into_list());
        if both.is_empty() { PoliciesSnapshot::None } else { PoliciesSnapshot::Several(both) }
    }
}

impl<P: Policies + ?Sized> Policies for Arc<P> {
    fn snapshot(&self) -> PoliciesSnapshot {
        P::snapshot(self)
    }
}

impl<F, S> Policies for F
where
    F: Fn() -> S + Send + Sync + 'static,
    S: Into<PoliciesSnapshot>,
{
    fn snapshot(&self) -> PoliciesSnapshot {
        self().into()
    }
}
