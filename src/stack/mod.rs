//! Stack: all the policies a call needs, in an order that is right, behind one door.
//!
//! **When to use it.** Nearly always: one line protects a service or a closure, and what is left out costs next to
//! nothing. Build with layers by hand where you need another order, or the same policy twice.
//!
//! **How it decides.** By the rules of its policies, which are those of the single layers: each is a handle that can be
//! shared, watched and changed while in use. The stack is one service with one future over all of them, made so that a
//! call costs one reference count and no allocation while nothing goes wrong.
//!
//! **The order**, outside in, is the same however the lines of the builder stand:
//!
//! | | policy | why here |
//! |---|---|---|
//! | 1 | [fallback](crate::fallback) | answers whatever went wrong further in |
//! | 2 | [load shed](crate::load_shed), [rate limit](crate::rate_limit) | what is turned away costs nothing more |
//! | 3 | [timeout](crate::timeout) of the call | the caller waits so long for all attempts together |
//! | 4 | [retry](crate::retry) | each attempt passes all that follows |
//! | 5 | [hedge](crate::hedge) | a second copy of an attempt that is slow |
//! | 6 | [breaker](crate::breaker) | counts every attempt, and refuses the next when the service is down |
//! | 7 | [concurrency](crate::concurrency), [bulkhead](crate::bulkhead) | no place is held while a retry waits |
//! | 8 | [timeout](crate::timeout) of an attempt | what it cuts off is a failure to the breaker |
//!
//! The wait for a place in a bulkhead's queue, or for a turn of the rate limit, is bounded by their own settings; the
//! first counts into the time of the call, not into that of the attempt. A call that the bulkhead
//! turns away has not been let in by the breaker either.
//!
//! # Use
//!
//! ```
//! use mainstay::{Error, Stack};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # async fn fetch(id: u32) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
//! # tokio_test::block_on(async {
//! let stack = Stack::standard("user-db");
//!
//! // Around any future, made anew for each attempt.
//! let user = stack.run(|| fetch(7)).await?;
//!
//! // Around any Tower service. Both share what the stack knows.
//! let client = ServiceBuilder::new().map_err(Error::Inner).service(service_fn(fetch));
//! let mut users = stack.service(client);
//! let user = users.ready().await?.call(8).await?;
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, from code:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Stack, breaker, bulkhead, retry};
//!
//! let stack = Stack::builder("user-db")
//!     .timeout(Duration::from_secs(2)) // the whole call
//!     .retry(retry::Config::new().attempts(3))
//!     .breaker(breaker::Config::new().failure_rate(0.3))
//!     .bulkhead(bulkhead::Config::new(64).max_queue(32).max_wait(Duration::from_millis(50)))
//!     .attempt_timeout(Duration::from_millis(250))
//!     .build();
//! let breaker = stack.breaker().expect("it was just put in");
//! breaker.force_open();
//! ```
//!
//! or from a file: see [`Config`].
//!
//! For HTTP, the feature `http` has `Stack::http_client`, which knows statuses, methods and `Retry-After`, and
//! `Stack::until_body_end`, which holds places and judges calls until the body of the answer has ended.
//!
//! # Cancellation
//!
//! Dropping the answer of a call ends it, wherever it stands: the call to the service is dropped, and then places,
//! turns, probes and what was taken from budgets are given back. Nothing runs on. A panic in the service is one failure
//! and goes on to the caller.
//!
//! # What it tells
//!
//! Each policy tells what it always tells; [`Stack::observe`] adds one observer to all of them, and
//! [`Stack::snapshot`] gives what all of them know.

mod alarm;
mod attempt;
mod begin;
mod builder;
mod config;
mod copy;
mod future;
mod judges;
mod layer;
mod part;
mod policies;
mod raw;
mod replays;
mod round;
mod run;
mod tries;
mod whole;

pub use builder::StackBuilder;
pub use config::Config;
pub use future::ResponseFuture;
pub use judges::Judges;
pub use layer::{StackLayer, StackService};
pub use part::Part;
pub use policies::Innermost;
pub use replays::{Hook, Once, Resend};
pub use whole::{Snapshot, Stack};

pub(crate) use raw::Raw;
