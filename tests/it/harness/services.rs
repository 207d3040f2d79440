//! Services that are ready and not called: they hold nothing, nobody waits for them, and others go first.

use mainstay::{
    Stack,
    balance::{Balance, RoundRobin},
    breaker::CircuitBreakerLayer,
    bulkhead::BulkheadLayer,
    contract::{AnyMethod, Invocation},
    fallback::{Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    isolation::{FallbackConfig, IsolationManager, Level},
    keyed::{self, KeyedLayer, key_fn},
    load_shed::{self, LoadShedLayer, ShedUnreadyLayer},
    priority_fn,
    retry::{self, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::{Layer, Service, ServiceExt};

use super::{Failure, Gauge, Lab, Work, at_rest, fleet, poll_ready, rooms, settle};
use crate::support::*;

const END: super::End = super::End { work: Work::Ok, polls: 0, done: false, begun: 0, ended: 0 };

pub(super) fn gauge<N: Into<u64>>(name: &'static str, gauge: impl Fn() -> N + 'static) -> Gauge {
    (name, Box::new(move || gauge().into()))
}

/// Keeps clones that are ready, asks one a thousand times, and drops them; others go through all the while.
pub(super) async fn idle<S, Req, T>(lab: &Lab, service: S, request: impl Fn() -> Req, gauges: Vec<Gauge>)
where
    S: Service<Req, Response = T, Error: std::fmt::Debug> + Clone,
{
    let mut kept: Vec<S> = (0..3).map(|_| service.clone()).collect();
    for clone in &mut kept {
        for _ in 0..3 {
            let _ = poll_ready(clone);
        }
        assert!(matches!(poll_ready(clone), std::task::Poll::Ready(Ok(()))));
    }
    at_rest(&gauges, lab, END, "ready and not called");
    assert!(service.clone().oneshot(request()).await.is_ok(), "another goes through");
    settle().await;
    at_rest(&gauges, lab, END, "after another");
    kept.truncate(1);
    for _ in 0..1_000 {
        let _ = poll_ready(&mut kept[0]);
    }
    at_rest(&gauges, lab, END, "asked a thousand times");
    drop(kept);
    settle().await;
    at_rest(&gauges, lab, END, "dropped while ready");
    assert!(service.oneshot(request()).await.is_ok(), "the next goes through");
    settle().await;
    at_rest(&gauges, lab, END, "after the next");
}

fn of_places(handle: &mainstay::bulkhead::Handle) -> Vec<Gauge> {
    let (one, two) = (handle.clone(), handle.clone());
    vec![gauge("running", move || one.running()), gauge("waiting", move || two.snapshot().waiting)]
}

pub(super) async fn admission() {
    let (lab, places) = (Lab::new(Work::Ok), rooms::bulkhead());
    idle(&lab, BulkheadLayer::new(places.clone()).layer(lab.clone()), || (), of_places(&places)).await;
    let breaker = half_open().await;
    let probes = breaker.clone();
    let gauges = vec![gauge("probes", move || probes.snapshot().probes_running)];
    idle(&lab, CircuitBreakerLayer::new(breaker).layer(lab.clone()), || (), gauges).await;
    unready().await;
}

/// In the mode that holds callers back, those who give up are on no list, and the others are woken.
async fn unready() {
    use mainstay::{admission::Readiness, bulkhead};
    let config = bulkhead::Config::new(1).readiness(Readiness::Unready);
    let (lab, places) = (Lab::new(Work::Ok), bulkhead::Handle::new("x", config));
    let service = BulkheadLayer::new(places.clone()).layer(lab.clone());
    let held = places.try_acquire().unwrap();
    let mut waiting: Vec<_> =
        (0..3).map(|_| tokio_test::task::spawn(ServiceExt::<()>::ready_oneshot(service.clone()))).collect();
    waiting.iter_mut().for_each(|task| assert!(task.poll().is_pending()));
    drop(waiting.remove(1));
    drop(held);
    assert!(waiting.iter().all(tokio_test::task::Spawn::is_woken), "each of them, though one has gone");
    for task in &mut waiting {
        // The service inside is ready at the second question.
        let _ = task.poll();
        assert!(task.poll().is_ready());
    }
    drop(waiting);
    assert!(places.try_acquire().is_ok());
}

pub(super) async fn queued() {
    let (lab, places) = (Lab::new(Work::Ok), rooms::bulkhead());
    idle(&lab, BulkheadLayer::new(places.clone()).queued().layer(lab.clone()), || (), of_places(&places)).await;
}

pub(super) async fn keyed() {
    let (lab, keys) =
        (Lab::new(Work::Ok), keyed::Handle::new("x", keyed::Config::new(mainstay::bulkhead::Config::new(1))));
    let one = keys.get(7_u32);
    let by = keys.by(key_fn(|(): &()| Some(7_u32)));
    idle(&lab, KeyedLayer::new(by.clone()).layer(lab.clone()), || (), of_places(&one)).await;
    idle(&lab, KeyedLayer::new(by).queued().layer(lab.clone()), || (), of_places(&one)).await;
}

pub(super) async fn prioritized() {
    let lab = Lab::new(Work::Ok);
    let handle = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1));
    let high = priority_fn(|(): &()| Some(mainstay::Priority::High));
    let known = handle.clone();
    let running = move || {
        vec![gauge("in flight", {
            let known = known.clone();
            move || known.snapshot().in_flight
        })]
    };
    let layer = LoadShedLayer::new(handle.clone());
    idle(&lab, layer.clone().priority_of(high).layer(lab.clone()), || (), running()).await;
    idle(&lab, layer.queued().priority_of(high).layer(lab.clone()), || (), running()).await;
}

pub(super) async fn shed_unready() {
    let (lab, handle) = (Lab::new(Work::Ok), load_shed::Handle::new("x", load_shed::Config::new()));
    let layer = ShedUnreadyLayer::new(handle.clone());
    idle(&lab, layer.layer(rooms::Patient(lab.clone())), || (), Vec::new()).await;
    assert_eq!(handle.snapshot().shed.total(), 0);
}

pub(super) async fn plain() {
    let lab = Lab::new(Work::Ok);
    idle(&lab, TimeoutLayer::new(ms(100)).layer(lab.clone()), || (), Vec::new()).await;
    let method = || Invocation::of("get", ()).unwrap();
    idle(&lab, AnyMethod(lab.clone()), method, Vec::new()).await;
}

pub(super) async fn retry() {
    let (lab, handle) = (Lab::new(Work::Ok), retry::Handle::new("x", retry::Config::new()));
    let calls = handle.clone();
    idle(&lab, RetryLayer::new(handle).layer(lab.clone()), || (), Vec::new()).await;
    assert_eq!((calls.snapshot().calls, calls.snapshot().retries), (2, 0), "what was not called is no call");
}

pub(super) async fn hedge() {
    let (lab, handle) = (Lab::new(Work::Ok), hedge::Handle::new("x", hedge::Config::new()));
    let calls = handle.clone();
    idle(&lab, HedgeLayer::new(handle).layer(lab.clone()), || (), Vec::new()).await;
    assert_eq!((calls.snapshot().calls, calls.snapshot().hedges), (2, 0), "what was not called is no call");
}

pub(super) async fn fallback() {
    let (lab, handle) = (Lab::new(Work::Ok), mainstay::fallback::Handle::new("x"));
    let layer = FallbackLayer::new(handle.clone(), Fallback::value(7));
    idle(&lab, layer.layer(lab.clone()), || (), Vec::new()).await;
    assert_eq!(handle.snapshot().used, 0);
}

pub(super) async fn stack() {
    let lab = Lab::new(Work::Ok);
    let stack = Stack::builder("x")
        .load_shed(load_shed::Config::new().in_flight(1))
        .rate_limit(mainstay::rate_limit::Config::new(1, ms(1)).burst(10))
        .retry(retry::Config::new())
        .breaker(consecutive(1))
        .bulkhead(mainstay::bulkhead::Config::new(1))
        .build();
    let (one, two, three) = (stack.clone(), stack.clone(), stack.clone());
    let gauges = vec![
        gauge("in flight", move || one.load_shed().unwrap().snapshot().in_flight),
        gauge("running", move || two.bulkhead().unwrap().running()),
    ];
    idle(&lab, stack.service(lab.clone()), || (), gauges).await;
    assert_eq!(three.rate_limit().unwrap().snapshot().available, 8);
}

pub(super) async fn balance() {
    let lab = Lab::new(Work::Ok);
    let handle = fleet::balanced(&lab);
    let known = handle.clone();
    let pending = move || known.snapshot().members.iter().map(|member| member.pending).sum::<u32>();
    idle(&lab, Balance::new(&handle, RoundRobin::new()), || (), vec![gauge("pending", pending)]).await;
}

pub(super) async fn caller() {
    let lab = Lab::new(Work::Ok);
    let client = super::client::client(&lab).await;
    let known = client.clone();
    let in_flight = move || known.metrics("users").map_or(0, |known| known.total.in_flight);
    let invocation = || Invocation::of("get", ()).unwrap();
    idle(&lab, client.service("users").unwrap(), invocation, vec![gauge("in flight", in_flight)]).await;
    assert_eq!(client.metrics("users").unwrap().total.requests, 2);
}

pub(super) async fn isolated() {
    let (lab, manager) = (Lab::new(Work::Ok), IsolationManager::<(), u32, Failure>::new());
    let service = manager.register("users", lab.clone(), Level::Full, FallbackConfig::none()).unwrap();
    let known = manager.clone();
    let running = move || known.bulkhead("users").unwrap().running();
    idle(&lab, service, || Invocation::of("get", ()).unwrap(), vec![gauge("running", running)]).await;
    let stats = manager.stats();
    assert_eq!((stats.calls, stats.answered, stats.dropped), (2, 2, 0));
}
