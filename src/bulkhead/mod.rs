//! Bulkhead: at most so many calls at a time, so that one slow service cannot take all that others need.
//!
//! **When to use it.** Around everything that can be slow and shares something with others: threads, connections,
//! memory. A service that hangs then holds its places and nothing more. Not to limit how many calls begin in a second;
//! that is a rate limit.
//!
//! **How it decides.** A call takes a place if one is free and nobody waits for it. Else it is turned away, or waits in
//! a queue: by [priority](crate::Priority), and among equals in the order of arrival. Places [kept in
//! reserve](Config::reserve) are for high priority only. A place that is given back goes to the next who waits, not to
//! whoever comes by.
//!
//! **Where it stands.** Inside the breaker, outside the limit of an attempt: what waits here must not count as slow
//! service. The order of the whole stack, outside in: fallback, load shed and rate limit, total timeout, retry, hedge,
//! breaker, **bulkhead**, attempt timeout, service.
//!
//! # Use
//!
//! ```
//! use mainstay::{Error, bulkhead::{BulkheadLayer, Config, Handle}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let bulkhead = Handle::new("user-db", Config::new(64));
//! let mut users = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(bulkhead.clone()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
//! assert_eq!(users.ready().await?.call(7).await?, "user 7");
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, with a queue and two priorities over the same places:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Priority, bulkhead::{BulkheadLayer, Config, Handle}};
//!
//! let config = Config::new(64).reserve(8).max_queue(128).max_wait(Duration::from_millis(100));
//! let bulkhead = Handle::try_new("user-db", config)?;
//! let people = BulkheadLayer::new(bulkhead.with_priority(Priority::High)).queued();
//! let batch = BulkheadLayer::new(bulkhead.with_priority(Priority::Low)).queued();
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping a call gives its place back, or leaves the queue; a place that was granted to a call which is given up at
//! that moment goes to the next. Nothing is taken in `poll_ready`: an idle, ready clone holds no place.
//!
//! # What it tells
//!
//! [`Event::Rejected`](crate::observe::Event) to its [observers](Handle::observe), counts by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call writes the counter of its own thread twice, and seldom what threads share, until the places are full; from
//! then on all calls write one word, until less than a quarter is in use. The counters take 128 bytes for each core and
//! 256 more. A bulkhead has them only with four places or more for each counter (16 on two cores): a smaller one, and
//! one in [unready mode](Readiness::Unready), always writes the word, even if its limit is raised later. The queue has
//! a lock, which is touched only when somebody waits, or the places become full. The limit is exact all the time.

mod config;
mod core;
mod handle;
mod layer;
mod line;
mod places;
mod rest;

pub use self::core::Wait;
pub use config::Config;
pub use handle::{Acquire, Handle, Permit, Snapshot};
pub use layer::{Bulkhead, BulkheadLayer, Held, QueuedBulkhead, QueuedBulkheadLayer, Waiting};

#[doc(hidden)]
pub use places::{Join, Places, Take};

pub use crate::admission::Readiness;

pub(crate) use config::Raw;
