use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    contract::{Invocation, ServiceName},
    error::{CarryRejection, Reason},
    isolation::{
        entry::{Entry, GONE},
        future::ResponseFuture,
        manager::Shared,
        plan::Plan,
    },
    registry::{Policies, PoliciesSnapshot},
    sync::atomic::Ordering::Acquire,
};

/// A service of an [`IsolationManager`](super::IsolationManager), as a Tower service.
///
/// It follows every switch of its service, and takes no lock on the way of a call except for the first after a switch.
/// It is always ready: a call waits by itself until the service is. It does not keep the service: once that is
/// unregistered, calls are answered with [`Reason::UnknownService`](crate::Reason::UnknownService).
pub struct Isolated<Req, T, E> {
    shared: Arc<Shared<Req, T, E>>,
    entry: Arc<Entry>,
    // Weak: a handle that nobody calls does not keep a service that is gone.
    plan: Weak<Plan<Req, T, E>>,
    version: u64,
}

impl<Req, T, E> Isolated<Req, T, E> {
    pub(super) fn new(shared: Arc<Shared<Req, T, E>>, plan: &Arc<Plan<Req, T, E>>) -> Self {
        Self { shared, entry: Arc::clone(&plan.entry), plan: Arc::downgrade(plan), version: plan.version }
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.entry.name
    }

    /// Whether the service is still registered.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.entry.version.load(Acquire) != GONE
    }

    /// The plan in force.
    fn plan(&mut self) -> Option<Arc<Plan<Req, T, E>>> {
        if self.entry.version.load(Acquire) == self.version {
            if let Some(plan) = self.plan.upgrade() {
                return Some(plan);
            }
        }
        self.look_up()
    }

    #[cold]
    fn look_up(&mut self) -> Option<Arc<Plan<Req, T, E>>> {
        let plan = self.shared.table.of(&self.entry)?;
        (self.plan, self.version) = (Arc::downgrade(&plan), plan.version);
        Some(plan)
    }
}

/// The policies of the service's level, for a [registry](crate::registry) to show; none once it is gone.
impl<Req, T, E> Policies for Isolated<Req, T, E>
where
    Req: 'static,
    T: 'static,
    E: 'static,
{
    fn snapshot(&self) -> PoliciesSnapshot {
        self.shared.table.of(&self.entry).map(|plan| plan.policies.snapshot()).into()
    }
}

impl<Req, T, E: CarryRejection + fmt::Display> Service<Invocation<Req>> for Isolated<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = ResponseFuture<Req, T, E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Invocation<Req>) -> ResponseFuture<Req, T, E> {
        match self.plan() {
            Some(plan) => ResponseFuture::begin(plan, call),
            None => self.shared.refuse(self.entry.name.as_str(), Reason::UnknownService),
        }
    }
}

impl<Req, T, E> Clone for Isolated<Req, T, E> {
    fn clone(&self) -> Self {
        let Self { shared, entry, plan, version } = self;
        Self { shared: Arc::clone(shared), entry: Arc::clone(entry), plan: Weak::clone(plan), version: *version }
    }
}

impl<Req, T, E> fmt::Debug for Isolated<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolated").field("service", self.name()).finish_non_exhaustive()
    }
}
