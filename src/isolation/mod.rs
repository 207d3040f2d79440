//! Isolation: services kept apart, each behind the level of protection that it needs now.

mod config;
mod entry;
mod erased;
mod error;
mod fallback_config;
mod future;
mod isolated;
mod level;
mod manager;
mod meter;
mod plan;
mod raw;
mod snapshot;
mod strategy;
mod switch;
mod table;

pub use config::Config;
pub use error::IsolationError;
pub use fallback_config::{CircuitBreaker, FallbackConfig};
pub use future::ResponseFuture;
pub use isolated::Isolated;
pub use level::Level;
pub use manager::IsolationManager;
pub use snapshot::{Levels, ServiceInfo, Stats, Statuses};
