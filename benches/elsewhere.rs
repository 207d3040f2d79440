//! A call through a fallback and through a hedge over a service that is ready at once, at one and at two threads;
//! beside the bare service. `cargo bench --bench elsewhere`.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

mod harness;

use std::{
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Calls, time};
use mainstay::{
    BoxError,
    fallback::{self, CacheConfig, Fallback, FallbackLayer, NoFallback, Strategy},
    hedge::{self, HedgeLayer},
};
use tower::{Layer, Service};

type Answer = Result<u64, BoxError>;

/// Answers at once, or fails always.
#[derive(Clone)]
struct Upstream {
    fails: bool,
}

/// Ready at once. Not [`Ready`](std::future::Ready), which moves the answer about.
struct Answered {
    fails: bool,
    request: u64,
}

impl Future for Answered {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(if self.fails { Err(Box::new(Down)) } else { Ok(self.request) })
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
        Answered { fails: self.fails, request }
    }
}

/// Costs no allocation in a box.
#[derive(Debug, Clone, thiserror::Error)]
#[error("down")]
struct Down;

fn call<S: Service<u64, Response = u64, Error = BoxError>>(service: &mut S, n: u64) -> Answer {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
    let mut future = pin!(service.call(n));
    let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
    answer
}

fn service<S>(service: S) -> Box<dyn Fn() -> Calls>
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
{
    Box::new(move || {
        let mut service = service.clone();
        Box::new(move |n| {
            let _ = black_box(call(&mut service, black_box(n)));
        })
    })
}

fn fallback<F>(strategy: F, fails: bool) -> Box<dyn Fn() -> Calls>
where
    F: Strategy<u64, u64, BoxError> + Send + Sync + 'static,
{
    service(FallbackLayer::new(fallback::Handle::new("upstream"), strategy).layer(Upstream { fails }))
}

fn hedged(config: hedge::Config) -> Box<dyn Fn() -> Calls> {
    service(HedgeLayer::new(hedge::Handle::new("upstream", config)).layer(Upstream { fails: false }))
}

fn closure() -> Box<dyn Fn() -> Calls> {
    let handle = hedge::Handle::new("upstream", hedge::Config::new());
    Box::new(move || {
        let handle = handle.clone();
        Box::new(move |n| {
            let mut run = pin!(handle.run(|_| Answered { fails: false, request: black_box(n) }));
            let _ = black_box(run.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        })
    })
}

type Case = (&'static str, Box<dyn Fn() -> Calls>);

fn cases() -> Vec<Case> {
    let cached = || Fallback::cached(CacheConfig::new(), |n: &u64| Some(n % 64));
    let other = || Fallback::service(Upstream { fails: false });
    vec![
        ("bare", service(Upstream { fails: false })),
        ("no_fallback", fallback(NoFallback, false)),
        ("fallback_value", fallback(Fallback::value(1), false)),
        ("fallback_service", fallback(other(), false)),
        ("fallback_cached", fallback(cached(), false)),
        ("falls_back_to_value", fallback(Fallback::value(1), true)),
        ("falls_back_to_service", fallback(other(), true)),
        ("hedge", hedged(hedge::Config::new())),
        ("hedge_no_budget", hedged(hedge::Config::new().no_budget())),
        ("hedge_run", closure()),
    ]
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("elsewhere");
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
