use std::time::Duration;

use crate::{
    contract::{Instance, InstanceId, ServiceName},
    discovery::DiscoveryError,
    settings::{Checks, ConfigError},
};

/// Proof that an instance is registered, until its time to live is over. Renewed by heartbeats.
///
/// It knows nothing of the backend, so a lease that is dropped runs out by itself. Clones are the same lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    service: ServiceName,
    id: InstanceId,
    ttl: Duration,
    key: u64,
}

impl Lease {
    /// A lease that a backend has granted. The key tells it from all others of this backend, above all from earlier
    /// ones of the same instance.
    #[must_use]
    pub const fn new(service: ServiceName, id: InstanceId, ttl: Duration, key: u64) -> Self {
        Self { service, id, ttl, key }
    }

    /// The service that the instance is of.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The instance.
    #[must_use]
    pub const fn id(&self) -> &InstanceId {
        &self.id
    }

    /// How long the lease lasts from its last heartbeat on.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What tells this lease from others of its backend.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Checks a time to live, for backends: from 1 ms to a year.
    ///
    /// # Errors
    ///
    /// [`DiscoveryError::Invalid`] on the field `ttl`.
    pub fn check_ttl(ttl: Duration) -> Result<(), DiscoveryError> {
        let mut checks = Checks::default();
        checks.duration("ttl", ttl);
        Ok(checks.finish()?)
    }

    /// Checks that an instance is the one this lease is for.
    ///
    /// # Errors
    ///
    /// [`DiscoveryError::Invalid`] on the field `instance`.
    pub fn check_instance(&self, instance: &Instance) -> Result<(), DiscoveryError> {
        if *instance.service() == self.service && *instance.id() == self.id {
            return Ok(());
        }
        let given = format_args!("\"{}\" in \"{}\"", instance.id(), instance.service());
        let why = format!("the lease is for \"{}\" in \"{}\"", self.id, self.service);
        Err(ConfigError::new("instance", given, why).into())
    }
}
