//! The paths: mainstay with its defaults. The service's error is a box, as is usual with Tower, but where calls are
//! turned away: there it is mainstay's own, which holds a rejection without an allocation.

use std::{hint::black_box, sync::Arc, time::Duration};

use mainstay::{
    BoxError, Error, Stack,
    balance::{self, Balance, LeastLoaded},
    breaker::{self, CircuitBreakerLayer, Permit},
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    contract::Instance,
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    keyed::{self, KeyedLayer, Tenants, str_key_fn},
    load_shed::{self, LoadShedLayer, Throttle},
    rate_limit::{self, RateLimitLayer},
    retry::{self, Budget, BudgetConfig, RetryLayer},
    stack,
    time::Tick,
    timeout::TimeoutLayer,
    window::{CountWindow, Kind, TimeWindow},
};
use tower::{Layer, Service};

use crate::{
    counted::{Path, operation, service},
    upstream::{Answered, Down, Manner, Manner::*, Upstream, drive, finish},
};

const NAME: &str = "upstream";
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3_600);
const PLENTY: u32 = 1_000_000_000;
const PLACES: u32 = 64;
const TENANTS: u64 = 100;
const INSTANCES: u16 = 10;

/// Each with a name of its own.
pub fn all() -> Vec<Path> {
    let mut all = bare();
    all.extend(breakers());
    all.extend(limits());
    all.extend(rejections());
    all.extend(elsewhere());
    all.extend(windows());
    all.extend(stacks());
    all.extend([keyed(), pick()]);
    all
}

fn behind<L: Layer<Upstream<BoxError>>>(layer: &L, manner: Manner) -> L::Service {
    layer.layer(Upstream::new(manner))
}

fn behind_own<L: Layer<Upstream<Error<Down>>>>(layer: &L) -> L::Service {
    layer.layer(Upstream::new(AtOnce))
}

/// What is in each count below, or in those of what answers at once: the loop, the service and its answer.
fn bare() -> Vec<Path> {
    let read = |_| {
        black_box(Tick::now());
        true
    };
    vec![
        service("bare", Upstream::<BoxError>::new(AtOnce)),
        operation("bare_operation", |_| true),
        operation("clock", read),
    ]
}

fn breakers() -> Vec<Path> {
    let handle = |config| breaker::Handle::new(NAME, config);
    let layer = |config| CircuitBreakerLayer::new(handle(config));
    let config = breaker::Config::new;
    let (permit, run, called) = (handle(config()), handle(config()), handle(config()));
    let never = config().minimum_calls(1 << 40);
    vec![
        service("breaker", behind(&layer(config()), AtOnce)),
        service("breaker_pending", behind(&layer(config()), PendingOnce)),
        service("breaker_no_latency", behind(&layer(config().measure_latency(false)), AtOnce)),
        service("breaker_count_window", behind(&layer(config().count_window(100)), AtOnce)),
        service("breaker_failure", behind(&layer(never), Fails)).refused(),
        operation("breaker_permit", move |_| permit.acquire().map(Permit::success).is_ok()),
        operation("breaker_call", move |n| called.call(|| Ok::<_, Down>(black_box(n))).is_ok()),
        operation("breaker_run", move |n| finish(run.run(Answered::<Down>::new(AtOnce, n)))),
    ]
}

fn limits() -> Vec<Path> {
    let bulkhead = || bulkhead::Handle::new(NAME, bulkhead::Config::new(PLACES));
    let rate = || rate_limit::Handle::new(NAME, rate_limit::Config::per_second(PLENTY));
    let shed = |config| LoadShedLayer::new(load_shed::Handle::new(NAME, config));
    let aimd = ConcurrencyLayer::new(concurrency::Handle::new(NAME, concurrency::Config::aimd()));
    let (place, token) = (bulkhead(), rate());
    vec![
        operation("bulkhead_permit", move |_| place.try_acquire().is_ok()),
        service("bulkhead", behind(&BulkheadLayer::new(bulkhead()), AtOnce)),
        service("bulkhead_pending", behind(&BulkheadLayer::new(bulkhead()), PendingOnce)),
        operation("rate_limit_permit", move |_| token.try_acquire().is_ok()),
        service("rate_limit", behind(&RateLimitLayer::new(rate()), AtOnce)),
        service("load_shed", behind(&shed(load_shed::Config::new().in_flight(PLACES)), AtOnce)),
        service("load_shed_throttle", behind(&shed(load_shed::Config::new().throttle(Throttle::new())), AtOnce)),
        service("concurrency", behind(&aimd, AtOnce)),
    ]
}

/// Each call is turned away.
fn rejections() -> Vec<Path> {
    let open = breaker::Handle::new(NAME, breaker::Config::new());
    open.force_open();
    let full = bulkhead::Handle::new(NAME, bulkhead::Config::new(1));
    std::mem::forget(full.try_acquire());
    let used_up = rate_limit::Handle::new(NAME, rate_limit::Config::new(1, LONG));
    assert!(used_up.try_acquire().is_ok(), "the only one");
    let busy = LoadShedLayer::new(load_shed::Handle::new(NAME, load_shed::Config::new().in_flight(1)));
    occupy(&mut busy.layer(Upstream::<Error<Down>>::new(PendingOnce)));
    let (no_permit, no_call, no_place, no_token) = (open.clone(), open.clone(), full.clone(), used_up.clone());
    let paths = vec![
        service("breaker_open", behind_own(&CircuitBreakerLayer::new(open))),
        operation("breaker_open_permit", move |_| no_permit.acquire().is_ok()),
        operation("breaker_open_call", move |n| no_call.call(|| Ok::<_, Down>(black_box(n))).is_ok()),
        service("bulkhead_full", behind_own(&BulkheadLayer::new(full))),
        operation("bulkhead_full_permit", move |_| no_place.try_acquire().is_ok()),
        service("rate_limit_refused", behind_own(&RateLimitLayer::new(used_up))),
        operation("rate_limit_refused_permit", move |_| no_token.try_acquire().is_ok()),
        service("load_shed_refused", behind_own(&busy)),
    ];
    paths.into_iter().map(Path::refused).collect()
}

/// A call that never ends.
fn occupy(service: &mut impl Service<u64, Future: 'static>) {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready(), "nobody else calls");
    let mut call = Box::pin(service.call(0));
    assert!(call.as_mut().poll(&mut cx).is_pending(), "it has begun");
    Box::leak(Box::new(call));
}

fn elsewhere() -> Vec<Path> {
    let retry = |config| RetryLayer::new(retry::Handle::new(NAME, config));
    let config = retry::Config::new;
    let timeout = TimeoutLayer::new(SECOND);
    let hedge = HedgeLayer::new(hedge::Handle::new(NAME, hedge::Config::new()));
    let fallback = FallbackLayer::new(fallback::Handle::new(NAME), Fallback::value(0));
    let budget = Budget::new(BudgetConfig::new());
    let deposit = move |_| {
        budget.deposit();
        true
    };
    vec![
        service("retry", behind(&retry(config()), AtOnce)),
        service("retry_pending", behind(&retry(config()), PendingOnce)),
        service("retry_no_budget", behind(&retry(config().no_budget()), AtOnce)),
        operation("budget_deposit", deposit),
        service("timeout", behind(&timeout, AtOnce)),
        service("timeout_pending", behind(&timeout, PendingOnce)),
        service("hedge", behind(&hedge, AtOnce)),
        service("hedge_pending", behind(&hedge, PendingOnce)),
        service("fallback", behind(&fallback, AtOnce)),
        service("fallback_used", behind(&fallback, Fails)),
    ]
}

fn windows() -> Vec<Path> {
    let (timed, counted) = (TimeWindow::new(10 * SECOND, 10), CountWindow::new(100));
    vec![
        operation("window_time", move |n| timed.record(Tick::from_nanos(black_box(n)), 0, Kind::Success)),
        operation("window_count", move |_| counted.record(0, Kind::Success)),
    ]
}

/// A stack of one policy: what it adds to an empty one.
fn stack_of(policy: impl FnOnce(&mut stack::Config)) -> Stack {
    let mut config = stack::Config::new();
    policy(&mut config);
    config.builder(NAME).build()
}

fn stacks() -> Vec<Path> {
    let standard = || Stack::standard(NAME);
    let by_breaker = stack_of(|it| it.breaker = Some(breaker::Config::new()));
    let by_bulkhead = stack_of(|it| it.bulkhead = Some(bulkhead::Config::new(256)));
    let by_retry = stack_of(|it| it.retry = Some(retry::Config::new()));
    let mut unmeasured = stack::Config::standard();
    unmeasured.breaker = Some(breaker::Config::new().measure_latency(false));
    let with_fallback = stack::Config::standard().builder(NAME).fallback(Fallback::value(0)).build();
    let open = standard();
    open.breaker().expect("one is standard").force_open();
    let (run, cloned) = (standard(), standard().service(Upstream::<BoxError>::new(AtOnce)));
    vec![
        service("stack", behind(&standard().layer(), AtOnce)),
        service("stack_pending", behind(&standard().layer(), PendingOnce)),
        service("stack_no_latency", behind(&unmeasured.builder(NAME).build().layer(), AtOnce)),
        service("stack_empty", behind(&Stack::builder(NAME).build().layer(), AtOnce)),
        service("stack_of_breaker", behind(&by_breaker.layer(), AtOnce)),
        service("stack_of_bulkhead", behind(&by_bulkhead.layer(), AtOnce)),
        service("stack_of_retry", behind(&by_retry.layer(), AtOnce)),
        service("stack_fallback", behind(&with_fallback.layer(), AtOnce)),
        service("stack_open", behind_own(&open.layer())).refused(),
        operation("stack_run", move |n| finish(run.run(|| Answered::<Down>::new(AtOnce, n)))),
        operation("stack_clone", move |n| drive(&mut cloned.clone(), n)),
    ]
}

fn keyed() -> Path {
    let names: &'static [String] = (0..TENANTS).map(|n| format!("tenant-{n:07}")).collect::<Vec<_>>().leak();
    let tenants = Tenants::<breaker::Handle>::new("tenants", keyed::Config::new(breaker::Config::new()));
    // Those of calls in turn lie apart, and as many calls as there are tenants meet all.
    let by_name = str_key_fn(move |n: &u64| Some(names[(n * 37 % TENANTS) as usize].as_str()));
    service("keyed", behind(&KeyedLayer::new(tenants.by(by_name)), AtOnce))
}

fn pick() -> Path {
    let handle = balance::Handle::new(NAME, balance::Config::new());
    for n in 1..=INSTANCES {
        let instance = Instance::new(NAME, &format!("{NAME}-{n}"), "10.0.0.7", n).expect("an instance");
        handle.insert(Arc::new(instance), Upstream::<BoxError>::new(AtOnce));
    }
    service("balance_pick", Balance::new(&handle, LeastLoaded))
}
