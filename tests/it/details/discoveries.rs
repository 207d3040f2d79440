//! What discovery does for who waits, who closes and who is checked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use mainstay::{
    contract::{Instance, ServiceName},
    discovery::{
        self, Discovery, DiscoveryError, InMemory, Lease, Publisher, Registration, Snapshot, Watch, health::Checked,
    },
};
use tokio_test::task;
use tower::service_fn;

use crate::{
    client::settle,
    discovery::{id, known, say, user, users},
    log,
    support::*,
};

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_an_empty_answer_once_it_is_believed() {
    let backend = Publisher::new(users(), discovery::Config::new().empty_grace(ms(30_000)));
    backend.publish([user("a")]);
    let mut watch = backend.watch();
    assert!(watch.next().await.is_some());
    backend.fail("refused");
    assert_eq!(say(&watch.next().await.unwrap()), "stale: refused");
    let mut waits = task::spawn(watch.next());
    assert!(waits.poll().is_pending());
    backend.publish([]);
    assert!(waits.is_woken(), "there is nothing new but the time at which it is to look again");
    assert!(waits.poll().is_pending());
    advance(ms(30_000)).await;
    assert!(waits.is_woken());
    assert_eq!(say(&waits.await.unwrap()), "-a left");
}

/// Counts what it is asked; fails or hangs where it is told to.
#[derive(Clone, Default)]
struct Ward(Arc<State>);

#[derive(Default)]
struct State {
    memory: InMemory,
    watches: AtomicUsize,
    hangs: AtomicBool,
    fails: AtomicBool,
}

impl Discovery for Ward {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        if self.0.hangs.swap(false, SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.memory.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        if self.0.fails.load(SeqCst) {
            return Err(DiscoveryError::Unavailable("refused".into()));
        }
        self.0.memory.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.0.memory.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        if self.0.fails.load(SeqCst) {
            return Err(DiscoveryError::Unavailable("refused".into()));
        }
        self.0.memory.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.0.memory.instances(service).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        self.0.watches.fetch_add(1, SeqCst);
        self.0.memory.watch(service).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_abandoned_leaves_its_lease_to_run_out() {
    let backend = InMemory::new();
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    registration.abandon();
    settle().await;
    assert_eq!(known(&backend), "a");
    tokio::time::sleep(TTL - ms(1)).await;
    assert_eq!(known(&backend), "a");
    tokio::time::sleep(ms(1)).await;
    assert_eq!((known(&backend).as_str(), backend.snapshot().expired), ("", 1), "there were no heartbeats");
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_lease_is_lost_closes_well() {
    let ward = Ward::default();
    let registration = Registration::new(ward.clone(), user("a"), TTL).await.unwrap();
    ward.0.memory.deregister(registration.lease().unwrap()).await.unwrap();
    registration.close().await.unwrap();
    assert_eq!(known(&ward), "");
}

#[test]
fn an_instance_of_another_service_is_not_put() {
    let backend = Publisher::new(users(), discovery::Config::new());
    backend.put(Instance::new("orders", "a", "10.0.0.1", 80).unwrap());
    assert_eq!(backend.snapshot().len(), 0);
    backend.put(user("a"));
    assert_eq!(backend.snapshot().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_closes_is_told_what_the_backend_fails_with() {
    let ward = Ward::default();
    let registration = Registration::new(ward.clone(), user("a"), TTL).await.unwrap();
    ward.0.fails.store(true, SeqCst);
    let error = registration.close().await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::Unavailable(why) if why.to_string() == "refused"), "{error}");
    ward.0.fails.store(false, SeqCst);
    let registration = Registration::new(ward.clone(), user("b"), TTL).await.unwrap();
    registration.close().await.unwrap();
    assert!(!known(&ward).contains('b'), "the backend knows when it is over");
}

/// What was warned of in the log of a service.
fn warnings(service: &str) -> Vec<[String; 3]> {
    let told = log::lines("service", service).into_iter().filter(|(level, _)| *level == tracing::Level::WARN);
    let text =
        |fields: &std::collections::BTreeMap<String, String>, name| fields.get(name).cloned().unwrap_or_default();
    told.map(|(_, fields)| ["instance", "message", "error"].map(|name| text(&fields, name))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_failed_is_told_and_one_that_did_not_is_not() {
    log::listen();
    let (ward, service) = (Ward::default(), "told-of-heartbeats");
    let registration = Registration::new(ward.clone(), Instance::new(service, "a", "10.0.0.1", 80).unwrap(), TTL);
    let registration = registration.await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    assert!(warnings(service).is_empty());
    ward.0.fails.store(true, SeqCst);
    tokio::time::sleep(TTL / 2).await;
    let told = warnings(service);
    assert!(
        told.contains(&["a", "a heartbeat failed", "the backend is unavailable: refused"].map(str::to_owned)),
        "{told:?}"
    );
    ward.0.fails.store(false, SeqCst);
    registration.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_another_service_is_told_to_be_left_out_and_no_other() {
    log::listen();
    let service = "told-of-strays";
    let backend = Publisher::new(service.parse().unwrap(), discovery::Config::new());
    let of = |service: &str, id: &str| Instance::new(service, id, "10.0.0.1", 80).unwrap();
    backend.publish([of(service, "a")]);
    backend.put(of(service, "b"));
    assert!(warnings(service).is_empty());
    backend.put(of("others", "c"));
    backend.publish([of(service, "a"), of("others", "d")]);
    let told: Vec<String> = warnings(service).into_iter().map(|[instance, ..]| instance).collect();
    assert_eq!(told, ["c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_whose_registration_hangs_is_registered_anew_within_the_time_of_a_lease() {
    let ward = Ward::default();
    let registration = Registration::new(ward.clone(), user("a"), TTL).await.unwrap();
    ward.0.memory.deregister(registration.lease().unwrap()).await.unwrap();
    ward.0.hangs.store(true, SeqCst);
    tokio::time::sleep(TTL).await;
    settle().await;
    assert!(!ward.0.hangs.load(SeqCst), "it was tried");
    assert_eq!(known(&ward), "a");
}

#[tokio::test(start_paused = true)]
async fn what_is_checked_is_watched_once_and_its_leases_are_those_of_the_backend() {
    let ward = Ward::default();
    let check = service_fn(async |_: Arc<Instance>| Ok::<_, &str>(()));
    let checked = Checked::new(ward.clone(), check, discovery::health::Config::new());
    let lease = checked.register(user("a"), TTL).await.unwrap();
    for _ in 0..5 {
        assert_eq!(checked.instances(&users()).await.unwrap().len(), 1);
    }
    assert_eq!(ward.0.watches.load(SeqCst), 1);
    tokio::time::sleep(TTL / 2).await;
    checked.heartbeat(&lease).await.unwrap();
    tokio::time::sleep(TTL / 2 + ms(1)).await;
    settle().await;
    assert!(checked.instances(&users()).await.unwrap().get(&id("a")).is_some(), "kept by its heartbeat");
    checked.deregister(lease.clone()).await.unwrap();
    assert!(matches!(checked.heartbeat(&lease).await, Err(DiscoveryError::LeaseLost { .. })));
}
