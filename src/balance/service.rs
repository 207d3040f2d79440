use std::{
    cell::Cell,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    admission::{Admitted, Verdict},
    balance::{
        Handle,
        core::Core,
        future::ResponseFuture,
        member::{Entry, Tracked},
        pick::{Candidates, Choice, Pick, Picker, Tried},
        set::Set,
        steer::{NoSteer, Steer},
    },
    contract::Instance,
    error::CarryRejection,
    outcome::{Classify, OnError, Outcome, classify_error},
    own::{Fork, Own},
    sync::{Mutex, atomic::Ordering::Acquire},
    time::Moment,
};

/// A service over a changing set of instances: each call goes to one of them.
///
/// It is always ready: which instance a call goes to, and whether that one is ready, is found in the call. Clone it
/// freely; there is no task and no buffer behind it. It is `Clone` whatever the services are, and `Send` and `Sync`
/// when they are both (a boxed service that is not `Sync` goes into a
/// `tower::util::BoxCloneSyncService`).
pub struct Balance<S, K: Picker, T = NoSteer, C = OnError> {
    parts: Own<Parts<S, K, T, C>>,
    view: Arc<View<S, K::Plan>>,
}

/// What all clones share, behind a count of each clone's own.
pub(super) struct Parts<S, K: Picker, T, C> {
    shared: Arc<Shared<S, K, T, C>>,
}

struct Shared<S, K: Picker, T, C> {
    core: Arc<Core<S>>,
    picker: K,
    steer: T,
    classify: C,
    // The set that some clone saw last: the plan is made once for all of them.
    latest: Mutex<Arc<View<S, K::Plan>>>,
}

/// A set, and what the picker makes of it.
pub(super) struct View<S, P> {
    set: Arc<Set<S>>,
    plan: P,
}

/// A member that is to get the request as soon as it is ready.
pub(super) struct Waiter<S> {
    service: S,
    admitted: Admitted<Tracked<S>>,
    // For who wants to know.
    instance: Option<Arc<Instance>>,
}

impl<S, K: Picker, T, C> Fork for Parts<S, K, T, C> {
    fn fork(&self) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(&self.shared) })
    }
}

impl<S, P> View<S, P> {
    fn new<K: Picker<Plan = P>>(set: Arc<Set<S>>, picker: &K) -> Self {
        let instances: Vec<Arc<Instance>> = set.pool.iter().map(|entry| Arc::clone(&entry.instance)).collect();
        Self { plan: picker.plan(&instances), set }
    }

    /// Whether whom somebody waits for may be given calls still.
    pub(super) fn has(&self, waiter: &Waiter<S>) -> bool {
        self.set.has(&waiter.admitted.policy().0)
    }
}

impl<S, K: Picker> Balance<S, K> {
    /// Balances over the instances of `handle`, by `picker`. What counts as a failure of an instance, [`OnError`] says.
    #[must_use]
    pub fn new(handle: &Handle<S>, picker: K) -> Self {
        Self::of(Arc::clone(&handle.core), picker, NoSteer, OnError)
    }
}

impl<S, K: Picker, T, C> Balance<S, K, T, C> {
    fn of(core: Arc<Core<S>>, picker: K, steer: T, classify: C) -> Self {
        let set = core.current(&mut Moment::new());
        let view = Arc::new(View::new(set, &picker));
        let latest = Mutex::new(Arc::clone(&view));
        let shared = Arc::new(Shared { core, picker, steer, classify, latest });
        Self { parts: Own::new(Arc::new(Parts { shared })), view }
    }

    /// The same, asking `steer` which instances a request avoids, and telling it which one it got.
    #[must_use]
    pub fn steer<U>(&self, steer: U) -> Balance<S, K, U, C>
    where
        K: Clone,
        C: Clone,
    {
        let shared = &self.parts.shared;
        Balance::of(Arc::clone(&shared.core), shared.picker.clone(), steer, shared.classify.clone())
    }

    /// The same with another classifier: a type that implements [`Classify`], or a closure.
    #[must_use]
    pub fn classify<D>(&self, classify: D) -> Balance<S, K, T, D>
    where
        K: Clone,
        T: Clone,
    {
        let shared = &self.parts.shared;
        Balance::of(Arc::clone(&shared.core), shared.picker.clone(), shared.steer.clone(), classify)
    }

    /// The set it balances over.
    #[must_use]
    pub fn handle(&self) -> Handle<S> {
        Handle { core: Arc::clone(&self.parts.shared.core) }
    }

    /// The picker.
    #[must_use]
    pub fn picker(&self) -> &K {
        &self.parts.shared.picker
    }
}

impl<S, K: Picker, T, C> Parts<S, K, T, C> {
    pub(super) fn core(&self) -> &Core<S> {
        &self.shared.core
    }

    pub(super) fn steer(&self) -> &T {
        &self.shared.steer
    }

    pub(super) fn classify(&self) -> &C {
        &self.shared.classify
    }

    /// Whether the set has changed since.
    #[inline]
    pub(super) fn is_old(&self, view: &View<S, K::Plan>) -> bool {
        self.core().hub.version.load(Acquire) != view.set.version
    }

    /// The set as it is now. The plan is the picker's code, which may be the user's: it runs under no lock.
    #[cold]
    pub(super) fn view(&self, now: &mut Moment) -> Arc<View<S, K::Plan>> {
        let shared = &*self.shared;
        let latest = Arc::clone(&shared.latest.lock());
        // So a clone of one that makes no calls, which never hears of a change, waits for nobody who changes the set.
        if !self.is_old(&latest) {
            return latest;
        }
        let set = shared.core.current(now);
        if latest.set.version == set.version {
            return latest;
        }
        let view = Arc::new(View::new(set, &shared.picker));
        let mut latest = shared.latest.lock();
        let newer = latest.set.version < view.set.version;
        let before = newer.then(|| std::mem::replace(&mut *latest, Arc::clone(&view)));
        drop(latest);
        drop(before);
        view
    }

    /// Picks a member that was not tried yet and lets the call in. Those that refuse on the way count as tried.
    #[inline]
    pub(super) fn begin<Req>(
        &self,
        view: &View<S, K::Plan>,
        request: &Req,
        tried: &mut Tried,
        now: &mut Moment,
    ) -> Option<Waiter<S>>
    where
        S: Clone,
        K: Pick<Req>,
        T: Steer<Req>,
    {
        loop {
            let Entry { instance, member } = self.choose(view, request, tried, now)?;
            match Tracked(Arc::clone(member)).begin(K::MEASURES, now) {
                Ok(mut admitted) => {
                    let service = admitted.guard(|| member.service.clone());
                    let instance = T::LISTENS.then(|| Arc::clone(instance));
                    return Some(Waiter { service, admitted, instance });
                }
                // Its circuit opened, or the last probe was taken, since it was looked at.
                Err(_) => tried.add(member.serial),
            }
        }
    }

    #[inline]
    fn choose<'a, Req>(
        &self,
        view: &'a View<S, K::Plan>,
        request: &Req,
        tried: &Tried,
        now: &mut Moment,
    ) -> Option<&'a Entry<S>>
    where
        K: Pick<Req>,
        T: Steer<Req>,
    {
        let shared = &*self.shared;
        let steer = T::LISTENS.then_some((&shared.steer, request));
        let mut choice = Choice { set: &view.set, hub: &shared.core.hub, tried, steer, now: Cell::new(*now) };
        let picked = shared.picker.pick(request, &view.plan, &choice).filter(|at| {
            // The pickers here have looked; one of somebody else may be wrong.
            *at < choice.len() && choice.is_free(*at)
        });
        let picked = picked.or_else(|| choice.any()).or_else(|| {
            // Nobody is left but those that are to be avoided.
            choice.steer.take()?;
            choice.any()
        });
        *now = choice.now.get();
        picked.map(|at| view.set.entry(at))
    }
}

impl<S> Waiter<S> {
    pub(super) fn serial(&self) -> u64 {
        self.admitted.policy().0.serial
    }

    #[inline]
    pub(super) fn poll_ready<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
    {
        let service = &mut self.service;
        self.admitted.guard(|| service.poll_ready(cx))
    }

    /// It could not become ready: it has failed, as one that answers with an error has, unless a policy inside of it
    /// turned the call away.
    pub(super) fn failed<E: CarryRejection>(mut self, error: &E) {
        let failed = classify_error(error) == Outcome::Failure;
        let verdict = if failed { Verdict::Failure { retry_after: None } } else { Verdict::Unused };
        self.admitted.settle(verdict);
    }

    /// Another one was ready first.
    pub(super) fn lost(mut self) {
        self.admitted.settle(Verdict::Unused);
    }

    /// Hands over the request.
    #[inline]
    pub(super) fn call<Req, T>(self, steer: &T, request: Req) -> (S::Future, Admitted<Tracked<S>>)
    where
        S: Service<Req>,
        T: Steer<Req>,
    {
        let Self { service, mut admitted, instance, .. } = self;
        if let Some(instance) = instance {
            steer.picked(&request, &instance);
        }
        let future = admitted.guard(move || {
            // Its end is the user's code as well.
            let mut service = service;
            service.call(request)
        });
        (future, admitted)
    }
}

impl<S, K, T, C, Req> Service<Req> for Balance<S, K, T, C>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    K: Pick<Req>,
    T: Steer<Req>,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, K, T, C>;

    /// Ready at once. Whether an instance is ready is found in the call: an error here would be final to the caller.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let parts = self.parts.of_call();
        let mut now = Moment::new();
        parts.core().look_at_clock(&mut now);
        if parts.is_old(&self.view) {
            self.view = parts.view(&mut now);
        }
        let mut tried = Tried::default();
        match parts.begin(&self.view, &request, &mut tried, &mut now) {
            Some(waiter) => ResponseFuture::waiting(parts, waiter, (request, tried)),
            None => ResponseFuture::rejected(parts.core().nobody(&mut now), parts),
        }
    }
}

impl<S, K: Picker, T, C> Clone for Balance<S, K, T, C> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), view: Arc::clone(&self.view) }
    }
}

impl<S, K: Picker + fmt::Debug, T, C> fmt::Debug for Balance<S, K, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("name", &self.parts.shared.core.hub.name)
            .field("picker", self.picker())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{
        Error,
        balance::{Config, core::tests::instance},
    };

    /// Counts the plans it makes.
    #[derive(Default)]
    struct Plans(AtomicUsize);

    impl Picker for Plans {
        type Plan = ();

        fn plan(&self, _: &[Arc<Instance>]) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Pick<u32> for Plans {
        fn pick(&self, _: &u32, (): &(), _: &impl Candidates) -> Option<usize> {
            None
        }
    }

    #[tokio::test]
    async fn a_change_makes_one_plan_for_all_clones() {
        let handle = Handle::new("users", Config::new());
        let balance = Balance::new(&handle, Plans::default());
        for number in 0..3 {
            let answer = tower::service_fn(async |request: u32| Ok::<_, Error<Infallible>>(request));
            handle.insert(Arc::new(instance(number)), answer);
            for mut clone in [balance.clone(), balance.clone(), balance.clone()] {
                assert_eq!(clone.call(7).await.unwrap(), 7);
            }
            assert_eq!(balance.picker().0.load(SeqCst), usize::from(number) + 2);
        }
    }
}
