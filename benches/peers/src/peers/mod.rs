//! The settings of each library, the same for all as far as they go: a circuit that opens at half of 20 calls or more
//! in 10 s, for 30 s, with 3 probes; 64 places; three attempts; 3 s.

use std::time::Duration;

pub mod failsafe;
pub mod mainstay;
pub mod recloser;
pub mod resilience;
pub mod tower;

pub const FAILURE_RATE: f64 = 0.5;
pub const MINIMUM_CALLS: u64 = 20;
pub const WINDOW: Duration = Duration::from_secs(10);
pub const WINDOW_CALLS: usize = 100;
pub const OPEN_FOR: Duration = Duration::from_secs(30);
pub const PROBES: u32 = 3;
pub const PLACES: u32 = 64;
pub const ATTEMPTS: u32 = 3;
pub const LIMIT: Duration = Duration::from_secs(3);
/// More calls a second than anybody makes.
pub const PLENTY: u32 = 1_000_000_000;
/// A circuit that is open remains so.
pub const LONG: Duration = Duration::from_secs(3_600);
