//! Load shedding: turns calls away early when there are too many, so that those that are let in are served well.
//!
//! **When to use it.** In front of a server's own work, so that more load than it bears costs the calls that are too
//! many and not all of them; and in front of a service that others call too, so that it need not spend its work on
//! saying no. Not to keep one slow service from taking what others need: that is a [bulkhead](crate::bulkhead). Where
//! the right limit is not known, see [adaptive concurrency](crate::concurrency).
//!
//! **How it decides.** By any of three triggers, each switched on by itself in one handle:
//!
//! - [`in_flight`](Config::in_flight): as many calls run as may. They are counted here; that a service is not ready for
//!   a moment, or that the runtime has a task yield, is no overload. Calls of normal and of low
//!   [priority](crate::Priority) may take a share of the places only, so that the low ones are shed first.
//! - [`queue_delay`](Config::queue_delay): calls over the limit may wait, but the queue may not stand (CoDel). While it
//!   takes up bursts, who came first is served first, and a call waits for an interval at most. Once calls have waited
//!   longer than the target for a whole interval, the newest are served first, whose callers still wait for them, and a
//!   call that comes waits for the target at most; until the queue has been empty. A call
//!   is judged by the calls of its own and of higher priority: those that it goes before do not hold it up.
//! - [`throttle`](Config::throttle): the service accepts few of the calls. With `k` of 2, no call is turned away while
//!   half of the requests in the window are accepted, and below that a growing share of them at random, so that about
//!   twice as many requests as are accepted go out. What the classifier calls a failure was not accepted; for errors
//!   that say nothing about load, give the layer a classifier that knows them, such as
//!   [`OnOverload`](crate::OnOverload).
//!
//! A service that tells by its readiness that it has enough, as tower's own limits do, goes behind a
//! [`ShedUnreadyLayer`].
//!
//! **Where it stands.** Outside of everything but fallback: what is shed here costs nothing further in. The order of
//! the whole stack, outside in: fallback, **load shed** and rate limit, total timeout, retry, hedge, breaker, bulkhead,
//! attempt timeout, service.
//!
//! # Use
//!
//! ```
//! use mainstay::{Error, load_shed::{Config, Handle, LoadShedLayer}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let shedder = Handle::new("api", Config::server(64));
//! let mut api = ServiceBuilder::new()
//!     .layer(LoadShedLayer::new(shedder.clone()).queued())
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
//! assert_eq!(api.ready().await?.call(7).await?, "user 7");
//! assert_eq!(shedder.snapshot().shed.total(), 0);
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, with all three triggers and the priority of each request:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Priority, priority_fn, load_shed::{Config, Handle, LoadShedLayer, QueueDelay, Throttle}};
//!
//! struct Request { path: &'static str }
//!
//! let config = Config::new()
//!     .in_flight(200)
//!     .shares(0.8, 0.5)
//!     .queue_delay(QueueDelay::new().target(Duration::from_millis(10)).max_queue(100))
//!     .throttle(Throttle::new().k(1.5).window(Duration::from_secs(30), 30));
//! let layer = LoadShedLayer::new(Handle::try_new("api", config)?)
//!     .queued()
//!     .priority_of(priority_fn(|request: &Request| match request.path {
//!         "/checkout" => Some(Priority::High),
//!         "/export" => Some(Priority::Low),
//!         _ => None,
//!     }));
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping a call gives its place back, or leaves the queue; a place that was granted to a call which is given up at
//! that moment goes to the next. To the throttle a cancelled call is a request that was neither accepted nor refused.
//! Nothing is taken in `poll_ready`: an idle, ready clone holds no place. A call whose priority function panics has the
//! handle's priority.
//!
//! # What it tells
//!
//! [`Event::Rejected`](crate::observe::Event) to its [observers](Handle::observe); how many calls were shed, by cause,
//! by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call under a limit writes one word twice; the queue has a lock, which is not touched while nobody waits. A call
//! under a throttle reads the clock once and counts on a cache line of its own thread; the counts are added up when a
//! call was refused, and while calls are turned away.

mod codel;
mod config;
mod core;
mod gate;
mod handle;
mod layer;
mod line;
mod prioritized;
pub(crate) mod raw;
mod throttle;
mod unready;

pub use config::{Config, QueueDelay, Throttle};
pub use gate::{Held, Wait};
pub use handle::{Acquire, Handle, Permit, Shed, Snapshot};
pub use layer::{LoadShed, LoadShedLayer, QueuedLoadShed, QueuedLoadShedLayer};
pub use prioritized::{Prioritized, PrioritizedLayer};
pub use unready::{ShedUnready, ShedUnreadyFuture, ShedUnreadyLayer};

pub(crate) use raw::Raw;
