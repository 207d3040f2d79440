//! Services and ways to send requests again, without their types: a manager has many services, and one type.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    contract::Invocation,
    error::{CarryRejection, Reason, Rejection},
    name::Name,
    observe::{Event, Sink},
    replay::Replay,
};

/// An answer on its way.
pub(super) type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

pub(super) trait Invoke<Req, T, E>: Send + Sync {
    fn invoke(&self, call: Invocation<Req>) -> Answer<T, E>;
}

/// A service that is cloned for each attempt, made ready and called.
///
/// The wait until it is ready is part of the attempt: it is cut off by the timeouts and judged by the breaker, and an
/// error of readiness is the attempt's own. A ready clone that is kept for the next call would hold what readiness
/// reserves.
struct Target<S>(S);

impl<S, Req, T, E> Invoke<Req, T, E> for Target<S>
where
    S: Service<Invocation<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    T: 'static,
    E: 'static,
{
    fn invoke(&self, call: Invocation<Req>) -> Answer<T, E> {
        let mut service = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let answer = service.call(call);
            drop(service);
            answer.await
        })
    }
}

/// Stands for a service that is unhealthy: turns every call away.
struct Refusing {
    policy: Name,
    sink: Arc<Sink>,
}

impl<Req, T, E> Invoke<Req, T, E> for Refusing
where
    T: 'static,
    E: CarryRejection + 'static,
{
    fn invoke(&self, _: Invocation<Req>) -> Answer<T, E> {
        let rejection = Rejection::new(Reason::Unhealthy, self.policy.clone());
        self.sink.tell(&self.policy, || Event::Rejected(&rejection));
        Box::pin(async move { Err(E::from_rejection(rejection)) })
    }
}

/// A service without its type. Always ready.
pub(super) struct Inner<Req, T, E>(Arc<dyn Invoke<Req, T, E>>);

impl<Req, T, E> Inner<Req, T, E> {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<Invocation<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Send + 'static,
        T: 'static,
        E: 'static,
    {
        Self(Arc::new(Target(service)))
    }

    pub(super) fn refusing(policy: Name, sink: Arc<Sink>) -> Self
    where
        T: 'static,
        E: CarryRejection + 'static,
    {
        Self(Arc::new(Refusing { policy, sink }))
    }

    pub(super) fn invoke(&self, call: Invocation<Req>) -> Answer<T, E> {
        self.0.invoke(call)
    }
}

impl<Req, T, E> Service<Invocation<Req>> for Inner<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = Answer<T, E>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, call: Invocation<Req>) -> Answer<T, E> {
        self.invoke(call)
    }
}

impl<Req, T, E> Clone for Inner<Req, T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// How requests are sent again: by cloning, or not at all. A function, so that only who registers a service needs to
/// know that its requests can be cloned.
pub(super) struct Again<Req>(pub(super) Option<CloneCall<Req>>);

type CloneCall<Req> = fn(&Invocation<Req>) -> Invocation<Req>;

impl<Req> Clone for Again<Req> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Req> Copy for Again<Req> {}

impl<Req> fmt::Debug for Again<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Again").field(&self.0.is_some()).finish()
    }
}

impl<Req> Replay<Invocation<Req>> for Again<Req> {
    type Kept = Invocation<Req>;

    #[inline]
    fn keep(&self, call: &mut Invocation<Req>) -> Option<Invocation<Req>> {
        self.0.map(|clone| clone(call))
    }

    fn again(&self, kept: &Invocation<Req>, _attempt: u32) -> Option<Invocation<Req>> {
        self.0.map(|clone| clone(kept))
    }
}
