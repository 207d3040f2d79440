//! Hedge: sends a second copy of a call that takes too long, and takes the answer that comes first.
//!
//! **When to use it.** In front of a service with many instances of which one is slow now and then: the second copy
//! goes elsewhere, and a tail of seconds becomes one of milliseconds. Only for calls that may be carried out twice.
//! Not in front of a service that is slow because it has too much to do: another copy is more of that (the
//! [budget](Budget) keeps it within bounds), and not for calls that are expensive.
//!
//! **How it decides.** The next copy is sent when a call has waited longer than 95 of 100 calls lately did
//! ([percentile](Config::percentile)), or for a [fixed time](Config::delay); and at once when a copy fails. The first
//! *good* answer wins, and whatever else runs is dropped at that moment. A failed copy does not beat one that still
//! runs: the caller gets a failure when there is nothing left to wait for, the last one. A
//! [classifier](HedgeLayer::classify) says what a failure is; what it ignores (a bad request) is the answer, and ends
//! the call as a good one does.
//!
//! What a policy further in turned away (an open circuit, a full bulkhead) starts no other copy, nor does a service
//! that asks to be left alone (`Retry-After`); copies that run go on, and a real failure is the answer rather than such
//! a rejection. A time-out is a failure like any other.
//!
//! **The budget** is that of a retry, and can be [shared with one](Handle::with_budget): copies of all calls together
//! are 20 % of the calls, plus 10 a second. A copy over it is not sent, and nobody hears of it: the call goes on as if
//! there were no hedge, and a counter says so.
//!
//! **Where it stands.** Inside of retry and outside of the breaker, so that every copy passes through breaker and
//! bulkhead and is judged on its own. The order of the whole stack, outside in: fallback, load shed and rate limit,
//! total timeout, retry, **hedge**, breaker, bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! In front of a Tower service, which has to be `Clone`, as its requests have to be, or be [replayed](Replay):
//!
//! ```
//! use mainstay::{Error, hedge::{Config, Handle, HedgeLayer}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let hedge = Handle::new("search", Config::new());
//! let mut search = ServiceBuilder::new()
//!     .layer(HedgeLayer::new(hedge.clone()))
//!     .map_err(Error::Inner) // once, at the bottom: the service's error can then carry a rejection
//!     .service(service_fn(async |term: &str| Ok::<_, std::io::Error>(format!("all about {term}"))));
//!
//! assert_eq!(search.ready().await?.call("tea").await?, "all about tea");
//! assert_eq!(hedge.snapshot().hedges, 0);
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, around a closure, with an observer:
//!
//! ```
//! use std::{io, time::Duration};
//! use mainstay::{Error, hedge::{BudgetConfig, Config, Handle}, observe::Event};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), mainstay::ConfigError> {
//! let config = Config::new()
//!     .attempts(3)
//!     .percentile(99.0)
//!     .min_samples(100)
//!     .initial_delay(Duration::from_millis(200))
//!     .min_delay(Duration::from_millis(10))
//!     .budget(BudgetConfig::new().ratio(0.05).min_per_second(1));
//! let hedge = Handle::try_new("search", config)?;
//! hedge.observe(|event: &Event<'_>| {
//!     if let Event::Hedged { policy, attempt, delay } = event {
//!         println!("{policy}: copy {attempt} after {delay:?}");
//!     }
//! });
//!
//! let replicas = ["a", "b", "c"];
//! let found = hedge.run(async |attempt| {
//!     let replica = replicas[attempt as usize - 1];
//!     if replica == "a" {
//!         tokio::time::sleep(Duration::from_secs(9)).await; // hangs today
//!     }
//!     Ok::<_, Error<io::Error>>(format!("found by {replica}"))
//! });
//! assert_eq!(found.await.unwrap(), "found by b");
//! assert_eq!((hedge.snapshot().hedges, hedge.snapshot().cancelled), (1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What is measured
//!
//! First copies that had to wait, from their first wait on, if they were answered well; one that was beaten counts with
//! the time until then, since it would have taken longer still. The delay runs from the first wait too. A call that is
//! answered at once says nothing about the others, and would make them look fast.
//!
//! # Cancellation
//!
//! Dropping the answer drops all copies. A copy counts, and is paid for, when the service is called; one whose clone of
//! the service was not ready yet goes back into the budget. A failed answer is dropped as long as others run, with the
//! connections and permits it holds; a failed error is kept until there is another. A panic in the service goes on to
//! the caller; a panic in a classifier ends the call with the result at hand, and one in a replay hook means that there
//! is no other copy.
//!
//! # What it tells
//!
//! [`Event::Hedged`](crate::observe::Event::Hedged) for every copy that is sent to its [observers](Handle::observe),
//! and to `tracing` at the level `debug` with the fields `operation`, `attempt` and `delay`; the counts, the latencies
//! and the delay on request by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call that is answered at once takes no lock, allocates nothing, reads no clock and writes only memory of its own
//! thread. It clones the request and the service once. A call that has to wait makes one timer, in a box; a further
//! copy is put in a box too.

mod config;
pub(crate) mod core;
mod future;
mod handle;
mod hedged;
mod layer;
mod meter;
mod pace;
mod race;
mod raw;
pub(crate) mod rule;
mod run;
mod sending;
mod service;

pub use config::Config;
pub use future::ResponseFuture;
pub use handle::Handle;
pub use layer::HedgeLayer;
pub use meter::Snapshot;
pub use service::Hedge;

pub use crate::{
    budget::{Budget, BudgetConfig, Reservation},
    replay::{Cloned, Replay},
};

pub(crate) use raw::Raw;
