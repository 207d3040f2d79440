//! Keyed: a policy for each key of the requests, and limits on several levels.
//!
//! **When to use it.** Where callers, or what they call, must not pay for one another: a circuit for each shard of a
//! database, so that one that is down does not hide the others; places for each tenant, so that a busy one leaves some
//! for the rest; a quota for each API key. Not where a few policies are known beforehand: a handle for each is simpler.
//!
//! **How it decides.** Each request has a key, or none: a [`KeyOf`] finds it, which may be a closure ([`key_fn`],
//! [`str_key_fn`]). A [`Handle`] keeps a policy for each key (circuit breaker, bulkhead or rate limit), made when the
//! key first comes. Keys come from outside, so there are never more than [`max_keys`](Config::max_keys) of them:
//!
//! - A key that was not asked for for [`idle_for`](Config::idle_for) leaves as other keys come.
//! - When all room is taken, the key leaves that was not asked for for longest, of a few that are looked at. Keys whose
//!   policy remembers nothing go first, closed circuits with failures in their window last.
//! - A key stays while a call of it runs or waits, while its circuit is open, half-open or set by hand, while its quota
//!   is not full again, and when it has [settings of its own](Config::key). So no flood of new keys makes a policy
//!   forget what it keeps back. Only a half-open circuit that nobody has asked for for `idle_for` leaves, or keys that
//!   never come back would hold the room for ever.
//! - A call for whose key there is no room, a call without a key, and one over whose key the [`KeyOf`] panics go to
//!   [one policy that they share](Config::others). There is no call without a policy.
//!
//! A key never has two policies at a time: it does not leave while anybody holds its policy.
//!
//! **Several levels.** A pair of what gives policies does so too: `(tenants.by(…), (operations.by(…), all))` asks in
//! that order, and what one has given it takes back when a later one refuses. Put the narrower first. [`Levels`] is
//! that for bulkheads, ready made: so many calls of a tenant, of an operation, and in all. One tenant cannot starve
//! another: it takes no place of the levels that are shared while it has none of its own.
//!
//! **Where it stands.** Where the policy of which there are many stands: see [`breaker`](crate::breaker),
//! [`bulkhead`](crate::bulkhead) and [`rate_limit`](crate::rate_limit). The order of the whole stack, outside in:
//! fallback, load shed and rate limit, total timeout, retry, hedge, breaker, bulkhead, attempt timeout, service.
//!
//! # Use
//!
//! A circuit for each tenant, whose name is in a header:
//!
//! ```
//! # use hyper::http;
//! use http::{Request, Response};
//! use mainstay::{Error, breaker, keyed::{Config, KeyedLayer, Tenants, str_key_fn}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let tenants = Tenants::new("shop", Config::new(breaker::Config::tenant()));
//! let tenant_of = str_key_fn(|request: &Request<String>| request.headers().get("x-tenant")?.to_str().ok());
//! let mut shop = ServiceBuilder::new()
//!     .layer(KeyedLayer::new(tenants.by(tenant_of)))
//!     .map_err(Error::Inner) // once, at the bottom: the service's error can then carry a rejection
//!     .service(service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new("hello"))));
//!
//! let request = Request::get("/").header("x-tenant", "acme").body(String::new()).unwrap();
//! shop.ready().await?.call(request).await?;
//! tenants.get("acme").force_open();
//! assert_eq!(tenants.listing()[0].snapshot.state, breaker::State::ForcedOpen);
//! # Ok::<(), Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, for requests of your own: levels of bulkheads whose calls wait, and a quota for each tenant before
//! them:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{bulkhead, rate_limit};
//! use mainstay::keyed::{ByTenant, Config, HasOperation, HasTenant, KeyedLayer, Levels, LevelsConfig, Tenants};
//!
//! struct Order { shop: String, kind: &'static str }
//!
//! impl HasTenant for Order {
//!     fn tenant(&self) -> Option<&str> { Some(&self.shop) }
//! }
//! impl HasOperation for Order {
//!     fn operation(&self) -> Option<&str> { Some(self.kind) }
//! }
//!
//! let quota = Config::new(rate_limit::Config::per_second(10))
//!     .key("gold", rate_limit::Config::per_second(100))
//!     .max_keys(50_000)
//!     .idle_for(Duration::from_secs(60));
//! let quotas = Tenants::try_new("orders", quota)?;
//! let places = LevelsConfig::new(bulkhead::Config::new(100))
//!     .tenant_default(bulkhead::Config::new(10).max_queue(20).max_wait(Duration::from_millis(100)))
//!     .operation("export", bulkhead::Config::new(2));
//! let levels = Levels::try_new("orders", places)?;
//! let layers = (KeyedLayer::new(quotas.by(ByTenant)), levels.layer().queued());
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! Without Tower: `tenants.get("acme")` is the policy of a key, with `acquire` and `run`; `levels.acquire("acme",
//! "export")` waits for a place at every level.
//!
//! # Readiness
//!
//! A service is ready when the one behind it is: which policy a call meets is known only when the call comes. So
//! nothing is held before it, and an error of `poll_ready` is counted by nobody.
//!
//! # Cancellation
//!
//! Dropping a call gives back what it has taken, at every level, and leaves the queues; its key may leave then.
//!
//! # What it tells
//!
//! The policies of all keys bear the name of the handle, so that labels and logs do not grow with the keys. Their
//! [`Event`](crate::observe::Event)s go to the handle's [observers](Handle::observe), with the key if
//! [they ask](Handle::observe_keys); counts by [`Handle::snapshot`], and by key in [`Handle::listing`].
//!
//! # Cost
//!
//! A call of a known key hashes the key, takes the read lock of one shard of several for the time of a look-up, reads
//! the clock once, and allocates nothing. A new key looks at 16 others at most, one of which may leave for it; no call
//! ever looks at all keys.
//!
//! With its policy a key takes about 450 bytes for a bulkhead, 300 for a rate limit, and 1.2 KiB for a breaker, with 2
//! KiB more for each thread that calls through it; on top of that what the key itself has on the heap, up to 150 bytes
//! for a tenant or an operation. The default of 10 000 keys is at most 6 MB of bulkheads ([`Handle::memory`]).

mod config;
mod handle;
mod key;
mod layer;
mod leave;
mod levels;
mod levels_config;
mod manage;
mod names;
mod policy;
mod select;
mod settings;
mod shard;
mod snapshot;
mod table;
mod watch;

pub use config::Config;
pub use handle::Handle;
pub use key::{Key, KeyOf, Lookup, StrKey, key_fn, str_key_fn};
pub use layer::{Keyed, KeyedLayer, QueuedKeyed, QueuedKeyedLayer, QueuedResponseFuture, ResponseFuture};
pub use leave::Standing;
pub use levels::{AcquireLevels, Levels, LevelsBy, LevelsPermit, LevelsSnapshot};
pub use levels_config::LevelsConfig;
pub use names::{
    ByOperation, ByTenant, HasOperation, HasTenant, Operation, OperationLayer, Operations, Tenant, TenantLayer, Tenants,
};
pub use policy::{KeyedConfig, KeyedPolicy};
pub use select::{Choose, Chosen, PerKey, Select};

pub use snapshot::{KeySnapshot, Snapshot};
#[cfg(feature = "http")]
pub(crate) use {layer::admit, select::Chooser};
