use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    contract::{Instance, ServiceName},
    discovery::{DiscoveryError, Lease, Snapshot, Watch},
};

/// Knows where the instances of services are.
///
/// [`InMemory`](super::InMemory) is the backend that needs no server. Others keep a [`Publisher`](super::Publisher) for
/// each service that somebody asked for, and give out its snapshots and watches. A backend that is shared behind an
/// `Arc` is one too.
pub trait Discovery: Send + Sync + 'static {
    /// Makes an instance known, for as long as its lease runs: `ttl` from now, and again from each heartbeat. At
    /// exactly its end it has run out.
    ///
    /// # Errors
    ///
    /// [`Duplicate`](DiscoveryError::Duplicate) when a lease for the same id runs, [`Invalid`](DiscoveryError::Invalid)
    /// for a `ttl` under 1 ms or over a year, and what the backend fails with.
    fn register(&self, instance: Instance, ttl: Duration)
    -> impl Future<Output = Result<Lease, DiscoveryError>> + Send;

    /// Renews a lease.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](DiscoveryError::LeaseLost) when it does not run any more: register again; and what the backend
    /// fails with.
    fn heartbeat(&self, lease: &Lease) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// Changes what is known of an instance: its health, weight, draining, metadata, address. Does not renew the lease.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](DiscoveryError::LeaseLost), [`Invalid`](DiscoveryError::Invalid) for an instance that is not that
    /// of the lease, and what the backend fails with.
    fn update(&self, lease: &Lease, instance: Instance) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// Ends a lease: the instance is gone.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](DiscoveryError::LeaseLost) when it had ended before, and what the backend fails with.
    fn deregister(&self, lease: Lease) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// All that is known of a service; a service that nobody knows has no instances.
    ///
    /// # Errors
    ///
    /// What the backend fails with, if it has never answered. Else the snapshot says that it is stale.
    fn instances(&self, service: &ServiceName) -> impl Future<Output = Result<Arc<Snapshot>, DiscoveryError>> + Send;

    /// Follows a service, also one that nobody knows yet.
    ///
    /// # Errors
    ///
    /// What the backend fails with. Later failures are told by the watch.
    fn watch(&self, service: &ServiceName) -> impl Future<Output = Result<Watch, DiscoveryError>> + Send;

    /// Ends a lease at once, where that needs no waiting; else gives the lease back, as by default. For what is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The lease, which is then to be [deregistered](Self::deregister), or runs out.
    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        Err(lease)
    }
}

impl<D: Discovery> Discovery for Arc<D> {
    fn register(
        &self,
        instance: Instance,
        ttl: Duration,
    ) -> impl Future<Output = Result<Lease, DiscoveryError>> + Send {
        D::register(self, instance, ttl)
    }

    fn heartbeat(&self, lease: &Lease) -> impl Future<Output = Result<(), DiscoveryError>> + Send {
        D::heartbeat(self, lease)
    }

    fn update(&self, lease: &Lease, instance: Instance) -> impl Future<Output = Result<(), DiscoveryError>> + Send {
        D::update(self, lease, instance)
    }

    fn deregister(&self, lease: Lease) -> impl Future<Output = Result<(), DiscoveryError>> + Send {
        D::deregister(self, lease)
    }

    fn instances(&self, service: &ServiceName) -> impl Future<Output = Result<Arc<Snapshot>, DiscoveryError>> + Send {
        D::instances(self, service)
    }

    fn watch(&self, service: &ServiceName) -> impl Future<Output = Result<Watch, DiscoveryError>> + Send {
        D::watch(self, service)
    }

    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        D::deregister_now(self, lease)
    }
}
