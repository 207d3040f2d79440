//! The policies that let calls in: their futures, and those that wait for a permit.

use std::future::Future;

use mainstay::{
    Error,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    keyed::{self, KeyedLayer, Operation, Tenant, key_fn},
    load_shed::{self, LoadShedLayer, QueueDelay, ShedUnreadyLayer},
    rate_limit::{self, RateLimitLayer},
    time::Tick,
    timeout::{self, TimeoutLayer},
};
use tower::{Layer, Service, ServiceExt};

use super::{Case, Failure, Lab, Work, sweep, sweep_all};
use crate::support::*;

/// A call of a service that a layer has made.
pub(super) fn through<S>(service: S) -> impl Fn() -> tower::util::Oneshot<S, ()> + 'static
where
    S: Service<(), Response = u32, Error = Failure> + Clone + 'static,
{
    move || service.clone().oneshot(())
}

pub(super) fn breaker() -> breaker::Handle {
    breaker::Handle::new("x", breaker::Config::new().minimum_calls(1_000))
}

/// What a breaker has to know.
pub(super) fn of_breaker(case: Case, handle: &breaker::Handle) -> Case {
    let (one, other) = (handle.clone(), handle.clone());
    case.gauge("probes running", move || one.snapshot().probes_running).check(move |end| {
        let totals = other.snapshot().totals;
        let counted = (totals.calls.successes(), totals.calls.failures());
        assert_eq!((counted, totals.cancelled), (end.counted(), end.cut()), "{end:?}");
        assert_eq!((totals.ignored, totals.stale, totals.rejected), (0, 0, 0), "{end:?}");
    })
}

/// A bulkhead of one place, whose row is long.
pub(super) fn bulkhead() -> bulkhead::Handle {
    bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(4))
}

/// Nobody has a place, and nobody waits for one.
fn free_bulkhead(case: Case, handle: &bulkhead::Handle) -> Case {
    let (one, two, three) = (handle.clone(), handle.clone(), handle.clone());
    case.gauge("running", move || one.running()).gauge("waiting", move || two.snapshot().waiting).check(move |end| {
        let known = three.snapshot();
        assert_eq!((known.rejected, known.waited_too_long), (0, 0), "{end:?}");
    })
}

pub(super) fn of_bulkhead(case: Case, handle: &bulkhead::Handle) -> Case {
    let known = handle.clone();
    // One that waited has either begun or left.
    let left = move |end: super::End| known.snapshot().queued.saturating_sub(end.begun) == known.snapshot().left;
    free_bulkhead(case, handle).check(move |end| assert!(left(end), "{end:?}"))
}

fn concurrency() -> concurrency::Handle {
    let config = concurrency::Config::aimd().floor(1).initial(1).drops(concurrency::Drops::Every);
    concurrency::Handle::new("x", config)
}

fn of_concurrency(case: Case, handle: &concurrency::Handle) -> Case {
    let (one, other) = (handle.clone(), handle.clone());
    case.gauge("in flight", move || one.snapshot().in_flight).check(move |end| {
        let known = other.snapshot();
        assert_eq!((known.rejected, known.dropped), (0, end.counted().1), "{end:?}");
    })
}

fn load_shed() -> load_shed::Handle {
    let queue = QueueDelay::new().target(ms(500)).interval(ms(1_000)).max_queue(4);
    let throttle = load_shed::Throttle::new().min_requests(1_000);
    let config = load_shed::Config::new().in_flight(1).queue_delay(queue).throttle(throttle);
    load_shed::Handle::new("x", config)
}

fn of_load_shed(case: Case, handle: &load_shed::Handle) -> Case {
    let (one, two, three) = (handle.clone(), handle.clone(), handle.clone());
    case.gauge("in flight", move || one.snapshot().in_flight).gauge("waiting", move || two.snapshot().waiting).check(
        move |end| {
            let known = three.snapshot();
            assert_eq!(known.shed.total(), 0, "{end:?}");
            // What the throttle has learnt: a call that was given up was neither accepted nor refused.
            let (good, bad) = end.counted();
            assert_eq!((known.requests, known.accepts), (good + bad, good), "{end:?}");
        },
    )
}

fn rate_limit() -> rate_limit::Handle {
    rate_limit::Handle::new("x", rate_limit::Config::new(1, ms(4)).burst(3).max_wait(ms(1_000)))
}

/// All turns are used up, and one comes back every four milliseconds. Those of calls that never began come back too.
fn of_rate_limit(lab: &Lab, handle: &rate_limit::Handle, call: impl Fn() -> Called + 'static) -> Case {
    (0..3).for_each(|_| handle.try_acquire().unwrap());
    let (handle, began) = (handle.clone(), Tick::now());
    // The next one would wait for its turn, as it should.
    Case::new(lab, call).not_again().check(move |end| {
        let known = handle.snapshot();
        let back = Tick::now().since(began).as_millis() as u64 / 4;
        assert_eq!((known.available, known.rejected), ((back - end.begun).min(3), 0), "{end:?}");
    })
}

type Called = std::pin::Pin<Box<dyn Future<Output = Result<(), ()>>>>;

fn dull<T, E>(call: impl Future<Output = Result<T, E>> + 'static) -> Called {
    Box::pin(async move { call.await.map(drop).map_err(drop) })
}

pub(super) async fn admission() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), breaker());
        of_breaker(Case::new(&lab, through(CircuitBreakerLayer::new(handle.clone()).layer(lab.clone()))), &handle)
    })
    .await;
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), bulkhead());
        of_bulkhead(Case::new(&lab, through(BulkheadLayer::new(handle.clone()).layer(lab.clone()))), &handle)
    })
    .await;
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), concurrency());
        of_concurrency(Case::new(&lab, through(ConcurrencyLayer::new(handle.clone()).layer(lab.clone()))), &handle)
    })
    .await;
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), load_shed());
        of_load_shed(Case::new(&lab, through(LoadShedLayer::new(handle.clone()).layer(lab.clone()))), &handle)
    })
    .await;
    half_open_probe().await;
}

/// The one probe of a half-open circuit.
async fn half_open_probe() {
    for work in [Work::Later, Work::Hangs] {
        sweep(work, async |work| {
            let (lab, handle) = (Lab::new(work), half_open().await);
            let probes = handle.clone();
            let call = through(CircuitBreakerLayer::new(handle.clone()).layer(lab.clone()));
            Case::new(&lab, call).gauge("probes", move || probes.snapshot().probes_running).check(move |end| {
                let totals = handle.snapshot().totals;
                assert_eq!((totals.calls.calls(), totals.cancelled), (1 + end.ended, end.cut()), "{end:?}");
                let state = if end.done { breaker::State::Closed } else { breaker::State::HalfOpen };
                assert_eq!(handle.state(), state, "{end:?}");
            })
        })
        .await;
    }
}

pub(super) async fn queued() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), bulkhead());
        let held = handle.try_acquire().unwrap();
        let call = through(BulkheadLayer::new(handle.clone()).queued().layer(lab.clone()));
        of_bulkhead(Case::new(&lab, call).holding(held), &handle)
    })
    .await;
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), load_shed());
        let held = handle.try_acquire().unwrap();
        let call = through(LoadShedLayer::new(handle.clone()).queued().layer(lab.clone()));
        of_load_shed(Case::new(&lab, call).holding(held), &handle)
    })
    .await;
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), rate_limit());
        let service = RateLimitLayer::new(handle.clone()).queued().layer(lab.clone());
        of_rate_limit(&lab, &handle, move || dull(service.clone().oneshot(())))
    })
    .await;
}

/// A pair of keyed limits, of which the second is waited for while the first is held.
pub(super) async fn keyed_pair() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let keys = keyed::Handle::new("k", keyed::Config::new(bulkhead::Config::new(1).max_queue(4)));
        let (own, all) = (keys.get(7_u32), bulkhead());
        let held = all.try_acquire().unwrap();
        let call = KeyedLayer::new((keys.by(key_fn(|(): &()| Some(7_u32))), all.clone())).queued().layer(lab.clone());
        of_bulkhead(of_bulkhead(Case::new(&lab, through(call)).holding(held), &all), &own)
    })
    .await;
}

pub(super) async fn bulkhead_acquire() {
    acquires(bulkhead, bulkhead::Handle::acquire, |handle| Box::new(handle.try_acquire().unwrap()), free_bulkhead)
        .await;
}

pub(super) async fn load_shed_acquire() {
    acquires(load_shed, load_shed::Handle::acquire, |handle| Box::new(handle.try_acquire().unwrap()), of_load_shed)
        .await;
}

/// A permit that is waited for, and held by nobody who works.
async fn acquires<H: Clone + 'static, F>(
    handle: impl Fn() -> H,
    acquire: impl Fn(&H) -> F + Copy + 'static,
    hold: impl Fn(&H) -> Box<dyn std::any::Any>,
    of: impl Fn(Case, &H) -> Case,
) where
    F: Future<Output: super::Verdict> + 'static,
{
    for held in [false, true] {
        sweep(Work::Ok, async |work| {
            let (lab, handle) = (Lab::new(work), handle());
            let mine = handle.clone();
            // The permit is dropped with the answer.
            let mut case = Case::new(&lab, move || acquire(&mine));
            if held {
                case = case.holding(hold(&handle));
            }
            of(case, &handle)
        })
        .await;
    }
}

pub(super) async fn rate_limit_acquire() {
    sweep(Work::Ok, async |work| {
        let (lab, handle) = (Lab::new(work), rate_limit());
        let (mine, inside) = (handle.clone(), lab.clone());
        let call = move || {
            let (turn, lab) = (mine.acquire(), inside.clone());
            dull(async move {
                turn.await.map_err(Error::Rejected)?;
                lab.work_on().await
            })
        };
        of_rate_limit(&lab, &handle, call)
    })
    .await;
}

pub(super) async fn levels_acquire() {
    for at in 0..3 {
        sweep(Work::Ok, async |work| {
            let (lab, levels) = (Lab::new(work), levels());
            let (tenant, operation) = (Tenant::new("a").unwrap(), Operation::new("get").unwrap());
            let each = [
                levels.tenants().get(tenant.clone()),
                levels.operations().get(operation.clone()),
                levels.global().clone(),
            ];
            let held: Vec<_> = (0..each[at].snapshot().limit).map(|_| each[at].try_acquire().unwrap()).collect();
            let case = Case::new(&lab, move || levels.acquire(tenant.clone(), operation.clone())).holding(held);
            each.iter().fold(case, free_bulkhead)
        })
        .await;
    }
}

pub(super) fn levels() -> keyed::Levels {
    let one = || bulkhead::Config::new(1).max_queue(4);
    let config = keyed::LevelsConfig::new(bulkhead::Config::new(2).max_queue(4));
    keyed::Levels::new("x", config.tenant_default(one()).operation_default(one()))
}

pub(super) async fn shed_unready() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), load_shed::Handle::new("x", load_shed::Config::new()));
        let service = ShedUnreadyLayer::new(handle.clone()).layer(Patient(lab.clone()));
        Case::new(&lab, through(service)).check(move |_| assert_eq!(handle.snapshot().shed.total(), 0))
    })
    .await;
}

/// Ready at once: a service that is not is shed.
#[derive(Clone)]
pub(super) struct Patient(pub(super) Lab);

impl Service<()> for Patient {
    type Response = u32;
    type Error = Failure;
    type Future = super::lab::Working;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Failure>> {
        let _ = Service::<()>::poll_ready(&mut self.0, cx);
        Service::<()>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.call(())
    }
}

pub(super) async fn timeout() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), timeout::Handle::new("x", ms(100)));
        let call = through(TimeoutLayer::with(handle.clone()).layer(lab.clone()));
        Case::new(&lab, call).check(move |end| assert_eq!(handle.snapshot().timed_out, 0, "{end:?}"))
    })
    .await;
    // Up to the end of the limit.
    sweep(Work::Later, async |_| {
        let (lab, handle) = (Lab::new(Work::Hangs), timeout::Handle::new("x", ms(5)));
        let call = through(TimeoutLayer::with(handle.clone()).layer(lab.clone()));
        Case::new(&lab, call).check(move |end| assert_eq!(handle.snapshot().timed_out, u64::from(end.done), "{end:?}"))
    })
    .await;
}

/// Runs of a handle: the same future in all rooms.
pub(super) async fn bulkhead_run() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), bulkhead());
        let (held, mine, inside) = (handle.try_acquire().unwrap(), handle.clone(), lab.clone());
        let call =
            move || run(&mine, &inside, |handle, work| Box::pin(async move { handle.run(work).await.map(drop) }));
        of_bulkhead(Case::new(&lab, call).holding(held), &handle)
    })
    .await;
}

type Ran = std::pin::Pin<Box<dyn Future<Output = Result<(), Error<Failure>>>>>;
type Works = std::pin::Pin<Box<dyn Future<Output = Answer>>>;

/// The work begins when it is first polled.
pub(super) fn run<H: Clone>(handle: &H, lab: &Lab, run: impl Fn(H, Works) -> Ran) -> Ran {
    let lab = lab.clone();
    run(handle.clone(), Box::pin(async move { lab.work_on().await }))
}

pub(super) async fn rate_limit_run() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), rate_limit());
        let (mine, inside) = (handle.clone(), lab.clone());
        let run_it =
            move || run(&mine, &inside, |handle, work| Box::pin(async move { handle.run(work).await.map(drop) }));
        of_rate_limit(&lab, &handle, move || dull(run_it()))
    })
    .await;
}

pub(super) async fn levels_run() {
    sweep_all(async |work| {
        let (lab, levels) = (Lab::new(work), levels());
        let (global, inside) = (levels.global().clone(), lab.clone());
        let tenant = levels.tenants().get(Tenant::new("a").unwrap());
        let held = tenant.try_acquire().unwrap();
        let call = move || {
            run(&levels, &inside, |levels, work| {
                let (tenant, operation) = (Tenant::new("a").unwrap(), Operation::new("get").unwrap());
                Box::pin(async move { levels.run(tenant, operation, work).await.map(drop) })
            })
        };
        of_bulkhead(of_bulkhead(Case::new(&lab, call).holding(held), &global), &tenant)
    })
    .await;
}

/// All ways to run a future behind a handle that judges it.
macro_rules! judged_runs {
    ($name:ident, $of:expr, $make:expr, |$handle:ident, $work:ident| $run:expr) => {
        pub(super) async fn $name() {
            sweep_all(async |work| {
                let (lab, handle) = (Lab::new(work), $make);
                let (mine, inside) = (handle.clone(), lab.clone());
                let call = move || run(&mine, &inside, |$handle, $work| Box::pin(async move { $run }));
                ($of)(Case::new(&lab, call), &handle)
            })
            .await;
        }
    };
}

judged_runs!(breaker_run, of_breaker, breaker(), |handle, work| handle.run(work).await.map(drop));
judged_runs!(breaker_run_carrying, of_breaker, breaker(), |handle, work| {
    handle.run_carrying(work).await.map(drop).map_err(Error::Inner)
});
judged_runs!(breaker_run_with, of_breaker, breaker(), |handle, work| {
    handle.run_with(mainstay::OnError, work).await.map(drop)
});
judged_runs!(breaker_run_or_else, of_breaker, breaker(), |handle, work| {
    handle.run_or_else(work, |_| async { Ok(2) }).await.map(drop).map_err(Error::Inner)
});
judged_runs!(concurrency_run, of_concurrency, concurrency(), |handle, work| handle.run(work).await.map(drop));
judged_runs!(concurrency_run_carrying, of_concurrency, concurrency(), |handle, work| {
    handle.run_carrying(work).await.map(drop).map_err(Error::Inner)
});
judged_runs!(concurrency_run_with, of_concurrency, concurrency(), |handle, work| {
    handle.run_with(mainstay::OnError, work).await.map(drop)
});
judged_runs!(load_shed_run, of_load_shed, load_shed(), |handle, work| handle.run(work).await.map(drop));
judged_runs!(load_shed_run_carrying, of_load_shed, load_shed(), |handle, work| {
    handle.run_carrying(work).await.map(drop).map_err(Error::Inner)
});
judged_runs!(load_shed_run_with, of_load_shed, load_shed(), |handle, work| {
    handle.run_with(mainstay::OnError, work).await.map(drop)
});
judged_runs!(timeout_run, of_timeout, timeout::Handle::new("x", ms(100)), |handle, work| {
    handle.run(work).await.map(drop)
});
judged_runs!(timeout_run_carrying, of_timeout, timeout::Handle::new("x", ms(100)), |handle, work| {
    handle.run_carrying(work).await.map(drop).map_err(Error::Inner)
});

fn of_timeout(case: Case, handle: &timeout::Handle) -> Case {
    let handle = handle.clone();
    case.check(move |end| assert_eq!(handle.snapshot().timed_out, 0, "{end:?}"))
}
