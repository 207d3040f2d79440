use serde::{Deserialize, Serialize};

use crate::{
    contract::{
        endpoint::{Capability, Endpoint},
        health::Health,
        name::ServiceName,
        version::Version,
    },
    settings::ConfigError,
};

/// What a service promises: its name and version, what it can do, and how well it is.
///
/// [`Contract`] is the plain value. Implement the trait for a service that knows its own health.
///
/// ```
/// use mainstay::contract::{Capability, Contract, Endpoint, Health, ServiceContract, ServiceName, Version};
///
/// struct Users { promises: Contract, replica_lags: bool }
///
/// impl ServiceContract for Users {
///     fn name(&self) -> &ServiceName { self.promises.name() }
///     fn version(&self) -> &Version { self.promises.version() }
///     fn capabilities(&self) -> &[Capability] { self.promises.capabilities() }
///     fn endpoints(&self) -> &[Endpoint] { self.promises.endpoints() }
///     fn health(&self) -> Health {
///         if self.replica_lags { Health::degraded("the replica lags") } else { Health::healthy() }
///     }
/// }
/// ```
pub trait ServiceContract: Send + Sync {
    /// The name by which callers ask for it.
    fn name(&self) -> &ServiceName;

    /// Its version.
    fn version(&self) -> &Version;

    /// How well it is now. Asked by registries and dashboards, not on the way of a call; it answers what is known and
    /// does not wait.
    fn health(&self) -> Health;

    /// What it can do.
    fn capabilities(&self) -> &[Capability];

    /// Its methods.
    fn endpoints(&self) -> &[Endpoint];

    /// A method by its name.
    fn endpoint(&self, method: &str) -> Option<&Endpoint> {
        self.endpoints().iter().find(|endpoint| endpoint.method() == method)
    }

    /// A capability by its name.
    fn capability(&self, name: &str) -> Option<&Capability> {
        self.capabilities().iter().find(|capability| capability.name() == name)
    }
}

/// What a service promises, as a value: from code, or from a file.
///
/// ```
/// use mainstay::contract::{Capability, Contract, Endpoint, ServiceContract, Version};
///
/// let users = Contract::new("users", Version::new(1, 4, 0))?
///     .with_capability(Capability::new("search")?)?
///     .with_endpoint(Endpoint::new("get_user")?.with_route("GET", "/users/{id}"))?;
/// assert_eq!(users.endpoint("get_user").and_then(Endpoint::path), Some("/users/{id}"));
///
/// let same: Contract = toml::from_str(r#"
///     name = "users"
///     version = "1.4.0"
///     capabilities = [{ name = "search" }]
///     endpoints = [{ method = "get_user", verb = "GET", path = "/users/{id}" }]
/// "#)?;
/// assert_eq!(same.endpoints(), users.endpoints());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Contract {
    name: ServiceName,
    version: Version,
    health: Health,
    capabilities: Vec<Capability>,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: ServiceName,
    version: Version,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    capabilities: Vec<Capability>,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

impl TryFrom<Raw> for Contract {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let empty = Self::empty(raw.name, raw.version).with_health(raw.health);
        let able = raw.capabilities.into_iter().try_fold(empty, Self::with_capability)?;
        raw.endpoints.into_iter().try_fold(able, Self::with_endpoint)
    }
}

impl Contract {
    /// A healthy service without methods.
    ///
    /// # Errors
    ///
    /// When the name is none: see [`ServiceName::new`].
    pub fn new(name: &str, version: Version) -> Result<Self, ConfigError> {
        Ok(Self::empty(ServiceName::new(name)?, version))
    }

    fn empty(name: ServiceName, version: Version) -> Self {
        Self { name, version, health: Health::healthy(), capabilities: Vec::new(), endpoints: Vec::new() }
    }

    /// The same with this health.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// The same with one more capability.
    ///
    /// # Errors
    ///
    /// When it has one of that name already.
    pub fn with_capability(mut self, capability: Capability) -> Result<Self, ConfigError> {
        if self.capability(capability.name()).is_some() {
            return Err(twice("capability", capability.name()));
        }
        self.capabilities.push(capability);
        Ok(self)
    }

    /// The same with one more method.
    ///
    /// # Errors
    ///
    /// When it has one of that name already.
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Result<Self, ConfigError> {
        if self.endpoint(endpoint.method().as_str()).is_some() {
            return Err(twice("method", endpoint.method().as_str()));
        }
        self.endpoints.push(endpoint);
        Ok(self)
    }
}

fn twice(field: &'static str, name: &str) -> ConfigError {
    ConfigError::new(field, format_args!("\"{}\"", name.escape_debug()), "is there already")
}

impl ServiceContract for Contract {
    fn name(&self) -> &ServiceName {
        &self.name
    }

    fn version(&self) -> &Version {
        &self.version
    }

    fn health(&self) -> Health {
        self.health.clone()
    }

    fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

impl<C: ServiceContract + ?Sized> ServiceContract for std::sync::Arc<C> {
    fn name(&self) -> &ServiceName {
        (**self).name()
    }

    fn version(&self) -> &Version {
        (**self).version()
    }

    fn health(&self) -> Health {
        (**self).health()
    }

    fn capabilities(&self) -> &[Capability] {
        (**self).capabilities()
    }

    fn endpoints(&self) -> &[Endpoint] {
        (**self).endpoints()
    }
}
