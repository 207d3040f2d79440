//! Discovery: where the instances of a service are, and how that changes.
//!
//! **When to use it.** Where instances come and go while callers run: they register with a lease, and callers watch. A
//! fixed list of addresses in a file needs none of it; [publish](Publisher::publish) it once, if what reads from
//! discovery is to be used with it.
//!
//! **How it decides.** An instance is known while its [lease](Lease) runs: for the time to live from its registration,
//! and again from each heartbeat. At exactly its end it has run out, to the nanosecond, for everybody who asks. Nothing
//! runs in the background for that: whoever looks first takes out what has run out, which is found without looking at
//! what has not, and a watch that waits sets an alarm for the next end of a lease. How well an instance is, is what it
//! says by its last [update](Discovery::update); an operator's [word](InMemory::override_health) counts for more,
//! unless the instance says that it is down; and [checks](health) count for more than both where they find it worse.
//!
//! A backend over a network that fails is no fleet that is gone: what was known stays, and is said to be
//! [stale](Snapshot::stale) with the first error, until the backend answers. An answer without instances, after one
//! that had some, is doubted for [a while](Config::empty_grace). These rules are those of a [`Publisher`], for all
//! backends.
//!
//! **Where it stands.** Over [contract](crate::contract), whose [`Instance`](crate::contract::Instance) it knows; under
//! the [client](crate::client), which feeds a [balancer](crate::balance) from a watch. [`Discovery`] is the trait of
//! all backends: [`InMemory`] is the one that needs no server. [`health::Checked`] is a layer over any of them.
//!
//! # Use
//!
//! A service keeps itself registered; a caller watches:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::contract::{Instance, ServiceName};
//! use mainstay::discovery::{Change, Discovery, InMemory, Registration, Update};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fleet = InMemory::new();
//! let me = Instance::new("users", "users-1", "10.0.0.7", 8080)?;
//! let registration = Registration::new(fleet.clone(), me, Duration::from_secs(30)).await?;
//!
//! let mut users = fleet.watch(&ServiceName::new("users")?).await?;
//! let Some(Update::Snapshot(all)) = users.next().await else { panic!("all that is known comes first") };
//! assert_eq!(all.instances[0].authority(), "10.0.0.7:8080");
//!
//! drop(registration); // or `.drain().await?`, and `.close().await?` when its calls are done
//! let Some(Update::Event(event)) = users.next().await else { panic!("and then every change") };
//! assert!(matches!(event.change, Change::Removed(..)));
//! assert_eq!(event.sequence, all.sequence + 1);
//! # Ok(())
//! # }
//! ```
//!
//! Made to measure: little memory for watchers, and a backend of one's own that reads a list from somewhere:
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{contract::{Instance, ServiceName}, discovery::{Config, Publisher, Update}};
//!
//! # fn list() -> Result<Vec<Instance>, std::io::Error> { Err(std::io::ErrorKind::ConnectionRefused.into()) }
//! let config = Config::new()
//!     .events(64)
//!     .empty_grace(Duration::from_secs(10))
//!     .invalidate_after(Duration::from_secs(3_600));
//! let users = Publisher::try_new(ServiceName::new("users")?, config)?;
//! users.publish([Instance::new("users", "users-1", "10.0.0.7", 8080)?]);
//! // Now and then:
//! match list() {
//!     Ok(instances) => users.publish(instances), // watchers hear of what is different
//!     Err(error) => users.fail(error),           // what was known stays
//! }
//! assert!(users.snapshot().stale.is_some() && users.snapshot().len() == 1);
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! # Leases
//!
//! [`Registration`] is what a service uses: it sends heartbeats at a third of the time to live, registers anew when the
//! lease was lost, and deregisters when it is dropped. By hand, [`register`](Discovery::register),
//! [`heartbeat`](Discovery::heartbeat), [`update`](Discovery::update) and [`deregister`](Discovery::deregister) are the
//! same in steps. An id is registered once at a time: a second one is an error while the first one's lease runs, so
//! that two processes with one name are found out. A heartbeat costs a look-up and changes nothing that anybody else
//! sees.
//!
//! To take an instance out of service, [drain](Registration::drain) it: callers give it no new calls, and hear of it
//! before it is gone. A weight of 0 does the same.
//!
//! # Watches
//!
//! A [`Watch`] gives out a [`Snapshot`] first and then an [`Event`] for every change, numbered without gaps. Events are
//! kept only while somebody watches, and [so many](Config::events) at most: a watcher that is further behind gets a
//! fresh snapshot that says how many it [missed](Snapshot::missed). So it never has to ask again, and never sees less
//! than the truth. All watchers of a service share its snapshots and instances. Each is woken once for a change.
//!
//! # Health checks
//!
//! See [`health`]: any Tower service that takes an instance, or a path over HTTP.
//!
//! # Tower
//!
//! Behind the feature `discover`, a [`Watch`] is a `Stream`, and `Changes` makes it a `tower::discover::Discover`, so
//! that Tower's own balancer can be used on it.
//!
//! # Cancellation
//!
//! A future of [`InMemory`] does all it does when it is first polled. Dropping [`Watch::next`] takes nothing, and
//! nobody is woken for it any more. Dropping a [`Registration`] deregisters, as far as it can be done without waiting,
//! else its task does it; neither needs a runtime. With the last handle of a backend, watches read what there was and
//! end.
//!
//! # What it tells
//!
//! [`InMemory::snapshot`]: services, instances, leases, watchers, and how many events, ends of leases and lags there
//! were. To `tracing`, with `service` and `instance`: the end of a lease as a warning, lag as information, a backend
//! that fails as a warning, and as an error when it has failed for so long that nothing is left.
//!
//! # Cost
//!
//! A lock for each service, held for a look-up in a map. A snapshot is made when it is asked for and something has
//! changed, whatever came in between: of 10 000 registrations one after the other, one.

mod backend;
#[cfg(feature = "discover")]
mod callable;
mod config;
mod error;
pub mod health;
mod hold;
mod lease;
mod leases;
mod log;
mod memory;
mod overrides;
mod publisher;
mod registration;
mod topic;
#[cfg(feature = "discover")]
mod tower;
mod update;
mod watch;

pub use backend::Discovery;
pub use config::Config;
pub use error::DiscoveryError;
pub use lease::Lease;
pub use memory::{BackendSnapshot, InMemory};
pub use publisher::Publisher;
pub use registration::Registration;
#[cfg(feature = "discover")]
pub use tower::Changes;
pub use update::{Change, Event, Gone, Snapshot, Stale, Update};
pub use watch::{Next, Watch};
