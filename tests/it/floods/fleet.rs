//! Floods of names, methods, instances and updates.

use std::{borrow::Cow, convert::Infallible, time::Duration};

use mainstay::{
    Error, Reason,
    client::{self, Client},
    contract::{AnyMethod, Contract, HealthStatus, Instance, ServiceName, Version},
    discovery::{self, Discovery, InMemory, Publisher, Update},
    fallback::{self, Fallback},
    isolation::{FallbackConfig, IsolationManager, Level},
    registry::Registry,
};
use tower::{Layer, Service, service_fn};

use super::*;

type Users = Client<u32, u32, Error<Boom>>;

/// A client of "users", whose one instance answers; the name is known to the client by its settings.
async fn users(backend: &InMemory, config: client::Config, max_services: usize) -> Users {
    let instance = Instance::new("users", "users-1", "10.0.0.7", 80).unwrap();
    let _ = backend.register(instance, Duration::from_secs(3_600)).await.unwrap();
    let transport = service_fn(async |_: Instance| {
        Ok::<_, Infallible>(AnyMethod(service_fn(|n: u32| {
            ready(if n % 2 == 0 { Ok(n) } else { Err(Error::Inner(Boom)) })
        })))
    });
    let client: Users =
        Client::builder(backend.clone(), transport).service("users", config).max_services(max_services).build();
    client.call("users", "get", 0).await.unwrap();
    client
}

fn bare() -> client::Config {
    client::Config::new()
        .stack(mainstay::stack::Config::new())
        .balance(mainstay::balance::Config::new().outlier(mainstay::balance::Outlier::off()))
}

#[tokio::test(start_paused = true)]
async fn method_names_without_end_are_counted_under_a_bounded_number_of_names() {
    const CALLS: u32 = FLOOD / 5;
    let client = users(&InMemory::new(), bare().max_methods(100), 10).await;
    holds_at_most(8 * MIB, "a flood of distinct method names at a client", || {
        for n in 0..CALLS {
            let answer = poll_once(&mut std::pin::pin!(client.call("users", format!("method-{n}"), n * 2)));
            assert!(answer.is_ready());
        }
    });
    let metrics = client.metrics("users").unwrap();
    assert_eq!(metrics.methods.len(), 101, "a hundred, and the rest under one name");
    assert_eq!(metrics.methods["_other"].requests, u64::from(CALLS) - 99);
    assert_eq!(metrics.total.requests, u64::from(CALLS) + 1);
    let json = serde_json::to_string(&metrics).unwrap().len() as u64;
    assert!(json < 64 * KIB, "the snapshot has {json} bytes");
}

#[tokio::test(start_paused = true)]
async fn kinds_of_errors_without_end_are_counted_under_a_bounded_number_of_names() {
    let number = AtomicU64::new(0);
    let client = users(&InMemory::new(), bare(), 10).await.error_kind(move |result: Result<&u32, &Error<Boom>>| {
        result.is_err().then(|| Cow::Owned(format!("kind-{}", number.fetch_add(1, Relaxed))))
    });
    holds_at_most(MIB, "a flood of distinct kinds of errors", || {
        for _ in 0..FLOOD / 10 {
            assert!(poll_once(&mut std::pin::pin!(client.call("users", "get", 1))).is_ready());
        }
    });
    let kinds = client.metrics("users").unwrap().total.error_kinds;
    assert_eq!(kinds.len(), 65);
    assert_eq!(kinds.values().sum::<u64>(), u64::from(FLOOD / 10));
}

#[tokio::test(start_paused = true)]
async fn services_that_do_not_exist_push_out_none_that_does() {
    let backend = InMemory::new();
    let client = users(&backend, bare(), 100).await;
    for n in 0..100 {
        let _ = poll_once(&mut std::pin::pin!(client.call(&format!("nobody-{n}"), "get", 0)));
    }
    holds_at_most(64 * KIB, "a flood of services that do not exist", || {
        for n in 0..FLOOD {
            let answer = poll_once(&mut std::pin::pin!(client.call(&format!("stranger-{n}"), "get", 0)));
            let std::task::Poll::Ready(Err(Error::Rejected(rejection))) = answer else { panic!("{answer:?}") };
            assert_eq!(rejection.reason(), Reason::UnknownService);
        }
    });
    assert!(client.services().len() <= 101, "{}", client.services().len());
    assert_eq!(client.call("users", "get", 2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn names_and_methods_that_isolation_and_registry_do_not_know_are_not_kept() {
    let manager = IsolationManager::<u32, u32, Error<Boom>>::new();
    let service = AnyMethod(service_fn(|n: u32| ready(Answer::Ok(n))));
    manager.register("users", service, Level::Full, FallbackConfig::none()).unwrap();
    let registry = Registry::new();
    let contract = Contract::new("users", Version::new(1, 0, 0)).unwrap();
    let _kept = registry.register(contract, ()).unwrap();
    manager.execute("users", "get", 1).await.unwrap();
    holds_at_most(64 * KIB, "a flood of unknown names at isolation and registry", || {
        for n in 0..FLOOD {
            let name = format!("stranger-{n}");
            if n < FLOOD / 4 {
                assert!(poll_once(&mut std::pin::pin!(manager.execute(&name, "get", n))).is_ready());
            }
            assert!(registry.get(&name).is_err() && manager.info(&name).is_err());
            assert!(registry.update_health(&name, HealthStatus::Unhealthy).is_err());
        }
    });
    holds_at_most(256 * KIB, "a flood of distinct methods at isolation", || {
        for n in 0..FLOOD / 10 {
            assert!(poll_once(&mut std::pin::pin!(manager.execute("users", format!("method-{n}"), n))).is_ready());
        }
    });
    assert_eq!((manager.len(), registry.len()), (1, 1));
    assert!(serde_json::to_string(&manager.stats()).unwrap().len() < 4_096);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_only_asked_for_take_no_room_in_discovery() {
    let backend = InMemory::new();
    let name = |n: u32| ServiceName::new(&format!("stranger-{n}")).unwrap();
    holds_at_most(MIB, "a flood of unknown names that discovery is asked for, or asked to watch", || {
        for n in 0..FLOOD / 4 {
            let (backend, name) = (backend.clone(), name(n));
            assert!(poll_once(&mut Box::pin(async move { drop(backend.instances(&name).await) })).is_ready());
        }
        for n in 0..FLOOD / 8 {
            let (backend, name) = (backend.clone(), name(n));
            assert!(poll_once(&mut Box::pin(async move { drop(backend.watch(&name).await) })).is_ready());
        }
    });
    assert_eq!((backend.services().len(), backend.snapshot().watchers), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn instances_that_come_and_go_or_run_out_leave_nothing() {
    let _quiet = quiet();
    let backend = InMemory::new();
    let service = ServiceName::new("users").unwrap();
    let instance = |n: u32| Instance::new("users", &format!("users-{n}"), "10.0.0.7", 80).unwrap();
    let run = |n: u32| {
        let backend = backend.clone();
        async move {
            let lease = backend.register(instance(n), Duration::from_secs(1)).await.unwrap();
            // Every third is told to go, the others run out.
            if n % 3 == 0 { backend.deregister(lease).await } else { Ok(()) }
        }
    };
    let mut watch = backend.watch(&service).await.unwrap();
    let mut most = 0;
    for round in 0..FLOOD / 8_000 {
        let info = measure(|| {
            for n in 0..1_000 {
                assert!(poll_once(&mut Box::pin(run(round * 1_000 + n))).is_ready());
            }
        });
        most = most.max(info.bytes_max);
        advance(Duration::from_secs(2)).await;
        assert_eq!(backend.instances(&service).await.unwrap().len(), 0);
    }
    println!("instances that come and go, a thousand at a time: at most {} KiB", most / KIB);
    assert!(most < 2 * MIB, "{most} bytes");
    while watch.try_next().is_some() {}
    drop(watch);
    assert_eq!((backend.services().len(), backend.snapshot().leases), (0, 0));
}

#[test]
fn a_watcher_that_reads_nothing_is_told_so_and_holds_no_more_than_the_log() {
    let service = ServiceName::new("users").unwrap();
    let publisher = Publisher::new(service, discovery::Config::new().events(1_024));
    let weights: Vec<Instance> = [1, 2]
        .map(|weight| Instance::new("users", "users-1", "10.0.0.7", 80).unwrap().with_weight(weight).unwrap())
        .into();
    let mut slow = publisher.watch();
    assert!(matches!(slow.try_next(), Some(Update::Snapshot(_))));
    holds_at_most(MIB, "a flood of updates to a watcher that reads none", || {
        (0..FLOOD as usize).for_each(|n| publisher.put(weights[n % 2].clone()));
    });
    let Some(Update::Snapshot(fresh)) = slow.try_next() else { panic!("it has fallen behind") };
    assert_eq!((fresh.missed, fresh.sequence), (u64::from(FLOOD), u64::from(FLOOD)));
    assert_eq!(fresh.instances.len(), 1);
    publisher.put(weights[0].clone());
    assert!(matches!(slow.try_next(), Some(Update::Event(_))), "then it goes on");
}

#[test]
fn ten_thousand_watchers_share_one_log() {
    let publisher = Publisher::new(ServiceName::new("users").unwrap(), discovery::Config::new());
    let mut watchers = Vec::with_capacity(10_000);
    holds_at_most(4 * MIB, "ten thousand watchers, and two thousand updates", || {
        watchers.extend((0..10_000).map(|_| publisher.watch()));
        watchers.iter_mut().for_each(|watch| assert!(watch.try_next().is_some()));
        for n in 0..2_000 {
            publisher.put(Instance::new("users", "users-1", "10.0.0.7", n + 1).unwrap());
        }
    });
    assert_eq!(publisher.watchers(), 10_000);
    while !watchers.is_empty() {
        drop(watchers.swap_remove(watchers.len() * 7 / 11));
    }
    assert_eq!(publisher.watchers(), 0);
}

#[tokio::test(start_paused = true)]
async fn answers_of_keys_without_end_are_kept_up_to_the_bound() {
    let strategy = Fallback::cached(fallback::CacheConfig::new().max_entries(1_000), |n: &u32| Some(*n));
    let layer = fallback::FallbackLayer::new(fallback::Handle::new("x"), strategy);
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    holds_at_most(MIB, "a flood of keys of a cache of a thousand answers", || {
        for n in 0..FLOOD {
            assert!(poll_once(&mut std::pin::pin!(service.call(n))).is_ready());
        }
    });
}
