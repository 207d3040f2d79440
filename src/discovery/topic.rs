//! One service: what is known of it behind one lock, and who waits for changes. Nothing runs in the background:
//! whoever looks first takes out what has run out, and a watch that waits sets its own alarm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    contract::{Instance, InstanceId, ServiceName},
    discovery::{
        config::Config,
        hold::{Due, Hold},
        leases::Leases,
        log::Log,
        overrides::Overrides,
        update::{Gone, Snapshot, Stale},
        watch::Watch,
    },
    sync::Mutex,
    time::{Tick, wall},
    waiters::Waiters,
};

#[derive(Debug)]
pub(super) struct Topic {
    service: ServiceName,
    state: Mutex<State>,
    pub(super) waiters: Waiters,
    counts: Arc<Counts>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) log: Log,
    pub(super) leases: Leases,
    pub(super) hold: Hold,
    pub(super) overrides: Overrides,
    overrides_for: Duration,
}

/// What happened in all services of one backend.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) events: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) lagged: AtomicU64,
    pub(super) missed: AtomicU64,
}

/// What ran out by the time somebody looked, told after the lock.
#[derive(Default)]
struct Swept {
    expired: Vec<InstanceId>,
    given_up: Option<Due>,
}

impl State {
    /// When somebody has to look again, at the latest.
    pub(super) fn next_due(&self) -> Tick {
        self.leases.next().min(self.hold.next())
    }

    fn sweep(&mut self, now: Tick) -> Swept {
        let mut swept = Swept::default();
        while let Some((then, id)) = self.leases.expire(now) {
            // By the end of the lease, whenever that is seen.
            self.take(&id, Gone::Expired, then);
            swept.expired.push(id);
        }
        swept.given_up = self.hold.due(now);
        match swept.given_up {
            Some(Due::Empty) => {
                self.log.replace(&[].into(), Gone::Left);
                self.log.set_fresh();
            }
            Some(Due::Invalid) => self.log.replace(&[].into(), Gone::Invalidated),
            None => {}
        }
        swept
    }

    /// An instance says this of itself.
    pub(super) fn put(&mut self, instance: Arc<Instance>, now: Tick) {
        let shown = self.overrides.show(instance, now);
        self.log.put(shown);
    }

    pub(super) fn take(&mut self, id: &InstanceId, why: Gone, now: Tick) -> bool {
        self.overrides.leave(id, now + self.overrides_for);
        self.log.take(id, why).is_some()
    }

    /// Whether that is new.
    pub(super) fn set_stale(&mut self, why: impl Into<String>) -> bool {
        self.log.set_stale(Arc::new(Stale { since: wall(), why: why.into() }))
    }
}

impl Topic {
    pub(super) fn new(service: ServiceName, config: &Config, counts: Arc<Counts>) -> Arc<Self> {
        let state = State {
            log: Log::new(service.clone(), config.events),
            leases: Leases::default(),
            hold: Hold::new(config.empty_grace, config.invalidate_after),
            overrides: Overrides::default(),
            overrides_for: config.overrides_for,
        };
        Arc::new(Self { service, state: Mutex::new(state), waiters: Waiters::default(), counts })
    }

    /// Does something to what is known now. Watchers are woken if it has changed.
    pub(super) fn with<R>(&self, now: Tick, run: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let (sequence, due, closed) = (state.log.sequence(), state.next_due(), state.log.is_closed());
        let swept = state.sweep(now);
        let result = run(&mut state);
        let events = state.log.sequence() - sequence;
        // A watcher's alarm that is set for too late has to be set anew.
        let wake = events > 0 || state.next_due() < due || state.log.is_closed() != closed;
        drop(state);
        self.tell(&swept);
        if events > 0 {
            self.counts.events.fetch_add(events, Relaxed);
        }
        if wake {
            self.waiters.wake_all();
        }
        result
    }

    fn tell(&self, swept: &Swept) {
        let service = self.service.as_str();
        for id in &swept.expired {
            self.counts.expired.fetch_add(1, Relaxed);
            tracing::warn!(service, instance = id.as_str(), "the lease of an instance ran out");
        }
        match &swept.given_up {
            Some(Due::Empty) => tracing::warn!(service, "the backend has no instances any more"),
            Some(Due::Invalid) => tracing::error!(service, "the backend has failed for too long, no instance is left"),
            None => {}
        }
    }

    /// A watcher read a snapshot because it was too far behind.
    pub(super) fn tell_lag(&self, missed: u64) {
        self.counts.lagged.fetch_add(1, Relaxed);
        self.counts.missed.fetch_add(missed, Relaxed);
        tracing::info!(service = self.service.as_str(), missed, "a watcher fell behind and reads a fresh snapshot");
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.with(Tick::now(), |state| state.log.snapshot())
    }

    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        Watch::new(Arc::clone(self))
    }

    /// A watch, unless this was closed before the watch was there.
    pub(super) fn try_watch(self: &Arc<Self>) -> Option<Watch> {
        let watch = self.watch();
        (!self.is_closed()).then_some(watch)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().log.is_closed()
    }

    /// Ends all watches, once they have read what there is.
    pub(super) fn close(&self) {
        self.with(Tick::now(), |state| state.log.close());
    }

    pub(super) const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// A watcher comes or goes: this wakes nobody.
    pub(super) fn count_watcher(&self, comes: bool) {
        let mut state = self.state.lock();
        if comes { state.log.join() } else { state.log.leave() }
    }

    /// Whether nothing is known, expected or watched here.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.log.len() == 0 && state.log.watchers() == 0 && state.overrides.is_empty()
    }
}
