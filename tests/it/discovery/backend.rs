//! The backend in memory: leases, and what it keeps.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lease_runs_out_at_exactly_its_end() {
    let step = Duration::from_nanos(1);
    for ttl in [ms(1), ms(30_000), Duration::from_nanos(1_234_567)] {
        let backend = InMemory::new();
        let lease = register(&backend, "a", ttl);
        advance(ttl - step).await;
        assert_eq!(known(&backend), "a");
        now(backend.heartbeat(&lease)).unwrap();
        advance(ttl - step).await;
        assert_eq!(known(&backend), "a");
        assert!(now(backend.register(user("a"), ttl)).is_err(), "it runs for another nanosecond");
        advance(step).await;
        assert_eq!(known(&backend), "");
        assert!(matches!(now(backend.heartbeat(&lease)), Err(DiscoveryError::LeaseLost { .. })));
        register(&backend, "a", ttl);
        assert!(now(backend.heartbeat(&lease)).is_err(), "of the one before");
        assert_eq!((known(&backend).as_str(), backend.snapshot().expired), ("a", 1));
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_leases_each_runs_out_on_its_own_time() {
    let backend = InMemory::new();
    let mut watch = watch(&backend);
    for (id, ttl) in [("c", 30), ("a", 10), ("b", 20), ("d", 20)] {
        register(&backend, id, ms(ttl));
    }
    assert_eq!(news(&mut watch), "[a b c d]");
    for (after, expected) in [(9, ""), (1, "-a expired"), (9, ""), (1, "-b expired, -d expired"), (10, "-c expired")] {
        advance(ms(after)).await;
        assert_eq!(news(&mut watch), expected);
    }
    register(&backend, "a", ms(10));
    register(&backend, "b", ms(10));
    advance(ms(86_400_000)).await;
    assert_eq!(news(&mut watch), "+a, +b, -a expired, -b expired", "however late somebody looks");
}

#[tokio::test(start_paused = true)]
async fn an_update_is_told_and_does_not_renew_the_lease() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(10));
    let mut watch = watch(&backend);
    assert_eq!(news(&mut watch), "[a]");
    advance(ms(9)).await;
    now(backend.update(&lease, user("a").with_draining(true))).unwrap();
    now(backend.update(&lease, user("a").with_weight(0).unwrap())).unwrap();
    now(backend.update(&lease, user("a").with_weight(0).unwrap())).unwrap();
    now(backend.update(&lease, user("a").with_health(Health::degraded("slow")))).unwrap();
    assert_eq!(news(&mut watch), "~a!, ~a!, ~a:degraded");
    advance(ms(1)).await;
    assert_eq!(news(&mut watch), "-a expired");
    assert!(now(backend.update(&lease, user("a"))).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_made_when_something_has_changed_and_not_for_a_heartbeat() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(10));
    let ask = || now(backend.instances(&users())).unwrap();
    let first = ask();
    advance(ms(5)).await;
    now(backend.heartbeat(&lease)).unwrap();
    now(backend.update(&lease, user("a"))).unwrap();
    assert!(Arc::ptr_eq(&first, &ask()));
    register(&backend, "b", ms(10));
    let second = ask();
    assert_eq!((first.len(), second.len(), second.sequence), (1, 2, first.sequence + 1));
    assert!(Arc::ptr_eq(first.get(&id("a")).unwrap(), second.get(&id("a")).unwrap()), "instances are shared");
    assert!(first.get(&id("b")).is_none() && !first.is_empty());
    assert_eq!((&*second).into_iter().count(), 2);
}

#[test]
fn it_needs_no_runtime() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(60_000));
    let mut watch = watch(&backend);
    assert_eq!(news(&mut watch), "[a]");
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    assert!(watch.poll_next(&mut cx).is_pending());
    now(backend.deregister(lease)).unwrap();
    assert_eq!(woken.times(), 1);
    assert_eq!(news(&mut watch), "-a deregistered");
    assert_eq!(backend.services(), [] as [ServiceName; 0]);
    let short = register(&backend, "b", ms(1));
    // By the real clock, and by nothing else.
    while now(backend.heartbeat(&Lease::new(users(), id("b"), ms(1), 0))).is_err() && known(&backend) == "b" {
        std::hint::spin_loop();
    }
    assert!(now(backend.heartbeat(&short)).is_err());
    drop(backend);
}

#[tokio::test(start_paused = true)]
async fn it_says_what_there_is_and_what_happened() {
    let backend = InMemory::with(Config::new().events(2));
    let lease = register(&backend, "a", ms(10));
    let mut watch = watch(&backend);
    assert_eq!(news(&mut watch), "[a]");
    let orders = Instance::new("orders", "o", "10.0.0.1", 80).unwrap();
    now(backend.register(orders, ms(100))).unwrap();
    for weight in 1..=5 {
        now(backend.update(&lease, user("a").with_weight(weight).unwrap())).unwrap();
    }
    assert_eq!(news(&mut watch), "[a] missed 5");
    advance(ms(10)).await;
    let idle = now(backend.watch(&name("nobody"))).unwrap();
    let json = serde_json::to_value(backend.snapshot()).unwrap();
    let expected = serde_json::json!({
        "kind": "discovery", "services": 3, "instances": 1, "leases": 1, "watchers": 2,
        "events": 8, "expired": 1, "lagged": 1, "missed": 5,
    });
    assert_eq!(json, expected);
    assert_eq!(backend.services(), [name("orders")]);
    drop((watch, idle));
    assert_eq!((backend.snapshot().services, backend.snapshot().watchers), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_needs_take_no_room() {
    let backend = InMemory::new();
    let kept = register(&backend, "a", ms(86_400_000));
    let size =
        || format!("{backend:?}").split("services: ").nth(1).unwrap().split(',').next().unwrap().parse::<usize>();
    for n in 0..10_000 {
        assert!(now(backend.instances(&name(&format!("asked-{n}")))).unwrap().is_empty());
        drop(now(backend.watch(&name(&format!("watched-{n}")))).unwrap());
        let brief = Instance::new(&format!("brief-{n}"), "x", "10.0.0.1", 80).unwrap();
        now(backend.register(brief, ms(1))).unwrap();
        advance(ms(1)).await;
        assert!(size().unwrap() <= 200, "after {n}: {:?}", size());
    }
    now(backend.heartbeat(&kept)).unwrap();
    let watched = now(backend.watch(&name("watched"))).unwrap();
    (0..500).for_each(|n| drop(now(backend.watch(&name(&format!("{n}")))).unwrap()));
    now(backend.register(Instance::new("watched", "w", "10.0.0.1", 80).unwrap(), ms(5))).unwrap();
    let mut watched = watched;
    assert_eq!(news(&mut watched), "[w]", "one that is watched stays the one");
}

#[test]
fn ten_thousand_registrations_are_not_quadratic() {
    let backend = InMemory::new();
    let mut watch = watch(&backend);
    let leases: Vec<Lease> = (0..10_000).map(|n| register(&backend, &format!("i{n}"), ms(600_000))).collect();
    assert_eq!(now(backend.instances(&users())).unwrap().len(), 10_000);
    let Some(Update::Snapshot(all)) = watch.try_next() else { panic!("a snapshot first") };
    assert_eq!((all.len(), all.sequence, all.missed), (10_000, 10_000, 0));
    leases.iter().for_each(|lease| now(backend.heartbeat(lease)).unwrap());
    for lease in leases {
        now(backend.deregister(lease)).unwrap();
    }
    let Some(Update::Snapshot(none)) = watch.try_next() else { panic!("it is too far behind") };
    assert_eq!((none.len(), none.missed), (0, 10_000));
}

#[tokio::test(start_paused = true)]
async fn behind_an_arc_it_is_a_backend_too() {
    let backend = Arc::new(InMemory::new());
    let lease = register(&backend, "a", ms(10));
    now(backend.heartbeat(&lease)).unwrap();
    let outside: &Arc<InMemory> = &backend;
    assert_eq!(known(outside), "a");
    assert_eq!(news(&mut watch(outside)), "[a]");
    now(Discovery::update(outside, &lease, user("a").with_draining(true))).unwrap();
    assert_eq!(known(outside), "a!");
    assert!(Discovery::deregister_now(outside, lease.clone()).is_ok());
    assert!(now(Discovery::heartbeat(outside, &lease)).is_err());
    assert!(now(Discovery::deregister(outside, lease)).is_err());
}

#[tokio::test(start_paused = true)]
async fn how_long_an_override_waits_does_not_hang_on_who_looks() {
    for looks in [true, false] {
        let backend = InMemory::with(Config::new().overrides_for(ms(5_000)));
        register(&backend, "a", ms(1_000));
        backend.override_health(&users(), &id("a"), HealthStatus::Degraded).unwrap();
        tokio::time::advance(ms(1_000)).await;
        if looks {
            assert_eq!(known(&backend), "");
        }
        tokio::time::advance(ms(5_000)).await;
        register(&backend, "a", ms(1_000));
        assert_eq!(known(&backend), "a", "somebody looked: {looks}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_override_counts_after_one_that_was_taken_back_for_the_time_being() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(1_000));
    backend.override_health(&users(), &id("a"), HealthStatus::Degraded).unwrap();
    assert!(backend.remove_override(&users(), &id("a"), Some(HealthStatus::Unhealthy.into())));
    assert_eq!(known(&backend), "a:unhealthy");
    assert!(!backend.remove_override(&users(), &id("a"), None), "there is none");
    assert_eq!(known(&backend), "a:unhealthy");
    backend.override_health(&users(), &id("a"), HealthStatus::Degraded).unwrap();
    assert_eq!(known(&backend), "a:degraded", "the instance has never said that it is down");
    assert!(backend.remove_override(&users(), &id("a"), None));
    assert_eq!(known(&backend), "a");
    // What was given for the time being ends with the next word of the instance, or with the instance.
    for back in [true, false] {
        backend.override_health(&users(), &id("a"), HealthStatus::Degraded).unwrap();
        backend.remove_override(&users(), &id("a"), Some(HealthStatus::Unhealthy.into()));
        if back {
            now(backend.update(&lease, user("a"))).unwrap();
        } else {
            now(backend.deregister(lease.clone())).unwrap();
            register(&backend, "a", ms(1_000));
        }
        assert_eq!(known(&backend), "a");
    }
}
