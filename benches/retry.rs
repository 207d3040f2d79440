//! A call through a retry over a service that is ready at once, with nothing to retry, at one and at two threads;
//! beside the bare service and tower's own retry with its own budget.
//!
//! Each thread has its own clone of the service, and all share one retry, as in a server. `cargo bench --bench retry`.

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
    BoxError,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, RetryLayer},
};
use tower::{
    Layer, Service,
    retry::budget::{Budget as _, TpsBudget},
};

type Answer = Result<u64, BoxError>;

/// Fails the first of every so many calls, never with 0.
#[derive(Clone)]
struct Upstream {
    fails_every: u64,
    calls: u64,
}

/// Ready at once. Not [`Ready`], which moves the answer about and so hides what it is compared with.
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
        self.calls += 1;
        Answered { fails: self.fails_every != 0 && self.calls % self.fails_every == 0, request }
    }
}

/// Costs no allocation in a box.
#[derive(Debug, Clone, thiserror::Error)]
#[error("down")]
struct Down;

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

fn retry(config: Config, fails_every: u64) -> impl Fn() -> Calls {
    service(RetryLayer::new(Handle::new("upstream", config)).layer(Upstream { fails_every, calls: 0 }))
}

fn closure(config: Config) -> impl Fn() -> Calls {
    let handle = Handle::new("upstream", config);
    move || {
        let handle = handle.clone();
        Box::new(move |n| {
            let mut run = pin!(handle.run(|| Answered { fails: false, request: black_box(n) }));
            let _ = black_box(run.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        })
    }
}

type Case = (&'static str, Box<dyn Fn() -> Calls>);

fn cases() -> Vec<Case> {
    let at_once = || Config::new().backoff(Backoff::fixed(Duration::ZERO));
    let budget = Budget::new(BudgetConfig::new());
    let upstream = |fails_every| Upstream { fails_every, calls: 0 };
    let towers = tower::retry::RetryLayer::new(TowerPolicy(Arc::new(TpsBudget::default())));
    vec![
        ("bare", Box::new(service(upstream(0)))),
        ("nothing_to_retry", Box::new(retry(Config::new(), 0))),
        ("nothing_to_retry_no_budget", Box::new(retry(Config::new().no_budget(), 0))),
        ("nothing_to_retry_run", Box::new(closure(Config::new()))),
        ("nothing_to_retry_tower", Box::new(service(towers.layer(upstream(0))))),
        ("one_in_ten_retried_at_once", Box::new(retry(at_once(), 10))),
        ("one_in_ten_retried_at_once_tower", Box::new(service(towers.layer(upstream(10))))),
        ("always_fails_budget_used_up", Box::new(retry(at_once().budget(BudgetConfig::new().min_per_second(0)), 1))),
        (
            "budget_deposit",
            Box::new(move || {
                let budget = budget.clone();
                Box::new(move |_| budget.deposit())
            }),
        ),
    ]
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("retry");
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
