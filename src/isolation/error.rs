use crate::{contract::ServiceName, settings::ConfigError};

/// What a manager cannot do.
///
/// Errors of calls are not among them: those are the service's own, and rejections in it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
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
    /// A name or a setting is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl IsolationError {
    pub(super) fn unknown(service: &str) -> Self {
        Self::Unknown { service: service.to_owned() }
    }
}
