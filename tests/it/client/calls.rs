//! Calls, by name and by handle, and what they leave behind.

use std::time::Duration;

use mainstay::{
    Error, Reason,
    client::Config,
    contract::{Instance, InstanceId, Invocation, Method},
    discovery::{Discovery, InMemory},
    fallback::Fallback,
    time::Tick,
};
use tower::ServiceExt;

use super::{Mode, World, builder, fleet, register, settle, tries, users};
use crate::support::{Boom, ms};

fn reason<T>(result: Result<T, Error<Boom>>) -> Option<Reason> {
    match result {
        Err(Error::Rejected(rejection)) => Some(rejection.reason()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_reaches_an_instance_with_its_method() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, Config::new());
    assert_eq!(client.call("users", "get_user", 7).await.unwrap(), "7 from a");
    let put = Method::new("put_user").unwrap();
    assert_eq!(client.call("users", &put, 8).await.unwrap(), "8 from a");
    assert_eq!(world.methods("a"), ["get_user", "put_user"]);
    assert_eq!(world.made("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_none_are_rejections_and_an_empty_service_has_no_instance() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, Config::new());
    assert_eq!(reason(client.call("", "get", 1).await), Some(Reason::UnknownService));
    assert_eq!(reason(client.call("us\ners", "get", 1).await), Some(Reason::UnknownService));
    assert_eq!(reason(client.call("users", "", 1).await), Some(Reason::UnknownMethod));
    assert_eq!(reason(client.call("orders", "get", 1).await), Some(Reason::NoInstance));
    assert_eq!(client.service("").unwrap_err().to_string(), "service = \"\": must not be empty");
    let error = client.call_async("users", "g\0", 1).unwrap_err();
    assert_eq!(error.to_string(), "method = \"g\\0\": must not hold control characters");
    assert_eq!(world.all_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_knows_so_many_services_at_most() {
    let (discovery, world) = fleet(&["a"]).await;
    let client: super::Users = builder(&discovery, &world).max_services(2).build();
    for (service, told) in [("users", None), ("b", Some(Reason::NoInstance)), ("c", Some(Reason::UnknownService))] {
        assert_eq!(reason(client.call(service, "get", 1).await), told, "{service}");
    }
    assert_eq!(client.services(), ["b", "users"]);
    let told = client.service("d").unwrap_err().to_string();
    assert_eq!(told, "service = \"d\": the client knows 2 services already");
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a");
}

#[tokio::test(start_paused = true)]
async fn the_first_calls_wait_for_the_first_instances_and_no_longer_than_they_may() {
    let discovery = InMemory::new();
    let world = World::default();
    // Nobody is there: known at once, and no reason to wait.
    let client = users(&discovery, &world, Config::new());
    let start = Tick::now();
    assert_eq!(reason(client.call("users", "get", 1).await), Some(Reason::NoInstance));
    assert_eq!(Tick::now().since(start), Duration::ZERO);
    register(&discovery, "users", "a").await;
    settle().await;
    assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from a");

    // A transport that takes its time.
    let slow = tower::service_fn(move |instance: Instance| {
        let wire = tower::Service::call(&mut world.clone(), instance);
        async move {
            tokio::time::sleep(ms(300)).await;
            wire.await
        }
    });
    for (limit, told) in [(ms(1_000), None), (ms(100), Some(Reason::NoInstance))] {
        let client = mainstay::client::Client::builder(discovery.clone(), slow.clone())
            .config(Config::new().first_wait(limit))
            .build::<u32, String, Error<Boom>>();
        let start = Tick::now();
        assert_eq!(reason(client.call("users", "get", 1).await), told);
        assert_eq!(Tick::now().since(start), limit.min(ms(300)));
        let start = Tick::now();
        assert_eq!(reason(client.call("users", "get", 1).await), told);
        assert_eq!(Tick::now().since(start), ms(0), "only the first calls wait");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_by_itself_gives_its_answer_and_what_became_of_it() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Takes(ms(40)));
    let client = users(&discovery, &world, Config::new());
    let pending = client.call_async("users", "get", 7).unwrap();
    settle().await;
    let meanwhile = pending.metadata();
    assert_eq!((meanwhile.attempts, meanwhile.instance.is_none(), pending.is_finished()), (1, true, false));
    let answer = pending.await.unwrap();
    assert_eq!(answer.response, "7 from a");
    let told = answer.metadata;
    assert_eq!((told.service.as_str(), told.method.as_str()), ("users", "get"));
    assert_eq!(told.instance.as_ref().map(InstanceId::as_str), Some("a"));
    assert_eq!((told.attempts, told.fallback, told.latency), (1, false, ms(40)));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["latency_ms"], 40.0);
    assert_eq!(json["tried"], serde_json::json!(["a"]));
}

#[tokio::test(start_paused = true)]
async fn a_call_by_itself_can_be_ended_left_alone_and_dropped() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Hangs);
    let client = users(&discovery, &world, Config::new());

    let pending = client.call_async("users", "get", 1).unwrap();
    settle().await;
    assert_eq!(world.running(), 1);
    pending.abort();
    assert_eq!(reason(pending.await), Some(Reason::Aborted));
    assert_eq!(world.running(), 0);

    drop(client.call_async("users", "get", 2).unwrap());
    let dropped = client.call_async("users", "get", 3).unwrap();
    settle().await;
    assert_eq!(world.running(), 1);
    drop(dropped);
    settle().await;
    assert_eq!(world.running(), 0);

    world.set("a", Mode::Takes(ms(10)));
    let detached = client.call_async("users", "get", 4).unwrap();
    let trace = detached.trace();
    detached.detach();
    tokio::time::sleep(ms(20)).await;
    assert_eq!(trace.metadata().instance.as_ref().map(InstanceId::as_str), Some("a"));
    assert_eq!(trace.metadata().latency, ms(10));
    // The one that was dropped before its task ran was never counted.
    let metrics = client.metrics("users").unwrap().total;
    assert_eq!((metrics.successes, metrics.cancelled, metrics.in_flight), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_goes_on_to_who_awaits() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Panics);
    let client = users(&discovery, &world, tries(1));
    let pending = client.call_async("users", "get", 1).unwrap();
    let awaited = tokio::spawn(pending).await;
    assert!(awaited.unwrap_err().is_panic());
    let metrics = client.metrics("users").unwrap().total;
    assert_eq!((metrics.errors, metrics.in_flight, metrics.error_kinds["panic"]), (1, 0, 1));
    assert_eq!(world.running(), 0);
    world.set("a", Mode::Well);
    assert!(client.call("users", "get", 2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_a_tower_service_and_switches_instances_by_hand() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    let client = users(&discovery, &world, Config::new());
    let caller = client.service("users").unwrap();
    settle().await;
    let answer = caller.clone().oneshot(Invocation::of("get", 5).unwrap()).await.unwrap();
    assert!(answer.starts_with("5 from"));

    let a = "a".parse().unwrap();
    assert!(caller.eject(&a) && !caller.eject(&a));
    for n in 0..20 {
        assert_eq!(client.call("users", "get", n).await.unwrap(), format!("{n} from b"));
    }
    let health = caller.health();
    assert_eq!((health.instances, health.callable), (2, 1));
    assert_eq!(health.message.as_deref(), Some("1 of its 2 instances are not called"));
    assert!(caller.readmit(&a) && !caller.readmit(&a));
    assert_eq!(caller.health().status, mainstay::contract::HealthStatus::Healthy);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_answers_and_says_so() {
    let (discovery, world) = fleet(&["a"]).await;
    let fallback = Fallback::request(
        |call: &mainstay::client::Call<u32>| (call.service().as_str() == "users").then(|| *call.request()),
        |id: Option<u32>, _: Result<&String, &Error<Boom>>| async move {
            id.map(|id| format!("{id} from memory")).ok_or(Error::Inner(Boom))
        },
    );
    let client: super::Users = builder(&discovery, &world).config(tries(2)).fallback(fallback).build();
    let caller = client.service("users").unwrap();
    let get = Method::new("get").unwrap();
    let (answer, told) = caller.call_traced(get.clone(), 7).await;
    assert_eq!((answer.unwrap().as_str(), told.fallback, told.attempts), ("7 from a", false, 1));

    world.set("a", Mode::Fails);
    let (answer, told) = caller.call_traced(get.clone(), 7).await;
    assert_eq!((answer.unwrap().as_str(), told.fallback, told.attempts), ("7 from memory", true, 2));
    assert_eq!(told.instance, None);

    // Where the fallback fails too, the caller gets the first error.
    register(&discovery, "orders", "a").await;
    let orders = client.service("orders").unwrap();
    let (answer, told) = orders.call_traced(get, 7).await;
    assert_eq!((answer, told.fallback), (Err(Error::Inner(Boom)), false));
    let metrics = client.metrics("users").unwrap().total;
    assert_eq!((metrics.successes, metrics.fallbacks, metrics.errors), (2, 1, 0));
    assert_eq!(client.metrics("orders").unwrap().total.errors, 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_at_any_poll_gives_all_back() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Takes(ms(5)));
    world.set("b", Mode::Takes(ms(5)));
    let client = users(&discovery, &world, Config::new());
    let mut done = 0;
    for polls in 0..8 {
        let mut call = tokio_test::task::spawn(client.call("users", "get", polls));
        for _ in 0..polls {
            if call.poll().is_ready() {
                done += 1;
                break;
            }
            settle().await;
            if polls > 3 {
                tokio::time::advance(ms(5)).await;
            }
        }
        drop(call);
        settle().await;
        assert_eq!(world.running(), 0, "after {polls} polls");
        let snapshot = client.snapshot("users").unwrap_or_else(|| panic!("{polls}"));
        assert_eq!(snapshot.metrics.total.in_flight, 0);
        assert!(snapshot.balance.members.iter().all(|member| member.pending == 0));
        assert_eq!(snapshot.stack.bulkhead.map(|bulkhead| bulkhead.running), Some(0));
    }
    assert!(done > 0, "some came to their end");
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_is_json_with_all_that_is_known() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, Config::new());
    assert!(client.snapshot("users").is_none() && client.health("users").is_none());
    client.call("users", "get", 1).await.unwrap();
    let json = serde_json::to_value(client.snapshot("users").unwrap()).unwrap();
    assert_eq!(json["health"]["status"], "healthy");
    assert_eq!(json["metrics"]["successes"], 1);
    assert_eq!(json["metrics"]["methods"]["get"]["successes"], 1);
    assert_eq!(json["stack"]["breaker"]["state"], "closed");
    assert_eq!(json["balance"]["members"][0]["breaker"]["state"], "closed");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_drains_gets_no_new_calls_and_finishes_what_it_has() {
    let (discovery, world) = fleet(&["a"]).await;
    let lease = register(&discovery, "users", "b").await;
    world.set("b", Mode::Takes(ms(100)));
    let client = users(&discovery, &world, Config::new());
    let caller = client.service("users").unwrap();
    settle().await;
    caller.eject(&"a".parse().unwrap());
    let running = client.call_async("users", "get", 1).unwrap();
    settle().await;
    caller.readmit(&"a".parse().unwrap());
    let draining = Instance::new("users", "b", "b", 80).unwrap().with_draining(true);
    discovery.update(&lease, draining).await.unwrap();
    settle().await;
    for n in 0..20 {
        assert_eq!(client.call("users", "get", n).await.unwrap(), format!("{n} from a"));
    }
    discovery.deregister(lease).await.unwrap();
    settle().await;
    assert_eq!(running.await.unwrap().response, "1 from b");
}
