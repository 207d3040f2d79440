//! Circuit breaker: stops calling a service that fails, and tries again carefully.
//!
//! **When to use it.** In front of anything that can be down, slow or overloaded for longer than a call: another
//! service, a database, a cache. Callers get an answer at once instead of after a time-out, and the service gets quiet
//! to recover. Not in front of something that cannot fail for a while (a pure function), and not in place of a limit on
//! load: a service that answers is not protected from too many calls by a breaker.
//!
//! **How it decides.** A window counts the last calls. When the share of failures or of slow calls reaches its
//! threshold, or so many calls fail in a row, or a predicate of yours says so, the circuit *opens*: calls are turned
//! away for a while. Then it is *half-open*: a few probes go through. If they succeed it *closes*, else it opens again.
//! By hand it can be forced open, disabled, or made to measure only.
//!
//! **Where it stands.** Inside retry and outside bulkhead and per-attempt timeout: each attempt is counted, a time-out
//! is a failure of the service, and a full bulkhead is not. The order of the whole stack, outside in: fallback, load
//! shed and rate limit, total timeout, retry, hedge, **breaker**, bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! In front of a Tower service:
//!
//! ```
//! use mainstay::{Error, breaker::{CircuitBreakerLayer, Config, Handle}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let breaker = Handle::new("user-db", Config::new());
//! let mut users = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .map_err(Error::Inner) // once, at the bottom: the service's error can then carry a rejection
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
//! let user = users.ready().await?.call(7).await?;
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, around a future, with a classifier and an observer:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Error, Outcome, breaker::{Config, Handle}, classify_fn, observe::Event};
//!
//! # struct NotFound;
//! # async fn find(_: &str) -> Result<String, NotFound> { Err(NotFound) }
//! # tokio_test::block_on(async {
//! let config = Config::new()
//!     .count_window(100)
//!     .failure_rate(0.3)
//!     .slow_calls(Duration::from_millis(500), 0.8)
//!     .consecutive_failures(10)
//!     .open_for(Duration::from_secs(5))
//!     .open_growth(2.0, Duration::from_secs(60))
//!     .open_jitter(0.2)
//!     .probes(1);
//! let breaker = Handle::try_new("search", config)?;
//! breaker.observe(|event: &Event<'_>| println!("{event:?}"));
//!
//! // Nothing found is an answer, not a failure.
//! let classify = classify_fn(|result: Result<&String, &Error<NotFound>>| match result {
//!     Ok(_) | Err(Error::Inner(NotFound)) => Outcome::Success,
//!     Err(_) => Outcome::Failure,
//! });
//! let found = breaker.run_with(classify, find("tower")).await;
//! assert_eq!(breaker.snapshot().totals.calls.success, 1);
//! # Ok::<(), mainstay::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! # Results that come late
//!
//! Each permit knows the generation of the circuit it was given in; every change of state begins a new one. A result
//! from an older generation counts for nothing but [`stale`](crate::observe::Totals::stale): a slow failure from before
//! does not open a circuit that has just closed, and does not lengthen an open period.
//!
//! # Cancellation
//!
//! Dropping a call counts as nothing, and a probe gives its place back at once, unless it ran longer than
//! [`count_cancelled_after`](Config::count_cancelled_after): then it is a failure. A probe that never reports loses its
//! place after [`half_open_for`](Config::half_open_for), so no circuit stays half-open for ever.
//!
//! # What it tells
//!
//! [`Event`](crate::observe::Event)s to its [observers](Handle::observe); every change of state to `tracing` with the
//! fields `breaker`, `from`, `to`, `cause` (and `open_for`), as a warning when it opens; the rest on request by
//! [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call that succeeds through a closed circuit takes no lock, allocates nothing once its thread and its clone of the
//! service have made their first calls, and writes only memory of its own thread; with a count window, once every few
//! calls, also one word that all threads write. It reads the clock twice, and with
//! [`measure_latency(false)`](Config::measure_latency) once for a time window and not at all for a count window. A
//! failure also adds up the window and writes two words that all threads write. With a [predicate](Config::open_when)
//! every call adds up the window, and takes a short lock. A breaker takes under 1 KiB before its first call and about 2
//! KiB more for each thread that calls, up to two more than there are cores ([`Handle::memory`]).

mod check;
mod cold;
mod config;
mod core;
mod count;
mod handle;
mod layer;
mod limits;
mod manual;
mod period;
mod permit;
mod probing;
mod raw;
mod rest;
mod review;
mod row;
mod run;
mod saved;
mod switch;
mod trip;
mod word;

pub use self::core::Ticket;
pub use config::{Config, Window};
pub use handle::Handle;
pub use layer::{CircuitBreaker, CircuitBreakerLayer, ResponseFuture, Waiting};
pub use manual::IllegalTransition;
pub use permit::Permit;
pub use saved::Saved;

pub use crate::{admission::Readiness, observe::CircuitState as State};

pub(crate) use raw::Raw;
