//! Which policy a request gets, or which policies, one after the other.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    admission::{self, Gate, Policy, Queue, Sealed, Verdict},
    breaker, bulkhead,
    error::Rejection,
    keyed::{
        Handle, KeyedPolicy,
        key::{Key, KeyOf},
        table::Entry,
    },
    rate_limit,
    sync::Counted,
    time::Moment,
};

/// Policies among which is that of a request: a policy for each key, one policy for all, or a pair of such, of which
/// the first is asked first, and takes back what it gave when the second refuses.
///
/// Sealed: [`Handle`], what it is [`by`](Handle::by) a key, the handles of the circuit breaker, the bulkhead and the
/// rate limit, and pairs of them. Nest pairs for more: `(a, (b, c))`.
pub trait Choose: Sealed + Clone {
    /// What a call has chosen and holds to its end.
    type Choice;

    /// What a call holds while it runs.
    type Permit;

    /// A place in the queue.
    type Wait;

    /// The policy that was chosen.
    type Policy<'a>: Queue<Permit = Self::Permit, Wait = Self::Wait>
    where
        Self: 'a;

    /// The policy of a choice.
    fn policy<'a>(&'a self, choice: &'a Self::Choice) -> Self::Policy<'a>;

    /// The choice of a call without a key.
    fn keyless(&self) -> Self::Choice;
}

/// Knows the policy of every request.
pub trait Select<Req>: Choose {
    /// Chooses. Nothing is taken yet.
    fn select(&self, request: &Req, now: &mut Moment) -> Self::Choice;
}

/// The policy of a key, held so that the key does not leave.
pub struct Chosen<K, P>(pub(super) Counted<Entry<K, P>>);

impl<K, P> fmt::Debug for Chosen<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chosen")
    }
}

impl<K, P: KeyedPolicy> Sealed for Handle<K, P> {}

impl<K: Key, P: KeyedPolicy> Choose for Handle<K, P> {
    type Choice = Chosen<K, P>;
    type Permit = P::Permit;
    type Wait = P::Wait;
    type Policy<'a> = &'a P;

    #[inline]
    fn policy<'a>(&'a self, choice: &'a Chosen<K, P>) -> &'a P {
        &choice.0.policy
    }

    fn keyless(&self) -> Chosen<K, P> {
        Chosen(self.entry_of_keyless())
    }
}

impl<K: Key, P: KeyedPolicy> Handle<K, P> {
    /// This, with what finds the key of a request: a [`KeyOf`], such as [`key_fn`](super::key_fn) and
    /// [`str_key_fn`](super::str_key_fn) make of a closure.
    #[must_use]
    pub fn by<X>(&self, key_of: X) -> PerKey<K, P, X> {
        PerKey { handle: self.clone(), key_of: Arc::new(key_of) }
    }
}

/// A policy for each key, and what finds the key of a request. Made by [`Handle::by`].
pub struct PerKey<K, P: KeyedPolicy, X> {
    handle: Handle<K, P>,
    key_of: Arc<X>,
}

impl<K, P: KeyedPolicy, X> PerKey<K, P, X> {
    /// The policies.
    #[must_use]
    pub const fn handle(&self) -> &Handle<K, P> {
        &self.handle
    }
}

impl<K, P: KeyedPolicy, X> Clone for PerKey<K, P, X> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), key_of: Arc::clone(&self.key_of) }
    }
}

impl<K, P: KeyedPolicy, X> fmt::Debug for PerKey<K, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<K, P: KeyedPolicy, X> Sealed for PerKey<K, P, X> {}

impl<K: Key, P: KeyedPolicy, X> Choose for PerKey<K, P, X> {
    type Choice = Chosen<K, P>;
    type Permit = P::Permit;
    type Wait = P::Wait;
    type Policy<'a>
        = &'a P
    where
        Self: 'a;

    #[inline]
    fn policy<'a>(&'a self, choice: &'a Chosen<K, P>) -> &'a P {
        self.handle.policy(choice)
    }

    fn keyless(&self) -> Chosen<K, P> {
        self.handle.keyless()
    }
}

impl<Req, K: Key, P: KeyedPolicy, X: KeyOf<Req, K>> Select<Req> for PerKey<K, P, X> {
    #[inline]
    fn select(&self, request: &Req, now: &mut Moment) -> Chosen<K, P> {
        // The key is the user's code, to be hashed and compared too. No lock is held while it runs.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let key = self.key_of.key(request)?;
            Some(self.handle.entry(key, now))
        }));
        match found {
            Ok(Some(entry)) => Chosen(entry),
            Ok(None) => self.keyless(),
            Err(_) => {
                let policy = self.handle.name().as_str();
                tracing::error!(policy, "finding the key panicked; the call goes on as one without a key");
                self.keyless()
            }
        }
    }
}

/// One policy for all.
macro_rules! chooses_itself {
    ($($handle:ty),+) => {$(
        impl Choose for $handle {
            type Choice = ();
            type Permit = <Self as Policy>::Permit;
            type Wait = <Self as Queue>::Wait;
            type Policy<'a> = &'a Self;

            #[inline]
            fn policy<'a>(&'a self, (): &'a ()) -> &'a Self {
                self
            }

            fn keyless(&self) {}
        }

        impl<Req> Select<Req> for $handle {
            #[inline]
            fn select(&self, _: &Req, _: &mut Moment) {}
        }
    )+};
}

chooses_itself!(breaker::Handle, bulkhead::Handle, rate_limit::Handle);

impl<A: Choose, B: Choose> Choose for (A, B) {
    type Choice = (A::Choice, B::Choice);
    type Permit = (A::Permit, B::Permit);
    type Wait = admission::PairWait<A::Permit, A::Wait, B::Wait>;
    type Policy<'a>
        = (A::Policy<'a>, B::Policy<'a>)
    where
        Self: 'a;

    #[inline]
    fn policy<'a>(&'a self, (one, two): &'a Self::Choice) -> Self::Policy<'a> {
        (self.0.policy(one), self.1.policy(two))
    }

    fn keyless(&self) -> Self::Choice {
        (self.0.keyless(), self.1.keyless())
    }
}

impl<Req, A: Select<Req>, B: Select<Req>> Select<Req> for (A, B) {
    #[inline]
    fn select(&self, request: &Req, now: &mut Moment) -> Self::Choice {
        (self.0.select(request, now), self.1.select(request, now))
    }
}

/// Policies to choose from, as the skin of all policies sees them: what a call was given knows by whom.
#[derive(Clone)]
pub struct Chooser<S>(pub(super) S);

/// A place in the queue of a policy that was chosen.
#[derive(Debug)]
pub struct ChosenWait<S: Choose> {
    // Until the permit takes it along.
    choice: Option<S::Choice>,
    wait: S::Wait,
}

/// How a call enters the queue of a policy that was chosen.
type Entered<S> = admission::Entry<(<S as Choose>::Choice, <S as Choose>::Permit), ChosenWait<S>>;

impl<S: Choose> Chooser<S> {
    #[inline]
    pub(super) fn admit_to(&self, choice: S::Choice, now: &mut Moment) -> Result<(S::Choice, S::Permit), Rejection> {
        let permit = self.0.policy(&choice).admit(now)?;
        Ok((choice, permit))
    }

    pub(super) fn enter_to(&self, choice: S::Choice, now: &mut Moment) -> Result<Entered<S>, Rejection> {
        let entered = self.0.policy(&choice).enter(now)?;
        Ok(match entered {
            admission::Entry::Admitted(permit) => admission::Entry::Admitted((choice, permit)),
            admission::Entry::Queued(wait) => admission::Entry::Queued(ChosenWait { choice: Some(choice), wait }),
        })
    }
}

impl<S> Sealed for Chooser<S> {}

/// Without a request, a call is one without a key.
impl<S: Choose> Policy for Chooser<S> {
    type Permit = (S::Choice, S::Permit);
    type Waiting = ();

    fn admit(&self, now: &mut Moment) -> Result<Self::Permit, Rejection> {
        self.admit_to(self.0.keyless(), now)
    }

    #[inline]
    fn settle(&self, (choice, permit): Self::Permit, verdict: Verdict, now: &mut Moment) {
        self.0.policy(&choice).settle(permit, verdict, now);
    }

    fn poll_gate(&self, (): &mut (), _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }

    fn watch(&self, (): &mut (), _: &mut Context<'_>) {}
}

impl<S: Choose> Queue for Chooser<S> {
    type Wait = ChosenWait<S>;

    fn enter(&self, now: &mut Moment) -> Result<admission::Entry<Self::Permit, Self::Wait>, Rejection> {
        self.enter_to(self.0.keyless(), now)
    }

    fn poll_wait(&self, wait: &mut ChosenWait<S>, cx: &mut Context<'_>) -> Poll<Result<Self::Permit, Rejection>> {
        let Some(choice) = &wait.choice else { return Poll::Pending };
        let permit = ready!(self.0.policy(choice).poll_wait(&mut wait.wait, cx));
        let Some(choice) = wait.choice.take() else { return Poll::Pending };
        Poll::Ready(permit.map(|permit| (choice, permit)))
    }

    fn leave(&self, wait: ChosenWait<S>) {
        if let Some(choice) = wait.choice {
            self.0.policy(&choice).leave(wait.wait);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Chooser<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
