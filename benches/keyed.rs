//! A call through a policy for each key, at one and at two threads, beside the same policy for all; a look-up; and what
//! a stranger costs when all room is taken. `cargo bench --bench keyed`.
//!
//! On two threads each has its own clone of the service. "own" is a key for each thread, "same" one key for both.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

mod harness;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Calls, time};
use mainstay::{
    Error, breaker, bulkhead,
    keyed::{Config, Handle, KeyedLayer, Levels, LevelsConfig, Operation, Tenant, Tenants, key_fn, str_key_fn},
};
use tower::{Layer, Service};

type Answer = Result<u64, Error<Infallible>>;

#[derive(Clone)]
struct Upstream;

#[derive(Clone, Copy)]
struct Query(&'static str);

impl Service<Query> for Upstream {
    type Response = u64;
    type Error = Error<Infallible>;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, query: Query) -> Self::Future {
        ready(Ok(query.0.len() as u64))
    }
}

/// Each thread calls as a tenant of its own, or all as one.
fn service<S>(service: S, own: bool) -> impl Fn() -> Calls
where
    S: Service<Query, Response = u64, Error = Error<Infallible>> + Clone + Send + 'static,
{
    let threads = AtomicU64::new(0);
    move || {
        let mut service = service.clone();
        let tenant =
            if own { ["acme-corp", "initech"][threads.fetch_add(1, Relaxed) as usize % 2] } else { "acme-corp" };
        Box::new(move |_| {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
            let mut future = pin!(service.call(black_box(Query(tenant))));
            let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
            let _ = black_box(answer);
        })
    }
}

fn benches(c: &mut Criterion) {
    let places = || bulkhead::Config::new(1_000);
    let tenants = Tenants::new("tenants", Config::new(places()));
    let circuits = Tenants::new("tenants", Config::new(breaker::Config::tenant()));
    let tenant_of = || str_key_fn(|query: &Query| Some(query.0));
    let by = KeyedLayer::new(tenants.by(tenant_of()));
    let levels = Levels::new("levels", LevelsConfig::new(bulkhead::Config::new(2_000)).tenant_default(places()));
    let operation_of = key_fn(|_: &Query| None::<Operation>);
    let three = KeyedLayer::new(levels.by(tenant_of(), operation_of));
    let one = bulkhead::BulkheadLayer::new(bulkhead::Handle::new("one", places()));
    let breaker = breaker::CircuitBreakerLayer::new(breaker::Handle::new("one", breaker::Config::tenant()));
    let full = Handle::<u64, _>::new("full", Config::new(places()).max_keys(10_000));
    let looked_up: Tenants<bulkhead::Handle> = tenants.clone();
    let gold = Tenant::new("gold").expect("a good name");
    type Case = (&'static str, Box<dyn Fn() -> Calls>);
    let cases: Vec<Case> = vec![
        ("bare", Box::new(service(Upstream, false))),
        ("bulkhead", Box::new(service(one.layer(Upstream), false))),
        ("bulkhead_by_tenant_same", Box::new(service(by.layer(Upstream), false))),
        ("bulkhead_by_tenant_own", Box::new(service(by.layer(Upstream), true))),
        ("breaker", Box::new(service(breaker.layer(Upstream), false))),
        ("breaker_by_tenant_own", Box::new(service(KeyedLayer::new(circuits.by(tenant_of())).layer(Upstream), true))),
        ("levels_own", Box::new(service(three.layer(Upstream), true))),
        (
            "get",
            Box::new(move || {
                let (tenants, gold) = (looked_up.clone(), gold.clone());
                Box::new(move |_| drop(black_box(tenants.get(&gold))))
            }),
        ),
        (
            "stranger_when_full",
            Box::new(move || {
                let full = full.clone();
                let mut next = mainstay::time::Tick::now().as_nanos();
                Box::new(move |_| {
                    next = next.wrapping_add(1);
                    drop(black_box(full.get(next)));
                })
            }),
        ),
    ];
    let mut group = c.benchmark_group("keyed");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (name, work) in &cases {
        for threads in [1, 2] {
            group.bench_function(BenchmarkId::new(*name, threads), |b| {
                b.iter_custom(|calls| time(threads, calls, work));
            });
        }
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
