use std::fmt;

use crate::registry::{handle::Registry, service::Service};

/// A service is registered until this is dropped.
///
/// It stands for one registration: when that was undone and the name is taken again, dropping this changes nothing.
///
/// ```
/// use mainstay::{contract::{Contract, Version}, registry::Registry};
///
/// let registry = Registry::new();
/// let users = registry.register(Contract::new("users", Version::new(1, 0, 0))?, ())?;
/// registry.register(Contract::new("stock", Version::new(2, 1, 0))?, ())?.keep();
/// drop(users);
/// assert!(!registry.contains("users") && registry.contains("stock"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the service is unregistered when this is dropped; `keep` leaves it"]
pub struct Registration {
    // None when it is to stay.
    registry: Option<Registry>,
    service: Service,
}

impl Registration {
    pub(super) const fn new(registry: Registry, service: Service) -> Self {
        Self { registry: Some(registry), service }
    }

    /// The service.
    #[must_use]
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// Leaves the service registered, for as long as the registry is there.
    pub fn keep(mut self) -> Service {
        self.registry = None;
        self.service.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.take() {
            registry.remove(&self.service);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("service", self.service.name()).finish_non_exhaustive()
    }
}
