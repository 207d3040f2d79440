//! A call through a breaker over a service that is ready at once, at one and at two threads, beside the bare service.
//!
//! Each thread has its own clone of the service, and all share one breaker, as in a server. `cargo bench --bench
//! breaker`.
//!
//! The development build of tokio can pause its clock, which makes each reading of the clock dearer here than in a
//! service that depends on this crate.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

mod harness;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Calls, time};
use mainstay::{
    Error,
    breaker::{CircuitBreakerLayer, Config, Handle},
    time::Tick,
    window::{CountWindow, Kind, TimeWindow},
};
use tower::{Layer, Service};

#[derive(Clone)]
struct Upstream {
    fails: bool,
}

type Answer = Result<u64, Error<Infallible>>;

impl Service<u64> for Upstream {
    type Response = u64;
    type Error = Error<Infallible>;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        // A time-out is the rejection that counts as the service's failure.
        ready(if self.fails { Err(timed_out()) } else { Ok(request) })
    }
}

fn timed_out() -> Error<Infallible> {
    let name = mainstay::Name::new("upstream").expect("a good name");
    Error::Rejected(mainstay::Rejection::new(mainstay::Reason::TimedOut, name))
}

fn call<S: Service<u64, Response = u64, Error = Error<Infallible>>>(service: &mut S, n: u64) -> Answer {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { unreachable!("always ready") };
    let mut future = pin!(service.call(n));
    let Poll::Ready(answer) = future.as_mut().poll(&mut cx) else { unreachable!("never waits") };
    answer
}

fn service<S>(service: S) -> impl Fn() -> Calls
where
    S: Service<u64, Response = u64, Error = Error<Infallible>> + Clone + Send + 'static,
{
    move || {
        let mut service = service.clone();
        Box::new(move |n| {
            let _ = black_box(call(&mut service, black_box(n)));
        })
    }
}

fn breaker(config: Config, fails: bool) -> impl Fn() -> Calls {
    let handle = Handle::new("upstream", config);
    service(CircuitBreakerLayer::new(handle).layer(Upstream { fails }))
}

fn benches(c: &mut Criterion) {
    let never = || Config::new().minimum_calls(1 << 40);
    let open = Handle::new("upstream", Config::new());
    open.open_for(Duration::from_secs(3_600));
    let time_window = std::sync::Arc::new(TimeWindow::new(Duration::from_secs(10), 10));
    let count_window = std::sync::Arc::new(CountWindow::new(100));
    type Case = (&'static str, Box<dyn Fn() -> Calls>);
    let cases: Vec<Case> = vec![
        ("bare", Box::new(service(Upstream { fails: false }))),
        ("closed_success", Box::new(breaker(Config::new(), false))),
        ("closed_success_no_latency", Box::new(breaker(Config::new().measure_latency(false), false))),
        (
            "closed_success_count_window_no_latency",
            Box::new(breaker(Config::new().count_window(100).measure_latency(false), false)),
        ),
        ("closed_failure", Box::new(breaker(never(), true))),
        ("closed_failure_no_latency", Box::new(breaker(never().measure_latency(false), true))),
        ("open_rejection", Box::new(service(CircuitBreakerLayer::new(open).layer(Upstream { fails: false })))),
        (
            "clock",
            Box::new(|| {
                Box::new(|_| {
                    black_box(Tick::now());
                })
            }),
        ),
        (
            "window_time",
            Box::new(move || {
                let window = std::sync::Arc::clone(&time_window);
                Box::new(move |n| {
                    window.record(Tick::from_nanos(n * 16), 0, Kind::Success);
                })
            }),
        ),
        (
            "window_count",
            Box::new(move || {
                let window = std::sync::Arc::clone(&count_window);
                Box::new(move |_| {
                    window.record(0, Kind::Success);
                })
            }),
        ),
    ];
    let mut group = c.benchmark_group("breaker");
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
