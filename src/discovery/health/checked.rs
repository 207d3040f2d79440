use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::task::AbortHandle;
use tower::Service;

use crate::{
    bulkhead,
    contract::{Health, HealthStatus, Instance, ServiceName},
    discovery::{
        self, Discovery, DiscoveryError, Lease, Snapshot, Watch,
        health::{
            Config,
            actor::Actor,
            check::{ByService, Check},
        },
        topic::Topic,
    },
    settings::ConfigError,
    sync::Mutex,
    time::Tick,
};

/// Discovery that also asks the instances themselves: over any other, with the same leases, snapshots and watches.
///
/// What it gives out has the worse of two opinions: the health that the backend knows, and what the checks find. A
/// service is checked from when somebody first asks for it or watches it, by a task of its own. Cheap to clone; all
/// clones are one, and with the last one every task, every check in flight and every watch ends.
pub struct Checked<D> {
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    discovery: D,
    common: Arc<Common>,
    rooms: Mutex<HashMap<ServiceName, Arc<Room>>>,
}

/// What the checks of all services share.
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) check: Arc<dyn Check>,
    pub(super) places: bulkhead::Handle,
    pub(super) counts: Counts,
    topics: discovery::Config,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    checks: AtomicU64,
    failures: AtomicU64,
    pub(super) changes: AtomicU64,
    topics: Arc<discovery::topic::Counts>,
}

impl Counts {
    pub(super) fn count(&self, found: &Health) {
        self.checks.fetch_add(1, Relaxed);
        if found.status() == HealthStatus::Unhealthy {
            self.failures.fetch_add(1, Relaxed);
        }
    }
}

/// One service that is checked.
pub(super) struct Room {
    pub(super) topic: Arc<Topic>,
    // When somebody last asked.
    asked: AtomicU64,
    task: Mutex<Option<AbortHandle>>,
}

impl Room {
    fn new(service: &ServiceName, common: &Common) -> Arc<Self> {
        Arc::new(Self {
            topic: Topic::new(service.clone(), &common.topics, Arc::clone(&common.counts.topics)),
            asked: AtomicU64::new(Tick::now().as_nanos()),
            task: Mutex::new(None),
        })
    }

    pub(super) fn idle_at(&self, idle_for: Duration) -> Tick {
        Tick::from_nanos(self.asked.load(Relaxed)) + idle_for
    }

    /// Closes when nobody watches and nobody has asked for a while. In one step with the look at the watchers.
    pub(super) fn close_if_idle(&self, now: Tick, idle_for: Duration) -> bool {
        if now < self.idle_at(idle_for) {
            return false;
        }
        self.topic.with(now, |state| {
            let idle = state.log.watchers() == 0;
            if idle {
                state.log.close();
            }
            idle
        })
    }

    fn end(&self) {
        self.topic.close();
        self.task.lock().take().iter().for_each(AbortHandle::abort);
    }
}

/// Health checks at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedSnapshot {
    /// What it is: `"health_checks"`.
    pub kind: &'static str,
    /// Services that are checked.
    pub services: usize,
    /// Instances that are checked.
    pub instances: usize,
    /// Checks that run.
    pub running: u32,
    /// Checks that wait for a place.
    pub waiting: u32,
    /// Checks so far.
    pub checks: u64,
    /// Those that failed, took too long or panicked.
    pub failures: u64,
    /// How often checks changed the health of an instance.
    pub changes: u64,
}

impl<D: Discovery> Checked<D> {
    /// Checks with a service: an instance that it answers for is healthy, one that it fails for is not. Nothing is
    /// started before somebody asks.
    ///
    /// # Panics
    ///
    /// When a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new<S>(discovery: D, service: S, config: Config) -> Self
    where
        S: Service<Arc<Instance>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: fmt::Display,
    {
        match Self::try_new(discovery, service, |_: &S::Response| Health::healthy(), config) {
            Ok(checked) => checked,
            Err(error) => panic!("health checks: {error}"),
        }
    }

    /// Checks with a service whose answers say more than that there is one: `judge` says what each means, degraded for
    /// one.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn try_new<S, J>(discovery: D, service: S, judge: J, config: Config) -> Result<Self, ConfigError>
    where
        S: Service<Arc<Instance>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: fmt::Display,
        J: Fn(&S::Response) -> Health + Clone + Send + Sync + 'static,
    {
        config.check()?;
        let queue = bulkhead::Config::new(config.concurrency).max_queue(1_000_000);
        let common = Common {
            places: bulkhead::Handle::try_new("health-checks", queue)?,
            check: Arc::new(ByService { service, judge }),
            counts: Counts::default(),
            topics: discovery::Config::new(),
            config,
        };
        let shared = Shared { discovery, common: Arc::new(common), rooms: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The discovery below, without the checks.
    #[must_use]
    pub fn inner(&self) -> &D {
        &self.shared.discovery
    }

    /// What is checked now, and what happened so far.
    #[must_use]
    pub fn snapshot(&self) -> CheckedSnapshot {
        let rooms: Vec<Arc<Room>> = self.shared.rooms.lock().values().cloned().collect();
        let now = Tick::now();
        let sizes = rooms.iter().map(|room| room.topic.with(now, |state| (state.log.is_closed(), state.log.len())));
        let open: Vec<usize> = sizes.filter(|(closed, _)| !closed).map(|(_, instances)| instances).collect();
        let (counts, places) = (&self.shared.common.counts, self.shared.common.places.snapshot());
        CheckedSnapshot {
            kind: "health_checks",
            services: open.len(),
            instances: open.iter().sum(),
            running: places.running,
            waiting: places.waiting,
            checks: counts.checks.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            changes: counts.changes.load(Relaxed),
        }
    }

    /// The room of a service, where what `look` wants to see is there. Made, and its task started, where it is not.
    async fn look<R>(
        &self,
        service: &ServiceName,
        look: impl Fn(&Arc<Topic>) -> Option<R>,
    ) -> Result<R, DiscoveryError> {
        loop {
            let known = self.shared.rooms.lock().get(service).cloned();
            let room = match known {
                Some(room) if !room.topic.is_closed() => room,
                _ => self.open(service).await?,
            };
            room.asked.store(Tick::now().as_nanos(), Relaxed);
            // It may have closed in between, because nobody had asked for it for long.
            if let Some(seen) = look(&room.topic) {
                return Ok(seen);
            }
        }
    }

    async fn open(&self, service: &ServiceName) -> Result<Arc<Room>, DiscoveryError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| DiscoveryError::NoRuntime)?;
        let mut watch = self.shared.discovery.watch(service).await?;
        // What is known is there before anybody looks.
        let first = watch.next().await.ok_or(DiscoveryError::Closed)?;
        let common = &self.shared.common;
        let room = Room::new(service, common);
        let mut actor = Actor::new(Arc::clone(common), Arc::clone(&room), watch);
        actor.learn(first);
        let mut rooms = self.shared.rooms.lock();
        // Somebody else was faster.
        if let Some(other) = rooms.get(service).filter(|other| !other.topic.is_closed()) {
            return Ok(Arc::clone(other));
        }
        rooms.retain(|_, room| !room.topic.is_closed());
        *room.task.lock() = Some(runtime.spawn(actor.run()).abort_handle());
        // A runtime that is shut down drops what it is given.
        if room.topic.is_closed() {
            return Err(DiscoveryError::NoRuntime);
        }
        rooms.insert(service.clone(), Arc::clone(&room));
        Ok(room)
    }
}

impl<D: Discovery> Discovery for Checked<D> {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.inner().register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.inner().heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.inner().update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.inner().deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.look(service, |topic| (!topic.is_closed()).then(|| topic.snapshot())).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        self.look(service, Topic::try_watch).await
    }

    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        self.inner().deregister_now(lease)
    }
}

impl<D> Clone for Checked<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D> Drop for Shared<D> {
    fn drop(&mut self) {
        self.rooms.get_mut().values().for_each(|room| room.end());
    }
}

impl<D> fmt::Debug for Checked<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, services) = (&self.shared.common.config, self.shared.rooms.lock().len());
        f.debug_struct("Checked").field("config", config).field("services", &services).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl<D: Discovery> Checked<D> {
    /// The task of a service, which does not run.
    pub(super) async fn actor(&self, service: &ServiceName) -> Actor {
        let common = &self.shared.common;
        let watch = self.inner().watch(service).await.expect("there is a backend");
        Actor::new(Arc::clone(common), Room::new(service, common), watch)
    }
}
