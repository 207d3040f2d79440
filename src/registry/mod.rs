//! Registry: one place that knows the services of a process, and what their policies know.
//!
//! **When to use it.** Where several parts of a program call, or are, services, and somebody wants to see all of them:
//! a health endpoint, a dashboard, an operator's page. Not to find instances on other machines, which come and go by
//! themselves: that is [discovery](crate::discovery). Not to change how a service is called: that is the [isolation
//! manager](crate::isolation), whose services can be shown here too.
//!
//! **How it decides.** It decides nothing: it keeps a [contract](crate::contract::ServiceContract) by its name, with
//! whatever gives a snapshot of its [policies](Policies). A name is taken once: a second service of that name, and a
//! name that nobody has, are errors that say so. How well a service is, its contract says, until the registry is
//! [told](Registry::update_health) otherwise.
//!
//! A [`Registration`] is a guard: the service is registered until it is dropped, so that what ends early, by an error
//! or by a panic, does not stay on the list. A guard of an earlier registration never removes a later one of the same
//! name.
//!
//! # Use
//!
//! ```
//! use mainstay::{Stack, contract::{Contract, Health, HealthStatus, Version}, registry::Registry};
//!
//! let registry = Registry::new();
//! let stack = Stack::standard("users");
//! let users = registry.register(Contract::new("users", Version::new(1, 4, 0))?, stack.clone())?;
//!
//! registry.update_health("users", Health::degraded("the replica lags"))?;
//! assert_eq!(registry.by_health(HealthStatus::Degraded).len(), 1);
//! println!("{}", serde_json::to_string_pretty(&registry.snapshot())?);
//!
//! drop(users);
//! assert_eq!(registry.get("users").unwrap_err().to_string(), "no service \"users\" is registered");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Made to measure: a service that knows its own health, single policies and what a pool of your own says, and no
//! guard.
//!
//! ```
//! use mainstay::{breaker, contract::*, registry::{PoliciesSnapshot, Registry}};
//!
//! struct Search { promises: Contract, breaker: breaker::Handle }
//!
//! impl ServiceContract for Search {
//!     fn name(&self) -> &ServiceName { self.promises.name() }
//!     fn version(&self) -> &Version { self.promises.version() }
//!     fn capabilities(&self) -> &[Capability] { self.promises.capabilities() }
//!     fn endpoints(&self) -> &[Endpoint] { self.promises.endpoints() }
//!     fn health(&self) -> Health {
//!         match self.breaker.state() {
//!             breaker::State::Closed => Health::healthy(),
//!             state => Health::unhealthy(format!("the circuit is {state}")),
//!         }
//!     }
//! }
//!
//! let breaker = breaker::Handle::new("search", breaker::Config::new());
//! let promises = Contract::new("search", Version::new(0, 9, 1))?.with_endpoint(Endpoint::new("query")?)?;
//! let pool = || PoliciesSnapshot::facts([("connections", 8), ("idle", 3)]);
//!
//! let registry = Registry::new();
//! let search = Search { promises, breaker: breaker.clone() };
//! registry.register(search, (breaker.clone(), pool))?.keep();
//! breaker.force_open();
//! assert_eq!(registry.get("search")?.health().to_string(), "unhealthy: the circuit is forced_open");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancellation
//!
//! There is nothing to cancel: nothing here waits. Contracts and policies are asked, and dropped, outside of every
//! lock; one that panics does so to whoever asked, and changes nothing. A service that was unregistered lives as long
//! as somebody holds it.
//!
//! # What it tells
//!
//! [`Registry::snapshot`], ordered by name, with contract, health and the policies' own snapshots of each service, as
//! plain JSON. Registrations and changes of health go to `tracing` with the fields `service`, `from` and `to`.

mod error;
mod handle;
mod policies;
mod registration;
mod service;

pub use error::RegistryError;
pub use handle::{Registry, Snapshot};
pub use policies::{Policies, PoliciesSnapshot};
pub use registration::Registration;
pub use service::{Service, ServiceSnapshot};
