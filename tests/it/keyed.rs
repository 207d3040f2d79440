//! Keyed policies in front of a service: which policy a request gets, and what is left after it.

use std::{
    future::{Future, pending, poll_fn, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
};

use mainstay::{
    Error, Outcome, Reason,
    breaker::{self, CircuitBreakerLayer, State},
    bulkhead, classify_fn,
    keyed::{
        ByOperation, ByTenant, Config, HasOperation, HasTenant, KeyOf, KeyedLayer, Operation, OperationLayer,
        Operations, Tenant, TenantLayer, Tenants, key_fn, str_key_fn,
    },
    observe::Event,
    rate_limit,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

#[derive(Debug, Clone, Copy)]
struct Query {
    tenant: Option<&'static str>,
    operation: &'static str,
    fails: bool,
}

fn query(tenant: &'static str) -> Query {
    Query { tenant: Some(tenant), operation: "find", fails: false }
}

fn failing(tenant: &'static str) -> Query {
    Query { fails: true, ..query(tenant) }
}

impl HasTenant for Query {
    fn tenant(&self) -> Option<&str> {
        self.tenant
    }
}

impl HasOperation for Query {
    fn operation(&self) -> Option<&str> {
        Some(self.operation)
    }
}

fn answer(query: Query) -> Answer {
    if query.fails { Err(Error::Inner(Boom)) } else { Ok(1) }
}

fn circuits() -> Tenants<breaker::Handle> {
    Tenants::new("db", Config::new(consecutive(2)))
}

fn places(each: u32) -> Tenants<bulkhead::Handle> {
    Tenants::new("db", Config::new(bulkhead::Config::new(each)))
}

fn hangs(_: Query) -> impl Future<Output = Answer> {
    pending()
}

#[tokio::test(start_paused = true)]
async fn one_tenants_failures_open_one_tenants_circuit() {
    let tenants = circuits();
    let layer: TenantLayer<_> = KeyedLayer::new(tenants.by(ByTenant));
    let mut service = layer.layer(service_fn(|query| ready(answer(query))));
    for _ in 0..2 {
        assert_eq!(service.ready().await.unwrap().call(failing("a")).await, Err(Error::Inner(Boom)));
    }
    let Err(Error::Rejected(rejection)) = service.call(query("a")).await else { panic!("let in") };
    assert_eq!((rejection.reason(), rejection.policy()), (Reason::CircuitOpen, "db"));
    assert_eq!(service.call(query("b")).await, Ok(1));
    let nobody = Query { tenant: None, ..query("") };
    assert_eq!(service.call(nobody).await, Ok(1));
    let states: Vec<_> = tenants.listing().iter().map(|it| (it.key.to_string(), it.snapshot.state)).collect();
    assert_eq!(states, [("a".to_owned(), State::Open), ("b".to_owned(), State::Closed)]);
    assert_eq!((tenants.snapshot().keyless, tenants.others().snapshot().totals.calls.success), (1, 1));
    advance(ms(10_000)).await;
    assert_eq!(service.call(query("a")).await, Ok(1));
    assert_eq!(tenants.get("a").state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn keys_come_from_closures_and_from_traits() {
    struct ByLength;

    impl KeyOf<Query, usize> for ByLength {
        type Key<'a> = usize;

        fn key<'a>(&'a self, query: &'a Query) -> Option<usize> {
            query.tenant.map(str::len)
        }
    }

    let lengths = mainstay::keyed::Handle::new("x", Config::new(bulkhead::Config::new(1)));
    let operations = Operations::new("x", Config::new(bulkhead::Config::operation()));
    let tenants = places(1);
    let by_closure = key_fn(|query: &Query| Tenant::new(query.tenant?).ok());
    let by_text = str_key_fn(|query: &Query| query.tenant);
    let operation: OperationLayer<_> = KeyedLayer::new(operations.by(ByOperation));
    let service = tower::ServiceBuilder::new()
        .layer(KeyedLayer::new(lengths.by(ByLength)))
        .layer(operation)
        .layer(KeyedLayer::new(tenants.by(by_text)))
        .service(service_fn(|query| ready(answer(query))));
    assert_eq!(service.oneshot(query("acme")).await, Ok(1));
    assert_eq!(
        KeyedLayer::new(tenants.by(by_closure)).layer(service_fn(|it| ready(answer(it)))).oneshot(query("acme")).await,
        Ok(1)
    );
    assert_eq!((lengths.keys(), operations.keys()), (vec![4], vec![Operation::new("find").unwrap()]));
    assert_eq!(tenants.keys(), [Tenant::new("acme").unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_pair_asks_in_order_and_gives_back_when_a_later_one_refuses() {
    let (tenants, all) = (places(1), bulkhead::Handle::new("all", bulkhead::Config::new(2)));
    let quota = rate_limit::Handle::new("quota", rate_limit::Config::new(3, ms(60_000)).burst(3));
    let layer = KeyedLayer::new((tenants.by(ByTenant), (quota.clone(), all.clone())));
    let service = layer.layer(service_fn(hangs));
    let mut calls: Vec<_> = ["a", "b"].into_iter().map(|it| task::spawn(service.clone().oneshot(query(it)))).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let rejected = |it| {
        let mut call = task::spawn(service.clone().oneshot(query(it)));
        let Err(Error::Rejected(rejection)) = assert_ready!(call.poll()) else { panic!("let in") };
        rejection.policy().to_owned()
    };
    assert_eq!((rejected("a"), rejected("c"), rejected("c")), ("db".into(), "all".into(), "all".into()));
    let running =
        || (tenants.get("a").running(), tenants.get("b").running(), tenants.get("c").running(), all.running());
    assert_eq!((running(), quota.snapshot().available), ((1, 1, 0, 2), 1), "nothing of a refused call is left");
    calls.pop();
    assert_eq!(running(), (1, 0, 0, 1));
    let mut third = task::spawn(service.clone().oneshot(query("c")));
    assert_pending!(third.poll());
    assert_eq!((rejected("b"), running()), ("quota".into(), (1, 0, 1, 2)));
}

#[tokio::test(start_paused = true)]
async fn the_inner_services_readiness_is_passed_on_and_nothing_is_taken_before_the_call() {
    let tenants = circuits();
    let (mock, mut upstream) = tower_test::mock::pair::<Query, u32>();
    let mut service = tower_test::mock::Spawn::new(KeyedLayer::new(tenants.by(ByTenant)).layer(mock));
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    upstream.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(tenants.snapshot().keys, 0);
    let mut call = task::spawn(service.call(query("a")));
    assert_pending!(call.poll());
    let (_, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    respond.send_error(Boom);
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(tenants.get("a").snapshot().window.failure, 1);
}

fn after_polls(mut polls: u32) -> impl Future<Output = Answer> {
    poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        polls = polls.saturating_sub(1);
        if polls == 0 { Poll::Ready(Ok(0)) } else { Poll::Pending }
    })
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_gives_everything_back_and_its_key_may_leave() {
    for (polls, queued) in (0..6).flat_map(|polls| [(polls, false), (polls, true)]) {
        let config = Config::new(bulkhead::Config::new(1).max_queue(1)).max_keys(1);
        let (tenants, all) = (Tenants::new("x", config), bulkhead::Handle::new("all", bulkhead::Config::new(1)));
        let layer = KeyedLayer::new((tenants.by(ByTenant), all.clone()));
        let service = service_fn(|_: Query| after_polls(4));
        let held = queued.then(|| tenants.get("a").try_acquire().unwrap());
        let mut call: std::pin::Pin<Box<dyn Future<Output = Answer>>> = match queued {
            true => Box::pin(layer.queued().layer(service).oneshot(query("a"))),
            false => Box::pin(layer.layer(service).oneshot(query("a"))),
        };
        let mut held = held;
        let mut done = false;
        for poll in 0..polls {
            if poll == 2 {
                held = None;
            }
            if !done {
                done = poll_once(&mut call).is_ready();
            }
            if !done && poll > 0 {
                let _ = tenants.get("b");
                assert!(tenants.peek("b").is_none(), "the key of a call that runs or waits stays");
            }
        }
        drop(call);
        drop(held);
        let snapshot = tenants.get("a").snapshot();
        assert_eq!((snapshot.running, snapshot.waiting, all.running()), (0, 0, 0), "dropped after {polls} polls");
        let _ = tenants.get("b");
        assert!(tenants.peek("b").is_some() && tenants.peek("a").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn queued_a_call_waits_for_the_place_of_its_key() {
    let tenants = Tenants::new("db", Config::new(bulkhead::Config::new(1).max_queue(1).max_wait(ms(50))));
    let service = KeyedLayer::new(tenants.by(ByTenant)).queued().layer(service_fn(|query| ready(answer(query))));
    let held = tenants.get("a").try_acquire().unwrap();
    let mut waits = task::spawn(service.clone().oneshot(query("a")));
    assert_pending!(waits.poll());
    assert_eq!(service.clone().oneshot(query("b")).await, Ok(1), "another tenant does not wait");
    assert!(service.clone().oneshot(query("a")).await.unwrap_err().is_rejection(), "the queue is full");
    drop(held);
    assert!(waits.is_woken());
    assert_eq!(assert_ready!(waits.poll()), Ok(1));
    let _held = tenants.get("a").try_acquire().unwrap();
    assert!(service.oneshot(query("a")).await.unwrap_err().is_rejection(), "waited too long");
    assert_eq!(tenants.get("a").snapshot().waited_too_long, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_function_that_panics_makes_a_call_without_a_key() {
    let tenants = places(1);
    let key_of = str_key_fn(|query: &Query| {
        assert!(query.tenant != Some("bad"), "no key");
        query.tenant
    });
    let service = KeyedLayer::new(tenants.by(key_of)).layer(service_fn(hangs));
    let mut call = task::spawn(service.clone().oneshot(query("bad")));
    assert!(!panics(|| assert_pending!(call.poll())));
    assert_eq!((tenants.snapshot().keyless, tenants.others().running(), tenants.snapshot().keys), (1, 1, 0));
    drop(call);
    assert_eq!(tenants.others().running(), 0);
    let mut call = task::spawn(service.oneshot(query("good")));
    assert_pending!(call.poll());
    assert_eq!(tenants.get("good").running(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_service_is_a_failure_of_its_key_and_goes_on() {
    let tenants = circuits();
    let layer = KeyedLayer::new(tenants.by(ByTenant));
    let mut service = layer.layer(service_fn(|_: Query| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| service.call(query("a"))));
    let mut service = layer.layer(service_fn(|_: Query| poll_fn(|_| -> Poll<Answer> { panic!("in poll") })));
    let mut call = Box::pin(service.call(query("a")));
    assert!(panics(|| poll_once(&mut call)));
    drop(call);
    assert_eq!((tenants.get("a").state(), tenants.get("a").snapshot().totals.calls.failure), (State::Open, 2));
}

#[tokio::test(start_paused = true)]
async fn the_classifier_decides_and_a_rejection_further_in_is_not_the_services_failure() {
    let tenants = circuits();
    let good = classify_fn(|_: Result<&u32, &Error<Boom>>| Outcome::Success);
    let layer = KeyedLayer::new(tenants.by(ByTenant));
    let service = layer.clone().classify(good).layer(service_fn(|query| ready(answer(query))));
    for _ in 0..5 {
        assert!(service.clone().oneshot(failing("a")).await.is_err());
    }
    assert_eq!(tenants.get("a").snapshot().totals.calls.success, 5);
    let inner = breaker::Handle::new("inner", consecutive(1));
    inner.force_open();
    let inside = CircuitBreakerLayer::new(inner).layer(service_fn(|query| ready(answer(query))));
    assert!(layer.layer(inside).oneshot(query("b")).await.unwrap_err().is_rejection());
    let totals = tenants.get("b").snapshot().totals;
    assert_eq!((totals.ignored, totals.calls.failures()), (1, 0));
}

#[test]
fn a_call_of_a_known_key_allocates_nothing() {
    let (tenants, all) = (circuits(), bulkhead::Handle::new("all", bulkhead::Config::new(8)));
    let layer = KeyedLayer::new((tenants.by(ByTenant), all));
    let mut service = layer.layer(service_fn(|query| ready(answer(query))));
    let mut call = || assert!(poll_once(&mut service.call(query("a"))).is_ready());
    (0..3).for_each(|_| call());
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_all_keys_also_of_those_that_come_later_and_are_told_which() {
    let tenants = circuits();
    fail(&tenants.get("early"), 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tenants.observe_keys(move |key: Option<&Tenant>, event: &Event<'_>| {
        if let Event::Transition(change) = event {
            let key = key.map_or("-".to_owned(), ToString::to_string);
            log.lock().unwrap().push(format!("{} {key} {}", change.policy, change.to));
        }
    });
    fail(&tenants.get("early"), 1);
    fail(&tenants.get("late"), 2);
    fail(&tenants.others(), 2);
    assert_eq!(*seen.lock().unwrap(), ["db early open", "db late open", "db - open"]);

    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    tenants.observe(move |_: &Event<'_>| {
        count.fetch_add(1, SeqCst);
        panic!("an observer");
    });
    assert!(!panics(|| ["u", "v", "early"].map(|key| tenants.get(key).force_open())));
    assert_eq!(heard.load(SeqCst), 1, "one that panics is told nothing more of any key");
    assert_eq!(tenants.get("v").state(), State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn settings_change_for_keys_that_are_there_listed_or_not_and_for_the_others() {
    let config = |limit| Config::new(bulkhead::Config::new(limit));
    let tenants = Tenants::new("x", config(1).key("gold", bulkhead::Config::new(5)));
    let limit = |key| tenants.get(key).snapshot().limit;
    let _ = tenants.get("a");
    let held = tenants.get("a").try_acquire().unwrap();
    let new = config(2).key("a", bulkhead::Config::new(7)).key("new", bulkhead::Config::new(8));
    tenants.reconfigure(new.clone().others(bulkhead::Config::new(9))).unwrap();
    assert_eq!((limit("gold"), limit("a"), limit("new"), limit("other")), (2, 7, 8, 2));
    assert_eq!((tenants.others().snapshot().limit, tenants.get("a").running()), (9, 1));
    let listed: Vec<_> = tenants.listing().into_iter().filter(|it| it.listed).map(|it| it.key.to_string()).collect();
    assert_eq!(listed, ["a", "new"]);
    assert_eq!(tenants.config(), new.others(bulkhead::Config::new(9)));
    drop(held);
    for n in 0..50 {
        let _ = tenants.get(n.to_string().as_str());
    }
    tenants.reconfigure(config(1).key("a", bulkhead::Config::new(1)).max_keys(3)).unwrap();
    assert_eq!(tenants.snapshot().keys, 3);
    assert!(tenants.peek("a").is_some());
    assert_eq!(tenants.reconfigure(config(1).max_keys(0)).unwrap_err().field(), "max_keys");
    assert_eq!(tenants.config().check(), Ok(()));
}

#[test]
fn a_window_cannot_change_and_then_nothing_does() {
    let tenants = circuits();
    let _ = tenants.get("a");
    let error = tenants.reconfigure(Config::new(consecutive(9).count_window(50)).max_keys(7)).unwrap_err();
    assert_eq!(
        (error.field(), tenants.config().check(), tenants.snapshot().max_keys),
        ("default.window", Ok(()), 10_000)
    );
    tenants.reconfigure(Config::new(consecutive(1))).unwrap();
    fail(&tenants.get("a"), 1);
    assert_eq!(tenants.get("a").state(), State::Open);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let new = || Config::<Tenant, _>::new(bulkhead::Config::new(1));
    let bulkhead = bulkhead::Config::new;
    let unready = bulkhead(1).readiness(bulkhead::Readiness::Unready);
    for (config, field, value, why) in [
        (new().max_keys(0), "max_keys", "0", "must be in 1..=1000000"),
        (new().max_keys(1_000_001), "max_keys", "1000001", "must be in 1..=1000000"),
        (new().idle_for(ms(0)), "idle_for", "0s", "must be at least 1ms"),
        (new().idle_for(ms(86_400_000) * 366), "idle_for", "366d", "must be at most 365d"),
        (new().key("a", bulkhead(1)).key("b", bulkhead(1)).max_keys(1), "max_keys", "1", "must be at least the 2 keys"),
        (new().key("a", bulkhead(1)).key("a", bulkhead(2)), "keys", "\"a\"", "is there twice"),
        (new().key("", bulkhead(1)), "keys.tenant", "\"\"", "must be 1..=128 printable"),
        (new().key("a\n", bulkhead(1)), "keys.tenant", "\"a\\n\"", "must be 1..=128 printable"),
        (new().key("a", bulkhead(0)), "keys[\"a\"].limit", "0", "must be in 1..=1000000"),
        (new().others(bulkhead(0)), "others.limit", "0", "must be in 1..=1000000"),
        (Config::new(bulkhead(0)), "default.limit", "0", "must be in 1..=1000000"),
        (Config::new(unready), "default.readiness", "unready", "must be \"reject\""),
    ] {
        let error = Tenants::try_new("x", config.clone()).unwrap_err();
        assert_eq!((error.field(), error.value()), (field, value));
        assert!(error.why().contains(why), "{error}");
        assert!(panics(|| Tenants::new("x", config)));
    }
    let error = Tenants::try_new("", Config::new(bulkhead(0)).max_keys(0).idle_for(ms(0))).unwrap_err();
    let fields: Vec<_> = error.problems().map(mainstay::ConfigError::field).collect();
    assert_eq!(fields, ["name", "max_keys", "idle_for", "default.limit"]);
    let unready = breaker::Config::new().readiness(breaker::Readiness::Unready);
    assert_eq!(Tenants::try_new("x", Config::new(unready)).unwrap_err().field(), "default.readiness");
    assert!(Tenants::try_new("x", Config::new(rate_limit::Config::per_second(0))).is_err());
}

#[test]
fn files_that_are_wrong_are_refused_and_those_that_are_right_come_back() {
    type File = Config<Tenant, bulkhead::Config>;
    for (toml, expected) in [
        ("", "missing field `default`"),
        ("default = { limit = 0 }", "limit = 0: must be in 1..=1000000"),
        ("default = { limit = 1 }\nmax_keys = 0", "max_keys = 0: must be in 1..=1000000"),
        ("default = { limit = 1 }\nidle_for = 10", "idle_for = 10: missing unit, write \"10s\" or \"10ms\""),
        ("default = { limit = 1 }\nidle_for = '0s'", "idle_for = 0s: must be at least 1ms"),
        ("default = { limit = 1 }\nmax_key = 1", "unknown field `max_key`"),
        ("default = { limit = 1 }\nkeys.' ' = { limit = 1 }", "tenant = \" \": must be 1..=128"),
        ("default = { limit = 1 }\nkeys.a = { limit = 0 }", "limit = 0"),
        ("default = { limit = 1 }\nkeys.a = { limit = 1 }\nmax_keys = 0\nidle_for = ''", "idle_for = \"\""),
    ] {
        let error = toml::from_str::<File>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    let twice = r#"{ "default": { "limit": 1 }, "keys": { "a": { "limit": 1 }, "a": { "limit": 2 } } }"#;
    assert!(serde_json::from_str::<File>(twice).unwrap_err().to_string().contains("is there twice"));
    let config: File = Config::new(bulkhead::Config::tenant())
        .key("z", bulkhead::Config::new(3))
        .key("a", bulkhead::Config::new(4))
        .others(bulkhead::Config::new(5))
        .max_keys(12)
        .idle_for(ms(1_500));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<File>(&json).unwrap(), config);
    assert!(json.find("\"z\"") < json.find("\"a\""), "in the order in which they were written");
    assert!(toml::from_str::<Config<Operation, breaker::Config>>("default = {}").is_ok());
}

#[test]
fn handles_layers_and_services_are_what_hosts_ask_for() {
    fn host<T: Clone + std::fmt::Debug + Send + Sync + Unpin + 'static>(it: T) -> T {
        it
    }
    let tenants = host(circuits());
    let layer = host(KeyedLayer::new((tenants.by(ByTenant), bulkhead::Handle::new("x", bulkhead::Config::new(1)))));
    let service = host(layer.layer(CircuitBreakerLayer::new(breaker::Handle::new("x", consecutive(1))).layer(())));
    let queued = host(host(layer.clone().queued()).layer(()));
    assert!(format!("{service:?} {queued:?} {layer:?} {:?}", tenants.get("a")).contains("db"));
    fn unpin<F: Future + Unpin>(_: F) {}
    unpin(layer.layer(service_fn(|query| ready(answer(query)))).call(query("a")));
    assert!(tenants.is_same(&tenants.clone()) && !tenants.is_same(&circuits()));
}
