//! Rate limit: at most so many calls in a time, evenly.
//!
//! **When to use it.** To keep a quota that somebody else has set, or to give each caller no more than its share. Not
//! to protect a service from being slow: a quota does not know how much is too much today; a bulkhead and load shedding
//! do.
//!
//! **How it decides.** By the generic cell rate algorithm, in one atomic word: calls pass at even intervals, and after
//! a pause as many at once as the [burst](Config::burst) allows. There is no window at whose edge double the quota
//! could pass. A call that comes too early is turned away with the exact time to wait, or, within
//! [`max_wait`](Config::max_wait), gets its turn and waits for it.
//!
//! **Where it stands.** Outside of everything but fallback: what is turned away here costs nothing further in. The
//! order of the whole stack, outside in: fallback, load shed and **rate limit**, total timeout, retry, hedge, breaker,
//! bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! ```
//! use mainstay::{Error, rate_limit::{Config, Handle, RateLimitLayer}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let limit = Handle::new("mail", Config::per_second(10));
//! let mut mail = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(limit.clone()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |to: &str| Ok::<_, std::io::Error>(format!("sent to {to}"))));
//! assert_eq!(mail.ready().await?.call("Ada").await?, "sent to Ada");
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure: a hundred a minute, five at once, and whoever comes up to two seconds early waits:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::rate_limit::{Config, Handle, RateLimitLayer};
//!
//! let config = Config::new(100, Duration::from_secs(60)).burst(5).max_wait(Duration::from_secs(2));
//! let layer = RateLimitLayer::new(Handle::try_new("geocoding", config)?).queued();
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping a call that waits gives its turn back. A call that was made is paid for, even if it is dropped half-way;
//! one that a policy of the same layer turns away further in is not.
//!
//! # What it tells
//!
//! [`Event::Rejected`](crate::observe::Event) to its [observers](Handle::observe), counts by [`Handle::snapshot`].

mod config;
mod gcra;
mod handle;
mod layer;
mod rest;

pub use config::Config;
pub use handle::{AcquireTurn, Handle, Snapshot, Turn};
pub use layer::{Paid, QueuedRateLimit, QueuedRateLimitLayer, RateLimit, RateLimitLayer};

pub(crate) use config::Raw;
