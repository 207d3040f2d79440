use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    contract::{Health, HealthStatus, ServiceContract, ServiceName},
    registry::{
        error::RegistryError,
        policies::Policies,
        registration::Registration,
        service::{Service, ServiceSnapshot},
    },
    sync::RwLock,
};

/// The services of a process, by name: see [the folder](super).
///
/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Registry {
    // Nobody's code runs under the lock, nor is any dropped there.
    services: Arc<RwLock<BTreeMap<ServiceName, Service>>>,
}

/// All services at one moment, ordered by name. Serialises to plain JSON.
#[non_exhaustive]
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The services.
    pub services: Vec<ServiceSnapshot>,
}

impl Registry {
    /// A registry without services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a service under the name in its contract, until the guard is dropped.
    ///
    /// The policies are what is shown of it, `()` for none.
    ///
    /// # Errors
    ///
    /// When there is a service of that name.
    pub fn register(
        &self,
        contract: impl ServiceContract + 'static,
        policies: impl Policies,
    ) -> Result<Registration, RegistryError> {
        let service = Service::new(contract, policies);
        match self.services.write().entry(service.name().clone()) {
            btree_map::Entry::Vacant(place) => {
                place.insert(service.clone());
            }
            btree_map::Entry::Occupied(place) => {
                return Err(RegistryError::Duplicate { service: place.key().clone() });
            }
        }
        tracing::info!(service = %service.name(), "a service was registered");
        Ok(Registration::new(self.clone(), service))
    }

    /// A service.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn get(&self, service: &str) -> Result<Service, RegistryError> {
        let found = self.services.read().get(service).cloned();
        found.ok_or_else(|| RegistryError::unknown(service))
    }

    /// Whether there is a service of that name.
    #[must_use]
    pub fn contains(&self, service: &str) -> bool {
        self.services.read().contains_key(service)
    }

    /// All services, ordered by name.
    #[must_use]
    pub fn list(&self) -> Vec<Service> {
        self.services.read().values().cloned().collect()
    }

    /// The services that are so well, ordered by name.
    #[must_use]
    pub fn by_health(&self, status: HealthStatus) -> Vec<Service> {
        let mut services = self.list();
        services.retain(|service| service.status() == status);
        services
    }

    /// Says how well a service is, whatever its contract says of itself; how well it was before.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn update_health(&self, service: &str, health: impl Into<Health>) -> Result<Health, RegistryError> {
        self.tell(service, Some(health.into()))
    }

    /// Believes the contract of a service again; how well it was before.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn forget_health(&self, service: &str) -> Result<Health, RegistryError> {
        self.tell(service, None)
    }

    fn tell(&self, name: &str, health: Option<Health>) -> Result<Health, RegistryError> {
        let service = self.get(name)?;
        let to = health.as_ref().map(Health::status);
        let before = service.tell(health);
        let before = before.map_or_else(|| service.contract().health(), |before| Health::clone(&before));
        let (from, to) = (before.status(), to.unwrap_or_else(|| service.status()));
        if from != to {
            tracing::info!(service = %service.name(), %from, %to, "the health of a service has changed");
        }
        Ok(before)
    }

    /// Forgets a service, whoever holds its guard; what it was.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn unregister(&self, service: &str) -> Result<Service, RegistryError> {
        let removed = self.services.write().remove(service);
        let removed = removed.ok_or_else(|| RegistryError::unknown(service))?;
        tracing::info!(service = %removed.name(), "a service was unregistered");
        Ok(removed)
    }

    /// Forgets a registration, and no later one by the same name.
    pub(super) fn remove(&self, service: &Service) {
        let mut services = self.services.write();
        if !services.get(service.name().as_str()).is_some_and(|now| now.is_same(service)) {
            return;
        }
        let removed = services.remove(service.name().as_str());
        drop(services);
        drop(removed);
        tracing::info!(service = %service.name(), "a service was unregistered");
    }

    /// How many services there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is known of all services now, ordered by name. Asks every contract and every policy; never on the way
    /// of a call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { services: self.list().iter().map(Service::snapshot).collect() }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("services", &self.services.read().keys().collect::<Vec<_>>()).finish()
    }
}
