//! Fallback: when the service has no answer, something else has one.
//!
//! **When to use it.** Where an answer that is old, general or from elsewhere is better than none: a cached price, an
//! empty list of recommendations, a replica, a page that says sorry. Not where a wrong answer does harm (a balance, a
//! permission), and not in place of a retry: a fallback comes after everything else has been tried.
//!
//! **How it decides.** Every error is covered, the service's own and every rejection by a policy; a
//! [classifier](FallbackLayer::classify) can say otherwise, and can call a response a failure too (an HTTP status of
//! 503). Each part of a fallback can be [for some rejections](Fallback::on) or [for some errors](Fallback::when) only,
//! and [another](Fallback::or) follows where it has nothing or fails. If all fail, the caller gets what the service
//! answered, untouched, and the others' errors are told to observers and to `tracing`. What a fallback answers is the
//! answer; it is not judged again.
//!
//! | [`Fallback`] | the answer |
//! |---|---|
//! | [`value`](Fallback::value) | always the same |
//! | [`with`](Fallback::with), [`with_result`](Fallback::with_result) | made from the failure |
//! | [`run`](Fallback::run), [`request`](Fallback::request) | any async closure's, which may see the request |
//! | [`service`](Fallback::service) | another service's |
//! | [`cached`](Fallback::cached), [`stored`](Fallback::stored) | the last good one to the same question |
//! | [`by`](Fallback::by) | that of a [`Strategy`] of yours |
//!
//! **Where it stands.** Outermost. The order of the whole stack, outside in: **fallback**, load shed and rate limit,
//! total timeout, retry, hedge, breaker, bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! In front of a Tower service:
//!
//! ```
//! use mainstay::{Error, breaker::{self, CircuitBreakerLayer}, fallback::{Fallback, FallbackLayer, Handle}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let breaker = breaker::Handle::new("recommendations", breaker::Config::new());
//! let mut recommendations = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(Handle::new("recommendations"), Fallback::value(Vec::new())))
//!     .layer(CircuitBreakerLayer::new(breaker.clone()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(vec![id, id + 1])));
//!
//! assert_eq!(recommendations.ready().await?.call(1).await?, [1, 2]);
//! breaker.force_open();
//! assert!(recommendations.ready().await?.call(1).await?.is_empty());
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, around an operation: the last good answer if there is one, a replica otherwise, and a guest for
//! callers who were turned away; with an observer.
//!
//! ```
//! use std::{io, time::Duration};
//! use mainstay::{Error, Reason, fallback::{CacheConfig, Fallback, Handle}, observe::Event};
//! use tower::service_fn;
//!
//! # tokio_test::block_on(async {
//! let replica = service_fn(async |_: u64| Err(Error::Inner(io::Error::other("replica is down"))));
//! let cache = CacheConfig::new().max_entries(10_000).max_age(Duration::from_secs(600));
//! let users = Fallback::try_cached(cache, |id: &u64| Some(*id))?
//!     .or(Fallback::service(replica))
//!     .or(Fallback::value("guest".to_owned()).on([Reason::CircuitOpen, Reason::TimedOut]));
//!
//! let fallback = Handle::try_new("user-db")?;
//! fallback.observe(|event: &Event<'_>| match event {
//!     Event::Fallback { policy, error } => println!("{policy}: a fallback answered for {error}"),
//!     Event::FallbackFailed { policy, second, .. } => println!("{policy}: a fallback failed: {second}"),
//!     _ => {}
//! });
//!
//! let fetch = async |_id| Err(Error::Inner(io::Error::other("database is down")));
//! let error = fallback.run_for(&users, 7, fetch).await.unwrap_err();
//! assert_eq!(error.to_string(), "database is down");
//! assert_eq!(fallback.snapshot().failed, 1);
//! # Ok::<(), mainstay::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! # Readiness
//!
//! The layer is ready when the service inside is. An error of `poll_ready` is final for that service and belongs to no
//! call, so it goes to the caller as it is: to hide it would keep a dead service in use. Who wants an answer then too
//! puts the fallback around `oneshot`, as [`Handle::run_for`] shows.
//!
//! # Cancellation
//!
//! Dropping the answer drops whichever runs, the service's call or the fallback's, and counts nothing. The service's
//! future is dropped before the fallback begins, with the permits it holds; a failed *response* stays until the
//! fallback has answered, since the caller gets it if that fails too. A panic in the service goes on to the caller; one
//! in a strategy or a classifier is told, and the caller gets what there is without it.
//!
//! # What it tells
//!
//! [`Event::Fallback`](crate::observe::Event::Fallback) for every call that a fallback answered and
//! [`Event::FallbackFailed`](crate::observe::Event::FallbackFailed) for every one that failed to its
//! [observers](Handle::observe); both to `tracing` with the fields `operation`, `error` and `second`; the counts by
//! [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call that succeeds takes no lock, allocates nothing, reads no clock and counts nothing, whatever the strategy;
//! except [`service`](Fallback::service), which clones the request, [`request`](Fallback::request), which keeps what it
//! is told to, and [`cached`](Fallback::cached). Nothing is boxed on the way of a failure either.

mod alternative;
pub(crate) mod cache_config;
mod cached;
mod chain;
pub(crate) mod core;
mod cover;
pub(crate) mod falling;
mod future;
mod handle;
mod last_good;
mod layer;
mod made;
mod make;
mod meter;
mod service;
mod shard;
mod strategy;

pub use alternative::{Alternative, AlternativeFuture};
pub use cache_config::CacheConfig;
pub use cached::{Cached, Store};
pub use chain::{Or, OrFuture, OrKept};
pub use cover::{AnyError, Classified, On, When};
pub use future::ResponseFuture;
pub use handle::Handle;
pub use last_good::LastGood;
pub use layer::FallbackLayer;
pub use made::{OfRequest, Run, Value, With, WithResult};
pub use make::Fallback;
pub use meter::Snapshot;
pub use service::FallbackService;
pub use strategy::{Never, NoFallback, Strategy};

pub use crate::replay::{Cloned, Replay};
