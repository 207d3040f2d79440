//! Embeddable resilience for [Tower](tower) services and plain async code: your service stays up when what it calls is
//! slow, failing or gone.
//!
//! A [stack] puts all that a call needs in the right order: [fallback], [load shedding](load_shed), [rate
//! limit](rate_limit), [timeout], [retry], [hedge], [circuit breaker](breaker), [adaptive concurrency](concurrency) and
//! [bulkhead]. Each is a layer of its own too, some [by key](keyed). They go in front of any Tower service (axum,
//! hyper, tonic, reqwest) or around any future, allocate nothing and take no lock on the way of a call (by key, the
//! read lock of a look-up), and are right under cancellation, panics and races.
//!
//! ```
//! use mainstay::{Error, Stack};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # async fn fetch_user(id: u32) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
//! # tokio_test::block_on(async {
//! let stack = Stack::database("user-db");
//!
//! // Around any future, made anew for each attempt.
//! match stack.run(|| fetch_user(7)).await {
//!     Ok(user) => println!("{user}"),
//!     Err(Error::Inner(error)) => println!("the database failed: {error}"),
//!     Err(Error::Rejected(rejection)) => println!("the database was left alone: {rejection}"),
//! }
//!
//! // Around any Tower service: the same breaker, places and budget.
//! let mut users = ServiceBuilder::new()
//!     .layer(stack.layer())
//!     .map_err(Error::Inner) // once, at the bottom: the error can then carry a rejection
//!     .service(service_fn(fetch_user));
//! let user = users.ready().await?.call(8).await?;
//!
//! // And seen from outside.
//! println!("{:?}", stack.snapshot());
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Where to read on
//!
//! | to learn about | read |
//! |---|---|
//! | all of it in one: the order, presets, settings from a file, closures | [`stack`] |
//! | layers by hand | [`ext`] |
//! | the circuit breaker: when to use it, how it decides, all its settings | [`breaker`] |
//! | limits on the number of calls at a time | [`bulkhead`] |
//! | limits that find the right number themselves | [`concurrency`] |
//! | turning calls away early when there are too many | [`load_shed`] |
//! | limits on the number of calls in a time | [`rate_limit`] |
//! | limits on the time of a call, deadlines of requests | [`timeout`], [`Deadline`] |
//! | a policy for each tenant, operation or other key; limits on several levels | [`keyed`] |
//! | the retry: what it tries again and when, its budget, all its settings | [`retry`] |
//! | a second copy of a call that takes too long | [`hedge`] |
//! | answers when the service has none: values, other services, the last good one | [`fallback`] |
//! | **many services, many instances**: all of it, from contract to isolation | [`guide`] |
//! | what services promise, versions, health, instances, calls by method | [`contract`] |
//! | all services of a process in one place | [`registry`] |
//! | which instances there are: leases, watches, health checks | [`discovery`] |
//! | one of several instances for each call: pickers, health, ejection | [`balance`] |
//! | calls of services by name: retries on another instance, metrics by method | [`client`] |
//! | services at levels of protection that change while in use | [`isolation`] |
//! | errors: how a rejection travels in *your* error type | [`Error`], [`CarryRejection`] |
//! | what counts as a failure | [`Classify`], [`OnError`], [`OnOverload`], [`Outcome`] |
//! | events, snapshots, latencies | [`observe`] |
//! | how layers treat readiness, cancellation and panics | [`admission`] |
//! | HTTP: statuses, `Retry-After`, rejections as responses, streaming bodies | `http` (feature `http`) |
//! | a sliding window for a policy of your own | [`window`] |
//!
//! # Errors in one paragraph
//!
//! A layer never changes the error type of the service below it; it asks that the type [can carry a
//! rejection](CarryRejection). Boxed errors can. [`Error<E>`] can for every `E`: `.map_err(Error::Inner)` at the bottom
//! of a stack is all it takes. An enum of yours can with one impl. At the top, [`Error::flatten`] and
//! [`Error::into_boxed`] take the wrapper off where a host wants its own type, `.map_err(Error::into_boxed)?` for one.
//!
//! # The order of layers
//!
//! Outside in: fallback, load shed and rate limit, total timeout, **retry**, hedge, **circuit breaker**, bulkhead,
//! attempt timeout, service. A breaker inside of retry counts every attempt; outside of the attempt timeout it counts
//! time-outs as failures.
//!
//! # Time
//!
//! All clocks follow `tokio::time::pause`, so code that uses this crate is tested without sleeping. Nothing here
//! needs a runtime except what waits: a retry or a hedge before its next attempt, a service in
//! [`Readiness::Unready`](breaker::Readiness) mode, and the optional wake-up of an open circuit.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `http` | no | statuses, `Retry-After`, rejections as responses, bodies judged at their end, a client over HTTP |
//! | `discover` | no | discovery as a `tower::discover::Discover`, watches as streams |
//! | `full` | no | all of the above |
//!
//! Features only add; none changes what the rest does. The minimum Rust version is 1.85.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod admission;
pub mod balance;
pub mod breaker;
mod budget;
pub mod bulkhead;
pub mod client;
pub mod concurrency;
pub mod contract;
mod deadline;
pub mod discovery;
mod error;
pub mod ext;
pub mod fallback;
mod guarded;
pub mod guide;
pub mod hedge;
#[cfg(feature = "http")]
pub mod http;
pub mod isolation;
pub mod keyed;
mod lanes;
pub mod load_shed;
mod name;
pub mod observe;
mod outcome;
mod own;
mod priority;
mod rare;
pub mod rate_limit;
pub mod registry;
mod replay;
pub mod retry;
mod settings;
pub mod stack;
mod sync;
pub mod time;
pub mod timeout;
mod waiters;
pub mod window;

pub use deadline::{Deadline, DeadlineOf, NoDeadline, deadline_fn};
pub use error::{BoxError, CarryRejection, Error, Reason, Rejection};
pub use name::Name;
pub use outcome::{Classify, OnError, OnOverload, Outcome, classify_error, classify_fn};
pub use priority::{Priority, PriorityOf, priority_fn};
pub use settings::ConfigError;
pub use stack::Stack;

/// The README's code, compiled and run as tests.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
