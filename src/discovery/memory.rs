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

use crate::{
    contract::{Health, Instance, InstanceId, ServiceName},
    discovery::{
        Discovery, DiscoveryError,
        config::Config,
        lease::Lease,
        topic::{Counts, State, Topic},
        update::{Gone, Snapshot},
        watch::Watch,
    },
    settings::ConfigError,
    sync::RwLock,
    time::{Tick, wall},
};

/// Discovery inside of one process: no server, no task in the background.
///
/// Cheap to clone; all clones are one, and with the last one all watches end. Needs no runtime: leases run out by the
/// clock of whoever looks. All its futures are ready when they are first polled. When an instance was
/// [last seen](Instance::last_seen) is when it last registered or was updated: a heartbeat changes nothing that others
/// see.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{contract::{Instance, ServiceName}, discovery::{Discovery, InMemory}};
///
/// # tokio_test::block_on(async {
/// let fleet = InMemory::new();
/// let lease = fleet.register(Instance::new("users", "a", "10.0.0.7", 80)?, Duration::from_secs(30)).await?;
/// fleet.heartbeat(&lease).await?;
/// assert_eq!(fleet.instances(lease.service()).await?.len(), 1);
/// fleet.deregister(lease).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct InMemory {
    shared: Arc<Shared>,
}

struct Shared {
    topics: RwLock<Topics>,
    config: Config,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<ServiceName, Arc<Topic>>,
    // With so many, those that nobody needs any more are looked for: names that were only asked for take no room.
    sweep_at: usize,
}

const FEW_TOPICS: usize = 64;

/// A backend at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendSnapshot {
    /// What it is: `"discovery"`.
    pub kind: &'static str,
    /// Services that have instances or are watched.
    pub services: usize,
    /// Instances of all services.
    pub instances: usize,
    /// Leases that run.
    pub leases: usize,
    /// Watches of all services.
    pub watchers: usize,
    /// Changes so far.
    pub events: u64,
    /// Leases that ran out so far.
    pub expired: u64,
    /// How often a watcher fell so far behind that it read a fresh snapshot.
    pub lagged: u64,
    /// Events that those watchers have not seen one by one.
    pub missed: u64,
}

/// Unique in the process, so that a lease of another backend is not mistaken for one of this.
fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl InMemory {
    /// With default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Config::new())
    }

    /// With settings that are written in code.
    ///
    /// # Panics
    ///
    /// When a setting is impossible. For values from outside, use [`try_with`](Self::try_with).
    #[must_use]
    #[track_caller]
    pub fn with(config: Config) -> Self {
        match Self::try_with(config) {
            Ok(backend) => backend,
            Err(error) => panic!("discovery: {error}"),
        }
    }

    /// With settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn try_with(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let shared = Shared { topics: RwLock::default(), config, counts: Arc::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// An operator's word on an instance's health. It counts for more than what the instance says of itself, unless
    /// that is that it is unhealthy; and it holds when the instance registers again, also after
    /// [a while](Config::overrides_for).
    ///
    /// # Errors
    ///
    /// [`Unknown`](DiscoveryError::Unknown) when there is no such instance.
    pub fn override_health(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        health: impl Into<Health>,
    ) -> Result<(), DiscoveryError> {
        let (now, health) = (Tick::now(), health.into());
        let topic = self.known(service);
        let done = topic.is_some_and(|topic| {
            topic.with(now, |state| {
                let Some(instance) = state.log.get(id).cloned() else { return false };
                let shown = state.overrides.set(&instance, health, now);
                state.log.put(shown);
                true
            })
        });
        done.then_some(()).ok_or_else(|| DiscoveryError::Unknown { service: service.clone(), id: id.clone() })
    }

    /// Takes an operator's word back. The instance is as it last said of itself, or, until it says something again, as
    /// is given here. Whether there was such a word.
    pub fn remove_override(&self, service: &ServiceName, id: &InstanceId, until_then: Option<Health>) -> bool {
        let now = Tick::now();
        let Some(topic) = self.known(service) else { return false };
        topic.with(now, |state| {
            let Some(own) = state.overrides.remove(id, until_then.is_some()) else { return false };
            if let Some(own) = own {
                let shown = match until_then {
                    Some(health) => Arc::new(Instance::clone(&own).with_health(health)),
                    None => own,
                };
                state.log.put(shown);
            }
            true
        })
    }

    /// What there is now, and what happened so far. Looks at every service.
    #[must_use]
    pub fn snapshot(&self) -> BackendSnapshot {
        let (now, counts) = (Tick::now(), &self.shared.counts);
        let topics: Vec<Arc<Topic>> = self.shared.topics.read().by_name.values().cloned().collect();
        let (mut services, mut instances, mut leases, mut watchers) = (0, 0, 0, 0);
        for topic in topics {
            topic.with(now, |state| {
                services += usize::from(state.log.len() > 0 || state.log.watchers() > 0);
                instances += state.log.len();
                leases += state.leases.len();
                watchers += state.log.watchers();
            });
        }
        BackendSnapshot {
            kind: "discovery",
            services,
            instances,
            leases,
            watchers,
            events: counts.events.load(Relaxed),
            expired: counts.expired.load(Relaxed),
            lagged: counts.lagged.load(Relaxed),
            missed: counts.missed.load(Relaxed),
        }
    }

    /// All services that have instances, in order.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        let now = Tick::now();
        let topics: Vec<Arc<Topic>> = self.shared.topics.read().by_name.values().cloned().collect();
        let known = topics.iter().filter(|topic| topic.with(now, |state| state.log.len() > 0));
        let mut names: Vec<ServiceName> = known.map(|topic| topic.service().clone()).collect();
        names.sort();
        names
    }

    fn known(&self, service: &ServiceName) -> Option<Arc<Topic>> {
        self.shared.topics.read().by_name.get(service).cloned()
    }

    fn topic(&self, service: &ServiceName) -> Arc<Topic> {
        if let Some(topic) = self.known(service) {
            return topic;
        }
        self.tidy();
        let mut topics = self.shared.topics.write();
        let make = || Topic::new(service.clone(), &self.shared.config, Arc::clone(&self.shared.counts));
        Arc::clone(topics.by_name.entry(service.clone()).or_insert_with(make))
    }

    /// With many topics, lets those go that nobody needs any more.
    fn tidy(&self) {
        let all: Vec<Arc<Topic>> = {
            let topics = self.shared.topics.read();
            if topics.by_name.len() < topics.sweep_at.max(FEW_TOPICS) {
                return;
            }
            topics.by_name.values().cloned().collect()
        };
        // Not under the lock: what runs out is told.
        let now = Tick::now();
        all.into_iter().for_each(|topic| topic.with(now, |state| state.overrides.forget(now)));
        let mut topics = self.shared.topics.write();
        // Whoever is about to use a topic holds it, and can have got it only from here.
        topics.by_name.retain(|_, topic| Arc::strong_count(topic) > 1 || !topic.is_idle());
        topics.sweep_at = topics.by_name.len() * 2;
    }

    fn register_now(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        Lease::check_ttl(ttl)?;
        let instance = Arc::new(instance.seen_at(wall()));
        let (service, id, key) = (instance.service().clone(), instance.id().clone(), next_key());
        let topic = self.topic(&service);
        let now = Tick::now();
        let granted = topic.with(now, |state| {
            let granted = state.leases.grant(&id, key, now + ttl);
            if granted {
                state.put(instance, now);
            }
            granted
        });
        if !granted {
            return Err(DiscoveryError::Duplicate { service, id });
        }
        tracing::debug!(service = service.as_str(), instance = id.as_str(), ?ttl, "an instance is registered");
        Ok(Lease::new(service, id, ttl, key))
    }

    /// Does something under a lease that runs.
    fn with_lease(&self, lease: &Lease, run: impl FnOnce(&mut State, Tick) -> bool) -> Result<(), DiscoveryError> {
        let now = Tick::now();
        let done = self.known(lease.service()).is_some_and(|topic| topic.with(now, |state| run(state, now)));
        done.then_some(()).ok_or_else(|| DiscoveryError::lease_lost(lease))
    }

    fn heartbeat_now(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.with_lease(lease, |state, now| state.leases.renew(lease.id(), lease.key(), now + lease.ttl()))
    }

    fn update_now(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        lease.check_instance(&instance)?;
        let instance = Arc::new(instance.seen_at(wall()));
        self.with_lease(lease, |state, now| {
            let runs = state.leases.runs(lease.id(), lease.key());
            if runs {
                state.put(instance, now);
            }
            runs
        })
    }

    fn end_now(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.with_lease(lease, |state, now| {
            let runs = state.leases.release(lease.id(), lease.key());
            runs && state.take(lease.id(), Gone::Deregistered, now)
        })
    }
}

impl Discovery for InMemory {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.register_now(instance, ttl)
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.heartbeat_now(lease)
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.update_now(lease, instance)
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.end_now(&lease)
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        // A name that is only asked for is not kept.
        let known = self.known(service).map(|topic| topic.snapshot());
        Ok(known.unwrap_or_else(|| Arc::new(Snapshot::empty(service.clone()))))
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        Ok(self.topic(service).watch())
    }

    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        // A lease that is lost is ended just as well.
        let _ = self.end_now(&lease);
        Ok(())
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.topics.get_mut().by_name.values().for_each(|topic| topic.close());
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory").field("services", &self.shared.topics.read().by_name.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_nobody_needs_go_as_others_come_and_those_in_use_stay() {
        let fleet = InMemory::new();
        let register = |n: usize| {
            let instance = Instance::new(&format!("service-{n}"), "a", "10.0.0.1", 80).expect("it can be");
            fleet.register_now(instance, Duration::from_secs(30)).expect("it is the first")
        };
        let mut held: Vec<Lease> = (0..10).map(register).collect();
        for most in [FEW_TOPICS, 7 * FEW_TOPICS] {
            let first = held.len();
            for n in 0..20 * FEW_TOPICS {
                let lease = register(first + n);
                assert!(fleet.end_now(&lease).is_ok());
                let known = fleet.shared.topics.read().by_name.len();
                assert!(known <= most, "{known} after {n}");
            }
            assert!(held.iter().all(|lease| fleet.known(lease.service()).is_some()));
            held.extend((first..first + 3 * FEW_TOPICS).map(register));
        }
    }
}
