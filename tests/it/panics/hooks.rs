//! Hooks that are asked for an opinion: in every layer that has them, and through a stack.

use std::time::Duration;

use mainstay::{
    CarryRejection, Classify, Error, Outcome, Rejection, Stack,
    admission::AdmissionLayer,
    breaker, bulkhead,
    concurrency::{self, Algorithm, Sample},
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    keyed::{self, KeyedLayer},
    load_shed, rate_limit,
    retry::{self, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::{Layer, Service, ServiceExt};

use super::{Answering, Caller, Fuse, GetsTheResult, Trial, blows, text};
use crate::{
    harness::{Lab, Work},
    support::*,
};

pub(super) type Failure = Error<Boom>;

/// A call through a service.
pub(super) fn through<S, Req>(service: S, request: impl Fn() -> Req + 'static) -> Box<dyn Fn() -> Answering>
where
    S: Service<Req, Response = u32, Error = Failure> + Clone + 'static,
    Req: 'static,
{
    Box::new(move || {
        let (service, request) = (service.clone(), request());
        Box::pin(async move { text(service.oneshot(request).await) })
    })
}

pub(super) struct Try<'a> {
    pub(super) name: &'a str,
    pub(super) fuse: &'a Fuse,
    pub(super) lab: &'a Lab,
    pub(super) caller: Caller,
}

impl Try<'_> {
    pub(super) async fn run(&self, work: Work, call: Box<dyn Fn() -> Answering>, held: impl Fn() -> u64 + 'static) {
        let (lab, running) = (self.lab.clone(), self.lab.clone());
        let name = format!("{} ({work:?})", self.name);
        let held = Box::new(move || held() + running.running());
        let (fuse, caller) = (self.fuse.clone(), self.caller);
        Trial { name, fuse, work, call, held, caller, set: Box::new(move |work| lab.set(work)) }.run().await;
    }
}

/// A classifier that panics, in what it says or in how long to leave the service alone.
#[derive(Clone)]
struct Judge {
    fuse: Fuse,
    late: bool,
}

impl<T, E> Classify<T, E> for Judge {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        if !self.late {
            self.fuse.here();
        }
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, _: Result<&T, &E>) -> Option<Duration> {
        self.fuse.here();
        None
    }
}

pub(super) async fn classify() {
    for late in [false, true] {
        let works = if late { &[Work::Fails][..] } else { &[Work::Ok, Work::Fails][..] };
        for &work in works {
            classify_with(late, work).await;
        }
    }
}

async fn classify_with(late: bool, work: Work) {
    let new = || {
        let fuse = Fuse::default();
        (fuse.clone(), Judge { fuse, late }, Lab::new(work))
    };
    let breaker = || breaker::Handle::new("x", breaker::Config::new().minimum_calls(100));

    let (fuse, judge, lab) = new();
    let known = breaker();
    let probes = known.clone();
    let layer = AdmissionLayer::new(known.clone()).classify(judge);
    let it = Try { name: "breaker", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(layer.layer(lab.clone()), || ()), move || probes.snapshot().probes_running.into()).await;
    assert_eq!(known.snapshot().totals.calls.failures(), 1, "a classifier that panics is a failure");

    let (fuse, judge, lab) = new();
    let known = breaker();
    let handle = known.clone();
    let inside = lab.clone();
    let call: Box<dyn Fn() -> Answering> = Box::new(move || {
        let (handle, judge, lab) = (handle.clone(), judge.clone(), inside.clone());
        Box::pin(
            async move { text(handle.run_with(judge, async { lab.work_on().await }).await.map_err(Error::flatten)) },
        )
    });
    let it = Try { name: "breaker.run_with", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, call, || 0).await;
    assert_eq!(known.snapshot().totals.calls.failures(), 1);

    let (fuse, judge, lab) = new();
    let limit = concurrency::Handle::new("x", concurrency::Config::aimd().floor(1).initial(1));
    let known = limit.clone();
    let layer = AdmissionLayer::new(limit).classify(judge);
    let it = Try { name: "concurrency", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(layer.layer(lab.clone()), || ()), move || known.snapshot().in_flight.into()).await;

    let (fuse, judge, lab) = new();
    let shedder = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1));
    let known = shedder.clone();
    let layer = AdmissionLayer::new(shedder).classify(judge).queued();
    let it = Try { name: "load shed", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(layer.layer(lab.clone()), || ()), move || known.snapshot().in_flight.into()).await;

    let (fuse, judge, lab) = new();
    let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
    let one = keys.get(1_u32);
    let layer = KeyedLayer::new(keys.by(keyed::key_fn(|(): &()| Some(1_u32)))).classify(judge);
    let it = Try { name: "keyed", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(layer.layer(lab.clone()), || ()), move || one.running().into()).await;

    let (fuse, judge, lab) = new();
    let layer = RetryLayer::new(retry::Handle::new("x", retry::Config::new())).classify(judge);
    let it = Try { name: "retry", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(layer.layer(lab.clone()), || ()), || 0).await;

    if !late {
        let (fuse, judge, lab) = new();
        let layer = HedgeLayer::new(hedge::Handle::new("x", hedge::Config::new())).classify(judge);
        let it = Try { name: "hedge", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        it.run(work, through(layer.layer(lab.clone()), || ()), || 0).await;

        let (fuse, judge, lab) = new();
        let layer = FallbackLayer::new(fallback::Handle::new("x"), Fallback::value(9)).classify(judge);
        let it = Try { name: "fallback", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        it.run(work, through(layer.layer(lab.clone()), || ()), || 0).await;
    }

    let (fuse, judge, lab) = new();
    let stack = Stack::builder("x")
        .load_shed(load_shed::Config::new().in_flight(1))
        .retry(retry::Config::new())
        .breaker(breaker())
        .bulkhead(bulkhead::Config::new(1))
        .classify(judge)
        .build();
    let known = stack.clone();
    let held = move || {
        let seen = known.snapshot();
        u64::from(seen.bulkhead.unwrap().running) + u64::from(seen.load_shed.unwrap().in_flight)
    };
    let it = Try { name: "stack", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(work, through(stack.service(lab.clone()), || ()), held).await;
}

pub(super) async fn predicate() {
    let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
    let mine = fuse.clone();
    let config = breaker::Config::new().minimum_calls(100).open_when(move |_| {
        mine.here();
        false
    });
    let handle = breaker::Handle::new("x", config);
    let known = handle.clone();
    let it = Try { name: "breaker", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    let layer = breaker::CircuitBreakerLayer::new(handle);
    let held = move || known.snapshot().probes_running.into();
    it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), held).await;
}

/// An algorithm that panics where it is told to.
#[derive(Clone)]
struct Moody(Fuse, u32);

impl Algorithm for Moody {
    fn next_limit(&mut self, limit: f64, _: &Sample) -> f64 {
        if self.1 == 0 {
            self.0.here();
        }
        limit
    }

    fn base_latency(&self) -> Option<Duration> {
        if self.1 == 1 {
            self.0.here();
        }
        None
    }

    fn measures(&self) -> Option<u32> {
        if self.1 == 2 {
            self.0.here();
        }
        None
    }
}

pub(super) async fn algorithm() {
    for at in 0..3 {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let config =
            concurrency::Config::custom(Moody(fuse.clone(), at)).initial(2).floor(1).window(ms(1)).min_calls(1);
        let limit = concurrency::Handle::new("x", config);
        let known = limit.clone();
        super::after(5).await;
        let it = Try { name: "concurrency", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let layer = concurrency::ConcurrencyLayer::new(limit.clone());
        let held = move || known.snapshot().in_flight.into();
        it.run(Work::Ok, through(layer.layer(lab.clone()), || ()), held).await;
        assert_eq!(limit.snapshot().limit, 2, "it stays as it is");
        limit.reconfigure(concurrency::Config::aimd()).unwrap();
    }
}

pub(super) async fn observer() {
    let fuse = Fuse::default();
    let observer = {
        let fuse = fuse.clone();
        move |_: &mainstay::observe::Event<'_>| fuse.here()
    };
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1));
    let turns = rate_limit::Handle::new("x", rate_limit::Config::new(1, ms(1_000)));
    let shedder = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1));
    let limit = concurrency::Handle::new("x", concurrency::Config::aimd().floor(1).initial(1));
    let breaker = breaker::Handle::new("x", consecutive(1));
    places.observe(observer.clone());
    turns.observe(observer.clone());
    shedder.observe(observer.clone());
    limit.observe(observer.clone());
    breaker.observe(observer.clone());
    fuse.arm(true);
    let held =
        (places.try_acquire().unwrap(), turns.try_acquire(), shedder.try_acquire().unwrap(), limit.try_acquire());
    fail(&breaker, 1);
    for told in 1..=2 {
        assert!(places.try_acquire().is_err() && turns.try_acquire().is_err(), "{told}");
        assert!(shedder.try_acquire().is_err() && limit.try_acquire().is_err(), "{told}");
        assert!(breaker.acquire().is_err(), "{told}");
        // Each is told nothing more after its first panic; the breaker's was told of the transition.
        assert_eq!(fuse.times(), 5, "{told}");
    }
    drop(held);
    assert!(places.try_acquire().is_ok() && shedder.try_acquire().is_ok() && limit.try_acquire().is_ok());
    breaker.reset();
    assert!(breaker.acquire().is_ok());
    let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
    keys.observe_keys({
        let fuse = fuse.clone();
        move |_: Option<&u32>, _| fuse.here()
    });
    let _held = keys.get(1).try_acquire().unwrap();
    assert!(keys.get(1).try_acquire().is_err() && keys.get(1).try_acquire().is_err());
    assert_eq!(fuse.times(), 6);
}

/// An error type that cannot take a rejection without a panic.
#[derive(Debug, thiserror::Error)]
#[error("picky")]
struct Picky;

thread_local! {
    static PICKY: Fuse = Fuse::default();
}

impl CarryRejection for Picky {
    fn from_rejection(_: Rejection) -> Self {
        PICKY.with(Fuse::here);
        Self
    }

    fn rejection(&self) -> Option<&Rejection> {
        PICKY.with(Fuse::here);
        None
    }
}

/// It is the caller's: there is nothing else to answer with. What is held comes back all the same.
pub(super) async fn carry_rejection() {
    let hangs = tower::service_fn(|(): ()| std::future::pending::<Result<u32, Picky>>());
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1));
    let stack = Stack::builder("x")
        .load_shed(load_shed::Config::new().in_flight(2))
        .timeout(ms(20))
        .attempt_timeout(ms(10))
        .breaker(breaker::Config::new().minimum_calls(100))
        .bulkhead(places.clone())
        .once()
        .build();
    PICKY.with(|fuse| fuse.arm(true));
    // Cut off; and turned away.
    let mut cut = Box::pin(stack.service(hangs).call(()));
    assert!(super::poll(&mut cut).is_pending());
    super::after(30).await;
    assert!(blows(|| super::poll(&mut cut).is_ready()));
    drop(cut);
    let held = places.try_acquire().unwrap();
    let mut full = Box::pin(stack.service(hangs).call(()));
    assert!(blows(|| super::poll(&mut full).is_ready()));
    drop((full, held));
    let timeout = TimeoutLayer::new(ms(1));
    let mut cut = Box::pin(timeout.layer(hangs).call(()));
    assert!(super::poll(&mut cut).is_pending());
    super::after(30).await;
    assert!(blows(|| super::poll(&mut cut).is_ready()));
    PICKY.with(|fuse| fuse.arm(false));
    let seen = stack.snapshot();
    assert_eq!((seen.bulkhead.unwrap().running, seen.load_shed.unwrap().in_flight), (0, 0));
    let well = tower::service_fn(|(): ()| std::future::ready(Ok::<u32, Picky>(1)));
    assert_eq!(stack.service(well).oneshot(()).await.unwrap(), 1);
}
