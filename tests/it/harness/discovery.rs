//! Registrations, and what a backend is asked, over one that takes its time.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use mainstay::{
    contract::{Instance, ServiceName},
    discovery::{
        Discovery, DiscoveryError, InMemory, Lease, Registration, Snapshot, Watch,
        health::{self, Checked},
    },
};

use super::{Case, Lab, Work, sweep};
use crate::support::*;

/// A backend that waits twice before it does what it is asked.
#[derive(Clone, Default)]
struct Slow(InMemory);

async fn wait() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

impl Discovery for Slow {
    async fn register(&self, instance: Instance, ttl: std::time::Duration) -> Result<Lease, DiscoveryError> {
        wait().await;
        self.0.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        wait().await;
        self.0.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        wait().await;
        self.0.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        wait().await;
        self.0.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        wait().await;
        self.0.instances(service).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        wait().await;
        self.0.watch(service).await
    }

    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        self.0.deregister_now(lease)
    }
}

pub(super) fn users() -> ServiceName {
    ServiceName::new("users").unwrap()
}

/// One that was not there before.
fn user() -> Instance {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("users-{}", NEXT.fetch_add(1, SeqCst));
    Instance::new("users", &id, "10.0.0.7", 80).unwrap()
}

const TTL: std::time::Duration = std::time::Duration::from_secs(30);

fn of_backend(case: Case, memory: &InMemory, (instances, watches): (bool, bool)) -> Case {
    let (one, two) = (memory.clone(), memory.clone());
    // One may be that of the checks, which is there as long as they are.
    let case = case.gauge("watchers", move || one.snapshot().watchers.saturating_sub(watches.into()) as u64);
    if !instances {
        return case;
    }
    case.gauge("instances", move || two.snapshot().instances as u64)
}

/// Asks a backend.
async fn asked<D, R>((make, watches): (impl Fn(&InMemory) -> D, bool), ask: impl Fn(Rc<D>) -> R + Copy + 'static)
where
    D: 'static,
    R: Future<Output: super::Verdict> + 'static,
{
    sweep(Work::Ok, async |work| {
        let (lab, memory) = (Lab::new(work), InMemory::new());
        memory.register(user(), TTL).await.unwrap();
        let discovery = Rc::new(make(&memory));
        of_backend(Case::new(&lab, move || ask(Rc::clone(&discovery))), &memory, (false, watches))
    })
    .await;
}

/// Asks a backend with a lease.
async fn asked_with_lease<D, R>(
    (make, watches): (impl Fn(&InMemory) -> D, bool),
    ask: impl Fn(Rc<D>, Lease, Instance) -> R + Copy + 'static,
) where
    D: 'static,
    R: Future<Output: super::Verdict> + 'static,
{
    sweep(Work::Ok, async |work| {
        let (lab, memory) = (Lab::new(work), InMemory::new());
        let leases: Vec<(Lease, Instance)> = {
            let mut leases = Vec::new();
            for _ in 0..2 {
                let user = user();
                leases.push((memory.register(user.clone(), TTL).await.unwrap(), user));
            }
            leases
        };
        let (discovery, leases) = (Rc::new(make(&memory)), Rc::new(std::cell::RefCell::new(leases)));
        let call = move || {
            let (lease, user) = leases.borrow_mut().pop().unwrap();
            ask(Rc::clone(&discovery), lease, user)
        };
        of_backend(Case::new(&lab, call), &memory, (false, watches))
    })
    .await;
}

fn checked(memory: &InMemory) -> Checked<InMemory> {
    let well = tower::service_fn(|_: Arc<Instance>| std::future::ready(Ok::<(), std::convert::Infallible>(())));
    Checked::new(memory.clone(), well, health::Config::new())
}

macro_rules! backend {
    ($($name:ident, $of_checked:ident: $with:ident |$($arg:ident),*| $ask:expr;)+) => {$(
        pub(super) async fn $name() {
            $with((InMemory::clone, false), |$($arg),*| async move { $ask }).await;
        }

        pub(super) async fn $of_checked() {
            $with((checked, true), |$($arg),*| async move { $ask }).await;
        }
    )+};
}

backend! {
    register, checked_register: asked |it| it.register(user(), TTL).await;
    instances, checked_instances: asked |it| it.instances(&users()).await;
    watch, checked_watch: asked |it| it.watch(&users()).await;
    heartbeat, checked_heartbeat: asked_with_lease |it, lease, _instance| it.heartbeat(&lease).await;
    update, checked_update: asked_with_lease |it, lease, instance| it.update(&lease, instance).await;
    deregister, checked_deregister: asked_with_lease |it, lease, _instance| it.deregister(lease).await;
}

pub(super) async fn registration_new() {
    sweep(Work::Ok, async |work| {
        let (lab, memory) = (Lab::new(work), InMemory::new());
        let slow = Slow(memory.clone());
        of_backend(Case::new(&lab, move || Registration::new(slow.clone(), user(), TTL)), &memory, (true, false))
    })
    .await;
}

pub(super) async fn registration_close() {
    sweep(Work::Ok, async |work| {
        let (lab, memory) = (Lab::new(work), InMemory::new());
        let slow = Slow(memory.clone());
        let first = Cell::new(Some(Registration::new(slow.clone(), user(), TTL).await.unwrap()));
        let call = move || {
            let (known, slow) = (first.take(), slow.clone());
            async move {
                match known {
                    Some(registration) => registration.close().await,
                    None => memory_only(&slow).await,
                }
            }
        };
        of_backend(Case::new(&lab, call), &memory, (true, false))
    })
    .await;
}

/// The next is registered anew, and leaves.
async fn memory_only(slow: &Slow) -> Result<(), DiscoveryError> {
    let lease = slow.0.register(user(), TTL).await?;
    slow.0.deregister(lease).await
}

/// A change that is given up half-way is told with the next heartbeat.
async fn changed(change: impl AsyncFn(&Registration<Slow>) -> Result<(), DiscoveryError> + Copy + 'static) {
    for polls in 0..5 {
        let memory = InMemory::new();
        let registration = Registration::new(Slow(memory.clone()), user(), TTL).await.unwrap();
        let mut call = Box::pin(change(&registration));
        let mut done = false;
        for _ in 0..polls {
            done = done || poll_once(&mut call).is_ready();
        }
        drop(call);
        super::settle().await;
        if polls > 0 {
            advance(TTL / 3).await;
            super::settle().await;
            let known = memory.instances(&users()).await.unwrap();
            assert!(known.iter().all(|instance| instance.is_draining()), "{polls}: told in the end");
        }
        assert!(done || polls < 4, "{polls}");
        registration.update(registration.instance().with_draining(false)).await.unwrap();
        let known = memory.instances(&users()).await.unwrap();
        assert!(known.len() == 1 && known.iter().all(|instance| !instance.is_draining()), "{polls}");
        drop(registration);
        super::settle().await;
        assert_eq!(memory.snapshot().instances, 0, "{polls}");
    }
}

pub(super) async fn registration_update() {
    changed(async |registration| registration.update(registration.instance().with_draining(true)).await).await;
}

pub(super) async fn registration_drain() {
    changed(async |registration| registration.drain().await).await;
}

/// A watcher who waits and gives up is on nobody's list, and hears of what comes after.
pub(super) async fn next() {
    for polls in 0..4 {
        let memory = InMemory::new();
        let mut watch = memory.watch(&users()).await.unwrap();
        assert!(watch.next().await.is_some(), "what is known comes first");
        let mut task = tokio_test::task::spawn(watch.next());
        (0..polls).for_each(|_| assert!(task.poll().is_pending()));
        assert!(!task.is_woken());
        drop(task);
        memory.register(user(), TTL).await.unwrap();
        let mut task = tokio_test::task::spawn(watch.next());
        assert!(task.poll().is_ready(), "{polls}: at once");
        drop(task);
        drop(watch);
        assert_eq!(memory.snapshot().watchers, 0, "{polls}");
    }
}
