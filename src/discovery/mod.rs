//! Discovery.

mod backend;
#[cfg(feature = "discover")]
mod callable;
mod config;
mod error;
pub mod health;
mod hold;
mod lease;
mod leases;
mod log;
mod memory;
mod overrides;
mod publisher;
mod registration;
mod topic;
#[cfg(feature = "discover")]
mod tower;
mod update;
mod watch;

pub use backend::Discovery;
pub use config::Config;
pub use error::DiscoveryError;
pub use lease::Lease;
pub use memory::{BackendSnapshot, InMemory};
pub use publisher::Publisher;
pub use registration::Registration;
#[cfg(feature = "discover")]
pub use tower::Changes;
pub use update::{Change, Event, Gone, Snapshot, Stale, Update};
pub use watch::{Next, Watch};
