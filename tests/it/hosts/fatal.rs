//! An error of `poll_ready` is the end of that very service: it is not asked again, and not called. Clones live on.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    Error, Stack,
    balance::{self, Balance, RoundRobin},
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    client::Client,
    contract::Instance,
    discovery::{Discovery, InMemory, health},
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    isolation::{FallbackConfig, IsolationManager, Level},
    load_shed::{self, ShedUnreadyLayer},
    retry::{self, Backoff, RetryLayer},
};
use tower::{Layer, Service, ServiceExt};

use crate::{harness::settle, support::*};

type Failure = Error<Boom>;

/// What all clones do.
#[derive(Debug, Default)]
struct Orders {
    /// Whoever is asked cannot become ready, for so many times of asking.
    dies: AtomicU32,
    /// Calls fail.
    fails: AtomicBool,
    calls: AtomicU32,
}

/// A service that dies of an error of its readiness.
#[derive(Debug)]
struct Mortal {
    orders: Arc<Orders>,
    dead: bool,
}

impl Mortal {
    fn new() -> (Self, Arc<Orders>) {
        let orders = Arc::new(Orders::default());
        (Self { orders: Arc::clone(&orders), dead: false }, orders)
    }
}

impl Clone for Mortal {
    fn clone(&self) -> Self {
        Self { orders: Arc::clone(&self.orders), dead: false }
    }
}

impl<Req> Service<Req> for Mortal {
    type Response = u32;
    type Error = Failure;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        assert!(!self.dead, "asked again after an error that was its last word");
        let one_less = |dies: u32| dies.checked_sub(1);
        self.dead = self.orders.dies.fetch_update(SeqCst, SeqCst, one_less).is_ok();
        Poll::Ready(if self.dead { Err(Error::Inner(Boom)) } else { Ok(()) })
    }

    fn call(&mut self, _: Req) -> Ready<Answer> {
        assert!(!self.dead, "called after an error that was its last word");
        self.orders.calls.fetch_add(1, SeqCst);
        ready(if self.orders.fails.load(SeqCst) { Err(Error::Inner(Boom)) } else { Ok(1) })
    }
}

async fn readied<S: Service<u32, Error: std::fmt::Debug>>(service: &mut S) -> &mut S {
    service.ready().await.unwrap()
}

/// The error is passed on; whoever gets it throws the service away, and another one works.
async fn passes_on<S>(orders: &Orders, service: S)
where
    S: Service<u32, Response = u32, Error = Failure> + Clone,
{
    orders.dies.store(1, SeqCst);
    let mut one = service.clone();
    assert!(one.ready().await.is_err());
    drop(one);
    assert_eq!(service.oneshot(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_layer_passes_the_error_on_and_asks_no_more() {
    let (mortal, orders) = Mortal::new();
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(1));
    let breaker = breaker::Handle::new("x", breaker::Config::new().minimum_calls(100));
    passes_on(&orders, BulkheadLayer::new(places.clone()).layer(mortal.clone())).await;
    passes_on(&orders, BulkheadLayer::new(places.clone()).queued().layer(mortal.clone())).await;
    passes_on(&orders, CircuitBreakerLayer::new(breaker).layer(mortal.clone())).await;
    passes_on(&orders, RetryLayer::new(retry::Handle::new("x", retry::Config::new())).layer(mortal.clone())).await;
    passes_on(&orders, HedgeLayer::new(hedge::Handle::new("x", hedge::Config::new())).layer(mortal.clone())).await;
    let falls = FallbackLayer::new(fallback::Handle::new("x"), Fallback::value(1));
    passes_on(&orders, falls.layer(mortal.clone())).await;
    let stack = Stack::builder("x").bulkhead(places.clone()).retry(retry::Config::new()).build();
    passes_on(&orders, stack.service(mortal.clone())).await;
    let shedder = load_shed::Handle::new("x", load_shed::Config::new());
    passes_on(&orders, ShedUnreadyLayer::new(shedder).layer(mortal)).await;
    assert_eq!(places.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_attempt_of_a_service_that_died_is_the_last_and_the_next_call_is_well() {
    let backoff = || retry::Config::new().attempts(4).backoff(Backoff::fixed(Duration::ZERO));
    let stack = Stack::builder("x").retry(backoff()).bulkhead(bulkhead::Config::new(1)).build();
    let (mortal, orders) = Mortal::new();
    let mut retry = RetryLayer::new(retry::Handle::new("x", backoff())).layer(mortal.clone());
    let mut whole = stack.service(mortal);
    for _ in 0..2 {
        orders.fails.store(true, SeqCst);
        ServiceExt::<u32>::ready(&mut retry).await.unwrap();
        ServiceExt::<u32>::ready(&mut whole).await.unwrap();
        orders.dies.store(2, SeqCst);
        assert_eq!(retry.call(1).await, Err(Error::Inner(Boom)));
        assert_eq!(whole.call(1).await, Err(Error::Inner(Boom)));
        orders.fails.store(false, SeqCst);
        orders.dies.store(0, SeqCst);
        assert_eq!(readied(&mut retry).await.call(1).await, Ok(1));
        assert_eq!(readied(&mut whole).await.call(1).await, Ok(1));
    }
    assert_eq!(stack.bulkhead().unwrap().running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_and_an_alternative_that_die_are_not_asked_again() {
    let (mortal, orders) = Mortal::new();
    let hedge = hedge::Config::new().attempts(3).delay(ms(1));
    let mut service = HedgeLayer::new(hedge::Handle::new("x", hedge)).layer(mortal.clone());
    let (well, _) = Mortal::new();
    let falls =
        FallbackLayer::new(fallback::Handle::new("x"), Fallback::service(well.clone()).or(Fallback::service(well)));
    let mut falls = falls.layer(mortal);
    for _ in 0..2 {
        orders.fails.store(true, SeqCst);
        ServiceExt::<u32>::ready(&mut service).await.unwrap();
        orders.dies.store(2, SeqCst);
        assert!(service.call(1).await.is_err());
        orders.dies.store(0, SeqCst);
        assert_eq!(readied(&mut falls).await.call(1).await, Ok(1));
        orders.fails.store(false, SeqCst);
        assert_eq!(readied(&mut service).await.call(1).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_the_service_dead_leaves_a_fresh_one() {
    // Not ready when it was asked, and dead when it is called.
    #[derive(Clone)]
    struct Late(Mortal, Arc<AtomicBool>);

    impl Service<u32> for Late {
        type Response = u32;
        type Error = Failure;
        type Future = Ready<Answer>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            if self.1.load(SeqCst) { Service::<u32>::poll_ready(&mut self.0, cx) } else { Poll::Pending }
        }

        fn call(&mut self, request: u32) -> Ready<Answer> {
            self.0.call(request)
        }
    }

    let (mortal, orders) = Mortal::new();
    let (shedder, wakes) = (load_shed::Handle::new("x", load_shed::Config::new()), Arc::new(AtomicBool::new(false)));
    let mut service = ShedUnreadyLayer::new(shedder).layer(Late(mortal, Arc::clone(&wakes)));
    service.ready().await.unwrap();
    wakes.store(true, SeqCst);
    orders.dies.store(1, SeqCst);
    assert_eq!(service.call(1).await, Err(Error::Inner(Boom)), "the call fails, and its error is no last word of ours");
    assert_eq!(readied(&mut service).await.call(1).await, Ok(1));
}

fn instance(number: u16) -> Instance {
    Instance::new("users", &format!("users-{number}"), "10.0.0.7", 8_000 + number).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_is_asked_through_a_clone_the_next_time() {
    let ((mortal, orders), handle) = (Mortal::new(), balance::Handle::new("users", balance::Config::new()));
    handle.insert(Arc::new(instance(0)), mortal);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    for _ in 0..3 {
        orders.dies.store(1, SeqCst);
        assert!(ServiceExt::<u32>::ready(&mut balance).await.unwrap().call(1).await.is_err());
        assert_eq!(ServiceExt::<u32>::ready(&mut balance).await.unwrap().call(1).await, Ok(1));
    }
    for level in [Level::None, Level::Basic, Level::Enhanced, Level::Full] {
        let (mortal, orders) = Mortal::new();
        let manager = IsolationManager::<u32, u32, Failure>::new();
        manager.register("users", mortal, level, FallbackConfig::none().max_retries(0)).unwrap();
        for _ in 0..3 {
            orders.dies.store(1, SeqCst);
            assert!(manager.execute("users", "get", 1).await.is_err());
            assert_eq!(manager.execute("users", "get", 1).await, Ok(1), "{level}");
        }
    }
}

/// Makes transports. One that dies is thrown away, and another clone is asked after a while.
#[derive(Clone)]
struct Maker(Mortal, Mortal);

impl Service<Instance> for Maker {
    type Response = Mortal;
    type Error = Failure;
    type Future = Ready<Result<Mortal, Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Service::<u32>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        drop(self.0.call(instance));
        ready(Ok(self.1.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_and_its_maker_that_die_are_asked_through_clones() {
    let ((maker, making), (mortal, orders)) = (Mortal::new(), Mortal::new());
    let discovery = InMemory::new();
    discovery.register(instance(0), Duration::from_secs(3_600)).await.unwrap();
    making.dies.store(2, SeqCst);
    let client: Client<u32, u32, Failure> = Client::builder(discovery.clone(), Maker(maker, mortal)).build();
    assert!(client.call("users", "get", 1).await.is_ok(), "made at the third time of asking");
    assert_eq!((making.calls.load(SeqCst), making.dies.load(SeqCst)), (1, 0));
    orders.dies.store(1, SeqCst);
    let _ = client.call("users", "get", 1).await;
    assert_eq!(client.call("users", "get", 1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_dies_is_asked_through_a_clone() {
    let ((mortal, orders), memory) = (Mortal::new(), InMemory::new());
    memory.register(instance(0), Duration::from_secs(3_600)).await.unwrap();
    let config = health::Config::new().interval(ms(1_000)).jitter(0.0).down_after(1).up_after(1);
    let checked = health::Checked::new(memory, mortal, config);
    let users = mainstay::contract::ServiceName::new("users").unwrap();
    for dies in [0, 1, 0, 2, 0] {
        orders.dies.store(dies, SeqCst);
        let _ = checked.instances(&users).await.unwrap();
        for _ in 0..4 {
            advance(ms(1_000)).await;
            settle().await;
        }
        let known = checked.instances(&users).await.unwrap();
        assert!(known.iter().all(|one| one.health().status() == mainstay::contract::HealthStatus::Healthy), "{dies}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_here_tells_who_asks_it_again() {
    let (mut mortal, orders) = Mortal::new();
    orders.dies.store(1, SeqCst);
    assert!(crate::harness::poll_ready::<_, u32>(&mut mortal).is_ready());
    assert!(panics(|| crate::harness::poll_ready::<_, u32>(&mut mortal)));
    assert!(panics(|| drop(mortal.call(1))));
}
