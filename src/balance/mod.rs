//! Balance: each call goes to one of the instances of a service.
//!
//! **When to use it.** In front of a service that runs in several copies, wherever their list comes from: a file, DNS,
//! [discovery](crate::discovery). Not where something between you and the instances balances already: two balancers
//! undo each other's work.
//!
//! **How it decides.** A [`Handle`] holds the set: the instances, a service for each, and what their calls came to. A
//! [`Balance`] over it is a Tower service: each call picks a member, makes its service ready and hands the request
//! over. Who may be picked, the set decides when something changes; which of these gets a call, the picker decides for
//! each call, without a lock.
//!
//! | picker | gives a call to | for |
//! |---|---|---|
//! | [`RoundRobin`] | one after the other | equal instances, equal calls |
//! | [`Random`] | any, by weight | many small clients |
//! | [`Weighted`] | each by its weight, evenly | instances of different size |
//! | [`LeastLoaded`] | the one with fewer calls running, of two | most services: the one to begin with |
//! | [`PeakEwma`] | the one expected to answer earlier, of two | instances whose latency differs or changes |
//! | [`ConsistentHash`] | the same one for the same key | caches and sessions |
//!
//! One of your own is a type with [`Picker`] and [`Pick`].
//!
//! **Health.** Draining instances and those of weight 0 get no new calls. Of the others the healthy ones are picked as
//! long as they can carry the load (each at most 1.4 times its share, Envoy's rule); below that, degraded ones are
//! picked as well. A degraded one also steps in when no circuit of a healthy one lets a call in. When fewer than
//! [half](Config::panic_threshold) are usable, all are: so many instances do not fail at once, so it is their health
//! checks that do, or what all depend on; and the few that are left would not survive the load of all.
//!
//! **Ejection.** An instance that does worse than the others is left alone for a while: after [five
//! failures](Outlier::consecutive_failures) in a row at once; in a sweep every [ten seconds](Outlier::interval) when
//! its success rate lies far below the mean and below an absolute [floor](Outlier::success_floor), or its [failure
//! rate](Outlier::failure_rate) is too high. The first time for [30 seconds](Outlier::eject_for), then for longer; good
//! conduct is rewarded. Never more than [a tenth](Outlier::max_ejected) at a time (one always may be), and never the
//! last. Results of calls from before an ejection or its end decide nothing. [`Mode::Shadow`] only tells. There is no
//! task: the first call after a sweep is due makes it, and so does [`Handle::snapshot`].
//!
//! **Breakers.** With [`Config::breaker`] each instance has a circuit breaker. An open circuit's instance is not
//! picked, in a panic neither; a half-open one gets its probes. It works beside ejection: a breaker tries with a few
//! calls whether an instance is back, an ejection compares it with the others.
//!
//! **Slow start.** With [`Config::slow_start`] an instance that has come, or come back, gets a growing share of its
//! calls.
//!
//! **Readiness.** The balancer is always ready. A member that cannot become ready, or whose circuit refuses, is no
//! failed call: another one is picked, each at most once. One that is not ready yet does not hold the call either:
//! others are looked at, up to three are waited for together, and the first that is ready gets the request. One that
//! leaves the set meanwhile, or is to get no calls any more, is waited for no longer. So instances come and go without
//! a failed call that another could have served. Only when there is nobody is the call turned away, with
//! [`Reason::NoInstance`](crate::Reason::NoInstance) and the time at which an ejection or an open circuit is over.
//!
//! **Where it stands.** Inside of retry and hedge, so that every attempt picks anew: with a [`Steer`] it goes to
//! another instance than the one before. What protects a single instance, a bulkhead for one, stands around the
//! services of the members. The order of the whole stack, outside in: fallback, load shed and rate limit, total
//! timeout, retry, hedge, breaker, bulkhead, attempt timeout, **balance**.
//!
//! # Use
//!
//! ```
//! use std::sync::Arc;
//! use mainstay::{Error, balance::{Balance, Config, Handle, LeastLoaded}, contract::Instance};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let users = Handle::new("users", Config::new());
//! for n in 1..=3 {
//!     let instance = Arc::new(Instance::new("users", &format!("users-{n}"), "10.0.0.7", 8080 + n)?);
//!     let address = instance.authority();
//!     users.insert(instance, service_fn(move |id: u32| {
//!         let answer = format!("user {id} from {address}");
//!         async move { Ok::<_, Error<std::io::Error>>(answer) }
//!     }));
//! }
//!
//! let mut balance = Balance::new(&users, LeastLoaded);
//! println!("{}", balance.ready().await.unwrap().call(7).await.unwrap());
//! println!("{}", serde_json::to_string_pretty(&users.snapshot()).unwrap());
//! # Ok::<(), mainstay::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! Made to measure, by key, with a breaker for each instance, as discovery says, and behind a stack:
//!
//! ```
//! use std::{hash::Hash, sync::Arc, time::Duration};
//! use mainstay::{
//!     Error, Stack, breaker, retry,
//!     balance::{Balance, Config, ConsistentHash, Handle, KeyHasher, Outlier, SlowStart},
//!     contract::Instance,
//!     observe::Event,
//! };
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! let config = Config::new()
//!     .breaker(breaker::Config::new().open_for(Duration::from_secs(5)))
//!     .outlier(Outlier::new().consecutive_failures(3).max_ejected(0.3))
//!     .slow_start(SlowStart::new(Duration::from_secs(30)))
//!     .panic_threshold(0.3);
//! let sessions = Handle::try_new("sessions", config)?;
//! sessions.observe(|event: &Event<'_>| {
//!     if let Event::Ejected(ejection) = event {
//!         eprintln!("{} is left alone: {}", ejection.instance, ejection.cause);
//!     }
//! });
//!
//! // Whenever the list changes: who is new gets a service, who is known keeps its own, the rest goes.
//! let listed = [1, 2, 3].map(|n| Instance::new("sessions", &format!("s-{n}"), "10.0.0.9", 9000 + n).map(Arc::new));
//! let listed = listed.into_iter().collect::<Result<Vec<_>, _>>()?;
//! let connect = |instance: &Arc<Instance>| {
//!     let id = instance.id().clone();
//!     service_fn(move |user: String| {
//!         let answer = format!("{user} lives at {id}");
//!         async move { Ok::<_, Error<std::io::Error>>(answer) }
//!     })
//! };
//! sessions.sync(listed, connect);
//!
//! let by_user = ConsistentHash::new([7; 16], |user: &String, key: &mut KeyHasher| user.hash(key));
//! let stack = Stack::builder("sessions").retry(retry::Config::new().attempts(2)).build();
//! let mut service = stack.service(Balance::new(&sessions, by_user));
//! let first = service.ready().await.unwrap().call("Ada".to_owned()).await.unwrap();
//! let again = service.ready().await.unwrap().call("Ada".to_owned()).await.unwrap();
//! assert_eq!(first, again);
//! # Ok::<(), mainstay::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! # What counts as a failure
//!
//! An error, unless it is another policy's rejection; [`Balance::classify`] takes a classifier of yours, for HTTP
//! statuses say. A panic in an instance's service counts as one failure and goes on to the caller; an instance that
//! cannot become ready has failed. [`LeastLoaded`] and [`PeakEwma`] weigh failures in the load, so that an instance
//! which fails at once does not attract the calls.
//!
//! # Cancellation
//!
//! Dropping a call gives back what it holds: its place in the load, and its probe. It counts as neither a success nor a
//! failure; to [`PeakEwma`] it took as long as it ran, if that is longer than was known. A member that was waited for
//! in vain because another was ready first counts nothing. A panic in a picker, a steer or a key goes to the caller and
//! counts for nobody.
//!
//! # What it tells
//!
//! [`Event::Ejected`](crate::observe::Event::Ejected), [`Event::Readmitted`](crate::observe::Event::Readmitted),
//! [`Event::Panic`](crate::observe::Event::Panic) once on entering and once on leaving it, and
//! [`Event::Rejected`](crate::observe::Event::Rejected) when there is nobody, to its [observers](Handle::observe).
//! Ejections, readmissions and panics also to `tracing`. All the rest by [`Handle::snapshot`].
//!
//! # Cost
//!
//! A call reads one word to see whether the set has changed, allocates nothing and takes no lock. It writes one cache
//! line that others may write as well: that of the member it goes to, where its running calls are counted, because
//! that is what the others must see. It clones the service of the member. The clock is read by [`PeakEwma`], twice, and
//! by the others only while something has failed of late. A change makes a new set, in a time that grows with its size,
//! when the next call comes: a thousand changes between two calls make one. A clone that makes no calls keeps the set
//! it saw last, and the services in it.

mod config;
mod consistent;
mod core;
mod eject;
mod ewma;
mod future;
mod handle;
mod hub;
mod member;
mod notice;
mod outlier;
mod outlier_config;
mod pick;
mod pickers;
mod ramp;
mod raw;
mod ring;
mod service;
mod set;
mod snapshot;
mod steer;
mod tier;
mod weights;

pub use config::Config;
pub use consistent::{ConsistentHash, HashKey, RingPlan};
pub use future::ResponseFuture;
pub use handle::Handle;
pub use outlier_config::{Mode, Outlier};
pub use pick::{Candidates, Pick, Picker};
pub use pickers::{LeastLoaded, PeakEwma, Random, RoundRobin, Weighted};
pub use ramp::SlowStart;
pub use ring::KeyHasher;
pub use service::Balance;
pub use snapshot::{MemberSnapshot, MemberState, Snapshot};
pub use steer::{NoSteer, Steer};

pub(crate) use raw::Raw;
