//! What is measured: cases, and in each the implementations that take turns.

use std::{
    future::Future,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::runtime::Runtime;
use tower::{BoxError, Service};

use crate::{
    tasks::{self, Done},
    upstream::{drive, finish},
};

/// One thread's calls: so many, of which so many were answered.
pub type Calls = Box<dyn FnMut(u64) -> u64 + Send>;

/// So many calls by each of so many tasks.
pub type InTasks = dyn Fn(&Runtime, usize, u64) -> Done;

/// A case: what is called, and by whom.
pub struct Case {
    pub name: &'static str,
    /// Whether each call is answered, or each is refused or fails. A measurement in which it is otherwise is not one.
    pub answered: bool,
    pub sides: Vec<Side>,
}

/// An implementation in a case.
pub struct Side {
    pub name: &'static str,
    pub work: Work,
    /// 1 where a policy cannot be shared by threads.
    pub most_threads: usize,
}

/// How the calls of an implementation are made.
pub enum Work {
    /// By threads, each with what is made here for it.
    Threads(Box<dyn Fn() -> Calls>),
    /// By tasks of a runtime with a worker for each.
    Tasks(Box<InTasks>),
}

impl Case {
    pub fn answered(name: &'static str, sides: Vec<Side>) -> Self {
        Self { name, answered: true, sides }
    }

    pub fn refused(name: &'static str, sides: Vec<Side>) -> Self {
        Self { name, answered: false, sides }
    }
}

fn side(name: &'static str, work: Work) -> Side {
    Side { name, work, most_threads: usize::MAX }
}

/// Where the requests of a thread begin: so that those of two threads, and of two samples, are not the same.
fn first_request() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1 << 32, Relaxed)
}

/// A number for the thread of a request: it differs from that of another thread in the sample.
pub fn thread_of(request: u64) -> u64 {
    request >> 32
}

fn each(mut call: impl FnMut(u64) -> bool + Send + 'static) -> Calls {
    let mut next = first_request();
    Box::new(move |calls| {
        let end = next + calls;
        let answered = (next..end).map(|n| u64::from(call(black_box(n)))).sum();
        next = end;
        answered
    })
}

/// A Tower service, of which each thread has a clone that it keeps.
pub fn service<S>(name: &'static str, service: S) -> Side
where
    S: Service<u64> + Clone + Send + 'static,
{
    let make = move || {
        let mut service = service.clone();
        each(move |n| drive(&mut service, n))
    };
    side(name, Work::Threads(Box::new(make)))
}

/// The same, with a clone for each call.
pub fn cloned<S>(name: &'static str, service: S) -> Side
where
    S: Service<u64> + Clone + Send + 'static,
{
    let make = move || {
        let service = service.clone();
        each(move |n| drive(&mut service.clone(), n))
    };
    side(name, Work::Threads(Box::new(make)))
}

/// A Tower service that is no `Clone`: for one thread only.
pub fn alone<S>(name: &'static str, make: impl Fn() -> S + 'static) -> Side
where
    S: Service<u64> + Send + 'static,
{
    let make = move || {
        let mut service = make();
        each(move |n| drive(&mut service, n))
    };
    Side { most_threads: 1, ..side(name, Work::Threads(Box::new(make))) }
}

/// What answers with a future, and is no Tower service.
pub fn future<T, F, R, E>(name: &'static str, shared: T, call: impl Fn(&T, u64) -> F + Copy + Send + 'static) -> Side
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<R, E>>,
{
    operation(name, shared, move |shared, n| finish(call(shared, n)))
}

/// What answers at once.
pub fn operation<T>(name: &'static str, shared: T, call: impl Fn(&T, u64) -> bool + Copy + Send + 'static) -> Side
where
    T: Clone + Send + 'static,
{
    let make = move || {
        let shared = shared.clone();
        each(move |n| call(&shared, n))
    };
    side(name, Work::Threads(Box::new(make)))
}

/// A Tower service that is called by tasks, made anew for each sample: it may have tasks of its own in the runtime.
pub fn in_tasks<S>(name: &'static str, make: impl Fn() -> S + 'static) -> Side
where
    S: Service<u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let run = move |runtime: &Runtime, tasks, calls| {
        let _entered = runtime.enter();
        tasks::run(runtime, vec![make(); tasks], calls)
    };
    side(name, Work::Tasks(Box::new(run)))
}

/// The same for a service that is no `Clone`: for one task only.
pub fn in_one_task<S>(name: &'static str, make: impl Fn() -> S + 'static) -> Side
where
    S: Service<u64, Error = BoxError, Future: Send> + Send + 'static,
{
    let run = move |runtime: &Runtime, _, calls| tasks::run(runtime, vec![make()], calls);
    Side { most_threads: 1, ..side(name, Work::Tasks(Box::new(run))) }
}

pub const SECOND: Duration = Duration::from_secs(1);
