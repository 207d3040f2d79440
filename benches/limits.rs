//! A call through each policy that limits calls, over a service that is ready at once, at one and at two threads;
//! beside the bare service, tokio's semaphore and tower's own layers.
//!
//! Each thread has its own clone of the service, and all share one policy, as in a server. `cargo bench --bench
//! limits`.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

mod harness;

use std::{
    hint::black_box,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Calls, time};
use mainstay::{
    BoxError,
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    load_shed::{self, LoadShedLayer, Throttle},
    rate_limit::{self, RateLimitLayer},
    timeout::TimeoutLayer,
};
use tokio::sync::Semaphore;
use tower::{Layer, Service, limit::GlobalConcurrencyLimitLayer};

type Answer = Result<u64, BoxError>;

#[derive(Clone)]
struct Upstream;

struct Answered(u64);

impl Future for Answered {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(Ok(self.0))
    }
}

impl Service<u64> for Upstream {
    type Response = u64;
    type Error = BoxError;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        Answered(request)
    }
}

fn call<S: Service<u64, Response = u64>>(service: &mut S, n: u64) -> Option<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
    let mut future = pin!(service.call(n));
    let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
    answer.ok()
}

fn service<S>(service: S) -> impl Fn() -> Calls
where
    S: Service<u64, Response = u64> + Clone + Send + 'static,
{
    move || {
        let mut service = service.clone();
        Box::new(move |n| {
            let _ = black_box(call(&mut service, black_box(n)));
        })
    }
}

fn by_hand<T: Clone + Send + 'static>(shared: T, each: impl Fn(&T) + Copy + Send + 'static) -> impl Fn() -> Calls {
    move || {
        let shared = shared.clone();
        Box::new(move |_| each(&shared))
    }
}

/// Tower's timeout makes a timer for each call, and so needs a runtime.
fn tower_timeout() -> impl Fn() -> Calls {
    let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let service = tower::timeout::TimeoutLayer::new(Duration::from_secs(3)).layer(Upstream);
    move || {
        let (mut service, runtime) = (service.clone(), Arc::clone(&runtime));
        Box::new(move |n| {
            let _entered = runtime.enter();
            let _ = black_box(call(&mut service, black_box(n)));
        })
    }
}

type Case = (&'static str, Box<dyn Fn() -> Calls>);

fn cases() -> Vec<Case> {
    let bulkhead = bulkhead::Handle::new("upstream", bulkhead::Config::new(64));
    let full = bulkhead::Handle::new("upstream", bulkhead::Config::new(1));
    std::mem::forget(full.try_acquire());
    let rate = rate_limit::Handle::new("upstream", rate_limit::Config::per_second(1_000_000_000));
    let concurrency = concurrency::Handle::new("upstream", concurrency::Config::new());
    let shed = |config| load_shed::Handle::new("upstream", config);
    let towers = GlobalConcurrencyLimitLayer::new(64);
    vec![
        ("bare", Box::new(service(Upstream))),
        ("bulkhead", Box::new(service(BulkheadLayer::new(bulkhead.clone()).layer(Upstream)))),
        ("bulkhead_permit", Box::new(by_hand(bulkhead, |it| drop(black_box(it.try_acquire()))))),
        ("bulkhead_full", Box::new(service(BulkheadLayer::new(full).layer(Upstream)))),
        ("tokio_semaphore", Box::new(by_hand(Arc::new(Semaphore::new(64)), |it| drop(black_box(it.try_acquire()))))),
        ("tower_concurrency_limit", Box::new(service(towers.layer(Upstream)))),
        ("rate_limit", Box::new(service(RateLimitLayer::new(rate).layer(Upstream)))),
        ("concurrency", Box::new(service(ConcurrencyLayer::new(concurrency).layer(Upstream)))),
        (
            "load_shed_in_flight",
            Box::new(service(LoadShedLayer::new(shed(load_shed::Config::new().in_flight(64))).layer(Upstream))),
        ),
        (
            "load_shed_throttle",
            Box::new(service(
                LoadShedLayer::new(shed(load_shed::Config::new().throttle(Throttle::new()))).layer(Upstream),
            )),
        ),
        ("timeout", Box::new(service(TimeoutLayer::new(Duration::from_secs(3)).layer(Upstream)))),
        ("timeout_tower", Box::new(tower_timeout())),
    ]
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (name, work) in &cases() {
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
