//! Retry: makes a failed call again, after a wait, as often as the service can bear.
//!
//! **When to use it.** Around calls that fail now and then for reasons that pass: a lost connection, a deadlock, an
//! instance that restarts. Not around calls that must happen once at most, unless the service knows a call that it has
//! seen; not for errors that stay (a bad request: let the [classifier](Rule) say so); and in one place only, the
//! outermost: three attempts in each of three layers are 27 calls.
//!
//! **How it decides.** A [classifier](crate::Classify), or a [rule](Rule), says whether a result, good or bad, is a
//! failure. A failure is tried again if there are attempts left, if the wait ends before the deadline, if the request
//! can be [sent again](Replay), and if the [budget](Budget) allows. The wait is the [backoff's](Backoff), with
//! [jitter](Jitter), or what the service asks for (`Retry-After`) if that is longer; one that asks for more than
//! [`max_retry_after`](Config::max_retry_after) is not called again. What a policy further in turned away is not tried
//! again: an open circuit or a full bulkhead protects a service, and a retry must not work against it.
//! [Time-outs](crate::Reason::TimedOut) are, and [others](Config::retry_on) if you say so.
//!
//! **The budget** is on by default: retries of all calls together are 20 % of the calls, plus 10 a second. So a service
//! that is down for everybody gets 1.2 times the calls and not three times. It is exact, and one for all clones;
//! [several retries](Handle::with_budget) can share it.
//!
//! **Where it stands.** Outside of breaker, bulkhead and per-attempt timeout, so that every attempt passes through them
//! anew; inside of the total timeout. The order of the whole stack, outside in: fallback, load shed and rate limit,
//! total timeout, **retry**, hedge, breaker, bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! In front of a Tower service, which has to be `Clone`:
//!
//! ```
//! use mainstay::{Error, retry::{Config, Handle, RetryLayer}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let retry = Handle::new("user-db", Config::new());
//! let mut users = ServiceBuilder::new()
//!     .layer(RetryLayer::new(retry.clone()))
//!     .map_err(Error::Inner) // once, at the bottom: the service's error can then carry a rejection
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
//! let user = users.ready().await?.call(7).await?;
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, around a closure, with lists of kinds and an observer:
//!
//! ```
//! use std::{io::{self, ErrorKind}, time::Duration};
//! use mainstay::{Error, observe::Event, retry::{Backoff, BudgetConfig, Config, Handle, Jitter, by_kind}};
//!
//! # tokio_test::block_on(async {
//! let config = Config::new()
//!     .attempts(5)
//!     .backoff(Backoff::exponential(Duration::from_millis(10), 1.5).cap(Duration::from_millis(200)))
//!     .jitter(Jitter::Range(0.25))
//!     .budget(BudgetConfig::new().ratio(0.1).min_per_second(2).cap(20))
//!     .deadline(Duration::from_secs(1));
//! let retry = Handle::try_new("files", config)?;
//! retry.observe(|event: &Event<'_>| {
//!     if let Event::Retry(retry) = event {
//!         println!("{}: attempt {} failed: {}", retry.policy, retry.attempt, retry.error);
//!     }
//! });
//!
//! // What is not there will not be there the next time.
//! let kinds = || by_kind(|error: &Error<io::Error>| match error {
//!     Error::Inner(error) => Some(error.kind()),
//!     Error::Rejected(_) => None,
//! }).never([ErrorKind::NotFound]);
//! let read = async |_attempt| std::fs::read("/nowhere").map_err(Error::Inner);
//! assert!(retry.run_with(kinds(), read).await.is_err());
//! assert_eq!(retry.snapshot().retries, 0);
//! # Ok::<(), mainstay::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! # The error
//!
//! The caller gets the result of the last attempt, untouched. Who wants it said that the retries are used up adds
//! [`exhausted`](RetryLayer::exhausted), which makes of the last error another of the same type.
//!
//! An error of `poll_ready` before a further attempt is final and goes to the caller.
//!
//! # Cancellation
//!
//! Dropping the answer ends the call, whether it runs or waits. A retry counts, and is paid for, when its attempt
//! begins; one that was only waited for goes back into the budget. The failed answer and its future are dropped before
//! the wait, with the connections and permits they hold. A panic in the service goes on to the caller; a panic in a
//! classifier, a replay hook or a backoff function ends the retries of the call, and the caller gets the result.
//!
//! # What it tells
//!
//! [`Event::Retry`](crate::observe::Event::Retry) and [`Event::GaveUp`](crate::observe::Event::GaveUp) to its
//! [observers](Handle::observe); every retry to `tracing` with the fields `operation`, `attempt` (the one that failed),
//! `error` and `next_delay`; the rest on request by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call that succeeds takes no lock, allocates nothing, reads no clock (unless there is a deadline) and writes only
//! memory of its own thread. It clones the request and the service once. A timer is made, in a box, when there is a
//! wait. A retry takes under 1 KiB and 256 bytes more for each thread that calls ([`Handle::memory`]).

mod backoff;
mod check;
mod config;
mod core;
mod future;
mod handle;
mod kinds;
mod layer;
mod meter;
mod plan;
mod raw;
mod rule;
mod run;
mod service;

pub use backoff::{Backoff, Jitter};
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::Handle;
pub use kinds::{ByKind, by_kind};
pub use layer::RetryLayer;
pub use meter::Snapshot;
pub use rule::{AnyError, Classified, Exhausted, ExhaustedError, Judgement, OnExhausted, Rule, on_exhausted};
pub use service::Retry;

pub use crate::{
    budget::{Budget, BudgetConfig, Reservation},
    observe::GiveUp,
    replay::{Cloned, Replay},
};

pub(crate) use core::{Core, Next, Step};
pub(crate) use plan::Course;
pub(crate) use raw::Raw;
