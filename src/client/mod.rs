//! Client: calls of services by name.

mod builder;
mod call;
mod caller;
#[allow(clippy::module_inception, reason = "the client is what the folder is about")]
mod client;
mod config;
mod control;
mod follow;
mod following;
mod health;
mod lane;
mod marked;
mod metrics;
mod pending;
mod pick_by;
mod raw;
mod shared;
mod steer;
mod trail;

pub use builder::ClientBuilder;
pub use call::Call;
pub use caller::{Caller, ResponseFuture};
pub use client::Client;
pub use config::Config;
pub use health::{ServiceHealth, ServiceSnapshot};
pub use metrics::{Metrics, ServiceMetrics};
pub use pending::{Answer, Pending, Trace};
pub use pick_by::{ByConfig, Configured, Fixed, PickBy, PickerOf};
pub use trail::Metadata;
