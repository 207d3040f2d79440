//! Timeout: answers in time, if need be without the service.
//!
//! **When to use it.** Around everything that can hang: without a limit, callers wait as long as the slowest thing they
//! call. Outermost it limits a whole call with all its attempts; innermost, inside retry and breaker, a single attempt.
//! Not for work that must not be cut off half-way: the call is dropped where it stands.
//!
//! **How it decides.** The limit runs from the first time the service has to wait; a service that answers at once never
//! makes a timer and never reads a clock. If the answer and the limit come together, the answer wins. A service that
//! keeps using up tokio's cooperative budget is cut off all the same. With [`TimeoutLayer::deadline`] a call is cut off
//! at the nearer of the limit and the request's own [`Deadline`](crate::Deadline), and a call whose deadline has passed
//! already is not made ([`Reason::DeadlinePassed`](crate::Reason)).
//!
//! **Where it stands.** Twice: as total limit outside of retry, and as limit of an attempt next to the service. The
//! order of the whole stack, outside in: fallback, load shed and rate limit, **total timeout**, retry, hedge, breaker,
//! bulkhead, **attempt timeout**, service.
//!
//! A call that is cut off is a failure of the service to a [breaker](crate::breaker) outside of this.
//!
//! # Use
//!
//! ```
//! use std::time::Duration;
//! use mainstay::timeout::TimeoutLayer;
//!
//! let layer = TimeoutLayer::new(Duration::from_millis(250));
//! ```
//!
//! Made to measure: named, counted, changed while in use, and with the deadline of each request:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Deadline, deadline_fn, timeout::{Handle, TimeoutLayer}};
//!
//! struct Query { text: String, deadline: Option<Deadline> }
//!
//! let limit = Handle::try_new("search", Duration::from_millis(250))?;
//! let layer = TimeoutLayer::with(limit.clone()).deadline(deadline_fn(|query: &Query| query.deadline));
//! limit.set_limit(Duration::from_millis(400))?;
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping the future drops the call and its timer. What is cut off is dropped at that moment. A call whose deadline
//! function panics has no deadline.
//!
//! # What it tells
//!
//! [`Event::Rejected`](crate::observe::Event) to the handle's observers; the counts by [`Handle::snapshot`].
//!
//! # What it does not see
//!
//! The wait for the service's readiness comes before the call, and is not limited here; nor is the body of a response
//! that streams, which has limits of its own behind the feature `http`.

mod handle;
mod layer;
mod service;
mod timer;

pub use handle::{Handle, Snapshot};
pub use layer::TimeoutLayer;
pub use service::{ResponseFuture, Timeout};

#[cfg(feature = "http")]
pub(crate) use timer::Timer;
