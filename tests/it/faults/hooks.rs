//! Rows 5, 11 and 31: code of the user that panics or blocks, and what must not be seen.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use mainstay::{
    Error, Stack, balance, breaker,
    client::Client,
    contract::{AnyMethod, Instance},
    discovery::{Discovery, InMemory},
    keyed::{self, Levels, LevelsConfig, Tenants},
    observe::{Event, lost_observers},
    retry, stack,
};
use tower::{ServiceExt, service_fn};

use crate::{
    log::{lines, listen},
    support::*,
};

const CANARY: &str = "s3cr3t-CANARY";

/// An observer that panics whenever it is told something, and how often it was.
fn panicking() -> (impl Fn(&Event<'_>) + Send + Sync + Clone + 'static, Arc<AtomicUsize>) {
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let observer = move |_: &Event<'_>| {
        counter.fetch_add(1, SeqCst);
        panic!("an observer that panics");
    };
    (observer, told)
}

#[test]
fn an_observer_that_panics_is_told_nothing_more_with_one_line_and_one_count() {
    listen();
    let (observer, told) = panicking();
    let breaker = breaker::Handle::new("faults-observer", consecutive(1));
    breaker.observe(observer);
    let before = lost_observers();
    assert!(!panics(|| {
        fail(&breaker, 1);
        breaker.reset();
        breaker.force_open();
    }));
    assert_eq!(told.load(SeqCst), 1);
    // Observers of other tests may go at the same time.
    assert!(lost_observers() > before);
    let errors = lines("policy", "faults-observer");
    assert_eq!(errors.iter().filter(|(level, _)| *level == tracing::Level::ERROR).count(), 1, "{errors:?}");
}

#[test]
fn on_two_threads_at_a_time_it_is_still_one_line() {
    listen();
    let breaker = breaker::Handle::new("faults-observer-threads", consecutive(1));
    let both = std::sync::Barrier::new(2);
    let told = Arc::new(AtomicUsize::new(0));
    let (both, counter) = (Arc::new(both), Arc::clone(&told));
    breaker.observe(move |event: &Event<'_>| {
        if matches!(event, Event::Rejected { .. }) {
            counter.fetch_add(1, SeqCst);
            both.wait();
            panic!("on both");
        }
    });
    breaker.force_open();
    assert!(!panics(|| {
        std::thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| drop(breaker.acquire()))));
        });
    }));
    assert_eq!(told.load(SeqCst), 2);
    let errors = lines("policy", "faults-observer-threads");
    assert_eq!(errors.iter().filter(|(level, _)| *level == tracing::Level::ERROR).count(), 1, "{errors:?}");
}

#[test]
fn at_two_keys_at_a_time_it_is_still_one_line() {
    listen();
    let tenants: Tenants<breaker::Handle> = Tenants::new("faults-observer-keys", keyed::Config::new(consecutive(1)));
    let (both, told) = (std::sync::Barrier::new(2), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&told);
    tenants.observe(move |event: &Event<'_>| {
        if matches!(event, Event::Rejected { .. }) {
            counter.fetch_add(1, SeqCst);
            both.wait();
            panic!("at both");
        }
    });
    let circuits = ["a", "b"].map(|tenant| tenants.get(tenant));
    circuits.iter().for_each(breaker::Handle::force_open);
    assert!(!panics(|| {
        std::thread::scope(|scope| {
            circuits.iter().for_each(|circuit| drop(scope.spawn(|| drop(circuit.acquire()))));
        });
    }));
    assert_eq!(told.load(SeqCst), 2);
    let errors = lines("policy", "faults-observer-keys");
    assert_eq!(errors.iter().filter(|(level, _)| *level == tracing::Level::ERROR).count(), 1, "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_many_policies_that_panics_is_told_nothing_more_of_any() {
    let (observer, told) = panicking();
    let mut config = stack::Config::standard();
    config.retry = Some(retry::Config::new().attempts(2));
    config.breaker = Some(breaker::Config::new().minimum_calls(1));
    let stack: Stack = config.builder("x").build();
    stack.observe(observer);
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..3 {
        let _ = stack.run(async || Err::<u32, _>(Boom)).await;
    }
    let (observer, told_of_levels) = panicking();
    let levels = Levels::new("x", LevelsConfig::new(mainstay::bulkhead::Config::new(1)));
    levels.observe(observer);
    let _held = levels.try_acquire("a", "b").unwrap();
    (0..4).for_each(|n| assert!(levels.try_acquire(format!("t{n}").as_str(), "b").is_err()));
    let (observer, told_of_client) = panicking();
    client(observer).await;
    std::panic::set_hook(quiet);
    assert_eq!([told, told_of_levels, told_of_client].map(|told| told.load(SeqCst)), [1, 1, 1]);
}

/// Two services of a client, which both fail.
async fn client(observer: impl Fn(&Event<'_>) + Send + Sync + 'static) {
    let backend = InMemory::new();
    for name in ["users", "orders"] {
        let instance = Instance::new(name, "one", "10.0.0.7", 80).unwrap();
        let _ = backend.register(instance, ms(3_600_000)).await.unwrap();
    }
    let transport = service_fn(async |_: Instance| {
        Ok::<_, Boom>(AnyMethod(service_fn(|_: u32| std::future::ready(Answer::Err(Error::Inner(Boom))))))
    });
    let client: Client<u32, u32, Error<Boom>> = Client::builder(backend, transport).observe(observer).build();
    for n in 0..20 {
        let _ = client.call(["users", "orders"][n % 2], "get", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_blocks_on_the_runtime_it_is_called_from_has_panicked_and_costs_no_call() {
    let breaker = breaker::Handle::new("x", consecutive(1));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    breaker.observe(move |_: &Event<'_>| {
        counter.fetch_add(1, SeqCst);
        tokio::runtime::Handle::current().block_on(async {});
    });
    let answer = breaker.run(async { Err::<u32, _>(Boom) }).await;
    assert_eq!(answer, Err(Error::Inner(Boom)));
    assert_eq!((breaker.state(), asked.load(SeqCst)), (breaker::State::Open, 1));
    assert!(breaker.acquire().is_err());
    assert_eq!(asked.load(SeqCst), 1, "it has panicked, and is told nothing more");
}

/// A request, an answer and an error that nobody may print: what a policy does not need it cannot tell.
struct Secret;

#[derive(Clone)]
struct Unsaid;

#[tokio::test(start_paused = true)]
async fn nothing_asks_to_print_requests_and_answers() {
    let stack = Stack::standard("x");
    let service = service_fn(|_: Unsaid| std::future::ready(Ok::<_, Error<Boom>>(Secret)));
    assert!(stack.service(service).oneshot(Unsaid).await.is_ok());
    let handle = balance::Handle::new("x", balance::Config::new());
    handle.insert(
        Instance::new("x", "a", "10.0.0.7", 1).unwrap().into(),
        service_fn(|_: Unsaid| std::future::ready(Ok::<_, Error<Boom>>(Secret))),
    );
    assert!(balance::Balance::new(&handle, balance::Random).oneshot(Unsaid).await.is_ok());
}

#[test]
fn no_secret_is_printed() {
    let secret: [u8; 16] = *b"s3cr3t-CANARY---";
    let by_key = |_: &u32, _: &mut balance::KeyHasher| {};
    let ring = balance::ConsistentHash::new(secret, by_key);
    let handle = balance::Handle::new("x", balance::Config::new());
    let service = service_fn(|n: u32| std::future::ready(Answer::Ok(n)));
    handle.insert(Instance::new("x", "a", "10.0.0.7", 1).unwrap().into(), service);
    let balance = balance::Balance::new(&handle, ring.clone());
    for shown in
        [format!("{ring:?}"), format!("{balance:?}"), format!("{handle:?}"), format!("{:?}", handle.snapshot())]
    {
        assert!(!shown.contains(CANARY) && !shown.contains(&format!("{secret:?}")), "{shown}");
        assert!(!shown.contains("115, 51, 99"), "the bytes of it: {shown}");
    }
}

#[test]
fn an_address_with_a_password_is_refused_without_it() {
    for host in ["user:s3cr3t-CANARY@h", "http://user:s3cr3t-CANARY@h/", "s3cr3t-CANARY@", "a@s3cr3t-CANARY@h"] {
        let error = Instance::new("users", "users-1", host, 80).unwrap_err();
        assert_eq!((error.field(), error.value().starts_with("\"***@")), ("host", true), "{error}");
        let file = serde_json::json!({"service": "users", "id": "users-1", "host": host, "port": 80});
        let read = serde_json::from_value::<Instance>(file).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}"), read.to_string(), format!("{read:?}")] {
            assert!(!shown.contains(CANARY), "{shown}");
            assert!(shown.contains("without brackets, user or path"), "{shown}");
        }
    }
}

impl fmt::Debug for Unsaid {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("nobody has to see it")
    }
}
