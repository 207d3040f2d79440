//! Instances, tasks and runtimes that come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use mainstay::{
    Error, Reason,
    balance::{self, Outlier},
    breaker,
    client::{Client, Config},
    contract::{HealthStatus, Instance, ServiceName},
    discovery::{Discovery, DiscoveryError, InMemory, Lease, Snapshot, Watch},
};
use tower::{Service, service_fn};

use super::{Mode, Users, World, fleet, name, register, settle, tries, users};
use crate::support::{Boom, ms};

#[tokio::test(start_paused = true)]
async fn an_instance_that_moves_gets_another_transport_and_one_that_changes_does_not() {
    let (discovery, world) = fleet(&[]).await;
    let lease = register(&discovery, "users", "a").await;
    let client = users(&discovery, &world, Config::new());
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a");

    let weighted = Instance::new("users", "a", "a", 80).unwrap().with_weight(7).unwrap();
    discovery.update(&lease, weighted).await.unwrap();
    settle().await;
    let member = &client.snapshot("users").unwrap().balance.members[0];
    assert_eq!((member.weight, member.calls, world.made("a")), (7, 1, 1));

    discovery.update(&lease, Instance::new("users", "a", "elsewhere", 80).unwrap()).await.unwrap();
    settle().await;
    assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from elsewhere");
    assert_eq!(client.snapshot("users").unwrap().balance.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_lease_ends_is_called_no_more() {
    let (discovery, world) = fleet(&["a"]).await;
    let short = Instance::new("users", "b", "b", 80).unwrap();
    discovery.register(short, ms(500)).await.unwrap();
    let client = users(&discovery, &world, Config::new());
    client.call("users", "get", 1).await.unwrap();
    assert_eq!(client.health("users").unwrap().instances, 2);
    tokio::time::sleep(ms(500)).await;
    settle().await;
    assert_eq!(client.health("users").unwrap().instances, 1);
    for n in 0..20 {
        assert_eq!(client.call("users", "get", n).await.unwrap(), format!("{n} from a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_cannot_be_made_is_made_later_and_one_that_panics_is_left_out() {
    let (discovery, world) = fleet(&["a", "stubborn", "wild"]).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let transport = service_fn(move |instance: Instance| {
        let (mut world, tries) = (world.clone(), Arc::clone(&tries));
        async move {
            match instance.host() {
                "wild" => panic!("the transport panics"),
                "stubborn" if tries.fetch_add(1, SeqCst) < 3 => Err("no route"),
                _ => Ok(world.call(instance).await.unwrap_or_else(|never| match never {})),
            }
        }
    });
    let client: Users = Client::builder(discovery, transport).build();
    assert!(client.call("users", "get", 1).await.is_ok());
    assert_eq!(client.health("users").unwrap().instances, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.health("users").unwrap().instances, 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_client_is_gone_nobody_watches() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, Config::new());
    client.call("users", "get", 1).await.unwrap();
    assert_eq!(discovery.snapshot().watchers, 1);
    let caller = client.service("users").unwrap();
    drop(client);
    settle().await;
    assert_eq!(discovery.snapshot().watchers, 1, "the caller still follows");
    drop(caller);
    settle().await;
    assert_eq!(discovery.snapshot().watchers, 0);
}

#[test]
fn a_client_outlives_its_runtimes_and_needs_none_to_be_made() {
    let discovery = InMemory::new();
    let world = World::default();
    let client = users(&discovery, &world, Config::new());
    let caller = client.service("users").unwrap();
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let lease = register(&discovery, "users", &format!("a{round}")).await;
            settle().await;
            let answer = client.call("users", "get", round).await;
            assert_eq!(answer.unwrap(), format!("{round} from a{round}"));
            discovery.deregister(lease).await.unwrap();
            settle().await;
        });
    }
    assert_eq!(caller.metrics().total.successes, 3);
}

/// A backend that fails when it is told to.
#[derive(Clone)]
struct Flaky {
    inner: InMemory,
    // Watches end right after their first snapshot.
    short: bool,
    failures: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Discovery for Flaky {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.inner.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.inner.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.inner.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.inner.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.inner.instances(service).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        self.asked.fetch_add(1, SeqCst);
        if self.failures.load(SeqCst) > 0 {
            self.failures.fetch_sub(1, SeqCst);
            return Err(DiscoveryError::Unavailable("the registry is down".into()));
        }
        if self.short {
            return InMemory::new().watch(service).await;
        }
        self.inner.watch(service).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_is_asked_again_at_growing_intervals() {
    let (inner, world) = fleet(&["a"]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let failures = Arc::new(AtomicUsize::new(5));
    let discovery = Flaky { inner, short: false, failures, asked: Arc::clone(&asked) };
    let client: Users = Client::builder(discovery, world).config(Config::new().first_wait(ms(50))).build();
    match client.call("users", "get", 1).await {
        Err(Error::Rejected(rejection)) => assert_eq!(rejection.reason(), Reason::NoInstance),
        other => panic!("{other:?}"),
    }
    let health = client.health("users").unwrap();
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert!(health.stale_for.is_some());
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(asked.load(SeqCst), 6);
    assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from a");
    assert_eq!(client.health("users").unwrap().status, HealthStatus::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_registry_whose_watches_end_at_once_is_asked_at_growing_intervals_too() {
    let (inner, world) = fleet(&["a"]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let discovery = Flaky { inner, short: true, failures: Arc::default(), asked: Arc::clone(&asked) };
    let client: Users = Client::builder(discovery, world).build();
    let _ = client.call("users", "get", 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // At 0, and after waits of at most 0.1, 0.2, 0.4 ... 25.6 s and at least a half of that each.
    let asked = asked.load(SeqCst);
    assert!((9..=12).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn the_last_instances_stay_when_the_registry_is_gone() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = {
        let gone = discovery.clone();
        let client = users(&gone, &world, tries(1));
        client.call("users", "get", 1).await.unwrap();
        client
    };
    assert_eq!(client.health("users").unwrap().stale_for, None);
    // The client holds the backend; what it is told is told by the backend itself.
    discovery.instances(&name("users")).await.unwrap();
    drop(discovery);
    world.set("a", Mode::Well);
    assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from a");
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_every_policy_of_every_service() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let fragile = breaker::Config::new().no_failure_rate().consecutive_failures(2);
    let balance = balance::Config::new().outlier(Outlier::off()).breaker(fragile);
    let client: Users = Client::builder(discovery, world.clone())
        .config(tries(2).balance(balance))
        .observe(move |event: &mainstay::observe::Event<'_>| log.lock().unwrap().push(event.policy().to_owned()))
        .build();
    world.set("a", Mode::Fails);
    world.set("b", Mode::Fails);
    assert_eq!(client.call("users", "get", 1).await, Err(Error::Inner(Boom)));
    let _ = client.call("orders", "get", 1).await;
    // Both instances at each call: after two of them their circuits are open.
    let _ = client.call("users", "get", 2).await;
    let heard = heard.lock().unwrap();
    assert!(heard.iter().any(|policy| policy == "users/a"), "a circuit of an instance: {heard:?}");
    assert!(heard.iter().any(|policy| policy == "users"), "{heard:?}");
    assert!(heard.iter().any(|policy| policy == "orders"), "{heard:?}");
}

#[test]
fn an_instance_that_left_while_nobody_followed_is_called_no_more() {
    let (discovery, world) = (InMemory::new(), World::default());
    let client = users(&discovery, &world, Config::new());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let first = runtime();
    let lease = first.block_on(async {
        let lease = register(&discovery, "users", "a").await;
        register(&discovery, "users", "b").await;
        client.call("users", "get", 1).await.unwrap();
        settle().await;
        lease
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        discovery.deregister(lease).await.unwrap();
        client.call("users", "get", 2).await.unwrap();
        settle().await;
        assert_eq!(client.health("users").unwrap().instances, 1);
        let before = world.calls("a");
        for n in 0..10 {
            client.call("users", "get", n).await.unwrap();
        }
        assert_eq!(world.calls("a"), before);
    });
}

#[tokio::test(start_paused = true)]
async fn when_the_last_maker_has_ended_without_a_transport_the_first_calls_wait_no_more() {
    for ends_by_itself in [true, false] {
        let (discovery, world) = fleet(&[]).await;
        let lease = register(&discovery, "users", "a").await;
        let transport = service_fn(move |instance: Instance| {
            let mut world = world.clone();
            async move {
                assert!(!ends_by_itself, "the transport panics");
                std::future::pending::<()>().await;
                world.call(instance).await
            }
        });
        let client: Users = Client::builder(discovery.clone(), transport).build();
        let call = tokio::spawn(client.call("users", "get", 1));
        settle().await;
        if !ends_by_itself {
            discovery.deregister(lease).await.unwrap();
        }
        settle().await;
        assert!(call.is_finished(), "ends by itself: {ends_by_itself}");
        assert!(call.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_moves_and_drains_gets_no_calls_while_its_transport_is_made() {
    let (discovery, world) = fleet(&["b"]).await;
    let lease = register(&discovery, "users", "a").await;
    let all = world.clone();
    let transport = service_fn(move |instance: Instance| {
        let mut world = all.clone();
        async move {
            if instance.host() == "elsewhere" {
                std::future::pending::<()>().await;
            }
            world.call(instance).await
        }
    });
    let client: Users = Client::builder(discovery.clone(), transport).build();
    client.call("users", "get", 1).await.unwrap();
    settle().await;
    let moved = Instance::new("users", "a", "elsewhere", 80).unwrap().with_draining(true);
    discovery.update(&lease, moved).await.unwrap();
    settle().await;
    let before = world.calls("a");
    for n in 0..20 {
        client.call("users", "get", n).await.unwrap();
    }
    assert_eq!(world.calls("a"), before, "it takes no calls");
}
