use crate::contract::ServiceName;

/// What a registry cannot do.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No service of that name is registered.
    #[error("no service {service:?} is registered")]
    Unknown {
        /// The name that was asked for.
        service: String,
    },
    /// There is a service of that name already. It is left as it is.
    #[error("a service {service:?} is registered already")]
    Duplicate {
        /// The name.
        service: ServiceName,
    },
}

impl RegistryError {
    pub(super) fn unknown(service: &str) -> Self {
        Self::Unknown { service: service.to_owned() }
    }
}
