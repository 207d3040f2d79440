use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    client::{
        health::{ServiceHealth, ServiceSnapshot},
        lane::{Route, Task},
        metrics::ServiceMetrics,
        pending::{Pending, Trace},
        trail::{Metadata, Trail},
    },
    contract::{AsMethod, InstanceId, Invocation, Method, ServiceName},
    error::{CarryRejection, Reason, Rejection},
    observe::{ForMany, Observer},
    settings::ConfigError,
    time::Tick,
};

/// A [client](super::Client) of one service. It is a Tower service too, of [`Invocation`]s.
///
/// Cheap to clone.
pub struct Caller<Req, T, E> {
    route: Arc<dyn Route<Req, T, E>>,
}

impl<Req, T, E> Caller<Req, T, E> {
    pub(super) fn new(route: Arc<dyn Route<Req, T, E>>) -> Self {
        Self { route }
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        self.route.name()
    }

    fn send(&self, invocation: Invocation<Req>) -> ResponseFuture<T, E> {
        ResponseFuture { call: Ok(Arc::clone(&self.route).send(invocation, Arc::default())) }
    }

    fn begin(&self, invocation: Invocation<Req>) -> (Task<Result<T, E>>, Trace) {
        let trail = Arc::new(Trail::default());
        trail.begin(Tick::now());
        let trace = Trace::new(self.name().clone(), invocation.method.clone(), Arc::clone(&trail));
        (Arc::clone(&self.route).send(invocation, trail), trace)
    }

    /// Calls a method: see [`Client::call`](super::Client::call).
    pub fn call_method(&self, method: impl AsMethod, request: Req) -> ResponseFuture<T, E> {
        match method.as_method() {
            Ok(method) => self.send(Invocation::new(method, request)),
            Err(error) => {
                tracing::warn!(service = %self.name(), %error, "a call of a method that cannot be");
                ResponseFuture::refused(Rejection::new(Reason::UnknownMethod, self.name().policy_name()))
            }
        }
    }

    /// Like [`call_method`](Self::call_method), with what became of the call, whether it failed or not. The name of the
    /// method is checked before, for what became of the call bears it.
    pub async fn call_traced(&self, method: Method, request: Req) -> (Result<T, E>, Metadata) {
        let (call, trace) = self.begin(Invocation::new(method, request));
        let result = call.await;
        (result, trace.metadata())
    }

    /// Calls a method as a task of its own: see [`Client::call_async`](super::Client::call_async).
    ///
    /// # Errors
    ///
    /// When the method's name is none.
    ///
    /// # Panics
    ///
    /// When there is no tokio runtime.
    pub fn call_async(&self, method: impl AsMethod, request: Req) -> Result<Pending<T, E>, ConfigError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (call, trace) = self.begin(Invocation::new(method.as_method()?, request));
        Ok(Pending::new(tokio::spawn(call), trace))
    }

    /// How well the service is.
    #[must_use]
    pub fn health(&self) -> ServiceHealth {
        self.route.health()
    }

    /// What was counted of its calls.
    #[must_use]
    pub fn metrics(&self) -> ServiceMetrics {
        self.route.metrics()
    }

    /// All that is known of it.
    #[must_use]
    pub fn snapshot(&self) -> ServiceSnapshot {
        self.route.snapshot()
    }

    /// Gives an instance no calls until it is [readmitted](Self::readmit); false when there is no such instance, or it
    /// is ejected by hand already.
    pub fn eject(&self, instance: &InstanceId) -> bool {
        self.route.control().eject(instance)
    }

    /// Gives an ejected instance calls again; false when it is not ejected.
    pub fn readmit(&self, instance: &InstanceId) -> bool {
        self.route.control().readmit(instance)
    }

    /// Has an observer told of what happens to any of its policies, from now on.
    pub fn observe(&self, observer: impl Observer) {
        let observer: Arc<dyn Observer> = Arc::new(ForMany::new(observer));
        self.route.control().observe(&observer);
    }
}

impl<Req, T, E: CarryRejection> Service<Invocation<Req>> for Caller<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = ResponseFuture<T, E>;

    /// Ready at once: who has to wait for an instance or for a place waits in the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: Invocation<Req>) -> ResponseFuture<T, E> {
        self.send(invocation)
    }
}

impl<Req, T, E> Clone for Caller<Req, T, E> {
    fn clone(&self) -> Self {
        Self { route: Arc::clone(&self.route) }
    }
}

impl<Req, T, E> fmt::Debug for Caller<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("service", self.name()).finish_non_exhaustive()
    }
}

/// The answer of a call on its way. Dropping it ends the call.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T, E> {
    call: Result<Task<Result<T, E>>, Rejection>,
}

impl<T, E> ResponseFuture<T, E> {
    pub(super) const fn refused(rejection: Rejection) -> Self {
        Self { call: Err(rejection) }
    }
}

impl<T, E: CarryRejection> Future for ResponseFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        match &mut self.call {
            Ok(call) => call.as_mut().poll(cx),
            Err(rejection) => Poll::Ready(Err(E::from_rejection(rejection.clone()))),
        }
    }
}

impl<T, E> fmt::Debug for ResponseFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("refused", &self.call.as_ref().err()).finish_non_exhaustive()
    }
}
