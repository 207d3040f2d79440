use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    contract::{Capability, Endpoint, Health, HealthStatus, ServiceContract, ServiceName, Version},
    registry::policies::{Policies, PoliciesSnapshot},
    sync::RwLock,
};

/// A service that is, or was, registered: its contract, its policies, and how well it is.
///
/// Cheap to clone; all clones are one registration. It outlives the registration, for whoever holds it.
#[derive(Clone)]
pub struct Service {
    pub(super) entry: Arc<Entry>,
}

pub(super) struct Entry {
    // As it was when it was registered: a contract that changes its name is still found, and removed, by this.
    pub(super) name: ServiceName,
    contract: Box<dyn ServiceContract>,
    policies: Box<dyn Policies>,
    // What the registry was told, over what the contract says.
    told: RwLock<Option<Arc<Health>>>,
}

impl Service {
    pub(super) fn new(contract: impl ServiceContract + 'static, policies: impl Policies) -> Self {
        let (name, told) = (contract.name().clone(), RwLock::new(None));
        Self { entry: Arc::new(Entry { name, contract: Box::new(contract), policies: Box::new(policies), told }) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.entry.name
    }

    /// What it promises.
    #[must_use]
    pub fn contract(&self) -> &dyn ServiceContract {
        &*self.entry.contract
    }

    /// How well it is: as the registry was told last, or, if it was not, as the contract says.
    #[must_use]
    pub fn health(&self) -> Health {
        let told = self.entry.told.read().clone();
        told.map_or_else(|| self.entry.contract.health(), |told| Health::clone(&told))
    }

    /// How well it is, without the words.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        let told = self.entry.told.read().as_ref().map(|told| told.status());
        told.unwrap_or_else(|| self.entry.contract.health().status())
    }

    /// What its policies know now.
    #[must_use]
    pub fn policies(&self) -> PoliciesSnapshot {
        self.entry.policies.snapshot()
    }

    /// All that is known of it now.
    #[must_use]
    pub fn snapshot(&self) -> ServiceSnapshot {
        let contract = self.contract();
        ServiceSnapshot {
            service: self.name().clone(),
            version: contract.version().clone(),
            health: self.health(),
            capabilities: contract.capabilities().to_vec(),
            endpoints: contract.endpoints().to_vec(),
            policies: self.policies(),
        }
    }

    /// Whether `other` is the same registration.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
    }

    /// `None` for the contract's own word. What it was told before.
    pub(super) fn tell(&self, health: Option<Health>) -> Option<Arc<Health>> {
        std::mem::replace(&mut *self.entry.told.write(), health.map(Arc::new))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", self.name()).finish_non_exhaustive()
    }
}

/// A service at one moment. Serialises to plain JSON.
#[non_exhaustive]
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSnapshot {
    /// Its name.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// How well it is: as the registry was told last, or as its contract says.
    pub health: Health,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Its methods.
    pub endpoints: Vec<Endpoint>,
    /// What its policies know.
    pub policies: PoliciesSnapshot,
}
