//! A call through a whole stack over a service that is ready at once, at one and at two threads; beside the bare
//! service, the same policies as layers one inside the other, and tower's own layers.
//!
//! Each thread has its own clone of the service, and all share one stack, as in a server. `cargo bench --bench stack`.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

mod harness;

use std::{
    future::{Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Calls, time};
use mainstay::{
    BoxError, Stack,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    retry::{self, RetryLayer},
    stack::Config,
    timeout::TimeoutLayer,
};
use tower::{
    Service, ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    retry::budget::{Budget as _, TpsBudget},
};

type Answer = Result<u64, BoxError>;

#[derive(Clone)]
struct Upstream;

/// Ready at once, or at the second poll.
struct Answered {
    request: u64,
    pending: bool,
}

impl Future for Answered {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        if std::mem::take(&mut self.pending) { Poll::Pending } else { Poll::Ready(Ok(self.request)) }
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
        Answered { request, pending: false }
    }
}

/// What a user of tower's retry writes.
#[derive(Clone)]
struct TowerPolicy(Arc<TpsBudget>);

impl<E> tower::retry::Policy<u64, u64, E> for TowerPolicy {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Self::Future> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn call<S: Service<u64, Response = u64, Error = BoxError>>(service: &mut S, n: u64) -> Answer {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
    let mut future = pin!(service.call(n));
    let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
    answer
}

fn service<S>(service: S) -> impl Fn() -> Calls
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
{
    move || {
        let mut service = service.clone();
        Box::new(move |n| {
            let _ = black_box(call(&mut service, black_box(n)));
        })
    }
}

fn closure(stack: Stack) -> impl Fn() -> Calls {
    move || {
        let stack = stack.clone();
        Box::new(move |n| {
            let mut run = pin!(stack.run_carrying(|| Answered { request: black_box(n), pending: false }));
            let _ = black_box(run.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        })
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

type Case = (&'static str, Box<dyn Fn() -> Calls>);

fn cases() -> Vec<Case> {
    let mut unmeasured = Config::standard();
    unmeasured.breaker = Some(breaker::Config::new().measure_latency(false));
    let empty = Config::new();
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(seconds(10)))
        .layer(RetryLayer::new(retry::Handle::new("upstream", retry::Config::new())))
        .layer(CircuitBreakerLayer::new(breaker::Handle::new("upstream", breaker::Config::new())))
        .layer(BulkheadLayer::new(bulkhead::Handle::new("upstream", bulkhead::Config::new(256))))
        .layer(TimeoutLayer::new(seconds(3)))
        .service(Upstream);
    vec![
        ("bare", Box::new(service(Upstream))),
        ("standard", Box::new(service(Stack::standard("upstream").service(Upstream)))),
        ("standard_no_latency", Box::new(service(unmeasured.builder("upstream").build().service(Upstream)))),
        ("empty", Box::new(service(empty.builder("upstream").build().service(Upstream)))),
        ("standard_run", Box::new(closure(Stack::standard("upstream")))),
        ("layers_by_hand", Box::new(service(layers))),
    ]
}

/// Tower's layers make a timer for each call, and so need a runtime, and boxes for their errors.
fn tower_case() -> Case {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let runtime = Arc::new(runtime);
    let limit = GlobalConcurrencyLimitLayer::new(256);
    let service = ServiceBuilder::new()
        .layer(tower::timeout::TimeoutLayer::new(seconds(10)))
        .layer(tower::retry::RetryLayer::new(TowerPolicy(Arc::new(TpsBudget::default()))))
        .layer(limit)
        .layer(tower::timeout::TimeoutLayer::new(seconds(3)));
    let make = move || -> Calls {
        let (mut service, runtime) = (service.clone().service(Upstream), Arc::clone(&runtime));
        Box::new(move |n| {
            let _entered = runtime.enter();
            let _ = black_box(call_boxed(&mut service, black_box(n)));
        })
    };
    ("tower_without_breaker", Box::new(make))
}

fn call_boxed<S: Service<u64, Response = u64>>(service: &mut S, n: u64) -> Option<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
    let mut future = pin!(service.call(n));
    let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
    answer.ok()
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("stack");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (name, work) in cases().iter().chain(&[tower_case()]) {
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
