//! What calls a service more than once, or another one in its place, and a whole stack.

use std::{cell::RefCell, rc::Rc};

use mainstay::{
    Error, Stack, breaker, bulkhead, concurrency,
    fallback::{self, Fallback, FallbackLayer, Never},
    hedge::{self, HedgeLayer},
    load_shed, rate_limit,
    retry::{self, Backoff, Budget, BudgetConfig, RetryLayer},
};
use tower::Layer;

use super::{
    Case, Failure, Lab, Work,
    rooms::{bulkhead, through},
    sweep, sweep_all,
};
use crate::support::*;

/// A hundred retries, and none for calls.
fn budget() -> Budget {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000));
    (0..100).for_each(|_| budget.deposit());
    budget
}

fn retry(budget: &Budget) -> retry::Handle {
    let config = retry::Config::new().attempts(3).backoff(Backoff::fixed(ms(2))).jitter(retry::Jitter::None);
    retry::Handle::new("x", config).with_budget(budget)
}

/// What was sent is paid for, and nothing else is.
fn of_retry(case: Case, handle: &retry::Handle, budget: &Budget) -> Case {
    let (one, other, budget) = (handle.clone(), handle.clone(), budget.clone());
    case.gauge("reserved", move || {
        let known = one.snapshot();
        100 + known.calls - known.retries - budget.available()
    })
    .check(move |end| {
        let known = other.snapshot();
        assert_eq!(known.retries, end.begun.saturating_sub(1), "{end:?}");
        assert_eq!(known.exhausted, u64::from(end.done && end.work == Work::Fails), "{end:?}");
        assert_eq!((known.recovered, known.budget_refused, known.not_replayed), (0, 0, 0), "{end:?}");
    })
}

pub(super) async fn retry_layer() {
    sweep_all(async |work| {
        let (lab, budget) = (Lab::new(work), budget());
        let handle = retry(&budget);
        of_retry(Case::new(&lab, through(RetryLayer::new(handle.clone()).layer(lab.clone()))), &handle, &budget)
    })
    .await;
}

macro_rules! retry_runs {
    ($name:ident, |$handle:ident, $lab:ident| $run:expr) => {
        pub(super) async fn $name() {
            sweep_all(async |work| {
                let (lab, budget) = (Lab::new(work), budget());
                let handle = retry(&budget);
                let (mine, inside) = (handle.clone(), lab.clone());
                let call = move || {
                    let ($handle, $lab) = (mine.clone(), inside.clone());
                    async move { $run }
                };
                of_retry(Case::new(&lab, call), &handle, &budget)
            })
            .await;
        }
    };
}

retry_runs!(retry_run, |handle, lab| handle.run(|| lab.work_on()).await);
retry_runs!(retry_run_any, |handle, lab| handle.run_any(|| lab.work_on()).await);
retry_runs!(retry_run_with, |handle, lab| handle.run_with(mainstay::OnError, |_| lab.work_on()).await);
retry_runs!(retry_run_by, |handle, lab| handle.run_by(retry::AnyError, |_| lab.work_on()).await);

fn hedge(budget: &Budget) -> hedge::Handle {
    hedge::Handle::new("x", hedge::Config::new().attempts(3).delay(ms(2))).with_budget(budget)
}

fn of_hedge(case: Case, handle: &hedge::Handle, budget: &Budget) -> Case {
    let (one, other, budget) = (handle.clone(), handle.clone(), budget.clone());
    case.gauge("reserved", move || 100 - one.snapshot().hedges - budget.available()).check(move |end| {
        let known = other.snapshot();
        assert_eq!(known.hedges, end.begun.saturating_sub(1), "{end:?}");
        assert_eq!((known.over_budget, known.not_replayed), (0, 0), "{end:?}");
    })
}

pub(super) async fn hedge_layer() {
    sweep_all(async |work| {
        let (lab, budget) = (Lab::new(work), budget());
        let handle = hedge(&budget);
        of_hedge(Case::new(&lab, through(HedgeLayer::new(handle.clone()).layer(lab.clone()))), &handle, &budget)
    })
    .await;
}

macro_rules! hedge_runs {
    ($name:ident, |$handle:ident, $lab:ident| $run:expr) => {
        pub(super) async fn $name() {
            sweep_all(async |work| {
                let (lab, budget) = (Lab::new(work), budget());
                let handle = hedge(&budget);
                let (mine, inside) = (handle.clone(), lab.clone());
                let call = move || {
                    let ($handle, $lab) = (mine.clone(), inside.clone());
                    async move { $run }
                };
                of_hedge(Case::new(&lab, call), &handle, &budget)
            })
            .await;
        }
    };
}

hedge_runs!(hedge_run, |handle, lab| handle.run(|_| lab.work_on()).await);
hedge_runs!(hedge_run_any, |handle, lab| handle.run_any(|_| lab.work_on()).await);
hedge_runs!(hedge_run_with, |handle, lab| handle.run_with(mainstay::OnError, |_| lab.work_on()).await);

/// An alternative that takes its time, behind a bulkhead of its own.
fn alternative(
    lab: &Lab,
    places: &bulkhead::Handle,
) -> impl tower::Service<(), Response = u32, Error = Failure> + Clone + use<> {
    bulkhead::BulkheadLayer::new(places.clone()).queued().layer(lab.clone())
}

fn of_fallback(case: Case, handle: &fallback::Handle, other: &Lab) -> Case {
    let (handle, running) = (handle.clone(), other.clone());
    case.gauge("alternatives running", move || running.running()).check(move |end| {
        let known = handle.snapshot();
        assert_eq!(known.used, u64::from(end.done && end.work == Work::Fails), "{end:?}");
        assert_eq!((known.failed, known.nothing, known.not_covered), (0, 0, 0), "{end:?}");
    })
}

pub(super) async fn fallback_layer() {
    sweep_all(async |work| {
        let (lab, other, places) = (Lab::new(work), Lab::new(Work::Later), bulkhead());
        let handle = fallback::Handle::new("x");
        let strategy = Fallback::service(alternative(&other, &places));
        let held = places.try_acquire().unwrap();
        let call = through(FallbackLayer::new(handle.clone(), strategy).layer(lab.clone()));
        let running = places.clone();
        let case = Case::new(&lab, call).holding(held).gauge("places", move || running.running());
        of_fallback(case, &handle, &other)
    })
    .await;
}

/// The first alternative fails after a while, the second answers after a while.
pub(super) async fn fallback_chain() {
    sweep_all(async |work| {
        let (lab, one, other) = (Lab::new(work), Lab::new(Work::Fails), Lab::new(Work::Later));
        let handle = fallback::Handle::new("x");
        let strategy = Fallback::service(one.clone()).or(Fallback::service(other.clone()));
        let case = Case::new(&lab, through(FallbackLayer::new(handle.clone(), strategy).layer(lab.clone())));
        let handle = handle.clone();
        case.gauge("first", move || one.running()).gauge("second", move || other.running()).check(move |end| {
            let used = handle.snapshot().used;
            assert_eq!(used, u64::from(end.done && end.work == Work::Fails), "{end:?}");
        })
    })
    .await;
}

/// The future of a strategy that has none.
pub(super) async fn never() {
    sweep_all(async |work| {
        let (lab, handle) = (Lab::new(work), fallback::Handle::new("x"));
        let call = through(FallbackLayer::new(handle.clone(), fallback::NoFallback).layer(lab.clone()));
        Case::new(&lab, call).check(move |_| assert_eq!(handle.snapshot().used, 0))
    })
    .await;
    let _: Option<Never<Answer>> = None;
}

macro_rules! fallback_runs {
    ($name:ident, |$handle:ident, $strategy:ident, $lab:ident| $run:expr) => {
        pub(super) async fn $name() {
            sweep_all(async |work| {
                let (lab, other) = (Lab::new(work), Lab::new(Work::Later));
                let handle = fallback::Handle::new("x");
                let (mine, inside, instead) = (handle.clone(), lab.clone(), other.clone());
                let call = move || {
                    let ($handle, $lab, instead) = (mine.clone(), inside.clone(), instead.clone());
                    let $strategy = Fallback::run(move |_: &Failure| instead.work_on());
                    async move { $run }
                };
                of_fallback(Case::new(&lab, call), &handle, &other)
            })
            .await;
        }
    };
}

fallback_runs!(fallback_run, |handle, strategy, lab| handle.run(&strategy, async { lab.work_on().await }).await);
fallback_runs!(fallback_run_with, |handle, strategy, lab| {
    handle.run_with(mainstay::OnError, &strategy, async { lab.work_on().await }).await
});
fallback_runs!(fallback_run_for, |handle, strategy, lab| {
    handle.run_for(&strategy, (), |()| async move { lab.work_on().await }).await
});

/// A stack of all policies, with one place, which somebody has.
struct All {
    stack: Stack<retry::Classified<mainstay::OnError>, fallback::NoFallback, retry::Cloned>,
    budget: Budget,
}

fn all() -> All {
    let budget = budget();
    let stack = Stack::builder("x")
        .load_shed(load_shed::Config::new().in_flight(2))
        .rate_limit(rate_limit::Config::new(1, ms(1)).burst(9).max_wait(ms(500)))
        .timeout(ms(400))
        .retry(retry(&budget))
        .hedge(hedge::Config::new().attempts(2).delay(ms(4)))
        .breaker(breaker::Config::new().minimum_calls(1_000))
        .concurrency(concurrency::Config::aimd().floor(1).initial(2))
        .bulkhead(bulkhead::Config::new(2).max_queue(4))
        .attempt_timeout(ms(300))
        .build();
    All { stack, budget }
}

fn of_stack(case: Case, All { stack, budget }: All) -> Case {
    let known = Rc::new(RefCell::new(stack));
    let of = |what: fn(&mainstay::stack::Snapshot) -> u64| {
        let known = Rc::clone(&known);
        move || what(&known.borrow().snapshot())
    };
    let case = case
        .gauge("running", of(|seen| seen.bulkhead.as_ref().unwrap().running.into()))
        .gauge("waiting", of(|seen| seen.bulkhead.as_ref().unwrap().waiting.into()))
        .gauge("probes", of(|seen| seen.breaker.as_ref().unwrap().probes_running.into()))
        .gauge("in flight", of(|seen| seen.concurrency.as_ref().unwrap().in_flight.into()))
        .gauge("shedder", of(|seen| seen.load_shed.as_ref().unwrap().in_flight.into()));
    let stack = Rc::clone(&known);
    case.check(move |end| {
        let seen = stack.borrow().snapshot();
        let (retry, hedge, breaker) = (seen.retry.unwrap(), seen.hedge.unwrap(), seen.breaker.unwrap());
        assert_eq!(budget.available(), 100 + retry.calls - retry.retries - hedge.hedges, "{end:?}");
        let totals = breaker.totals;
        assert_eq!((totals.calls.successes(), totals.calls.failures()), end.counted(), "{end:?}");
        assert_eq!((totals.cancelled, totals.ignored, totals.rejected), (end.cut(), 0, 0), "{end:?}");
        assert_eq!(seen.timeout.unwrap().timed_out + seen.attempt_timeout.unwrap().timed_out, 0, "{end:?}");
    })
}

pub(super) async fn stack() {
    for held in [false, true] {
        sweep_all(async |work| {
            let (lab, all) = (Lab::new(work), all());
            let held: Vec<_> =
                (0..2).filter(|_| held).map(|_| all.stack.bulkhead().unwrap().try_acquire().unwrap()).collect();
            of_stack(Case::new(&lab, through(all.stack.service(lab.clone()))).holding(held), all)
        })
        .await;
    }
}

pub(super) async fn stack_run() {
    sweep_all(async |work| {
        let (lab, all) = (Lab::new(work), all());
        let (stack, inside) = (all.stack.clone(), lab.clone());
        let call = move || {
            let (stack, lab) = (stack.clone(), inside.clone());
            async move { stack.run(|| lab.work_on()).await.map_err(Error::flatten) }
        };
        of_stack(Case::new(&lab, call), all)
    })
    .await;
}

pub(super) async fn stack_run_carrying() {
    sweep_all(async |work| {
        let (lab, all) = (Lab::new(work), all());
        let (stack, inside) = (all.stack.clone(), lab.clone());
        let call = move || {
            let (stack, lab) = (stack.clone(), inside.clone());
            async move { stack.run_carrying(|| lab.work_on()).await }
        };
        of_stack(Case::new(&lab, call), all)
    })
    .await;
}

/// Cut off while it waits, in each of the queues of a stack, by the limits of the stack itself.
pub(super) async fn stack_limits() {
    sweep(Work::Later, async |_| {
        let (lab, breaker, places) = (Lab::new(Work::Hangs), super::rooms::breaker(), bulkhead());
        let stack = Stack::builder("x")
            .timeout(ms(9))
            .attempt_timeout(ms(4))
            .retry(retry::Config::new().attempts(9).backoff(Backoff::fixed(ms(1))).no_budget())
            .breaker(breaker.clone())
            .bulkhead(places.clone())
            .build();
        let held = places.try_acquire().unwrap();
        let case = Case::new(&lab, through(stack.service(lab.clone()))).holding(held);
        let (probes, running) = (breaker.clone(), places.clone());
        case.gauge("probes", move || probes.snapshot().probes_running).gauge("running", move || running.running())
    })
    .await;
}
