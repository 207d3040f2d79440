//! Plans of isolated services: switched, and gone, while calls begin.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use loom::thread;
use mainstay::{
    BoxError, CarryRejection, Reason, breaker, bulkhead,
    contract::{Health, HealthStatus, Invocation},
    isolation::{Config, FallbackConfig, Isolated, IsolationManager, Level},
};
use tower::Service;

use crate::support::{block_on, model};

type Manager = IsolationManager<u8, u8, BoxError>;
type Users = Isolated<u8, u8, BoxError>;

/// Counts its calls.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Service<Invocation<u8>> for Counting {
    type Response = u8;
    type Error = BoxError;
    type Future = Ready<Result<u8, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Invocation<u8>) -> Self::Future {
        self.0.fetch_add(1, SeqCst);
        ready(Ok(0))
    }
}

impl Counting {
    fn calls(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A service at this level, with one place at level full.
fn registered(level: Level) -> (Manager, Users, Counting) {
    let (manager, service) = (Manager::new(), Counting::default());
    let users = register(&manager, &service, level);
    (manager, users, service)
}

fn register(manager: &Manager, service: &Counting, level: Level) -> Users {
    let breaker = breaker::Config::new().count_window(2).minimum_calls(2).measure_latency(false);
    let config = Config::new().level(level).bulkhead(bulkhead::Config::new(1)).breaker(breaker);
    manager.register_once("users", service.clone(), config, FallbackConfig::none()).unwrap()
}

fn call(users: &mut Users) -> Result<u8, Option<Reason>> {
    block_on(users.call(Invocation::of("find", 1).unwrap())).map_err(|error| reason(&error))
}

fn execute(manager: &Manager) -> Result<u8, Option<Reason>> {
    block_on(manager.execute("users", "find", 1)).map_err(|error| reason(&error))
}

fn reason(error: &BoxError) -> Option<Reason> {
    error.rejection().map(mainstay::Rejection::reason)
}

fn at_rest(manager: &Manager) {
    let stats = manager.stats();
    assert_eq!((stats.in_flight, stats.calls), (0, stats.answered + stats.failed + stats.dropped));
}

#[test]
fn isolation_a_call_is_under_the_plan_before_a_switch_or_after_it() {
    for handle in [true, false] {
        model(move || {
            let (manager, mut users, service) = registered(Level::Full);
            // At level full there is no place; at level none nobody asks.
            let taken = manager.bulkhead("users").unwrap().try_acquire().unwrap();
            let other = manager.clone();
            let mut others = users.clone();
            let thread = thread::spawn(move || if handle { call(&mut others) } else { execute(&other) });
            assert_eq!(manager.set_level("users", Level::None).unwrap(), Level::Full);
            assert!(call(&mut users).is_ok(), "a switch holds for all calls after it");
            let during = thread.join().unwrap();
            assert!(matches!(during, Ok(0) | Err(Some(Reason::BulkheadFull))), "{during:?}");
            assert_eq!(service.calls(), 1 + u64::from(during.is_ok()));
            drop(taken);
            at_rest(&manager);
            assert_eq!(manager.bulkhead("users").unwrap().running(), 0);
        });
    }
}

#[test]
fn isolation_a_place_taken_under_one_plan_is_given_back_under_the_next() {
    model(|| {
        let (manager, users, service) = registered(Level::Full);
        let mut others = users.clone();
        let thread = thread::spawn(move || call(&mut others));
        manager.set_level("users", Level::Basic).unwrap();
        manager.set_level("users", Level::Full).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(0));
        assert_eq!((service.calls(), manager.bulkhead("users").unwrap().running()), (1, 0));
        let breaker = manager.breaker("users").unwrap().snapshot();
        assert!(breaker.totals.calls.success <= 1);
        at_rest(&manager);
    });
}

#[test]
fn isolation_of_two_switches_none_is_lost() {
    model(|| {
        let (manager, mut users, service) = registered(Level::None);
        let other = manager.clone();
        let thread = thread::spawn(move || other.update_health("users", Health::unhealthy("gone")).unwrap());
        assert_eq!(manager.set_level("users", Level::Basic).unwrap(), Level::None);
        assert_eq!(thread.join().unwrap().status(), HealthStatus::Healthy);
        let info = manager.info("users").unwrap();
        assert_eq!((info.level, info.health.status()), (Level::Basic, HealthStatus::Unhealthy));
        assert_eq!(call(&mut users), Err(Some(Reason::Unhealthy)));
        assert_eq!(service.calls(), 0);
        at_rest(&manager);
    });
}

#[test]
fn isolation_a_switch_does_not_bring_back_what_has_gone() {
    model(|| {
        let (manager, mut users, service) = registered(Level::None);
        let (other, mut others) = (manager.clone(), users.clone());
        let switching = thread::spawn(move || other.set_level("users", Level::Basic).is_ok());
        let calling = thread::spawn(move || call(&mut others));
        manager.unregister("users").unwrap();
        assert!(!users.is_registered());
        switching.join().unwrap();
        let during = calling.join().unwrap();
        assert!(!users.is_registered() && !manager.contains("users"));
        assert_eq!(call(&mut users), Err(Some(Reason::UnknownService)));
        assert_eq!(execute(&manager), Err(Some(Reason::UnknownService)));
        assert_eq!(service.calls(), u64::from(during.is_ok()));
        at_rest(&manager);
    });
}

#[test]
fn isolation_a_handle_of_one_that_has_gone_does_not_call_its_successor() {
    model(|| {
        let (manager, mut users, service) = registered(Level::None);
        let mut others = users.clone();
        let thread = thread::spawn(move || call(&mut others));
        manager.unregister("users").unwrap();
        let successor = Counting::default();
        let mut new = register(&manager, &successor, Level::None);
        let during = thread.join().unwrap();
        assert_eq!((service.calls(), successor.calls()), (u64::from(during.is_ok()), 0));
        assert_eq!(call(&mut users), Err(Some(Reason::UnknownService)));
        assert!(call(&mut new).is_ok() && execute(&manager).is_ok());
        assert_eq!(successor.calls(), 2);
        at_rest(&manager);
    });
}

#[test]
fn isolation_the_breaker_has_the_settings_of_the_last_fallback() {
    model(|| {
        let (manager, _users, _) = registered(Level::Enhanced);
        let fallback = |seconds| {
            let breaker = breaker::Config::new().count_window(2).minimum_calls(2).measure_latency(false);
            let breaker = breaker.open_for(Duration::from_secs(seconds));
            FallbackConfig::none().circuit_breaker(breaker)
        };
        let other = manager.clone();
        let thread = thread::spawn(move || drop(other.update_fallback("users", fallback(7)).unwrap()));
        manager.update_fallback("users", fallback(8)).unwrap();
        thread.join().unwrap();
        let last = format!("{:?}", manager.fallback("users").unwrap());
        let breaker = format!("{:?}", manager.breaker("users").unwrap().config());
        let (seven, eight) = ("Ok(7s)", "Ok(8s)");
        assert!(last.contains(seven) ^ last.contains(eight), "{last}");
        assert_eq!(last.contains(seven), breaker.contains(seven), "{last}, and {breaker}");
    });
}

#[test]
fn isolation_two_of_one_name_are_one_registration() {
    model(|| {
        let manager = Manager::new();
        let other = manager.clone();
        let add = |manager: &Manager| {
            let config = Config::new().level(Level::None);
            manager.register_once("users", Counting::default(), config, FallbackConfig::none()).is_ok()
        };
        let thread = thread::spawn(move || add(&other));
        let mine = add(&manager);
        assert!(mine ^ thread.join().unwrap());
        assert_eq!(manager.len(), 1);
    });
}
