use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service};

use crate::{
    admission::{Admission, AdmissionLayer, Queued, QueuedLayer},
    error::CarryRejection,
    guarded::guarded,
    load_shed::Handle,
    outcome::Classify,
    priority::{Priority, PriorityOf},
};

impl<C> AdmissionLayer<Handle, C> {
    /// Reads the priority of each call from its request: a type that implements [`PriorityOf`], or a closure through
    /// [`priority_fn`](crate::priority_fn). A request that has none gets the handle's. For calls that may wait, say
    /// [`queued`](Self::queued) before this.
    ///
    /// ```
    /// use mainstay::{Priority, load_shed::{Config, Handle, LoadShedLayer}, priority_fn};
    ///
    /// struct Job { urgent: bool }
    ///
    /// let layer = LoadShedLayer::new(Handle::new("jobs", Config::server(64)))
    ///     .queued()
    ///     .priority_of(priority_fn(|job: &Job| job.urgent.then_some(Priority::High)));
    /// ```
    #[must_use]
    pub fn priority_of<F>(self, priority: F) -> PrioritizedLayer<Self, F> {
        PrioritizedLayer { layer: self, priority: Arc::new(priority) }
    }
}

impl<C> QueuedLayer<Handle, C> {
    /// Reads the priority of each call from its request: see [`AdmissionLayer::priority_of`].
    #[must_use]
    pub fn priority_of<F>(self, priority: F) -> PrioritizedLayer<Self, F> {
        PrioritizedLayer { layer: self, priority: Arc::new(priority) }
    }
}

/// Puts a shedder in front of a service that sees how much each request matters. Made by
/// [`priority_of`](AdmissionLayer::priority_of).
pub struct PrioritizedLayer<L, F> {
    layer: L,
    priority: Arc<F>,
}

impl<S, L: Layer<S>, F> Layer<S> for PrioritizedLayer<L, F> {
    type Service = Prioritized<L::Service, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Prioritized { inner: self.layer.layer(inner), priority: Arc::clone(&self.priority) }
    }
}

impl<L: Clone, F> Clone for PrioritizedLayer<L, F> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), priority: Arc::clone(&self.priority) }
    }
}

impl<L: fmt::Debug, F> fmt::Debug for PrioritizedLayer<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrioritizedLayer").field("layer", &self.layer).finish_non_exhaustive()
    }
}

/// A service behind a shedder that sees how much each request matters.
pub struct Prioritized<A, F> {
    inner: A,
    priority: Arc<F>,
}

impl<S, C, F, Req> Service<Req> for Prioritized<Admission<S, Handle, C>, F>
where
    S: Service<Req>,
    S::Error: CarryRejection,
    C: Classify<S::Response, S::Error>,
    F: PriorityOf<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = <Admission<S, Handle, C> as Service<Req>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // The user's code, before anything is taken.
        let priority = guarded("priority function", || self.priority.priority(&request)).flatten();
        self.inner.call_by(request, |handle, now| handle.core.admit(handle.or_own(priority), now))
    }
}

impl<S, C, F, Req> Service<Req> for Prioritized<Queued<S, Handle, C>, F>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    C: Classify<S::Response, S::Error>,
    F: PriorityOf<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = <Queued<S, Handle, C> as Service<Req>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let priority = guarded("priority function", || self.priority.priority(&request)).flatten();
        self.inner.call_by(request, |handle, now| handle.core.enter(handle.or_own(priority), now))
    }
}

impl Handle {
    fn or_own(&self, priority: Option<Priority>) -> Priority {
        priority.unwrap_or(self.priority)
    }
}

impl<A: Clone, F> Clone for Prioritized<A, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), priority: Arc::clone(&self.priority) }
    }
}

impl<A: fmt::Debug, F> fmt::Debug for Prioritized<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prioritized").field("inner", &self.inner).finish_non_exhaustive()
    }
}
