//! Contract: what a service promises, and what is known of its instances.
//!
//! **When to use it.** Where there is more than one service, or more than one instance of one: these are the words that
//! [registry](crate::registry), [discovery](crate::discovery), [balance](crate::balance), [client](crate::client) and
//! [isolation manager](crate::isolation) share. A program that calls one address needs none of it: put a
//! [stack](crate::stack) in front.
//!
//! **What there is.** A [`ServiceContract`] has a [name](ServiceName), a [version](Version), [health](Health),
//! [capabilities](Capability) and [endpoints](Endpoint), each a method with parameters and responses. An [`Instance`]
//! is one running copy: where it is, how well, how much it may be given. An [`Invocation`] is a call of one method. All
//! of them but the last are read from files and written to them.
//!
//! **How names are checked.** Once, where they come in: not empty, no control characters, 253 bytes at most. What has
//! such a name has one for [its policies](ServiceName::policy_name) too, which is safe in labels and headers.
//!
//! # Use
//!
//! ```
//! use mainstay::contract::{Contract, Endpoint, Health, HealthStatus, Instance, ServiceContract, Version};
//!
//! let users = Contract::new("users", Version::new(1, 4, 0))?.with_endpoint(Endpoint::new("get_user")?)?;
//! assert!(users.endpoint("get_user").is_some() && users.endpoint("get_usr").is_none());
//! assert_eq!(users.health().status(), HealthStatus::Healthy);
//!
//! let instance = Instance::new("users", "users-1", "10.0.0.7", 8080)?.with_version(Version::new(1, 5, 2));
//! assert!(instance.version().serves(users.version()), "a caller of 1.4.0 may be sent to 1.5.2");
//!
//! let error = Instance::new("users\n", "users-1", "10.0.0.7", 8080).unwrap_err();
//! assert_eq!(error.to_string(), r#"service = "users\n": must not hold control characters"#);
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! From a file:
//!
//! ```
//! use mainstay::contract::Instance;
//!
//! let instance: Instance = toml::from_str(r#"
//!     service = "users"
//!     id = "users-1"
//!     host = "10.0.0.7"
//!     port = 8080
//!     weight = 50
//!     health = { status = "degraded", message = "the replica lags" }
//!     metadata = { zone = "eu-1" }
//! "#)?;
//! assert!(instance.takes_calls());
//! # Ok::<(), toml::de::Error>(())
//! ```

mod endpoint;
mod health;
mod instance;
mod invocation;
mod moment;
mod name;
mod service;
mod version;

pub use endpoint::{Capability, Endpoint, Parameter, Response};
pub use health::{Health, HealthStatus};
pub use instance::{Instance, Protocol};
pub use invocation::{AnyMethod, Invocation};
pub use name::{AsMethod, InstanceId, Method, ServiceName};
pub use service::{Contract, ServiceContract};
pub use version::Version;
