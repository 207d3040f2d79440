//! A fleet of 10 000 instances in 1 000 services: memory for each instance, a heartbeat, a question, and the time from a
//! change to all its watchers. `cargo bench --bench discovery`.
//!
//! For memory, the bytes that are held once all are registered are counted, instances with their names among them.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a bench, which measures real time")]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use mainstay::{
    contract::{Instance, ServiceName},
    discovery::{Discovery, InMemory, Lease, Update, Watch},
};

const SERVICES: u32 = 1_000;
const EACH: u32 = 10;
const TTL: Duration = Duration::from_secs(3_600);

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a backend in memory does not wait"),
    }
}

fn instance(service: u32, n: u32) -> Instance {
    Instance::new(&format!("service-{service}"), &format!("instance-{n}"), "10.0.0.7", 8_080).expect("a valid one")
}

fn fleet() -> (InMemory, Vec<Lease>) {
    let backend = InMemory::new();
    let all = (0..SERVICES).flat_map(|service| (0..EACH).map(move |n| instance(service, n)));
    let leases = all.map(|instance| now(backend.register(instance, TTL)).expect("nobody has its id")).collect();
    (backend, leases)
}

/// Tells what each instance costs, on standard error.
fn memory(_: &mut Criterion) {
    let mut held = None;
    let count = allocation_counter::measure(|| held = Some(fleet()));
    let instances = i64::from(SERVICES * EACH);
    eprintln!("discovery/memory: {} bytes for each instance and its lease", count.bytes_current / instances);
    let (backend, _) = held.expect("it was made");
    let count = allocation_counter::measure(|| {
        for service in backend.services() {
            black_box(now(backend.instances(&service)).expect("in memory"));
        }
    });
    eprintln!("discovery/memory: {} bytes more for each once snapshots are made", count.bytes_current / instances);
}

fn questions(c: &mut Criterion) {
    let (backend, leases) = fleet();
    let mut group = c.benchmark_group("discovery");
    let mut next = leases.iter().cycle();
    group.bench_function("heartbeat", |b| b.iter(|| now(backend.heartbeat(next.next().expect("endless")))));
    group.bench_function("instances", |b| {
        b.iter(|| now(backend.instances(next.next().expect("endless").service())).expect("in memory").len());
    });
    group.bench_function("register and deregister", |b| {
        let make = || instance(7, EACH);
        b.iter_batched(
            make,
            |instance| now(backend.deregister(now(backend.register(instance, TTL)).expect("free"))),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Reads all there is, and waits again.
fn read(watch: &mut Watch) -> u32 {
    let mut events = 0;
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(update) = watch.poll_next(&mut cx) {
        events += u32::from(matches!(update, Some(Update::Event(_))));
    }
    events
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("discovery/change to all watchers");
    for watchers in [1, 10, 1_000] {
        let (backend, leases) = fleet();
        let (service, lease) = (ServiceName::new("service-7").expect("a name"), &leases[70]);
        let watch = || now(backend.watch(&service)).expect("in memory");
        let mut watches: Vec<Watch> = (0..watchers).map(|_| watch()).collect();
        watches.iter_mut().for_each(|watch| assert_eq!(read(watch), 0));
        let mut weight = 0;
        group.bench_function(BenchmarkId::from_parameter(watchers), |b| {
            b.iter(|| {
                weight = (weight + 1) % 100;
                let changed = instance(7, 0).with_weight(weight).expect("a weight");
                now(backend.update(lease, changed)).expect("it runs");
                watches.iter_mut().for_each(|watch| assert_eq!(read(watch), 1));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, memory, questions, changes);
criterion_main!(benches);
