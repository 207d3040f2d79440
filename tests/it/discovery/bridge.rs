//! What Tower reads: streams of updates, and of services that come and go.

use std::{convert::Infallible, future::ready, pin::Pin};

use futures_core::Stream;
use mainstay::discovery::Changes;
use tower::{
    BoxError, Service, ServiceExt,
    balance::p2c::Balance,
    discover::Change as TowerChange,
    load::{CompleteOnResponse, PendingRequestsDiscover},
    service_fn,
};

use super::*;

type Text = Result<String, Infallible>;

fn made(instance: &Instance) -> String {
    format!("{}@{}", instance.id(), instance.authority())
}

/// All the changes there are now: what is inserted and removed.
fn changes<F: Fn(Arc<Instance>) -> String + Unpin>(changes: &mut Changes<F>) -> String {
    let mut told = Vec::new();
    while let Poll::Ready(Some(change)) = Pin::new(&mut *changes).poll_next(&mut Context::from_waker(Waker::noop())) {
        told.push(match change.unwrap_or_else(|never| match never {}) {
            TowerChange::Insert(_, service) => format!("+{service}"),
            TowerChange::Remove(id) => format!("-{id}"),
        });
    }
    told.join(", ")
}

#[tokio::test(start_paused = true)]
async fn instances_that_take_no_calls_are_none_for_tower() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(1_000));
    let mut stream = Changes::new(watch(&backend), |instance: Arc<Instance>| made(&instance));
    assert_eq!(changes(&mut stream), "+a@10.0.0.1:80");
    let update = |instance: Instance| now(backend.update(&lease, instance)).unwrap();
    for (instance, expected) in [
        (user("a").with_health(Health::degraded("slow")), ""),
        (user("a").with_weight(1).unwrap(), ""),
        (user("a").with_draining(true), "-a"),
        (user("a").with_weight(0).unwrap(), ""),
        (user("a"), "+a@10.0.0.1:80"),
        (user("a").with_health(HealthStatus::Unhealthy), "-a"),
        (Instance::new("users", "a", "10.0.0.2", 81).unwrap(), "+a@10.0.0.2:81"),
        (Instance::new("users", "a", "10.0.0.3", 81).unwrap(), "+a@10.0.0.3:81"),
        (Instance::new("users", "a", "10.0.0.3", 81).unwrap().with_metadata("zone", "b").unwrap(), "+a@10.0.0.3:81"),
    ] {
        update(instance);
        assert_eq!(changes(&mut stream), expected);
    }
    advance(ms(1_000)).await;
    assert_eq!(changes(&mut stream), "-a");
    assert!(format!("{stream:?}").contains("users"));
    drop(backend);
    let end = Pin::new(&mut stream).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(end, Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_snapshot_after_lag_is_told_as_its_difference() {
    let backend = InMemory::with(Config::new().events(2));
    let leases: Vec<Lease> = ["a", "b", "c"].iter().map(|id| register(&backend, id, ms(1_000))).collect();
    let mut stream = Changes::new(watch(&backend), |instance: Arc<Instance>| instance.id().to_string());
    assert_eq!(changes(&mut stream), "+a, +b, +c");
    for lease in leases.into_iter().take(2) {
        now(backend.deregister(lease)).unwrap();
    }
    register(&backend, "d", ms(1_000));
    register(&backend, "a", ms(1_000));
    assert_eq!(changes(&mut stream), "-b, +d");
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_a_stream_of_its_updates() {
    let backend = InMemory::new();
    let mut watch = watch(&backend);
    register(&backend, "a", ms(10));
    let mut task = tokio_test::task::spawn(&mut watch);
    assert!(matches!(task.poll_next(), Poll::Ready(Some(Update::Snapshot(_)))));
    assert!(task.poll_next().is_pending());
    register(&backend, "b", ms(10));
    assert!(task.is_woken());
    assert!(matches!(task.poll_next(), Poll::Ready(Some(Update::Event(_)))));
    drop(backend);
    assert!(matches!(task.poll_next(), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn towers_own_balancer_calls_those_that_are_there() {
    let backend = InMemory::new();
    let connect = |instance: Arc<Instance>| service_fn(move |_: ()| ready(Text::Ok(instance.id().to_string())));
    let found = PendingRequestsDiscover::new(Changes::new(watch(&backend), connect), CompleteOnResponse::default());
    let mut balance = Balance::new(found);
    let mut waiting = tokio_test::task::spawn(());
    let mut is_ready = |balance: &mut Balance<_, ()>| {
        waiting.enter(|cx, _| Service::poll_ready(balance, cx).map_err(BoxError::from)).is_ready()
    };
    assert!(!is_ready(&mut balance), "nobody is there");
    let leases: Vec<Lease> = ["a", "b", "c"].iter().map(|id| register(&backend, id, ms(100))).collect();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        *counts.entry(balance.ready().await.unwrap().call(()).await.unwrap()).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    // One is about to go, one is deregistered: no more calls for them.
    now(backend.update(&leases[0], user("a").with_draining(true))).unwrap();
    now(backend.deregister(leases[1].clone())).unwrap();
    for _ in 0..100 {
        assert_eq!(balance.ready().await.unwrap().call(()).await.unwrap(), "c");
    }
    advance(ms(100)).await;
    assert!(!is_ready(&mut balance), "the last lease ran out");
    register(&backend, "d", ms(100));
    assert!(is_ready(&mut balance));
    assert_eq!(balance.call(()).await.unwrap(), "d");
}
