use crate::{
    contract::{InstanceId, ServiceName},
    error::BoxError,
    settings::ConfigError,
};

/// Why discovery could not do what was asked.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The lease ran out, was given up, or is not of this backend: register again.
    #[error("the lease of \"{id}\" in \"{service}\" is lost")]
    LeaseLost {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
    },
    /// An instance of this id is registered by a lease that still runs.
    #[error("\"{id}\" is registered in \"{service}\" already")]
    Duplicate {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
    },
    /// The service has no such instance.
    #[error("there is no \"{id}\" in \"{service}\"")]
    Unknown {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
    },
    /// What was given cannot be: a time to live, or an instance that is not that of the lease.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The backend could not be asked. What is known stays known, and is said to be stale.
    #[error("the backend is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// What was asked needs a task, and there is no runtime to start it on.
    #[error("there is no runtime to start a task on")]
    NoRuntime,
    /// The backend is gone.
    #[error("the backend is closed")]
    Closed,
}

impl DiscoveryError {
    pub(super) fn lease_lost(lease: &super::Lease) -> Self {
        Self::LeaseLost { service: lease.service().clone(), id: lease.id().clone() }
    }
}
