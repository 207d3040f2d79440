//! Adaptive concurrency: at most so many calls at a time, and the right number is learnt from latency and drops.
//!
//! **When to use it.** Where a [bulkhead](crate::bulkhead) would need a number that nobody knows, or that changes with
//! the time of day, the size of the machine, the state of a cache. In front of a service that is called, or as the
//! server's own limit. Not where the number is known, as that of the connections of a pool is; and not for few calls: a
//! limit that is not used learns nothing.
//!
//! **How it decides.** A call runs if fewer run than the limit says, and is turned away
//! ([`Reason::Overloaded`](crate::Reason)) if not. Once in a [window](Config::window), if enough calls have ended in
//! it, an [`Algorithm`] is shown their median latency, the share of them that was dropped, and the most that ran at a
//! time, and says the next limit: [`Gradient`] (the default) and [`Vegas`] guess from the latency how many calls stand
//! in the service's queue, [`Aimd`] goes up until calls are dropped; or you bring your own. The limit stays between
//! [`floor`](Config::floor) and [`ceiling`](Config::ceiling). Drops lower it whatever the algorithm. One that is not
//! used does not grow. One lucky call moves nothing. The base latency is learnt anew from time to time.
//!
//! **What is a drop.** A call that timed out, or that the service turned away for overload. The policy hears of success
//! and failure only, so it takes a failure for a drop that came later than successes do, as a time-out does, or with a
//! `Retry-After`; other errors count as nothing. A classifier that knows what overload looks like, such as
//! [`OnOverload`](crate::OnOverload), is taken at its word with [`Drops::Every`].
//!
//! **Where it stands.** In the place of the bulkhead, or next to it. The order of the whole stack, outside in:
//! fallback, load shed and rate limit, total timeout, retry, hedge, breaker, bulkhead or **adaptive concurrency**,
//! attempt timeout, service. The attempt timeout stands inside of it, so that time-outs are seen.
//!
//! # Use
//!
//! ```
//! use mainstay::{Error, concurrency::{Config, ConcurrencyLayer, Handle}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let limit = Handle::new("search", Config::new());
//! let mut search = ServiceBuilder::new()
//!     .layer(ConcurrencyLayer::new(limit.clone()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |text: &str| Ok::<_, std::io::Error>(text.len())));
//! assert_eq!(search.ready().await?.call("mainstay").await?, 8);
//! println!("{:?}", limit.snapshot());
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{OnOverload, concurrency::{Aimd, Config, ConcurrencyLayer, Drops, Handle}};
//!
//! let config = Config::new()
//!     .algorithm(Aimd::new().backoff(0.8).max_latency(Duration::from_millis(500)))
//!     .initial(50)
//!     .ceiling(200)
//!     .drops(Drops::Every);
//! let layer = ConcurrencyLayer::new(Handle::try_new("search", config)?).classify(OnOverload);
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping a call gives its place back, and nothing is learnt from it: how long its caller had patience says nothing
//! about the service. A panic counts as a failure. Nothing is taken in `poll_ready`: an idle, ready clone holds no
//! place.
//!
//! # What it tells
//!
//! [`Event::Rejected`](crate::observe::Event) to its [observers](Handle::observe); limit, calls in flight, base latency
//! and the latency of the last window by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call writes one shared word twice, reads the clock twice, and counts on a cache line of its own thread. The
//! algorithm runs once a window, on the way of the call that closes it.

mod aimd;
mod algorithm;
mod config;
mod core;
mod gradient;
mod handle;
mod layer;
pub(crate) mod raw;
mod tally;
mod vegas;

pub use self::core::Ticket;
pub use aimd::Aimd;
pub use algorithm::{Algorithm, Sample};
pub use config::{Config, Drops, Rule};
pub use gradient::Gradient;
pub use handle::{Handle, Permit, Snapshot};
pub use layer::{Concurrency, ConcurrencyLayer};
pub use vegas::Vegas;

#[doc(hidden)]
pub use tally::{Sum, Tallies};

pub(crate) use raw::Raw;
