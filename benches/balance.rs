//! A call through a balancer over ten instances whose services are ready at once, for each picker, on one and on two
//! workers of a runtime; beside the bare service, and Tower's `p2c` behind its buffer, which it needs to be cloned.
//!
//! Each task has its own clone of the balancer, and all share one set, as in a server. `cargo bench --bench balance`.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

use std::{
    future::Future,
    hash::Hash,
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mainstay::{
    BoxError,
    balance::{
        Balance, Config, ConsistentHash, Handle, KeyHasher, LeastLoaded, Outlier, PeakEwma, Picker, Random, RoundRobin,
        Weighted,
    },
    breaker,
    contract::Instance,
};
use tokio::{runtime::Runtime, sync::Barrier};
use tower::{
    Service, ServiceExt,
    balance::p2c,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover},
};

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

/// The time of `calls` calls by each of `tasks` tasks that run at once.
fn time<S>(runtime: &Runtime, tasks: usize, calls: u64, service: &S) -> Duration
where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    runtime.block_on(async {
        let start = Arc::new(Barrier::new(tasks));
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let (mut service, start) = (service.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    let begin = Instant::now();
                    for n in 0..calls {
                        let answer = service.ready().await.expect("always ready").call(black_box(n)).await;
                        let _ = black_box(answer);
                    }
                    begin.elapsed()
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        for task in running {
            longest = longest.max(task.await.expect("no panic"));
        }
        longest
    })
}

fn set(config: Config, count: u16) -> Handle<Upstream> {
    let handle = Handle::new("upstream", config);
    for n in 0..count {
        let instance = Instance::new("upstream", &format!("upstream-{n}"), "10.0.0.7", 1 + n).expect("an instance");
        handle.insert(Arc::new(instance), Upstream);
    }
    handle
}

fn balance<K: Picker>(picker: K) -> Balance<Upstream, K> {
    Balance::new(&set(Config::new(), 10), picker)
}

type Case = (&'static str, Box<dyn Fn(&Runtime, usize, u64) -> Duration>);

fn case<S>(name: &'static str, service: S) -> Case
where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    (name, Box::new(move |runtime, tasks, calls| time(runtime, tasks, calls, &service)))
}

/// Tower's balancer is made anew for each run, because its buffer has a task in the runtime.
fn towers(
    name: &'static str,
    buffered: impl Fn() -> Buffer<u64, Pin<Box<dyn Future<Output = Answer> + Send>>> + 'static,
) -> Case {
    let run = move |runtime: &Runtime, tasks, calls| {
        let service = {
            let _entered = runtime.enter();
            buffered()
        };
        time(runtime, tasks, calls, &service)
    };
    (name, Box::new(run))
}

fn boxed<S>(service: S) -> Buffer<u64, Pin<Box<dyn Future<Output = Answer> + Send>>>
where
    S: Service<u64, Response = u64, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    Buffer::new(tower::util::BoxService::new(service), 1_024)
}

fn cases() -> Vec<Case> {
    let list = || ServiceList::new(vec![Upstream; 10]);
    let by_key = ConsistentHash::new([7; 16], |request: &u64, key: &mut KeyHasher| request.hash(key));
    let plain = Config::new().outlier(Outlier::off());
    vec![
        case("bare", Upstream),
        case("round_robin", balance(RoundRobin::new())),
        case("random", balance(Random)),
        case("weighted", balance(Weighted::new())),
        case("least_loaded", balance(LeastLoaded)),
        case("peak_ewma", balance(PeakEwma)),
        case("consistent_hash", balance(by_key)),
        case("least_loaded_no_outliers", Balance::new(&set(plain, 10), LeastLoaded)),
        case(
            "least_loaded_breakers",
            Balance::new(&set(Config::new().breaker(breaker::Config::new()), 10), LeastLoaded),
        ),
        case("least_loaded_of_10000", Balance::new(&set(Config::new(), 10_000), LeastLoaded)),
        towers("tower_p2c_pending", move || {
            let list = PendingRequestsDiscover::new::<u64>(list(), CompleteOnResponse::default());
            boxed(p2c::Balance::new(list))
        }),
        towers("tower_p2c_peak_ewma", move || {
            let (rtt, decay) = (Duration::from_millis(100), Duration::from_secs(10));
            let list = PeakEwmaDiscover::new::<u64>(list(), rtt, decay, CompleteOnResponse::default());
            boxed(p2c::Balance::new(list))
        }),
    ]
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for (name, run) in &cases() {
        for tasks in [1, 2] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(tasks)
                .enable_time()
                .build()
                .expect("a runtime");
            group.bench_function(BenchmarkId::new(*name, tasks), |b| {
                b.iter_custom(|calls| run(&runtime, tasks, calls));
            });
        }
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
