//! What a client does with its settings, its hooks and its instances, seen from its callers.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use mainstay::{
    Classify, Error, Outcome,
    balance::{self, Candidates, Outlier, Pick, Picker, RoundRobin},
    client::{Call, Client, Config, PickBy},
    contract::{HealthStatus, Instance, InstanceId, Method},
    discovery::{self, Discovery, InMemory, Publisher},
    fallback::Fallback,
    observe::Event,
    retry::{self, Backoff, Jitter, Replay},
    stack,
    time::Tick,
};
use tokio_test::task;

use crate::{
    client::{Failure, Mode, Users, World, builder, fleet, name, register, settle, tries, users},
    discovery::Published,
    support::*,
};

async fn weighted(discovery: &InMemory, id: &str, weight: u32) {
    let instance = Instance::new("users", id, id, 80).unwrap().with_weight(weight).unwrap();
    let _ = discovery.register(instance, Duration::from_secs(3_600)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_picker_of_the_settings_picks() {
    let (discovery, world) = fleet(&[]).await;
    for (id, weight) in [("a", 1), ("b", 3)] {
        weighted(&discovery, id, weight).await;
    }
    for (pick_by, share) in [(PickBy::RoundRobin, 44), (PickBy::Weighted, 67)] {
        let client = users(&discovery, &world, tries(1).pick_by(pick_by));
        client.call("users", "get", 0).await.unwrap();
        settle().await;
        let before = world.calls("b");
        // As many as the golden ratio, by which weights are spread, divides evenly.
        for n in 0..89 {
            client.call("users", "get", n).await.unwrap();
        }
        assert!((world.calls("b") - before).abs_diff(share) <= 1, "{pick_by:?}: {}", world.calls("b") - before);
    }
}

/// Failures ask for seven seconds.
#[derive(Debug)]
struct Asks;

impl Classify<String, Failure> for Asks {
    fn classify(&self, result: Result<&String, &Failure>) -> Outcome {
        // An answer that begins with a "9" is a failure, whoever gave it.
        if result.is_ok_and(|text| !text.starts_with('9')) { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, result: Result<&String, &Failure>) -> Option<Duration> {
        result.is_err().then_some(ms(7_000))
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_is_asked_how_long_to_leave_a_service_alone() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let mut policies = stack::Config::new();
    let circuit = consecutive(1).open_for(ms(1_000)).open_jitter(0.0).honor_retry_after(ms(60_000));
    policies.breaker = Some(circuit);
    let client: Users = builder(&discovery, &world).config(Config::new().stack(policies)).classify(Asks).build();
    assert_eq!(client.call("users", "get", 1).await, Err(Error::Inner(Boom)));
    let breaker = client.snapshot("users").unwrap().stack.breaker.unwrap();
    assert_eq!(breaker.open_remaining, Some(ms(7_000)));
    assert_eq!(client.health("users").unwrap().circuit, Some(mainstay::observe::CircuitState::Open));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_fallback_is_a_good_one_whatever_the_classifier_would_say() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let guest = Fallback::value("900 guests".to_owned());
    let client: Users = builder(&discovery, &world).config(tries(1)).classify(Asks).fallback(guest).build();
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "900 guests");
    world.set("a", Mode::Well);
    assert_eq!(client.call("users", "get", 9).await.unwrap(), "900 guests", "in place of a bad answer too");
    let total = client.metrics("users").unwrap().total;
    assert_eq!((total.successes, total.errors, total.fallbacks), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_runs_and_what_fell_back_is_summed_over_all_methods() {
    let (discovery, world) = fleet(&["a"]).await;
    let guest = Fallback::value("guest".to_owned());
    let client: Users = builder(&discovery, &world).config(tries(1).max_methods(2)).fallback(guest).build();
    world.set("a", Mode::Fails);
    for method in ["get", "get", "put"] {
        client.call("users", method, 1).await.unwrap();
    }
    world.set("a", Mode::Hangs);
    let mut running: Vec<_> =
        ["get", "put", "put"].map(|method| task::spawn(client.call("users", method, 2))).into_iter().collect();
    running.iter_mut().for_each(|call| assert!(call.poll().is_pending()));
    let metrics = client.metrics("users").unwrap();
    let told = |of: &mainstay::client::Metrics| (of.requests, of.in_flight, of.fallbacks);
    assert_eq!(told(&metrics.methods["get"]), (2, 1, 2));
    assert_eq!(told(&metrics.methods["put"]), (1, 2, 1));
    assert_eq!(told(&metrics.total), (3, 3, 3));
    assert_eq!(metrics.methods.len(), 2, "no others were called");
    // Others than those that are told apart, while one of them runs and one is over.
    let mut other = task::spawn(client.call("users", "third", 3));
    assert!(other.poll().is_pending());
    world.set("a", Mode::Well);
    client.call("users", "fourth", 3).await.unwrap();
    let metrics = client.metrics("users").unwrap();
    let others: Vec<_> = metrics.methods.iter().filter(|(name, _)| !["get", "put"].contains(&name.as_str())).collect();
    assert_eq!(others.len(), 1);
    assert_eq!(told(others[0].1), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_by_itself_says_when_it_has_ended() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Takes(ms(50)));
    let client = users(&discovery, &world, tries(1));
    let call = client.call_async("users", "get", 7).unwrap();
    settle().await;
    assert!(!call.is_finished());
    tokio::time::sleep(ms(51)).await;
    settle().await;
    assert!(call.is_finished());
    assert_eq!(call.await.unwrap().response, "7 from a");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_comes_later_hears_of_one_service() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let quiet = balance::Config::new().outlier(Outlier::off());
    let client = users(&discovery, &world, tries(2).balance(quiet));
    let caller = client.service("users").unwrap();
    caller.observe(move |event: &Event<'_>| log.lock().unwrap().push(format!("{} {event:?}", event.policy())));
    let _ = caller.call_method("get", 1).await;
    let _ = client.call("orders", "get", 1).await;
    let heard = heard.lock().unwrap();
    assert!(heard.iter().any(|told| told.starts_with("users Retry")), "{heard:?}");
    assert!(heard.iter().all(|told| told.starts_with("users ")), "{heard:?}");
}

/// A call is sent again, and has fifty milliseconds.
#[derive(Debug, Clone)]
struct Due;

impl Replay<u32> for Due {
    type Kept = u32;

    fn keep(&self, request: &mut u32) -> Option<u32> {
        Some(*request)
    }

    fn again(&self, kept: &u32, _: u32) -> Option<u32> {
        Some(*kept)
    }

    fn deadline(&self, request: &u32) -> Option<Tick> {
        (*request > 5).then(|| Tick::now() + ms(50))
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_the_request_has_no_time_for() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Fails);
    let mut policies = stack::Config::new();
    let backoff = Backoff::fixed(ms(100));
    policies.retry = Some(retry::Config::new().attempts(2).backoff(backoff).jitter(Jitter::None).no_budget());
    let quiet = balance::Config::new().outlier(Outlier::off());
    let client: Users =
        builder(&discovery, &world).config(Config::new().stack(policies).balance(quiet)).replay(Due).build();
    for (request, attempts) in [(1, 2), (7, 1)] {
        let before = world.all_calls();
        assert_eq!(client.call("users", "get", request).await, Err(Error::Inner(Boom)));
        assert_eq!(world.all_calls() - before, attempts, "{request}");
    }
}

/// A client of one instance, whose backend answers one watch and no more.
fn published() -> (Publisher, Users) {
    let publisher = Publisher::new(name("users"), discovery::Config::new());
    publisher.publish([Instance::new("users", "a", "a", 80).unwrap()]);
    let client = Client::builder(Published::new(&publisher).answers(1), World::default()).build();
    (publisher, client)
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_makes_its_services_stale_until_it_answers() {
    let (publisher, client) = published();
    client.call("users", "get", 1).await.unwrap();
    settle().await;
    publisher.fail("the registry is down");
    settle().await;
    tokio::time::sleep(ms(3_000)).await;
    let health = client.health("users").unwrap();
    assert_eq!((health.status, health.stale_for), (HealthStatus::Degraded, Some(ms(3_000))));
    assert!(health.message.is_some_and(|why| why.contains("the registry is down")));
    assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from a");
    publisher.publish([Instance::new("users", "a", "a", 80).unwrap()]);
    settle().await;
    let health = client.health("users").unwrap();
    assert_eq!((health.status, health.stale_for), (HealthStatus::Healthy, None));
}

#[test]
fn who_knows_instances_does_not_wait_for_news_of_them_on_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (_publisher, client) = published();
    let first = runtime();
    first.block_on(async { client.call("users", "get", 1).await.unwrap() });
    drop(first);
    runtime().block_on(async {
        let begun = Tick::now();
        // The registry does not answer any more.
        assert_eq!(client.call("users", "get", 2).await.unwrap(), "2 from a");
        assert_eq!(Tick::now().since(begun), Duration::ZERO);
    });
}

/// A picker whose first clone asks its client for the service for which it is cloned.
#[derive(Debug)]
struct Nosy(Arc<OnceLock<Users>>, Arc<AtomicBool>);

impl Clone for Nosy {
    fn clone(&self) -> Self {
        if let Some(client) = self.0.get().filter(|_| !self.1.swap(true, SeqCst)) {
            client.service("users").unwrap();
        }
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl Picker for Nosy {
    type Plan = ();

    fn plan(&self, _: &[Arc<Instance>]) {}
}

impl Pick<Call<u32>> for Nosy {
    fn pick(&self, request: &Call<u32>, (): &(), candidates: &impl Candidates) -> Option<usize> {
        RoundRobin::new().pick(request, &(), candidates)
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_service_there_is_room_for_may_be_met_twice_at_once() {
    let (discovery, world) = fleet(&["a"]).await;
    let place = Arc::new(OnceLock::new());
    let asked = Arc::new(AtomicBool::new(false));
    let picker = Nosy(Arc::clone(&place), Arc::clone(&asked));
    let client: Users = builder(&discovery, &world).picker(picker).max_services(1).build();
    place.set(client.clone()).unwrap();
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a");
    assert!(asked.load(SeqCst), "the picker was cloned while the service was met");
    assert_eq!(client.services(), ["users"]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_for_some_failures_learns_from_good_answers_and_goes_on_to_the_next() {
    let (discovery, world) = fleet(&["a"]).await;
    let own = |error: &Failure| matches!(error, Error::Inner(_));
    let never = Fallback::run(|_: &Failure| std::future::ready(Err::<String, _>(Error::Inner(Boom))));
    let chain = never.or(Fallback::value("guest".to_owned())).when(own);
    let client: Users = builder(&discovery, &world).config(tries(1)).fallback(chain).build();
    world.set("a", Mode::Fails);
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "guest", "the second of two");
    assert!(client.call("orders", "get", 1).await.is_err(), "no instance is none of its own");

    let store = Arc::new(mainstay::fallback::LastGood::new(mainstay::fallback::CacheConfig::new()));
    let kept = Fallback::stored(Arc::clone(&store), |call: &Call<u32>| Some(*call.request()));
    let client: Users = builder(&discovery, &world).config(tries(1)).fallback(kept).build();
    world.set("a", Mode::Well);
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a");
    world.set("a", Mode::Fails);
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a", "the last good answer");
    assert_eq!(client.call("users", "get", 2).await, Err(Error::Inner(Boom)));
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_ejected_and_readmitted_by_hand_through_its_service() {
    let (discovery, world) = fleet(&["a"]).await;
    register(&discovery, "users", "b").await;
    let caller = users(&discovery, &world, tries(1)).service("users").unwrap();
    let get = Method::new("get").unwrap();
    let call = |n| caller.clone().call_method(get.clone(), n);
    call(0).await.unwrap();
    settle().await;
    let a = InstanceId::new("a").unwrap();
    assert_eq!(caller.snapshot().balance.members.len(), 2);
    assert_eq!([caller.eject(&a), caller.eject(&a)], [true, false]);
    for n in 0..10 {
        assert_eq!(call(n).await.unwrap(), format!("{n} from b"));
    }
    assert_eq!([caller.readmit(&a), caller.readmit(&a)], [true, false]);
}
