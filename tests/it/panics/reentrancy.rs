//! Callbacks that call back: every method of every handle from every one of them. Nothing waits for itself, which a
//! watchdog sees to: what takes too long fails instead of hanging.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use mainstay::{
    Priority, Stack,
    balance::{self, Balance, RoundRobin},
    breaker, bulkhead,
    concurrency::{self, Algorithm, Sample},
    contract::Instance,
    fallback, hedge, isolation, keyed, load_shed,
    observe::Event,
    rate_limit, retry, timeout,
};
use tower::{Service, ServiceExt};

use crate::{
    harness::{Lab, Work},
    support::*,
};

/// Runs it on a thread of its own. In the good case nothing is waited for.
fn within_reason(what: &str, run: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _on_it = runtime.enter();
        run();
        let _nobody_waits = done.send(());
    });
    match is_done.recv_timeout(Duration::from_secs(20)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it waits for itself"),
        _ => assert!(thread.join().is_ok(), "{what}"),
    }
}

type Nodes = balance::Handle<Lab>;
type Manager = isolation::IsolationManager<(), u32, mainstay::Error<Boom>>;

/// All there is.
#[derive(Clone)]
struct House {
    breaker: breaker::Handle,
    places: bulkhead::Handle,
    turns: rate_limit::Handle,
    shedder: load_shed::Handle,
    limit: concurrency::Handle,
    timeout: timeout::Handle,
    retry: retry::Handle,
    hedge: hedge::Handle,
    fallback: fallback::Handle,
    keys: keyed::Handle<u32, bulkhead::Handle>,
    circuits: keyed::Handle<u32, breaker::Handle>,
    nodes: Nodes,
    manager: Manager,
}

impl House {
    fn new() -> Self {
        let manager = Manager::new();
        manager
            .register("users", Lab::new(Work::Ok), isolation::Level::Full, isolation::FallbackConfig::none())
            .unwrap();
        let nodes = balance::Handle::new("users", balance::Config::new().breaker(consecutive(1)));
        nodes.insert(instance(0), Lab::new(Work::Ok));
        Self {
            breaker: breaker::Handle::new("breaker", consecutive(1)),
            places: bulkhead::Handle::new("places", places(1)),
            turns: rate_limit::Handle::new("turns", rate_limit::Config::new(1, ms(10))),
            shedder: load_shed::Handle::new("shedder", shedder(1)),
            limit: concurrency::Handle::new("limit", concurrency::Config::aimd().floor(1).initial(1)),
            timeout: timeout::Handle::new("timeout", ms(1)),
            retry: retry::Handle::new("retry", retry::Config::new()),
            hedge: hedge::Handle::new("hedge", hedge::Config::new()),
            fallback: fallback::Handle::new("fallback"),
            keys: keyed::Handle::new("keys", keyed::Config::new(bulkhead::Config::new(1)).max_keys(4)),
            circuits: keyed::Handle::new("circuits", keyed::Config::new(consecutive(1)).max_keys(4)),
            nodes,
            manager,
        }
    }

    /// Every method there is, as far as it asks for no runtime.
    fn use_all(&self) {
        self.use_breaker();
        self.use_places();
        self.use_others();
        self.use_keys();
        self.use_fleet();
    }

    fn use_breaker(&self) {
        let breaker = &self.breaker;
        let _ = (breaker.name(), breaker.state(), breaker.config(), breaker.memory(), breaker.is_same(breaker));
        let saved = breaker.save();
        breaker.restore(&saved);
        breaker.force_open();
        breaker.disable();
        breaker.only_measure();
        breaker.open_for(ms(5));
        let _ = breaker.transition_to(breaker::State::HalfOpen);
        breaker.reset();
        let _ = breaker.reconfigure(consecutive(1));
        let _ = breaker.call(|| Err::<(), _>(Boom));
        let _ = breaker.acquire().map(breaker::Permit::success);
        breaker.observe(());
        let _ = breaker.snapshot();
        breaker.reset();
    }

    fn use_places(&self) {
        let places_now = &self.places;
        let (low, high) = (places_now.with_priority(Priority::Low), places_now.with_priority(Priority::High));
        let _held = (low.try_acquire(), high.try_acquire());
        // One waits, and the other finds no room to wait.
        drop((Waiting::new(high.acquire()), Waiting::new(high.acquire())));
        let _ = places_now.call(|| Ok::<_, Boom>(()));
        let _ = (places_now.reconfigure(places(2)), places_now.reconfigure(places(1)));
        let _ = (places_now.config(), places_now.snapshot(), places_now.running());
        places_now.observe(());
        let shed = &self.shedder;
        let _held = (shed.try_acquire(), shed.with_priority(Priority::Low).try_acquire());
        drop((Waiting::new(shed.acquire()), Waiting::new(shed.acquire())));
        let _ = (shed.reconfigure(shedder(2)), shed.reconfigure(shedder(1)), shed.config(), shed.snapshot());
        shed.observe(());
    }

    fn use_others(&self) {
        let Self { turns, limit, timeout, retry, hedge, fallback, .. } = self;
        let _ = (turns.try_acquire(), turns.try_acquire_many(3), turns.snapshot(), turns.config());
        let _ = turns.reconfigure(rate_limit::Config::new(1, ms(10)));
        turns.observe(());
        let _held = (limit.try_acquire(), limit.try_acquire());
        let _ = (limit.snapshot(), limit.config(), limit.reconfigure(concurrency::Config::aimd().floor(1).initial(1)));
        limit.observe(());
        let _ = (timeout.set_limit(ms(1)), timeout.limit(), timeout.snapshot());
        let _ = (retry.snapshot(), retry.memory(), retry.config());
        let _ = (hedge.snapshot(), hedge.config(), hedge.delay(), hedge.reconfigure(hedge::Config::new()));
        let _ = (fallback.snapshot(), fallback.memory());
        timeout.observe(());
        retry.observe(());
        hedge.observe(());
        fallback.observe(());
    }

    fn use_keys(&self) {
        let Self { keys, circuits, .. } = self;
        for key in 0..6 {
            let _held = (keys.get(key).try_acquire(), keys.get(key).try_acquire());
            let _ = circuits.get(key).acquire().map(breaker::Permit::failure);
        }
        let _ = (keys.peek(1), keys.others(), keys.keys(), keys.listing(), keys.snapshot(), keys.config());
        let _ = (keys.sweep(), keys.remove(2), keys.memory(), circuits.snapshot(), circuits.remove(1));
        let _ = keys.reconfigure(keyed::Config::new(bulkhead::Config::new(1)).max_keys(4));
        keys.reset();
        circuits.reset();
        keys.observe(());
        keys.observe_keys(|_, _| {});
    }

    fn use_fleet(&self) {
        let Self { nodes, manager, .. } = self;
        nodes.insert(instance(1), Lab::new(Work::Ok));
        let id = instance(1).id().clone();
        let _ = (nodes.eject(&id), nodes.readmit(&id), nodes.snapshot(), nodes.instances(), nodes.len());
        let _ = (nodes.update(&instance(1)), nodes.breaker(&id), nodes.config(), nodes.remove(&id));
        nodes.sync([instance(0), instance(2)], |_| Lab::new(Work::Ok));
        nodes.observe(());
        let mut call = Box::pin(Balance::new(nodes, RoundRobin::new()).call(()));
        let _ = super::poll(&mut call);
        let _ =
            (manager.set_level("users", isolation::Level::Basic), manager.set_level("users", isolation::Level::Full));
        let _ = (manager.stats(), manager.list(), manager.info("users"), manager.level("users"), manager.len());
        let _ = manager.update_health("users", mainstay::contract::Health::degraded("slow"));
        let _ = manager.update_fallback("users", isolation::FallbackConfig::none());
        let mut call = Box::pin(manager.execute("users", "get", ()));
        let _ = super::poll(&mut call);
    }
}

fn instance(number: u16) -> Arc<Instance> {
    Arc::new(Instance::new("users", &format!("users-{number}"), "10.0.0.7", 8_000 + number).unwrap())
}

fn places(limit: u32) -> bulkhead::Config {
    bulkhead::Config::new(limit).max_queue(1)
}

fn shedder(limit: u32) -> load_shed::Config {
    let queue = load_shed::QueueDelay::new().target(ms(500)).interval(ms(900)).max_queue(1);
    load_shed::Config::new().in_flight(limit).queue_delay(queue)
}

/// A future that was polled once.
struct Waiting<F> {
    _future: std::pin::Pin<Box<F>>,
}

impl<F: Future> Waiting<F> {
    fn new(future: F) -> Self {
        let mut future = Box::pin(future);
        let _ = super::poll(&mut future);
        Self { _future: future }
    }
}

/// What comes back to the house, one deep.
#[derive(Clone, Default)]
struct Back {
    house: Arc<Mutex<Option<House>>>,
    deep: Arc<AtomicU32>,
    times: Arc<AtomicU32>,
}

impl Back {
    fn come(&self) {
        if self.deep.fetch_add(1, SeqCst) < 1 {
            self.times.fetch_add(1, SeqCst);
            // A copy, so that the lock here is not the one that is waited for.
            let house = self.house.lock().unwrap_or_else(PoisonError::into_inner).clone();
            house.iter().for_each(House::use_all);
        }
        self.deep.fetch_sub(1, SeqCst);
    }

    fn to(&self, house: &House) {
        *self.house.lock().unwrap() = Some(house.clone());
    }
}

pub(super) async fn from_observers() {
    within_reason("observers", || {
        let (house, back) = (House::new(), Back::default());
        let observer = || {
            let back = back.clone();
            move |_: &Event<'_>| back.come()
        };
        house.breaker.observe(observer());
        house.places.observe(observer());
        house.turns.observe(observer());
        house.shedder.observe(observer());
        house.limit.observe(observer());
        house.timeout.observe(observer());
        house.retry.observe(observer());
        house.hedge.observe(observer());
        house.fallback.observe(observer());
        house.keys.observe(observer());
        house.circuits.observe(observer());
        house.nodes.observe(observer());
        house.manager.observe(observer());
        back.to(&house);
        house.use_all();
        assert!(back.times.load(SeqCst) > 20, "they were told");
        *back.house.lock().unwrap() = None;
    });
}

struct Nosy(Back, AtomicBool);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.1.store(true, SeqCst);
        self.0.come();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.0.come();
    }
}

/// A task that waits with a waker that comes back, and what wakes it. It is woken where `wakes` is, and nowhere else.
fn woken<F: Future>(back: &Back, future: F, wakes: impl FnOnce()) {
    let nosy = Arc::new(Nosy(back.clone(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&nosy));
    let mut task = Box::pin(future);
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(!nosy.1.load(SeqCst));
    let before = back.times.load(SeqCst);
    wakes();
    assert!(nosy.1.load(SeqCst) && back.times.load(SeqCst) > before);
    drop((waker, nosy));
    // The last one who has the waker is the room, if anybody.
    drop(task);
}

pub(super) async fn from_wakers() {
    within_reason("a bulkhead's wakers", || {
        let (house, back) = (House::new(), Back::default());
        let held = house.places.try_acquire().unwrap();
        back.to(&house);
        woken(&back, house.places.acquire(), || house.places.reconfigure(places(3)).unwrap());
        *back.house.lock().unwrap() = None;
        drop(held);
        let held: Vec<_> = (0..9).map_while(|_| house.places.try_acquire().ok()).collect();
        back.to(&house);
        woken(&back, house.places.acquire(), || drop(held));
        *back.house.lock().unwrap() = None;
    });
    within_reason("a shedder's wakers", || {
        let (house, back) = (House::new(), Back::default());
        let held = house.shedder.try_acquire().unwrap();
        back.to(&house);
        woken(&back, house.shedder.acquire(), || house.shedder.reconfigure(shedder(3)).unwrap());
        *back.house.lock().unwrap() = None;
        drop(held);
        let held: Vec<_> = (0..9).map_while(|_| house.shedder.try_acquire().ok()).collect();
        back.to(&house);
        woken(&back, house.shedder.acquire(), || drop(held));
        *back.house.lock().unwrap() = None;
    });
    within_reason("the wakers of those who wait to be ready", || {
        let (mut house, back) = (House::new(), Back::default());
        let unready = mainstay::admission::Readiness::Unready;
        house.breaker = breaker::Handle::new("unready", consecutive(1).readiness(unready));
        house.breaker.force_open();
        let layer = breaker::CircuitBreakerLayer::new(house.breaker.clone());
        let ready = ServiceExt::<()>::ready_oneshot(tower::Layer::layer(&layer, Lab::new(Work::Ok)));
        back.to(&house);
        woken(&back, ready, || house.breaker.reset());
        house.places = bulkhead::Handle::new("unready", places(1).readiness(unready));
        let held = house.places.try_acquire().unwrap();
        let layer = bulkhead::BulkheadLayer::new(house.places.clone());
        let ready = ServiceExt::<()>::ready_oneshot(tower::Layer::layer(&layer, Lab::new(Work::Ok)));
        back.to(&house);
        woken(&back, ready, || drop(held));
        *back.house.lock().unwrap() = None;
    });
}

/// A key, and an algorithm, that come back whatever they are asked, and in their end.
#[derive(Clone)]
struct Curious(Back, u32);

impl std::fmt::Debug for Curious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.come();
        f.write_str("Curious")
    }
}

impl std::hash::Hash for Curious {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.come();
        self.1.hash(state);
    }
}

impl PartialEq for Curious {
    fn eq(&self, other: &Self) -> bool {
        self.0.come();
        self.1 == other.1
    }
}

impl Eq for Curious {}

impl PartialOrd for Curious {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Curious {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.come();
        self.1.cmp(&other.1)
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.0.come();
    }
}

impl Algorithm for Curious {
    fn next_limit(&mut self, limit: f64, _: &Sample) -> f64 {
        self.0.come();
        limit
    }

    fn first_limit(&mut self, initial: f64) -> f64 {
        self.0.come();
        initial
    }

    fn base_latency(&self) -> Option<Duration> {
        self.0.come();
        None
    }
}

pub(super) async fn from_hooks() {
    within_reason("hooks", || {
        let (mut house, back) = (House::new(), Back::default());
        let mine = back.clone();
        let predicate = move |_: &mainstay::window::Counts| {
            mine.come();
            false
        };
        house.breaker =
            breaker::Handle::new("asks", breaker::Config::new().minimum_calls(1).open_when(predicate.clone()));
        let config = || {
            let curious = Curious(back.clone(), 0);
            concurrency::Config::custom(curious).initial(2).floor(1).window(ms(1)).min_calls(1)
        };
        house.limit = concurrency::Handle::new("asks", config());
        back.to(&house);
        let keys: keyed::Handle<Curious, bulkhead::Handle> =
            keyed::Handle::new("curious", keyed::Config::new(bulkhead::Config::new(1)).max_keys(2));
        for round in 0..4 {
            for key in 0..4 {
                let key = Curious(back.clone(), key + round);
                let _held = (keys.get(&key).try_acquire(), keys.peek(&key));
                let _ = (keys.remove(&key), keys.listing().len(), keys.sweep());
            }
            let _ = house.breaker.acquire().map(breaker::Permit::failure);
            let again = breaker::Config::new().minimum_calls(1).open_when(predicate.clone());
            let _ = house.breaker.reconfigure(again);
            let _ = house.limit.try_acquire().map(concurrency::Permit::success);
            house.limit.reconfigure(config()).unwrap();
        }
        let stack = Stack::builder("x").breaker(house.breaker.clone()).bulkhead(house.places.clone()).build();
        stack.observe({
            let back = back.clone();
            move |_: &Event<'_>| back.come()
        });
        let mut call = Box::pin(ServiceExt::oneshot(stack.service(Lab::new(Work::Fails)), ()));
        for _ in 0..8 {
            if super::poll(&mut call).is_ready() {
                break;
            }
        }
        let _ = stack.snapshot();
        assert!(back.times.load(SeqCst) > 20, "they came back");
        *back.house.lock().unwrap() = None;
    });
}
