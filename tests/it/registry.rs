//! Registry: services by name, guards, health, snapshots, and what is left when things go wrong.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use mainstay::{
    Error, Stack, breaker, bulkhead,
    contract::{
        AnyMethod, Capability, Contract, Endpoint, Health, HealthStatus, ServiceContract, ServiceName, Version,
    },
    fallback::{self, Fallback},
    isolation::{FallbackConfig, IsolationManager, Level},
    rate_limit,
    registry::{Policies, PoliciesSnapshot, Registration, Registry, RegistryError, Service},
    retry, timeout,
};

use crate::support::*;

fn contract(name: &str) -> Contract {
    Contract::new(name, Version::new(1, 2, 3)).unwrap()
}

fn names(services: &[Service]) -> Vec<&str> {
    services.iter().map(|service| service.name().as_str()).collect()
}

#[test]
fn services_are_found_by_name_and_listed_in_order_until_their_guards_end() {
    let registry = Registry::new();
    assert!(registry.is_empty() && registry.list().is_empty());
    let guards: Vec<_> =
        ["stock", "a b", "users", "Users"].map(|name| registry.register(contract(name), ()).unwrap()).into();
    assert_eq!(names(&registry.list()), ["Users", "a b", "stock", "users"]);
    assert_eq!((registry.len(), registry.clone().contains("a b"), registry.contains("a")), (4, true, false));
    let users = registry.get("users").unwrap();
    assert_eq!((users.contract().version(), users.policies().is_none()), (&Version::new(1, 2, 3), true));
    assert!(users.is_same(guards[2].service()) && !users.is_same(guards[3].service()));
    drop(guards);
    assert!(registry.is_empty());
    assert_eq!(users.snapshot().service, "users", "who holds it still has it");
}

#[test]
fn duplicates_and_unknown_names_are_errors_that_name_the_service() {
    let registry = Registry::new();
    let first = registry.register(contract("users"), ()).unwrap();
    let error = registry.register(contract("users"), ()).unwrap_err();
    assert_eq!(error, RegistryError::Duplicate { service: ServiceName::new("users").unwrap() });
    assert_eq!(error.to_string(), "a service \"users\" is registered already");
    assert!(registry.get("users").unwrap().is_same(first.service()), "the first one stays");
    for name in ["", "stock", "users ", "a\nb"] {
        let unknown = RegistryError::Unknown { service: name.to_owned() };
        assert!(unknown.to_string().contains(&format!("{name:?}")) && !unknown.to_string().contains('\n'));
        assert_eq!(registry.get(name).unwrap_err(), unknown);
        assert_eq!(registry.unregister(name).unwrap_err(), unknown);
        assert_eq!(registry.update_health(name, HealthStatus::Healthy).unwrap_err(), unknown);
        assert_eq!(registry.forget_health(name).unwrap_err(), unknown);
    }
}

#[test]
fn a_guard_removes_its_own_registration_and_no_later_one() {
    let registry = Registry::new();
    let first = registry.register(contract("users"), ()).unwrap();
    let removed = registry.unregister("users").unwrap();
    assert!(removed.is_same(first.service()));
    let second = registry.register(contract("users"), ()).unwrap();
    drop(first);
    assert!(registry.get("users").unwrap().is_same(second.service()), "it is not the first one's to remove");
    let kept = second.keep();
    assert!(registry.get("users").unwrap().is_same(&kept));
    registry.unregister("users").unwrap();
    assert!(registry.is_empty());
    let guard = registry.register(contract("users"), ()).unwrap();
    assert!(panics(|| {
        let _guard = guard;
        panic!("before it was over");
    }));
    assert!(registry.is_empty(), "a panic takes its service off the list");
}

#[test]
fn the_registrys_word_on_health_is_over_the_contracts() {
    let registry = Registry::new();
    let lagging = contract("users").with_health(Health::degraded("the replica lags"));
    let _guards = [registry.register(lagging, ()).unwrap(), registry.register(contract("stock"), ()).unwrap()];
    assert_eq!(names(&registry.by_health(HealthStatus::Degraded)), ["users"]);
    let before = registry.update_health("users", Health::unhealthy("gone").with_detail("zone", "eu-1")).unwrap();
    assert_eq!(before.message(), Some("the replica lags"));
    let users = registry.get("users").unwrap();
    assert_eq!((users.status(), users.health().details()["zone"].as_str()), (HealthStatus::Unhealthy, "eu-1"));
    assert_eq!(users.contract().health().status(), HealthStatus::Degraded);
    registry.update_health("stock", HealthStatus::Unhealthy).unwrap();
    assert_eq!(names(&registry.by_health(HealthStatus::Unhealthy)), ["stock", "users"]);
    assert!(registry.by_health(HealthStatus::Degraded).is_empty());
    assert_eq!(registry.forget_health("users").unwrap().message(), Some("gone"));
    assert_eq!(registry.get("users").unwrap().health().to_string(), "degraded: the replica lags");
    assert_eq!(names(&registry.by_health(HealthStatus::Unhealthy)), ["stock"]);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_has_contract_health_and_policies_in_order_as_plain_json() {
    let registry = Registry::new();
    let stack = Stack::standard("users");
    let users = contract("users")
        .with_capability(Capability::new("search").unwrap())
        .unwrap()
        .with_endpoint(Endpoint::new("get_user").unwrap())
        .unwrap();
    let _users = registry.register(users, stack.clone()).unwrap();
    let _bare = registry.register(contract("bare"), ()).unwrap();
    let places = bulkhead::Handle::new("stock", bulkhead::Config::new(3));
    let facts = || PoliciesSnapshot::facts([("connections", 7)]);
    let _stock = registry.register(contract("stock"), ((places.clone(), ()), Arc::new(facts))).unwrap();
    let _ = stack.run(|| async { Err::<(), _>(Boom) }).await;
    let json = serde_json::to_value(registry.snapshot()).unwrap();
    let services = json["services"].as_array().unwrap();
    assert_eq!(services.iter().map(|s| s["service"].as_str().unwrap()).collect::<Vec<_>>(), ["bare", "stock", "users"]);
    assert!(services[0]["policies"].is_null());
    assert_eq!(services[1]["policies"][0]["kind"], "bulkhead");
    assert_eq!(services[1]["policies"][1]["connections"], "7");
    let users = &services[2];
    assert_eq!((&users["version"], &users["health"]["status"]), (&"1.2.3".into(), &"healthy".into()));
    assert_eq!(
        (&users["capabilities"][0]["name"], &users["endpoints"][0]["method"]),
        (&"search".into(), &"get_user".into())
    );
    assert_eq!(users["policies"]["stack"], "users");
    assert_eq!(users["policies"]["retry"]["retries"], 2);
}

#[test]
fn whatever_has_a_snapshot_is_policies() {
    fn kind(policies: &impl Policies) -> String {
        serde_json::to_value(policies.snapshot()).unwrap()["kind"].as_str().unwrap_or("none").to_owned()
    }
    let breaker = breaker::Handle::new("x", breaker::Config::new());
    assert_eq!(kind(&breaker), "circuit_breaker");
    assert_eq!(kind(&retry::Handle::new("x", retry::Config::new())), "retry");
    assert_eq!(kind(&timeout::Handle::new("x", ms(5))), "timeout");
    assert_eq!(kind(&rate_limit::Handle::new("x", rate_limit::Config::per_second(1))), "rate_limit");
    assert_eq!(kind(&fallback::Handle::new("x")), "fallback");
    assert_eq!(kind(&move || breaker.snapshot()), "circuit_breaker");
    assert_eq!(kind(&|| None::<bulkhead::Snapshot>), "none");
    assert_eq!(kind(&()), "none");
    assert!(((), ((), ())).snapshot().is_none());
    let guest: Stack<_, _> = Stack::builder("x").fallback(Fallback::value(7)).retry(retry::Config::new()).build();
    assert!(matches!(Policies::snapshot(&guest), PoliciesSnapshot::Stack(_)), "stacks of every type");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_isolation_manager_shows_the_policies_of_its_level() {
    let (manager, registry) = (IsolationManager::<u32, u32, Error<Boom>>::new(), Registry::new());
    let double = AnyMethod(tower::service_fn(async |n: u32| Ok(n * 2)));
    let isolated = manager.register("double", double, Level::Basic, FallbackConfig::none()).unwrap();
    let _guard = registry.register(contract("double"), isolated).unwrap();
    let shown = || serde_json::to_value(registry.snapshot()).unwrap()["services"][0]["policies"].clone();
    assert!(shown()["breaker"].is_null() && !shown()["retry"].is_null());
    manager.set_level("double", Level::Full).unwrap();
    assert_eq!(shown()["breaker"]["state"], "closed");
    assert_eq!(manager.execute("double", "double", 4).await, Ok(8));
    assert!(shown()["breaker"]["totals"].to_string().contains(":1"));
    manager.unregister("double").unwrap();
    assert!(shown().is_null());
}

/// A contract and policies that tell when they end, and by then ask the registry.
struct Ends {
    promises: Contract,
    registry: Registry,
    ended: Arc<AtomicU32>,
}

impl Ends {
    fn new(name: &str, registry: &Registry, ended: &Arc<AtomicU32>) -> Self {
        Self { promises: contract(name), registry: registry.clone(), ended: Arc::clone(ended) }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.registry.update_health("other", HealthStatus::Degraded);
        self.ended.fetch_add(1, SeqCst);
    }
}

impl ServiceContract for Ends {
    fn name(&self) -> &ServiceName {
        self.promises.name()
    }
    fn version(&self) -> &Version {
        self.promises.version()
    }
    fn health(&self) -> Health {
        match self.registry.len() {
            0 => panic!("nobody is there"),
            _ => Health::healthy(),
        }
    }
    fn capabilities(&self) -> &[Capability] {
        &[]
    }
    fn endpoints(&self) -> &[Endpoint] {
        &[]
    }
}

#[test]
fn contracts_and_policies_are_asked_and_dropped_outside_of_every_lock() {
    let (registry, ended) = (Registry::new(), Arc::new(AtomicU32::new(0)));
    let new = |name| Ends::new(name, &registry, &ended);
    let guard = registry.register(new("users"), ()).unwrap();
    assert_eq!(registry.by_health(HealthStatus::Healthy).len(), 1);
    registry.register(new("users"), ()).unwrap_err();
    assert_eq!(ended.load(SeqCst), 1, "what was refused is gone");
    drop(guard);
    assert_eq!(ended.load(SeqCst), 2);
    registry.register(new("users"), ()).unwrap().keep();
    drop(registry.unregister("users").unwrap());
    assert_eq!(ended.load(SeqCst), 3);
    let registered = registry.register(new("users"), ()).unwrap();
    let held = registered.service().clone();
    drop(registered);
    assert_eq!(ended.load(SeqCst), 3, "somebody holds it");
    assert!(panics(|| held.health()));
    drop(held);
    assert_eq!(ended.load(SeqCst), 4);
}

#[test]
fn one_that_panics_does_so_to_whoever_asks_and_changes_nothing() {
    let registry = Registry::new();
    let _bad = registry.register(contract("bad"), || -> PoliciesSnapshot { panic!("no idea") }).unwrap();
    let _good = registry.register(contract("good"), ()).unwrap();
    assert!(panics(|| registry.snapshot()));
    assert_eq!(names(&registry.list()), ["bad", "good"]);
    assert!(registry.get("good").unwrap().snapshot().policies.is_none());
    registry.unregister("bad").unwrap();
    assert_eq!(registry.snapshot().services.len(), 1);
}

#[test]
fn threads_register_and_unregister_and_each_name_has_one_owner_at_a_time() {
    const THREADS: u32 = 4;
    let (registry, owners) = (Registry::new(), Arc::new([const { AtomicU32::new(0) }; 5]));
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let run = |thread: u32| {
        let (registry, owners, barrier) = (registry.clone(), Arc::clone(&owners), Arc::clone(&barrier));
        move || {
            barrier.wait();
            let mut wins = 0_u32;
            for round in 0..2_000_u32 {
                let at = ((round * 7 + thread) % 5) as usize;
                let name = format!("service-{at}");
                match registry.register(contract(&name), ()) {
                    Ok(guard) => {
                        assert_eq!(owners[at].fetch_add(1, SeqCst), 0, "nobody else has it");
                        assert!(registry.get(&name).unwrap().is_same(guard.service()));
                        registry.update_health(&name, HealthStatus::Degraded).unwrap();
                        assert!(names(&registry.list()).is_sorted());
                        assert_eq!(owners[at].fetch_sub(1, SeqCst), 1);
                        match round % 3 {
                            0 => drop(registry.unregister(&name).unwrap()),
                            _ => drop(guard),
                        }
                        wins += 1;
                    }
                    Err(RegistryError::Duplicate { service }) => assert_eq!(service, name.as_str()),
                    Err(error) => panic!("{error}"),
                }
            }
            wins
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| std::thread::spawn(run(thread))).collect();
    let wins: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(wins >= 2_000 && registry.is_empty(), "{wins}");
}

#[test]
fn the_types_can_be_sent_and_shared_and_say_who_they_are() {
    fn sent_and_shared<T: Send + Sync + 'static>(_: &T) {}
    let registry = Registry::default();
    let guard: Registration = registry.register(contract("users"), ()).unwrap();
    sent_and_shared(&registry);
    sent_and_shared(&guard);
    assert_eq!(format!("{registry:?}"), "Registry { services: [\"users\"] }");
    assert_eq!(format!("{guard:?}"), "Registration { service: \"users\", .. }");
    assert_eq!(format!("{:?}", guard.service()), "Service { name: \"users\", .. }");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(guard))).is_ok());
}

#[test]
fn registrations_are_logged() {
    crate::log::listen();
    let (registry, name) = (Registry::new(), "registry-log");
    let guard = registry.register(contract(name), ()).unwrap();
    registry.update_health(name, HealthStatus::Unhealthy).unwrap();
    registry.update_health(name, Health::unhealthy("still")).unwrap();
    registry.forget_health(name).unwrap();
    drop(guard);
    let lines = crate::log::lines("service", name);
    let changes = lines.iter().map(|(_, fields)| fields.get("from").zip(fields.get("to")));
    let changes: Vec<_> =
        changes.map(|change| change.map_or("-".into(), |(from, to)| format!("{from}>{to}"))).collect();
    assert_eq!(changes, ["-", "healthy>unhealthy", "unhealthy>healthy", "-"]);
}
