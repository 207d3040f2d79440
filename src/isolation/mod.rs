//! Isolation: services kept apart, each behind as much protection as it needs now, changed while in use.
//!
//! **When to use it.** Where a program calls several services, and somebody (an operator, a health check, a rollout)
//! says from outside how carefully each is to be called: more when it is in trouble, less when the protection itself is
//! in the way. Not for one service whose protection is the same from start to end: a [stack](crate::stack) is that, and
//! costs less. A manager has services of one type of request, response and error; programs have one for each type.
//!
//! **How it decides.** Each service has a [`Level`]:
//!
//! | level | before the service |
//! |---|---|
//! | `none` | nothing: calls are direct, whatever its health |
//! | `basic` | [timeout](crate::timeout), [retry](crate::retry), [fallback](crate::fallback) |
//! | `enhanced` | a [breaker](crate::breaker) too |
//! | `full` | [bulkhead](crate::bulkhead), [rate limit](crate::rate_limit) and [load shedding](crate::load_shed) too |
//!
//! The policies are those of a [stack](crate::stack), in its order, with the settings of the service's [`Config`]; a
//! [`FallbackConfig`] has some of its own, which stand in place of those. What is `Err` is a failure: it is tried
//! again, counts against the circuit, and the fallback answers. So a service whose answers may be failures (an HTTP
//! status of 503) says so with an error, and one whose errors may be its callers' fault (no such user) says that with
//! an answer: `T` may be a `Result` of its own.
//!
//! - **The fallback** answers every failure and every rejection by a policy. If it is disabled, absent, has nothing or
//!   fails too, callers get the original error, untouched.
//! - **An unhealthy service** is not asked: at levels basic and up its fallback answers at once, to a rejection with
//!   [`Reason::Unhealthy`](crate::Reason::Unhealthy), which is also the error if there is none. A degraded one is
//!   asked.
//! - **An unknown service** is a rejection with [`Reason::UnknownService`](crate::Reason::UnknownService), in the
//!   callers' own error type, as every rejection of this crate: there is no second error type to match. So is a name
//!   that no method can have, with [`Reason::UnknownMethod`](crate::Reason::UnknownMethod). A method that is used often
//!   is checked once and given as a [`Method`](crate::contract::Method).
//!
//! **Switching** level, fallback or health publishes a new plan for calls that begin from then on; those that run
//! finish under the plan they began with. None is lost, made twice or sent elsewhere. Circuit, places, quota and the
//! budget of retries are the service's and not the plan's: an open circuit is still open when its level comes back, and
//! places stay taken.
//!
//! **Where it stands.** On top: what is registered is a client, a balancer, or any other Tower service for an
//! [`Invocation`](crate::contract::Invocation). One that takes plain requests comes in through
//! [`AnyMethod`](crate::contract::AnyMethod).
//!
//! # Use
//!
//! ```
//! use std::io;
//! use mainstay::{Error, contract::{AnyMethod, Health}, fallback::Fallback};
//! use mainstay::isolation::{FallbackConfig, IsolationManager, Level};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # tokio_test::block_on(async {
//! # let fetch = async |id: u32| Ok::<_, io::Error>(format!("user {id}"));
//! let manager: IsolationManager<u32, String, Error<io::Error>> = IsolationManager::new();
//! let users = ServiceBuilder::new().map_err(Error::Inner).service(service_fn(fetch));
//! let guest = FallbackConfig::new(Fallback::value("guest".to_owned()));
//! manager.register("users", AnyMethod(users), Level::Enhanced, guest)?;
//!
//! assert_eq!(manager.execute("users", "get_user", 7).await?, "user 7");
//!
//! // Trouble is expected: more protection, for all calls from now on.
//! assert_eq!(manager.set_level("users", Level::Full)?, Level::Enhanced);
//!
//! // It is there: nobody waits for a service that is known to be down.
//! manager.update_health("users", Health::unhealthy("being restored"))?;
//! assert_eq!(manager.execute("users", "get_user", 7).await?, "guest");
//! assert_eq!(manager.info("users")?.fallbacks_used, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure: settings from a file, the last good answer by method and key, tried for a second and no longer; and
//! the service as a Tower service, for a router or a `ServiceBuilder`.
//!
//! ```
//! use std::{io, time::Duration};
//! use mainstay::{Error, contract::Invocation, fallback::{CacheConfig, Fallback}, observe::Event};
//! use mainstay::isolation::{Config, FallbackConfig, IsolationManager};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let config: Config = toml::from_str(r#"
//!     level = "full"
//!     attempt_timeout = "250ms"
//!     [breaker]
//!     failure_rate = 0.3
//!     [bulkhead]
//!     limit = 64
//!     [rate_limit]
//!     calls = 500
//!     per = "1s"
//!     burst = 100
//! "#)?;
//! let key = |call: &Invocation<u32>| Some((call.method.clone(), call.request));
//! let last_good = Fallback::cached(CacheConfig::new(), key);
//! let fallback = FallbackConfig::new(last_good)
//!     .max_retries(2)
//!     .retry_delay(Duration::from_millis(50))
//!     .timeout(Duration::from_secs(1));
//!
//! let manager: IsolationManager<u32, String, Error<io::Error>> = IsolationManager::new();
//! manager.observe(|event: &Event<'_>| println!("{}: {event:?}", event.policy()));
//! let stock = service_fn(async |call: Invocation<u32>| Ok(format!("{} {}", call.method, call.request)));
//! let mut stock = manager.register_with("stock", stock, config, fallback)?;
//! assert_eq!(stock.ready().await?.call(Invocation::of("count", 7)?).await?, "count 7");
//!
//! // Without the fallback for a while; it keeps what it has learnt.
//! let before = manager.fallback("stock")?;
//! manager.update_fallback("stock", before.enabled(false))?;
//! println!("{}", serde_json::to_string(&manager.stats())?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Cancellation
//!
//! Dropping an answer ends the call, wherever it stands, as a stack does: nothing runs on, and what it held goes back.
//! A panic in the service goes on to its caller. Both are counted as `dropped`. [`unregister`] with calls in flight
//! lets them finish; the service is dropped with the last of them, and no [`Isolated`] keeps it. A service that holds
//! its own manager is kept by it until it is unregistered.
//!
//! # Readiness
//!
//! A call waits by itself until its service is ready: each attempt takes a clone of the service, makes it ready and
//! calls it, so that the wait counts into the attempt's time and a failure to become ready is a failed attempt. An
//! [`Isolated`] is always ready and holds nothing while it is idle.
//!
//! # What it tells
//!
//! [Counts](Stats) of all services and calls, [what is known](ServiceInfo) of each service with the snapshots of its
//! policies, and through [`observe`] every [`Event`](crate::observe::Event) of every policy, with the service's name as
//! that of the policy. Switches go to `tracing` with the fields `service`, `from` and `to`.
//!
//! # Cost
//!
//! A call by name takes the read lock of one look-up; through an [`Isolated`] it takes none, except for the first after
//! a switch. Each attempt is one allocation, since services of many types are kept under one name, and what an enabled
//! fallback keeps of the request is one more. A switch copies a few dozen references, and waits for nobody.
//!
//! [`unregister`]: IsolationManager::unregister
//! [`observe`]: IsolationManager::observe

mod config;
mod entry;
mod erased;
mod error;
mod fallback_config;
mod future;
mod isolated;
mod level;
mod manager;
mod meter;
mod plan;
mod raw;
mod snapshot;
mod strategy;
mod switch;
mod table;

pub use config::Config;
pub use error::IsolationError;
pub use fallback_config::{CircuitBreaker, FallbackConfig};
pub use future::ResponseFuture;
pub use isolated::Isolated;
pub use level::Level;
pub use manager::IsolationManager;
pub use snapshot::{Levels, ServiceInfo, Stats, Statuses};
