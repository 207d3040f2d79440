//! One service as a client sees it: its instances, its policies, its metrics.

use std::{
    borrow::Cow,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::task::AbortHandle;
use tower::Service;

use crate::{
    admission::{Verdict, verdict},
    client::{
        call::{Call, is_rejected},
        control::Control,
        following::Following,
        health::{ServiceHealth, ServiceSnapshot, Signs},
        metrics::{End, Meters, ServiceMetrics},
        shared::{KindOf, Shared},
        trail::Trail,
    },
    contract::{Invocation, ServiceName},
    error::{CarryRejection, Rejection},
    guarded::guarded,
    outcome::Classify,
    sync::Mutex,
    time::Tick,
};

/// Something that goes on by itself.
pub(super) type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Begins to keep the members of a balancer up to date.
pub(super) type Follow = dyn Fn() -> Task<()> + Send + Sync;

/// One service, whatever its transport and its policies are made of.
pub(super) trait Route<Req, T, E>: Send + Sync {
    fn name(&self) -> &ServiceName;

    /// Sends a call, and counts it.
    fn send(self: Arc<Self>, invocation: Invocation<Req>, trail: Arc<Trail>) -> Task<Result<T, E>>;

    /// Follows the instances from now on, if nobody does and there is a runtime.
    fn follow(&self);

    fn metrics(&self) -> ServiceMetrics;
    fn health(&self) -> ServiceHealth;
    fn snapshot(&self) -> ServiceSnapshot;
    fn control(&self) -> &dyn Control;
}

/// The one implementation: a service that was balanced and stacked.
pub(super) struct Lane<S, C, T, E> {
    pub(super) service: S,
    pub(super) classify: Shared<C>,
    pub(super) kinds: Arc<OnceLock<Box<KindOf<T, E>>>>,
    pub(super) meters: Meters,
    pub(super) following: Arc<Following>,
    pub(super) control: Box<dyn Control>,
    pub(super) first_wait: Duration,
    pub(super) follow: Box<Follow>,
    pub(super) task: Mutex<Option<AbortHandle>>,
}

impl<S, C, T, E> Lane<S, C, T, E> {
    /// What a result is to the one who called.
    fn end(&self, result: &Result<T, E>, trail: &Trail) -> End
    where
        C: Classify<T, E>,
        E: CarryRejection,
    {
        let fallback = trail.used_fallback();
        match result {
            Ok(_) if fallback => End::Good { fallback },
            Ok(_) if !matches!(verdict(&self.classify, result.as_ref()), Verdict::Failure { .. }) => {
                End::Good { fallback }
            }
            Ok(_) => End::Bad(self.kind(result).unwrap_or(Cow::Borrowed("failed_response"))),
            Err(error) => {
                let reason = error.rejection().map(|rejection: &Rejection| rejection.reason().as_str());
                End::Bad(self.kind(result).unwrap_or(Cow::Borrowed(reason.unwrap_or("error"))))
            }
        }
    }

    fn kind(&self, result: &Result<T, E>) -> Option<Cow<'static, str>> {
        let kind = self.kinds.get()?;
        guarded("hook for kinds of errors", || kind(result.as_ref())).flatten()
    }
}

/// Makes a service ready and calls it.
async fn answer<S: Service<Req>, Req>(mut service: S, call: Req) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(call).await
}

impl<S, C, T, E> Drop for Lane<S, C, T, E> {
    fn drop(&mut self) {
        self.task.get_mut().iter().for_each(AbortHandle::abort);
    }
}

impl<S, C, Req, T, E> Route<Req, T, E> for Lane<S, C, T, E>
where
    S: Service<Call<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send,
    C: Classify<T, E> + Send + Sync + 'static,
    E: CarryRejection + Send + 'static,
    T: Send + 'static,
    Req: Send + 'static,
{
    fn name(&self) -> &ServiceName {
        self.following.service()
    }

    fn send(self: Arc<Self>, invocation: Invocation<Req>, trail: Arc<Trail>) -> Task<Result<T, E>> {
        Box::pin(async move {
            trail.begin(Tick::now());
            self.follow_here();
            let mut counting = self.meters.begin(&invocation.method);
            self.following.first(self.first_wait, || self.control.has_members()).await;
            let call = Call::new(self.following.service().clone(), invocation, Arc::clone(&trail));
            let mut answer = pin!(answer(self.service.clone(), call));
            let result = poll_fn(|cx| counting.watch(|| answer.as_mut().poll(cx))).await;
            let (end, now, took) = counting.watch(|| {
                let now = Tick::now();
                let took = trail.end(now, is_rejected(&result));
                (self.end(&result, &trail), now, took)
            });
            counting.end(end, now, took);
            result
        })
    }

    fn follow(&self) {
        self.follow_here();
    }

    fn metrics(&self) -> ServiceMetrics {
        self.meters.snapshot(self.following.service())
    }

    fn health(&self) -> ServiceHealth {
        let (instances, callable) = self.control.members();
        let signs = Signs {
            service: self.following.service().clone(),
            known: self.following.has_found(),
            instances,
            callable,
            circuit: self.control.circuit(),
            stale: self.following.stale(),
        };
        signs.health()
    }

    fn snapshot(&self) -> ServiceSnapshot {
        let (health, metrics) = (Route::<Req, T, E>::health(self), Route::<Req, T, E>::metrics(self));
        ServiceSnapshot { health, metrics, stack: self.control.stack(), balance: self.control.balance() }
    }

    fn control(&self) -> &dyn Control {
        &*self.control
    }
}

impl<S, C, T, E> Lane<S, C, T, E> {
    /// The task lives on the runtime of whoever needed it first; when that one is gone, the next call begins another.
    fn follow_here(&self) {
        if self.following.is_to_begin() {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    // Under the lock: a runtime that ends drops the task at once, and another may be begun on the next.
                    let mut task = self.task.lock();
                    *task = Some(runtime.spawn((self.follow)()).abort_handle());
                }
                Err(_) => self.following.did_not_begin(),
            }
        }
    }
}

impl<S, C, T, E> fmt::Debug for Lane<S, C, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("service", self.following.service()).finish_non_exhaustive()
    }
}
