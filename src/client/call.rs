use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    client::trail::Trail,
    contract::{Instance, Invocation, Method, ServiceName},
    error::CarryRejection,
    replay::Replay,
    time::Tick,
};

/// A call on its way to an instance: what a client's [fallback](super::ClientBuilder::fallback) and
/// [picker](super::ClientBuilder::picker) see.
pub struct Call<Req> {
    service: ServiceName,
    pub(super) invocation: Invocation<Req>,
    pub(super) trail: Arc<Trail>,
}

impl<Req> Call<Req> {
    pub(super) const fn new(service: ServiceName, invocation: Invocation<Req>, trail: Arc<Trail>) -> Self {
        Self { service, invocation, trail }
    }

    /// The service that is called.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.invocation.method
    }

    /// What it is asked.
    #[must_use]
    pub const fn request(&self) -> &Req {
        &self.invocation.request
    }
}

impl<Req: fmt::Debug> fmt::Debug for Call<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.service)
            .field("method", self.method())
            .field("request", self.request())
            .finish()
    }
}

/// Sends calls again, given how their requests are.
#[derive(Debug)]
pub(super) struct Resend<R>(pub(super) Arc<R>);

/// What is kept of a call.
pub(super) struct Kept<K> {
    service: ServiceName,
    method: Method,
    trail: Arc<Trail>,
    request: K,
}

impl<Req, R: Replay<Req>> Replay<Call<Req>> for Resend<R> {
    type Kept = Kept<R::Kept>;

    fn keep(&self, call: &mut Call<Req>) -> Option<Self::Kept> {
        let request = self.0.keep(&mut call.invocation.request)?;
        let (service, method) = (call.service.clone(), call.invocation.method.clone());
        Some(Kept { service, method, trail: Arc::clone(&call.trail), request })
    }

    fn again(&self, kept: &Self::Kept, attempt: u32) -> Option<Call<Req>> {
        let request = self.0.again(&kept.request, attempt)?;
        let invocation = Invocation::new(kept.method.clone(), request);
        Some(Call::new(kept.service.clone(), invocation, Arc::clone(&kept.trail)))
    }

    fn deadline(&self, call: &Call<Req>) -> Option<Tick> {
        self.0.deadline(&call.invocation.request)
    }
}

/// The transport to one instance, which leaves its mark on the trails of the calls it gets.
#[derive(Debug, Clone)]
pub(super) struct Reached<S> {
    pub(super) transport: S,
    pub(super) instance: Arc<Instance>,
}

impl<S, Req> Service<Call<Req>> for Reached<S>
where
    S: Service<Invocation<Req>>,
    S::Error: CarryRejection,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReachedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.transport.poll_ready(cx)
    }

    fn call(&mut self, call: Call<Req>) -> Self::Future {
        call.trail.sent_to(&self.instance);
        let (trail, instance) = (call.trail, Arc::clone(&self.instance));
        ReachedFuture { future: self.transport.call(call.invocation), trail, instance }
    }
}

/// Whether a policy answered.
pub(super) fn is_rejected<T, E: CarryRejection>(result: &Result<T, E>) -> bool {
    result.as_ref().err().and_then(CarryRejection::rejection).is_some()
}

pin_project! {
    pub(super) struct ReachedFuture<F> {
        #[pin]
        future: F,
        trail: Arc<Trail>,
        instance: Arc<Instance>,
    }
}

impl<T, E, F> Future for ReachedFuture<F>
where
    E: CarryRejection,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        this.trail.answered(this.instance, is_rejected(&output));
        Poll::Ready(output)
    }
}
