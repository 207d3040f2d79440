//! A whole service, from its contract to its isolation: how the six parts of the fleet go together.
//!
//! Each has a page of its own: [contract](crate::contract), [registry](crate::registry),
//! [discovery](crate::discovery), [balance](crate::balance), [client](crate::client), [isolation](crate::isolation).
//! This one follows a service called `users` through all of them. The code is one program; it runs as it stands, with
//! `tokio` (`macros`, `rt-multi-thread`), `tower` (`util`), `serde_json` and `toml` beside this crate.
//!
//! ```text
//!  who serves                                       who calls
//!  ----------                                       ---------
//!  contract       what users promises               isolation manager   how carefully users is called now
//!  registration   users-1 is at 10.0.0.7:8080       client              users/get_user, on some instance
//!        |                                             |  stack of the service: timeouts, retry, breaker
//!        |    lease, heartbeats                        |  balancer: healthy, not ejected, least loaded
//!        v                                             v
//!  discovery  ------------- watch -------------->  instances and their transports
//! ```
//!
//! # 1. What it promises
//!
//! A contract is what both sides agree on: name, version, methods. It may stand in a file beside the service.
//!
//! ```
//! # use std::{io, time::Duration};
//! # use mainstay::{
//! #     Error, Stack,
//! #     client::{Client, Config, PickBy},
//! #     contract::{AnyMethod, Contract, Health, HealthStatus, Instance, Invocation, ServiceContract},
//! #     discovery::{Discovery, InMemory, Registration},
//! #     fallback::Fallback,
//! #     isolation::{FallbackConfig, IsolationManager, Level},
//! #     registry::Registry,
//! #     stack,
//! # };
//! # use tower::service_fn;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users: Contract = toml::from_str(r#"
//!     name = "users"
//!     version = "1.4.0"
//!     [[endpoints]]
//!     method = "get_user"
//!     verb = "GET"
//!     path = "/users/{id}"
//!     parameters = [{ name = "id", type = "u32", required = true }]
//!     responses = [{ code = "200", type = "User" }, { code = "404", type = "Problem" }]
//! "#)?;
//! let get_user = users.endpoint("get_user").expect("the contract has it").method().clone();
//! #
//! # let discovery = InMemory::new();
//! // 2. An instance says where it is, for as long as it sends heartbeats.
//! # let mut registrations = Vec::new();
//! # for id in ["users-1", "users-2"] {
//! let me = Instance::new("users", id, "10.0.0.7", 8080)?.with_version(users.version().clone());
//! let registration = Registration::new(discovery.clone(), me, Duration::from_secs(30)).await?;
//! # registrations.push(registration);
//! # }
//! #
//! // 3. The caller's transport: from an instance to a service. With the feature `http`: `HttpTransport`.
//! let transport = service_fn(async |instance: Instance| {
//!     let at = instance.id().clone();
//!     let ask = move |id: u32| {
//!         let at = at.clone();
//!         async move { Ok::<_, Error<io::Error>>(format!("user {id} from {at}")) }
//!     };
//!     Ok::<_, io::Error>(AnyMethod(service_fn(ask)))
//! });
//!
//! // 4. The client: finds, balances, tries elsewhere, counts.
//! let mut policies = stack::Config::standard();
//! policies.breaker = None; // the isolation manager has one
//! let client = Client::builder(discovery.clone(), transport)
//!     .service("users", Config::new().stack(policies).pick_by(PickBy::PeakEwma))
//!     .build();
//! let answer = client.call_async("users", &get_user, 7)?.await?;
//! assert!(answer.response.starts_with("user 7 from users-"));
//!
//! // 5. The isolation manager: how carefully it is called, switched while it is.
//! let manager: IsolationManager<u32, String, Error<io::Error>> = IsolationManager::new();
//! let guest = FallbackConfig::new(Fallback::value("guest".to_owned()));
//! manager.register("users", client.service("users")?, Level::Basic, guest)?;
//! assert!(manager.execute("users", &get_user, 8).await?.starts_with("user 8"));
//! manager.set_level("users", Level::Full)?;
//!
//! // 6. The registry: all of it on one page.
//! let registry = Registry::new();
//! let shown = manager.clone();
//! let policies = move || mainstay::registry::PoliciesSnapshot::facts([
//!     ("fallbacks_used", shown.info("users").map_or(0, |info| info.fallbacks_used)),
//! ]);
//! registry.register(users, policies)?.keep();
//! registry.update_health("users", Health::degraded("one instance of two"))?;
//! manager.update_health("users", registry.get("users")?.health())?;
//! println!("{}", serde_json::to_string_pretty(&registry.snapshot())?);
//!
//! // 7. It goes: no new calls, those that run finish, then nobody is left.
//! # for registration in registrations {
//! registration.drain().await?;
//! registration.close().await?;
//! # }
//! # for _ in 0..10 { tokio::task::yield_now().await; }
//! assert_eq!(manager.execute("users", &get_user, 9).await?, "guest");
//! assert_eq!(client.health("users").map(|health| health.status), Some(HealthStatus::Unhealthy));
//! # Ok(())
//! # }
//! ```
//!
//! # Which protection stands where
//!
//! | what goes wrong | who sees it | what happens |
//! |---|---|---|
//! | an instance stops, and says so | discovery | it gets no new calls at once; calls that run finish |
//! | an instance dies | transport, discovery | its calls are tried on another; when its lease ends it is gone |
//! | an instance fails or hangs | balancer | its circuit opens, it is ejected, and comes back slowly |
//! | an instance is slow | [picker](crate::balance) | calls go elsewhere |
//! | most instances look ill | balancer | all are used: what judges them is the likelier fault |
//! | the whole service fails | breaker of the service | it is left alone, and the fallback answers |
//! | the service is known to be down | isolation manager | the fallback answers at once, and nobody waits |
//! | one service takes all there is | bulkhead, rate limit, load shed | its calls are turned away, others go on |
//! | discovery is down | client | the last known instances stay, and the health says for how long |
//!
//! **Who retries.** One of them: the client, because it can go to another instance. A manager over a client, as
//! above, tries again at level basic; give it `max_retries(0)` in its
//! [`FallbackConfig`](crate::isolation::FallbackConfig) where the client's attempts are enough, for attempts multiply.
//!
//! **Who breaks the circuit.** An instance's breaker sees what that instance does; the service's breaker sees all
//! attempts. With retries on other instances, callers see little of one bad instance and the service's circuit stays
//! closed. Have it in the client's stack or in the manager, not in both.
//!
//! **What counts as a failure.** Every `Err`, unless it is a rejection. An error that is the caller's own fault (no
//! such user) would be tried again, eject instances and open circuits: give the client a
//! [classifier](crate::client::ClientBuilder::classify) that ignores it; the manager has none, and such an error
//! belongs into the answer there.
//!
//! # See it run
//!
//! `cargo run --release --features http --example fleet`: two services on real sockets, instances that are killed,
//! started, slow and failing, and a level that is switched while calls run.
