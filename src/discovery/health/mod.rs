//! Active health checks: ask the instances themselves, and give out what is worse, their answer or the backend's.
//!
//! **When to use it.** Where instances do not tell by themselves how well they are, or are not believed: a lease says
//! that a process runs, not that it works. Not in place of an [outlier ejection](crate::balance) or a
//! [breaker](crate::breaker), which judge by the calls themselves and are faster; checks find what gets no calls.
//!
//! **How it decides.** Every instance is checked at once when it comes, and again after each
//! [interval](Config::interval), with some jitter. [`down_after`](Config::down_after) failures in a row make it
//! unhealthy, [`up_after`](Config::up_after) good checks healthy again. A check that takes too long or panics has
//! failed. An instance that moves to another address begins anew. The health that is shown is the worse of the two: the
//! backend's, which may be the word of the instance or of an operator, and that of the checks.
//!
//! **Where it stands.** [`Checked`] is a layer over any [`Discovery`](super::Discovery) and is one itself, so that
//! everything that reads from discovery reads checked health. It writes nothing back: two checkers of one backend, in
//! two processes, may see different things and both be right.
//!
//! # Use
//!
//! A check is any Tower service that takes an instance. What it answers with, is healthy; what it fails for, is not:
//!
//! ```
//! use std::sync::Arc;
//! use mainstay::{contract::{Instance, ServiceName}, discovery::{Discovery, InMemory, health::{Checked, Config}}};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ping = service_fn(async |instance: Arc<Instance>| {
//!     tokio::net::TcpStream::connect((instance.host(), instance.port())).await.map(drop)
//! });
//! let fleet = Checked::new(InMemory::new(), ping, Config::new());
//! let users = fleet.watch(&ServiceName::new("users")?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Made to measure, with answers that say more:
//!
//! ```
//! use std::{convert::Infallible, sync::Arc, time::Duration};
//! use mainstay::{contract::{Health, Instance}, discovery::{InMemory, health::{Checked, Config}}};
//! use tower::service_fn;
//!
//! let lag = service_fn(async |_instance: Arc<Instance>| Ok::<_, Infallible>(Duration::from_secs(12)));
//! let judge = |lag: &Duration| match lag.as_secs() {
//!     0..5 => Health::healthy(),
//!     5..60 => Health::degraded("the replica lags").with_detail("lag", format_args!("{lag:?}")),
//!     _ => Health::unhealthy("the replica is lost"),
//! };
//! let config = Config::new().interval(Duration::from_secs(5)).down_after(2).start_healthy(false);
//! let fleet = Checked::try_new(InMemory::new(), lag, judge, config)?;
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! `HttpCheck`, behind the feature `http`, asks for a path of each instance.
//!
//! # Cancellation
//!
//! Checks run in tasks, of which there are none before somebody asks for a service. A service that nobody asks for any
//! more is not checked after [a while](Config::idle_for). With the last [`Checked`] every task and every check in
//! flight ends, and so do its watches. Dropping it needs no runtime; asking it needs one.
//!
//! # What it tells
//!
//! Changes of health by the watches, and to `tracing` as `service, instance, from, to`; counts by
//! [`Checked::snapshot`].

mod actor;
mod check;
mod checked;
mod config;
#[cfg(feature = "http")]
mod http;
mod rule;

pub use checked::{Checked, CheckedSnapshot};
pub use config::Config;
#[cfg(feature = "http")]
pub use http::{HttpCheck, HttpCheckError};
