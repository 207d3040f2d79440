//! The service inside: panics when it is asked, when it is called, in its answer, in its end, and in the end of what it
//! was given and of what it gives. At every layer, and through a stack.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use mainstay::{
    Error, Stack,
    admission::Readiness,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    keyed::{self, KeyedLayer, key_fn},
    load_shed::{self, LoadShedLayer, ShedUnreadyLayer},
    rate_limit::{self, RateLimitLayer},
    retry::{self, Backoff, RetryLayer},
    timeout::{self, TimeoutLayer},
};
use tower::{Layer, Service, ServiceExt};

use super::{Fuse, blows, poll};
use crate::support::*;

type Failure = Error<Boom>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Clone,
    Ready,
    Call,
    Poll,
    DropOfFuture,
    DropOfRequest,
    DropOfResponse,
}

const ALL: [At; 7] =
    [At::Clone, At::Ready, At::Call, At::Poll, At::DropOfFuture, At::DropOfRequest, At::DropOfResponse];

/// A service that panics where it is told to. It fails the first of two attempts, if it is told to fail.
pub(super) struct Fragile {
    pub(super) at: At,
    pub(super) fuse: Fuse,
    pub(super) fails: bool,
}

impl Fragile {
    fn here(&self, at: At) {
        if self.at == at {
            self.fuse.here();
        }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        self.here(At::Clone);
        Self { fuse: self.fuse.clone(), ..*self }
    }
}

/// What is given and what comes back: its end may panic.
#[derive(Debug)]
pub(super) struct Thing(Option<Thorn>);

#[derive(Clone)]
pub(super) struct Thorn(Fuse);

impl std::fmt::Debug for Thorn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Thorn")
    }
}

impl Thing {
    pub(super) fn new(of: &Fragile, at: At) -> Self {
        Self((of.at == at).then(|| Thorn(of.fuse.clone())))
    }
}

impl Clone for Thing {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.0.iter().for_each(|thorn| thorn.0.here());
    }
}

pub(super) struct Answering {
    of: Fragile,
    waited: bool,
}

impl Future for Answering {
    type Output = Result<Thing, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.of.here(At::Poll);
        if self.of.fails {
            return Poll::Ready(Err(Error::Inner(Boom)));
        }
        Poll::Ready(Ok(Thing::new(&self.of, At::DropOfResponse)))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.of.here(At::DropOfFuture);
    }
}

impl Service<Thing> for Fragile {
    type Response = Thing;
    type Error = Failure;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.here(At::Ready);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Thing) -> Answering {
        self.here(At::Call);
        drop(request);
        Answering { of: Self { at: self.at, fuse: self.fuse.clone(), fails: self.fails }, waited: false }
    }
}

/// Calls with the panic: to its end, or dropped half-way. Then without.
fn tried<S>(name: &str, fragile: &Fragile, service: &S, held: &dyn Fn() -> u64)
where
    S: Service<Thing, Response = Thing, Error = Failure> + Clone,
{
    for half_way in [false, true] {
        fragile.fuse.arm(true);
        let call = || {
            let mut service = service.clone();
            let ready = crate::harness::poll_ready(&mut service);
            assert!(matches!(ready, Poll::Ready(Ok(()))));
            let mut call = Box::pin(service.call(Thing::new(fragile, At::DropOfRequest)));
            for _ in 0..if half_way { 1 } else { 9 } {
                match poll(&mut call) {
                    Poll::Pending => {}
                    Poll::Ready(answer) => return drop(answer),
                }
            }
        };
        let _may_be_spared = blows(call);
        fragile.fuse.arm(false);
        let at = fragile.at;
        assert_eq!(held(), 0, "{name}: a panic in {at:?}, half-way: {half_way}");
        let mut next = Box::pin(service.clone().oneshot(Thing(None)));
        let mut ended = None;
        for _ in 0..20 {
            if let Poll::Ready(answer) = poll(&mut next) {
                ended = Some(answer.is_ok() != fragile.fails);
                break;
            }
        }
        assert_eq!(ended, Some(true), "{name}: the next call after a panic in {at:?}, half-way: {half_way}");
        drop(next);
        assert_eq!(held(), 0, "{name}: after a panic in {at:?}");
    }
}

fn each(name: &str, try_one: impl Fn(&Fragile)) {
    for at in ALL {
        for fails in [false, true] {
            let fragile = Fragile { at, fuse: Fuse::default(), fails };
            try_one(&fragile);
            // A response that never comes ends nowhere.
            let must = !(fails && at == At::DropOfResponse) && at != At::Clone;
            assert!(!must || fragile.fuse.times() > 0, "{name}: {at:?} was not tried");
        }
    }
}

pub(super) async fn every_layer() {
    each("breaker", |fragile| {
        let handle = breaker::Handle::new("x", breaker::Config::new().minimum_calls(100));
        let known = handle.clone();
        let service = CircuitBreakerLayer::new(handle.clone()).layer(fragile.clone());
        tried("breaker", fragile, &service, &|| known.snapshot().probes_running.into());
    });
    for queued in [false, true] {
        each("bulkhead", |fragile| {
            let handle = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(2));
            let layer = BulkheadLayer::new(handle.clone());
            let held = || u64::from(handle.running() + handle.snapshot().waiting);
            match queued {
                true => tried("queued bulkhead", fragile, &layer.queued().layer(fragile.clone()), &held),
                false => tried("bulkhead", fragile, &layer.layer(fragile.clone()), &held),
            }
        });
    }
    each("concurrency", |fragile| {
        let handle = concurrency::Handle::new("x", concurrency::Config::aimd().floor(1).initial(1));
        let service = ConcurrencyLayer::new(handle.clone()).layer(fragile.clone());
        tried("concurrency", fragile, &service, &|| handle.snapshot().in_flight.into());
    });
    each("load shed", |fragile| {
        let handle = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1));
        let service = LoadShedLayer::new(handle.clone()).layer(fragile.clone());
        tried("load shed", fragile, &service, &|| handle.snapshot().in_flight.into());
        let service = ShedUnreadyLayer::new(handle.clone()).layer(service);
        tried("shed unready", fragile, &service, &|| handle.snapshot().in_flight.into());
    });
    each("rate limit", |fragile| {
        let handle = rate_limit::Handle::new("x", rate_limit::Config::new(1_000, ms(1)).burst(1_000));
        let service = RateLimitLayer::new(handle.clone()).queued().layer(fragile.clone());
        tried("rate limit", fragile, &service, &|| handle.snapshot().waited);
    });
    each("keyed", |fragile| {
        let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
        let one = keys.get(1_u32);
        let layer = KeyedLayer::new(keys.by(key_fn(|_: &Thing| Some(1_u32))));
        tried("keyed", fragile, &layer.clone().layer(fragile.clone()), &|| one.running().into());
        tried("queued keyed", fragile, &layer.queued().layer(fragile.clone()), &|| one.running().into());
    });
}

pub(super) async fn every_layer_that_calls_again() {
    each("timeout", |fragile| {
        let handle = timeout::Handle::new("x", ms(1_000));
        tried("timeout", fragile, &TimeoutLayer::with(handle.clone()).layer(fragile.clone()), &|| 0);
        assert_eq!(handle.snapshot().timed_out, 0);
    });
    each("retry", |fragile| {
        let budget = retry::Budget::new(retry::BudgetConfig::new().ratio(1.0).min_per_second(0));
        let config = retry::Config::new().attempts(2).backoff(Backoff::fixed(ms(0)));
        let handle = retry::Handle::new("x", config).with_budget(&budget);
        let service = RetryLayer::new(handle.clone()).layer(fragile.clone());
        let spent = || {
            let known = handle.snapshot();
            known.calls - known.retries - budget.available()
        };
        tried("retry", fragile, &service, &spent);
    });
    each("hedge", |fragile| {
        let budget = hedge::Budget::new(hedge::BudgetConfig::new().ratio(1.0).min_per_second(0));
        (0..20).for_each(|_| budget.deposit());
        let handle = hedge::Handle::new("x", hedge::Config::new().delay(ms(1_000))).with_budget(&budget);
        let service = HedgeLayer::new(handle.clone()).layer(fragile.clone());
        tried("hedge", fragile, &service, &|| 20 - handle.snapshot().hedges - budget.available());
    });
    each("fallback", |fragile| {
        let handle = fallback::Handle::new("x");
        let service = FallbackLayer::new(handle, Fallback::by(Nothing)).layer(fragile.clone());
        tried("fallback", fragile, &service, &|| 0);
    });
}

/// Has no answer.
#[derive(Clone)]
struct Nothing;

impl fallback::Strategy<Thing, Thing, Failure> for Nothing {
    type Kept = ();
    type Future = std::future::Ready<Result<Thing, Failure>>;

    fn keep(&self, _: &mut Thing) {}

    fn fall_back(&self, (): &mut (), _: Result<&Thing, &Failure>) -> Option<Self::Future> {
        None
    }
}

pub(super) async fn a_stack() {
    for mode in [Readiness::Reject, Readiness::Unready] {
        each("stack", |fragile| {
            let stack = Stack::builder("x")
                .load_shed(load_shed::Config::new().in_flight(1))
                .rate_limit(rate_limit::Config::new(1_000, ms(1)).burst(1_000).max_wait(ms(10)))
                .timeout(ms(1_000))
                .retry(retry::Config::new().attempts(2).backoff(Backoff::fixed(ms(0))))
                .hedge(hedge::Config::new().delay(ms(500)))
                .breaker(breaker::Config::new().minimum_calls(100).readiness(mode))
                .concurrency(concurrency::Config::aimd().floor(1).initial(2))
                .bulkhead(bulkhead::Config::new(2).max_queue(2).readiness(mode))
                .attempt_timeout(ms(800))
                .fallback(Nothing)
                .build();
            let held = || {
                let seen = stack.snapshot();
                let (places, shedder) = (seen.bulkhead.unwrap(), seen.load_shed.unwrap());
                u64::from(places.running + places.waiting + shedder.in_flight + shedder.waiting)
                    + u64::from(seen.concurrency.unwrap().in_flight)
            };
            tried("stack", fragile, &stack.service(fragile.clone()), &held);
        });
    }
}
