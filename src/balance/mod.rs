//! Balance: each call goes to one of the instances of a service.

mod config;
mod consistent;
mod core;
mod eject;
mod ewma;
mod future;
mod handle;
mod hub;
mod member;
mod notice;
mod outlier;
mod outlier_config;
mod pick;
mod pickers;
mod ramp;
mod raw;
mod ring;
mod service;
mod set;
mod snapshot;
mod steer;
mod tier;
mod weights;

pub use config::Config;
pub use consistent::{ConsistentHash, HashKey, RingPlan};
pub use future::ResponseFuture;
pub use handle::Handle;
pub use outlier_config::{Mode, Outlier};
pub use pick::{Candidates, Pick, Picker};
pub use pickers::{LeastLoaded, PeakEwma, Random, RoundRobin, Weighted};
pub use ramp::SlowStart;
pub use ring::KeyHasher;
pub use service::Balance;
pub use snapshot::{MemberSnapshot, MemberState, Snapshot};
pub use steer::{NoSteer, Steer};

pub(crate) use raw::Raw;
