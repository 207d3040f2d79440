//! The fleet at scale: 10 000 instances in 1 000 services. What an instance takes, what a pick costs when there are
//! many services, and how long a change takes to reach everybody who watches.
//!
//! `cargo bench --bench fleet` prints a table. Times are medians of several runs; memory is counted by the allocator.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock itself")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use mainstay::{
    Error,
    balance::{self, Balance, LeastLoaded},
    client::Client,
    contract::{Instance, ServiceName},
    discovery::{Discovery, InMemory, Lease, Update},
};
use tokio::sync::Notify;
use tower::Service;

const SERVICES: usize = 1_000;
const EACH: usize = 10;
const INSTANCES: usize = SERVICES * EACH;
const TTL: Duration = Duration::from_secs(3_600);

fn main() {
    // Run as a test, it only has to compile.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    println!("| {INSTANCES} instances in {SERVICES} services | |\n|---|---|");
    memory();
    picks();
    runtime.block_on(changes());
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("| {what} | {value} |");
}

fn service(n: usize) -> ServiceName {
    ServiceName::new(&format!("service-{n}")).unwrap()
}

fn instance(service: usize, n: usize) -> Instance {
    Instance::new(&format!("service-{service}"), &format!("instance-{n}"), "10.1.2.3", 8080).unwrap()
}

fn all() -> impl Iterator<Item = (usize, usize)> {
    (0..SERVICES).flat_map(|service| (0..EACH).map(move |n| (service, n)))
}

/// A future that is ready at once.
fn now<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it does not wait"),
    }
}

/// What `make` makes, and the bytes on the heap that it keeps.
fn kept<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let mut made = None;
    let info = allocation_counter::measure(|| made = Some(make()));
    (made.unwrap(), usize::try_from(info.bytes_current).unwrap())
}

fn memory() {
    let begun = Instant::now();
    let (discovery, bytes) = kept(|| {
        let discovery = InMemory::new();
        all().for_each(|(service, n)| drop(now(discovery.register(instance(service, n), TTL)).unwrap()));
        discovery
    });
    let took = begun.elapsed() / INSTANCES as u32;
    row("discovery, an instance with its lease", format!("{} bytes", bytes / INSTANCES));
    row("registering one", format!("{:.1} us", took.as_secs_f64() * 1e6));
    questions();

    let (watches, bytes) = kept(|| {
        let mut watches: Vec<_> = (0..SERVICES).map(|n| now(discovery.watch(&service(n))).unwrap()).collect();
        for watch in &mut watches {
            assert!(matches!(watch.try_next(), Some(Update::Snapshot(snapshot)) if snapshot.len() == EACH));
        }
        watches
    });
    row("a watch, with the snapshot of its service", format!("{} bytes", bytes / SERVICES));
    drop(watches);

    let (fleet, bytes) = kept(fleet);
    row("balancer, an instance", format!("{} bytes", bytes / INSTANCES));
    drop(fleet);
    clients(&discovery);
}

/// What a backend in memory is asked all the time.
fn questions() {
    let discovery = InMemory::new();
    let register = |(service, n)| now(discovery.register(instance(service, n), TTL)).unwrap();
    let leases: Vec<Lease> = all().map(register).collect();
    let services: Vec<ServiceName> = (0..SERVICES).map(service).collect();
    let each = |ask: &dyn Fn(usize)| {
        median(|| {
            let begun = Instant::now();
            (0..INSTANCES).for_each(ask);
            begun.elapsed().as_secs_f64() * 1e9 / INSTANCES as f64
        })
    };
    let heartbeat = each(&|n| now(discovery.heartbeat(&leases[n])).unwrap());
    row("a heartbeat", format!("{heartbeat:.0} ns"));
    let instances = each(&|n| drop(black_box(now(discovery.instances(&services[n % SERVICES])).unwrap())));
    row("the instances of a service", format!("{instances:.0} ns"));
}

/// A client that follows everything.
fn clients(discovery: &InMemory) {
    let begun = Instant::now();
    // On this thread alone, so that the allocator's count is all of it.
    let alone = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (client, bytes) = kept(|| {
        alone.block_on(async {
            let client = Client::builder(discovery.clone(), Make).max_services(SERVICES).build();
            for n in 0..SERVICES {
                client.call(service(n).as_str(), "get", ()).await.unwrap();
            }
            client
        })
    });
    let took = begun.elapsed();
    row(
        "client, an instance (with its breaker, a task and the policies of its service)",
        format!("{} bytes", bytes / INSTANCES),
    );
    row("following all services and calling each once", format!("{:.0} ms", took.as_secs_f64() * 1e3));
    let ((), bytes) = kept(|| {
        alone.block_on(async {
            for n in 0..100 {
                client.call("service-0", format!("method-{n}"), ()).await.unwrap();
            }
        });
    });
    row("client, the metrics of a method that one thread calls", format!("{} bytes", bytes / 100));
    drop(client);
}

/// An instance that answers at once.
#[derive(Clone)]
struct Answer;

impl<Req> Service<Req> for Answer {
    type Response = ();
    type Error = Error<Infallible>;
    type Future = Ready<Result<(), Error<Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(Ok(()))
    }
}

/// Makes them.
#[derive(Clone)]
struct Make;

impl Service<Instance> for Make {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Instance) -> Self::Future {
        ready(Ok(Answer))
    }
}

type Balanced = Balance<Answer, LeastLoaded>;

/// A balancer for each service.
fn fleet() -> Vec<Balanced> {
    let balanced = |service: usize| {
        let handle = balance::Handle::new("x", balance::Config::new());
        handle.sync((0..EACH).map(|n| Arc::new(instance(service, n))), |_| Answer);
        Balance::new(&handle, LeastLoaded)
    };
    (0..SERVICES).map(balanced).collect()
}

/// Nanoseconds of one round, the median of many.
fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..31).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn picks() {
    let mut fleet = fleet();
    let mut time = |of: &dyn Fn(usize) -> usize| {
        median(|| {
            let begun = Instant::now();
            for call in 0..100_000 {
                now(black_box(fleet[of(call)].call(()))).unwrap();
            }
            begun.elapsed().as_secs_f64() * 1e9 / 100_000.0
        })
    };
    row("a call, one service after the other", format!("{:.0} ns", time(&|call| call * 389 % SERVICES)));
    row("a call, always the same service", format!("{:.0} ns", time(&|_| 0)));

    let large = balance::Handle::new("x", balance::Config::new());
    large.sync((0..INSTANCES).map(|n| Arc::new(instance(0, n))), |_| Answer);
    let mut large = Balance::new(&large, LeastLoaded);
    let nanos = median(|| {
        let begun = Instant::now();
        (0..100_000).for_each(|_| now(black_box(large.call(()))).unwrap());
        begun.elapsed().as_secs_f64() * 1e9 / 100_000.0
    });
    row("a call of one service with all the instances", format!("{nanos:.0} ns"));
}

/// Tasks that watch, and say when all of them have seen a change.
struct Watchers {
    seen: Arc<AtomicUsize>,
    all: Arc<Notify>,
    count: usize,
}

impl Watchers {
    async fn start(discovery: &InMemory, services: impl Iterator<Item = usize>) -> Self {
        let (seen, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut watches = Vec::new();
        for n in services {
            let mut watch = discovery.watch(&service(n)).await.unwrap();
            watch.next().await.unwrap();
            watches.push(watch);
        }
        let count = watches.len();
        for mut watch in watches {
            let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
            tokio::spawn(async move {
                while watch.next().await.is_some() {
                    if seen.fetch_add(1, SeqCst) + 1 == count {
                        all.notify_one();
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Self { seen, all, count }
    }

    /// Microseconds from a change until the last of them has seen it.
    async fn time(&self, change: impl AsyncFn(u32)) -> f64 {
        let mut times = Vec::new();
        for round in 0..31 {
            self.seen.store(0, SeqCst);
            let begun = Instant::now();
            change(round).await;
            self.all.notified().await;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            assert_eq!(self.seen.load(SeqCst), self.count);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

async fn changes() {
    let discovery = InMemory::new();
    let mut leases: Vec<Lease> = Vec::new();
    for (service, n) in all() {
        let lease = discovery.register(instance(service, n), TTL).await.unwrap();
        if n == 0 {
            leases.push(lease);
        }
    }
    let change = async |service: usize, round: u32| {
        let changed = instance(service, 0).with_weight(round + 1).unwrap();
        discovery.update(&leases[service], changed).await.unwrap();
    };
    for watchers in [1, 100, 1_000] {
        let crowd = Watchers::start(&discovery, std::iter::repeat_n(0, watchers)).await;
        let micros = crowd.time(async |round| change(0, round).await).await;
        row(&format!("from a change to {watchers} watchers of its service"), format!("{micros:.0} us"));
    }
    let every = Watchers::start(&discovery, 0..SERVICES).await;
    let micros = every
        .time(async |round| {
            for service in 0..SERVICES {
                change(service, round).await;
            }
        })
        .await;
    row("from a change in every service to a watcher of each", format!("{micros:.0} us for all {SERVICES}"));
}
