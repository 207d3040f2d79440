//! Rows 8 to 10 and 12: the order of ends, runtimes that are none or go, and clocks that jump.

use std::{
    any::Any,
    future::{pending, poll_fn, ready},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use mainstay::{
    Error, Stack, balance, breaker, bulkhead,
    client::{self, Client},
    concurrency,
    contract::{AnyMethod, Contract, Instance, ServiceName, Version},
    discovery::{self, Discovery, InMemory},
    fallback, hedge,
    isolation::{FallbackConfig, IsolationManager, Level},
    keyed, load_shed, rate_limit,
    registry::Registry,
    retry, stack, timeout,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// All orders of four.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3]);
    all.filter(|order| (0..4).all(|it| order.contains(&it))).collect()
}

/// Drops four things in every order; what is left after all have gone must be nothing.
fn dropped_in_every_order(make: impl Fn(Arc<()>) -> [Box<dyn Any>; 4]) {
    assert_eq!(orders().len(), 24);
    for order in orders() {
        let alive = Arc::new(());
        let mut four = make(Arc::clone(&alive)).map(Some);
        order.iter().for_each(|at| four[*at] = None);
        assert_eq!(Arc::strong_count(&alive), 1, "in the order {order:?} something is left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_its_layer_its_service_and_its_call_may_go_in_every_order() {
    dropped_in_every_order(|alive| {
        let mut config = stack::Config::standard();
        config.load_shed = Some(load_shed::Config::server(8));
        config.rate_limit = Some(rate_limit::Config::per_second(8));
        config.hedge = Some(hedge::Config::new().delay(ms(0)));
        config.concurrency = Some(concurrency::Config::new());
        let stack: Stack = config.builder("x").build();
        let layer = stack.layer();
        let mut service = layer.layer(service_fn(move |_: u32| {
            let alive = Arc::clone(&alive);
            async move {
                pending::<()>().await;
                drop(alive);
                Answer::Ok(1)
            }
        }));
        let mut call = Box::pin(service.call(1));
        assert!(poll_once(&mut call).is_pending());
        [Box::new(stack), Box::new(layer), Box::new(service), Box::new(call)]
    });
}

#[tokio::test(start_paused = true)]
async fn a_set_of_instances_its_service_its_circuit_and_its_call_may_go_in_every_order() {
    dropped_in_every_order(|alive| {
        let handle = balance::Handle::new("x", balance::Config::new().breaker(breaker::Config::new()));
        let instance = Arc::new(Instance::new("users", "users-1", "10.0.0.7", 80).unwrap());
        let node = service_fn(move |_: u32| {
            let alive = Arc::clone(&alive);
            async move {
                pending::<()>().await;
                drop(alive);
                Answer::Ok(1)
            }
        });
        handle.insert(Arc::clone(&instance), node);
        let circuit = handle.breaker(instance.id()).unwrap();
        let mut service = balance::Balance::new(&handle, balance::PeakEwma);
        let mut call = Box::pin(service.call(1));
        assert!(poll_once(&mut call).is_pending());
        [Box::new(handle), Box::new(service), Box::new(circuit), Box::new(call)]
    });
}

#[tokio::test(start_paused = true)]
async fn a_manager_its_handle_its_info_and_its_call_may_go_in_every_order() {
    dropped_in_every_order(|alive| {
        let manager = IsolationManager::<u32, u32, Error<Boom>>::new();
        let service = service_fn(move |_: u32| {
            let alive = Arc::clone(&alive);
            async move {
                pending::<()>().await;
                drop(alive);
                Answer::Ok(1)
            }
        });
        let isolated = manager.register("users", AnyMethod(service), Level::Full, FallbackConfig::none()).unwrap();
        let mut call = Box::pin(manager.execute("users", "get", 1));
        assert!(poll_once(&mut call).is_pending());
        let info = manager.info("users").unwrap();
        [Box::new(manager), Box::new(isolated), Box::new(info), Box::new(call)]
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn one_stack_on_two_runtimes_outlives_the_first() {
    let mut config = stack::Config::standard();
    config.bulkhead = Some(bulkhead::Config::new(2).max_queue(2).max_wait(ms(60_000)));
    config.breaker = Some(consecutive(3).wake_up(true));
    let stack: Arc<Stack> = Arc::new(config.builder("x").build());
    let first = runtime();
    first.block_on(async {
        for _ in 0..4 {
            let stack = Arc::clone(&stack);
            tokio::spawn(async move { stack.run(pending::<Result<(), Boom>>).await });
        }
        tokio::time::sleep(ms(100)).await;
    });
    assert_eq!(stack.bulkhead().unwrap().snapshot().running, 2);
    // Two calls run, two wait, and each has a timer of this runtime.
    drop(first);
    let snapshot = stack.bulkhead().unwrap().snapshot();
    assert_eq!((snapshot.running, snapshot.waiting), (0, 0));
    runtime().block_on(async {
        assert_eq!(stack.run(async || Ok::<_, Boom>(1)).await, Ok(1));
        for _ in 0..3 {
            let _ = stack.run(async || Err::<(), _>(Boom)).await;
        }
        let breaker = stack.breaker().unwrap();
        assert_eq!(breaker.state(), breaker::State::Open);
        tokio::time::sleep(ms(10_000)).await;
        assert_eq!(breaker.state(), breaker::State::HalfOpen);
        assert_eq!(stack.run(async || Ok::<_, Boom>(1)).await, Ok(1));
    });
}

#[track_caller]
fn now(answer: &mut (impl Future<Output = Answer> + Unpin)) {
    assert_eq!(poll_once(answer), Poll::Ready(Ok(1)));
}

/// A plain test: there is no runtime.
#[test]
fn everything_can_be_made_and_answers_a_ready_call_without_a_runtime() {
    let ready = || service_fn(|n: u32| ready(Answer::Ok(n)));
    let mut config = stack::Config::standard();
    config.load_shed = Some(load_shed::Config::server(8).throttle(load_shed::Throttle::new()));
    config.rate_limit = Some(rate_limit::Config::per_second(8));
    config.hedge = Some(hedge::Config::new());
    config.concurrency = Some(concurrency::Config::new());
    let stack: Stack = config.builder("x").build();
    now(&mut Box::pin(stack.service(ready()).call(1)));

    let by_hand = ServiceBuilder::new()
        .layer(fallback::FallbackLayer::new(fallback::Handle::new("x"), fallback::Fallback::value(2)))
        .layer(load_shed::LoadShedLayer::new(load_shed::Handle::new("x", load_shed::Config::server(8))))
        .layer(rate_limit::RateLimitLayer::new(rate_limit::Handle::new("x", rate_limit::Config::per_second(8))))
        .layer(timeout::TimeoutLayer::new(ms(1_000)))
        .layer(retry::RetryLayer::new(retry::Handle::new("x", retry::Config::new())))
        .layer(hedge::HedgeLayer::new(hedge::Handle::new("x", hedge::Config::new())))
        .layer(breaker::CircuitBreakerLayer::new(breaker::Handle::new("x", breaker::Config::new().wake_up(true))))
        .layer(concurrency::ConcurrencyLayer::new(concurrency::Handle::new("x", concurrency::Config::new())))
        .layer(bulkhead::BulkheadLayer::new(bulkhead::Handle::new("x", bulkhead::Config::new(8).max_queue(8))))
        .service(ready());
    now(&mut Box::pin(by_hand.oneshot(1)));

    let levels = keyed::Levels::new("x", keyed::LevelsConfig::default());
    assert!(levels.try_acquire("a", "b").is_ok());
    let handle = balance::Handle::new("x", balance::Config::new());
    handle.insert(Instance::new("users", "users-1", "10.0.0.7", 80).unwrap().into(), ready());
    now(&mut balance::Balance::new(&handle, balance::RoundRobin::new()).call(1));

    let manager = IsolationManager::<u32, u32, Error<Boom>>::new();
    manager.register("users", AnyMethod(ready()), Level::Full, FallbackConfig::none()).unwrap();
    now(&mut Box::pin(manager.execute("users", "get", 1)));

    let backend = InMemory::new();
    let service = ServiceName::new("users").unwrap();
    let publisher = discovery::Publisher::new(service, discovery::Config::new());
    publisher.put(Instance::new("users", "users-1", "10.0.0.7", 80).unwrap());
    assert!(publisher.watch().try_next().is_some());
    let checked = discovery::health::Checked::new(
        backend.clone(),
        service_fn(|_: Arc<Instance>| std::future::ready(Ok::<_, Boom>(()))),
        discovery::health::Config::new(),
    );
    assert_eq!(checked.snapshot().checks, 0);
    let registered = Registry::new().register(Contract::new("users", Version::new(1, 0, 0)).unwrap(), ());
    assert!(registered.is_ok());
    let transport = service_fn(move |_: Instance| std::future::ready(Ok::<_, Boom>(AnyMethod(ready()))));
    let client: Client<u32, u32, Error<Boom>> =
        Client::builder(backend, transport).config(client::Config::new()).build();
    assert!(client.services().is_empty());
}

/// Up to five centuries after the start: 64 bits of nanoseconds are 584 years, as many as a monotonic clock can say.
/// What the rules make of the last tick there is, their own tests show.
#[tokio::test(start_paused = true)]
async fn no_jump_of_the_clock_wedges_or_overflows_anything() {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let mut config = stack::Config::standard();
    config.breaker = Some(consecutive(2));
    config.load_shed = Some(load_shed::Config::server(8).throttle(load_shed::Throttle::new()));
    config.rate_limit = Some(rate_limit::Config::per_second(8).max_wait(ms(1_000)));
    config.hedge = Some(hedge::Config::new());
    config.concurrency = Some(concurrency::Config::measured());
    let stack: Stack = config.builder("x").build();
    let tenants = keyed::Tenants::new("x", keyed::Config::new(consecutive(1)).max_keys(4));
    let backend = InMemory::new();
    for jump in [ms(1), ms(6 * 3_600_000), CENTURY, CENTURY * 2, CENTURY * 2, ms(1)] {
        for _ in 0..2 {
            let _ = stack.run(async || Err::<u32, _>(Boom)).await;
            let _ = tenants.get("a").acquire().map(breaker::Permit::failure);
        }
        let instance = Instance::new("users", "users-1", "10.0.0.7", 80).unwrap();
        let _ = backend.register(instance, ms(1_000)).await;
        advance(jump).await;
        let _ = (stack.snapshot(), tenants.snapshot(), tenants.sweep(), backend.snapshot());
        poll_fn(|_| Poll::Ready(())).await;
        advance(ms(10_000)).await;
        assert_eq!(stack.run(async || Ok::<_, Boom>(1)).await, Ok(1), "after a jump of {jump:?}");
        stack.breaker().unwrap().reset();
    }
}
