//! Client: calls of services by name.
//!
//! **When to use it.** Where a service has several instances that come and go: the client finds them through
//! [discovery](crate::discovery), [balances](crate::balance) the calls, protects them by a [stack](crate::stack), and
//! counts. For one address that stays, a stack around your client is all it takes.
//!
//! **How a call goes.**
//!
//! ```text
//! call ── stack of the service ──┬── balancer ── breaker of the instance ── transport ── instance
//!         fallback, rate limit,  │   health, ejection,
//!         timeouts, retry,       │   slow start, picker
//!         breaker, bulkhead      └── a retry or a hedge goes to another instance
//! ```
//!
//! What is set up in [`Config`] holds for each service; services may have settings of their own. The instances of a
//! service are followed by a task from its first call on: one that comes gets calls as soon as its transport is made,
//! one that goes gets no more, and the calls that it has finish. When discovery fails, the last known instances stay
//! and the [health](ServiceHealth) says for how long nothing was heard.
//!
//! **The transport** is any Tower service from an [`Instance`](crate::contract::Instance) to a service of
//! [`Invocation`](crate::contract::Invocation)s, which is a request and the name of a method. One that needs no method
//! is wrapped in [`AnyMethod`](crate::contract::AnyMethod). Over HTTP, the feature `http` has `Client::http` and
//! `HttpTransport`.
//!
//! # Use
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{Error, client::Client, contract::{AnyMethod, Instance}, discovery::{Discovery, InMemory}};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let discovery = InMemory::new();
//! for id in ["users-1", "users-2"] {
//!     let instance = Instance::new("users", id, "127.0.0.1", 8080)?;
//!     discovery.register(instance, Duration::from_secs(30)).await?;
//! }
//!
//! // Stands for a connection: makes a service for an instance.
//! let transport = service_fn(async |instance: Instance| {
//!     let id = instance.id().clone();
//!     let ask = move |user: u32| {
//!         let id = id.clone();
//!         async move { Ok::<_, Error<std::io::Error>>(format!("user {user}, from {id}")) }
//!     };
//!     Ok::<_, std::io::Error>(AnyMethod(service_fn(ask)))
//! });
//! let client = Client::builder(discovery, transport).build();
//!
//! println!("{}", client.call("users", "get_user", 7).await?);
//!
//! // As a task of its own, with what became of it.
//! let pending = client.call_async("users", "get_user", 8)?;
//! let answer = pending.await?;
//! println!("{} in {:?}", answer.response, answer.metadata.latency);
//!
//! let metrics = client.metrics("users").expect("it was called");
//! assert_eq!(metrics.methods["get_user"].successes, 2);
//! println!("{}", serde_json::to_string(&client.health("users"))?);
//! # Ok(())
//! # }
//! ```
//!
//! Made to measure: policies and instances by settings, from code or a file, with a fallback and a limit of its own for
//! one service.
//!
//! ```
//! use mainstay::{Error, client::{Call, Client, Config}, discovery::InMemory, fallback::Fallback};
//! # use mainstay::contract::{AnyMethod, Instance};
//! # use tower::service_fn;
//! # let transport = service_fn(async |_: Instance| Ok::<_, std::io::Error>(AnyMethod(service_fn(
//! #     async |id: u32| Ok::<_, Error<std::io::Error>>(format!("user {id}"))))));
//!
//! let orders: Config = toml::from_str(r#"
//!     pick_by = "peak_ewma"
//!     [stack]
//!     preset = "standard"
//!     timeout = "2s"
//!     attempt_timeout = "500ms"
//!     rate_limit = { calls = 200, per = "1s" }
//!     [balance]
//!     breaker = { consecutive_failures = 5 }
//!     outlier = { consecutive_failures = 3 }
//!     slow_start = { window = "30s" }
//! "#)?;
//! let guest = Fallback::request(
//!     |call: &Call<u32>| (call.service().clone(), *call.request()),
//!     |(service, id), _: Result<&String, &Error<std::io::Error>>| async move { Ok(format!("{service} {id}, later")) },
//! );
//! let client = Client::builder(InMemory::new(), transport)
//!     .service("orders", orders)
//!     .fallback(guest)
//!     .build();
//! let orders = client.service("orders")?; // looks it up once; a Tower service, too
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a call costs
//!
//! One boxed future and what records its way, beside the transport's own: a client is named by request, answer and
//! error alone, and what it is made of is behind a pointer. An instance takes about 2.5 KiB with its breaker and its
//! share of the policies, task and metrics of a service that has ten. 10 000 instances in 1 000 services are followed
//! within about 0.1 s on two cores, and a change reaches 1 000 watchers of a service in about a millisecond;
//! `cargo bench --bench fleet` shows it on your machine.
//!
//! # Runtimes
//!
//! What follows the instances of a service runs on the runtime that first needed it. When that one is shut down, the
//! next call begins anew on its own; while it is kept and not run, as a current-thread runtime is outside of
//! `block_on`, the client hears of no changes.
//!
//! # Cancellation
//!
//! Dropping the answer of [`call`](Client::call) ends the call wherever it stands; places, probes, turns and what was
//! taken from budgets go back, and it counts as cancelled. Dropping a [`Pending`] does the same. When the last client
//! and [`Caller`] are gone, nothing is left running.
//!
//! # What it tells
//!
//! [`Client::metrics`] and [`Client::snapshot`] on demand. [Observers](ClientBuilder::observe) hear what the policies
//! and the balancers tell. Failures of discovery and of transports go to `tracing`, with the fields `service`,
//! `instance` and `error`.

mod builder;
mod call;
mod caller;
#[allow(clippy::module_inception, reason = "the client is what the folder is about")]
mod client;
mod config;
mod control;
mod follow;
mod following;
mod health;
mod lane;
mod marked;
mod metrics;
mod pending;
mod pick_by;
mod raw;
mod shared;
mod steer;
mod trail;

pub use builder::ClientBuilder;
pub use call::Call;
pub use caller::{Caller, ResponseFuture};
pub use client::Client;
pub use config::Config;
pub use health::{ServiceHealth, ServiceSnapshot};
pub use metrics::{Metrics, ServiceMetrics};
pub use pending::{Answer, Pending, Trace};
pub use pick_by::{ByConfig, Configured, Fixed, PickBy, PickerOf};
pub use trail::Metadata;
