//! Registrations, heartbeats, changes, operators and the clock in any order, compared with a model after each step, and
//! every watcher's view with what was true at that moment, however rarely it reads.
//!
//! `MODEL_CASES=20000 cargo test --release --test it discovery_model` runs it for longer.

use std::collections::BTreeMap;

use mainstay::{
    contract::{HealthStatus, Instance, InstanceId, ServiceName},
    discovery::{Change, Config, Discovery, DiscoveryError, InMemory, Lease, Update, Watch},
};
use proptest::prelude::*;

use crate::support::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Register(u8, u64),
    Heartbeat(usize),
    Update(usize, u32, HealthStatus, bool),
    Deregister(usize),
    DropLease(usize),
    Pass(u64),
    /// To the next end of a lease, or one millisecond short of it.
    ToExpiry(bool),
    Watch,
    Unwatch(usize),
    Read(usize, usize),
    Override(u8, HealthStatus),
    RemoveOverride(u8, Option<HealthStatus>),
}

/// What an instance shows: health, weight, draining.
type Shown = (HealthStatus, u32, bool);
type Set = BTreeMap<InstanceId, Shown>;

#[derive(Debug, Clone, Copy)]
struct Held {
    key: u64,
    until: u64,
    /// What it last said.
    own: Shown,
    /// What an operator who took his word back gave in its place, for the time being.
    for_now: Option<HealthStatus>,
}

/// The truth, in words as plain as they go: it looks at everything after every step.
#[derive(Default)]
struct Model {
    now: u64,
    held: BTreeMap<InstanceId, Held>,
    overrides: BTreeMap<InstanceId, (HealthStatus, Option<u64>)>,
}

const KEPT: u64 = 50;

impl Model {
    fn pass(&mut self, millis: u64) {
        self.now += millis;
        let now = self.now;
        let over = self.held.iter().filter(|(_, held)| held.until <= now);
        let gone: Vec<(InstanceId, u64)> = over.map(|(id, held)| (id.clone(), held.until)).collect();
        for (id, then) in gone {
            self.leave(&id, then);
        }
    }

    /// An override waits from the moment its instance left.
    fn leave(&mut self, id: &InstanceId, then: u64) {
        self.held.remove(id);
        if let Some((_, until)) = self.overrides.get_mut(id) {
            *until = Some(then + KEPT);
        }
    }

    fn comes(&mut self, id: &InstanceId) {
        let now = self.now;
        match self.overrides.get_mut(id) {
            Some((_, until)) if until.is_none_or(|until| until > now) => *until = None,
            Some(_) => drop(self.overrides.remove(id)),
            None => {}
        }
    }

    fn shown(&self) -> Set {
        let show = |(id, held): (&InstanceId, &Held)| {
            let (own, weight, draining) = held.own;
            let over = self.overrides.get(id).map(|(status, _)| *status);
            let health = match (own, over) {
                _ if held.for_now.is_some() => held.for_now.unwrap(),
                (HealthStatus::Unhealthy, Some(_)) => own,
                (_, Some(over)) => over,
                (_, None) => own,
            };
            (id.clone(), (health, weight, draining))
        };
        self.held.iter().map(show).collect()
    }
}

struct Watcher {
    watch: Watch,
    view: Set,
    sequence: Option<u64>,
}

fn id(n: u8) -> InstanceId {
    InstanceId::new(&format!("i{n}")).unwrap()
}

fn users() -> ServiceName {
    ServiceName::new("users").unwrap()
}

fn instance(id: &InstanceId, (health, weight, draining): Shown) -> Instance {
    let instance = Instance::new("users", id.as_str(), "10.0.0.1", 80).unwrap();
    instance.with_health(health).with_weight(weight).unwrap().with_draining(draining)
}

fn shown(instance: &Instance) -> Shown {
    (instance.health().status(), instance.weight(), instance.is_draining())
}

impl Watcher {
    /// Reads one update. The history says what was true after each change.
    fn read(&mut self, history: &mut BTreeMap<u64, Set>, truth: Option<&Set>) -> bool {
        let Some(update) = self.watch.try_next() else { return false };
        match update {
            Update::Snapshot(all) => {
                let missed = self.sequence.map_or(0, |sequence| all.sequence - sequence);
                assert_eq!(all.missed, missed, "it is told how far behind it was");
                assert!(all.iter().is_sorted_by_key(|instance| instance.id().clone()));
                self.view = all.iter().map(|instance| (instance.id().clone(), shown(instance))).collect();
                self.sequence = Some(all.sequence);
            }
            Update::Event(event) => {
                assert_eq!(Some(event.sequence - 1), self.sequence, "no gap and no duplicate");
                self.sequence = Some(event.sequence);
                match event.change {
                    Change::Added(new) => assert!(self.view.insert(new.id().clone(), shown(&new)).is_none()),
                    Change::Updated(new) => {
                        let before = self.view.insert(new.id().clone(), shown(&new)).expect("it was known");
                        assert_ne!(before, shown(&new), "something is another");
                    }
                    Change::Removed(old, _) => assert_eq!(self.view.remove(old.id()), Some(shown(&old))),
                    other => panic!("a backend in memory does not fail: {other:?}"),
                }
            }
        }
        let sequence = self.sequence.expect("it was read");
        match truth {
            // The witness reads all there is after every step, and so writes the history.
            Some(_) => drop(history.insert(sequence, self.view.clone())),
            // It has gaps only where more leases ran out at once than there is room for events.
            None => match history.get(&sequence) {
                Some(then) => assert_eq!(then, &self.view, "what was true after change {sequence}"),
                None => assert!(history.range(sequence..).next().is_some()),
            },
        }
        true
    }
}

struct Run {
    backend: InMemory,
    model: Model,
    leases: Vec<Lease>,
    witness: Watcher,
    watchers: Vec<Watcher>,
    history: BTreeMap<u64, Set>,
}

impl Run {
    async fn new(events: usize) -> Self {
        let backend = InMemory::with(Config::new().events(events).overrides_for(ms(KEPT)));
        let witness = Self::watcher(&backend).await;
        let (model, leases, watchers, history) = Default::default();
        Self { backend, model, leases, witness, watchers, history }
    }

    async fn watcher(backend: &InMemory) -> Watcher {
        Watcher { watch: backend.watch(&users()).await.unwrap(), view: Set::new(), sequence: None }
    }

    fn lease(&self, n: usize) -> Option<(&Lease, bool)> {
        let lease = self.leases.get(n % self.leases.len().max(1))?;
        Some((lease, self.model.held.get(lease.id()).is_some_and(|held| held.key == lease.key())))
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Register(n, ttl) => self.register(&id(n), ttl).await,
            Step::Heartbeat(n) => {
                let Some((lease, runs)) = self.lease(n) else { return };
                assert_eq!(is_done(self.backend.heartbeat(lease).await), runs);
                let (id, ttl) = (lease.id().clone(), u64::try_from(lease.ttl().as_millis()).unwrap());
                if let Some(held) = self.model.held.get_mut(&id).filter(|_| runs) {
                    held.until = self.model.now + ttl;
                }
            }
            Step::Update(n, weight, health, draining) => {
                let Some((lease, runs)) = self.lease(n) else { return };
                let (id, own) = (lease.id().clone(), (health, weight, draining));
                assert_eq!(is_done(self.backend.update(lease, instance(&id, own)).await), runs);
                if let Some(held) = self.model.held.get_mut(&id).filter(|_| runs) {
                    (held.own, held.for_now) = (own, None);
                }
            }
            Step::Deregister(n) => {
                let Some((lease, runs)) = self.lease(n) else { return };
                let lease = lease.clone();
                assert_eq!(is_done(self.backend.deregister(lease.clone()).await), runs);
                if runs {
                    self.model.leave(lease.id(), self.model.now);
                }
            }
            Step::DropLease(n) => {
                let count = self.leases.len().max(1);
                drop((!self.leases.is_empty()).then(|| self.leases.swap_remove(n % count)));
            }
            Step::Pass(millis) => self.pass(millis).await,
            Step::ToExpiry(short) => {
                let next = self.model.held.values().map(|held| held.until).min().unwrap_or(self.model.now);
                self.pass((next - self.model.now).saturating_sub(u64::from(short))).await;
            }
            Step::Watch => self.watchers.push(Self::watcher(&self.backend).await),
            Step::Unwatch(n) => {
                let count = self.watchers.len().max(1);
                drop((!self.watchers.is_empty()).then(|| self.watchers.swap_remove(n % count)));
            }
            Step::Read(n, most) => {
                let count = self.watchers.len().max(1);
                let Some(watcher) = self.watchers.get_mut(n % count) else { return };
                for _ in 0..most {
                    if !watcher.read(&mut self.history, None) {
                        break;
                    }
                }
            }
            Step::Override(n, health) => {
                let done = self.backend.override_health(&users(), &id(n), health).is_ok();
                assert_eq!(done, self.model.held.contains_key(&id(n)));
                if done {
                    self.model.overrides.insert(id(n), (health, None));
                    self.model.held.get_mut(&id(n)).unwrap().for_now = None;
                }
            }
            Step::RemoveOverride(n, instead) => {
                let was_there = self.backend.remove_override(&users(), &id(n), instead.map(Into::into));
                let now = self.model.now;
                let known = self.model.overrides.remove(&id(n));
                // One that has waited for too long may be forgotten, and may not.
                if known.is_none_or(|(_, until)| until.is_none_or(|until| until > now)) {
                    assert_eq!(was_there, known.is_some());
                }
                let held = self.model.held.get_mut(&id(n)).filter(|_| known.is_some());
                if let Some(held) = held {
                    held.for_now = instead;
                }
            }
        }
    }

    async fn register(&mut self, id: &InstanceId, ttl: u64) {
        let own = (HealthStatus::Healthy, 100, false);
        let free = !self.model.held.contains_key(id);
        match self.backend.register(instance(id, own), ms(ttl)).await {
            Ok(lease) => {
                assert!(free);
                let held = Held { key: lease.key(), until: self.model.now + ttl, own, for_now: None };
                self.model.comes(id);
                self.model.held.insert(id.clone(), held);
                self.leases.push(lease);
            }
            Err(error) => {
                assert!(matches!(error, DiscoveryError::Duplicate { .. }), "{error}");
                assert!(!free);
            }
        }
    }

    async fn pass(&mut self, millis: u64) {
        advance(ms(millis)).await;
        self.model.pass(millis);
    }

    /// What must be true after every step.
    async fn check(&mut self) {
        let truth = self.model.shown();
        let known = self.backend.instances(&users()).await.unwrap();
        let set: Set = known.iter().map(|instance| (instance.id().clone(), shown(instance))).collect();
        assert_eq!(set, truth);
        while self.witness.read(&mut self.history, Some(&truth)) {}
        assert_eq!((&self.witness.view, self.witness.sequence), (&truth, Some(known.sequence)));
        let counts = self.backend.snapshot();
        assert_eq!((counts.instances, counts.leases), (truth.len(), truth.len()));
        assert_eq!(counts.watchers, 1 + self.watchers.len());
    }

    /// In the end all read what there is, and see the same.
    fn finish(mut self) {
        let truth = self.model.shown();
        for watcher in &mut self.watchers {
            while watcher.read(&mut self.history, None) {}
            assert_eq!(watcher.view, truth);
        }
    }
}

fn is_done(done: Result<(), DiscoveryError>) -> bool {
    match done {
        Ok(()) => true,
        Err(DiscoveryError::LeaseLost { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status =
        || prop_oneof![Just(HealthStatus::Healthy), Just(HealthStatus::Degraded), Just(HealthStatus::Unhealthy)];
    let step = prop_oneof![
        6 => (0..6_u8, 1..40_u64).prop_map(|(n, ttl)| Step::Register(n, ttl)),
        3 => any::<usize>().prop_map(Step::Heartbeat),
        4 => (any::<usize>(), 0..3_u32, status(), any::<bool>())
            .prop_map(|(n, weight, health, draining)| Step::Update(n, weight, health, draining)),
        2 => any::<usize>().prop_map(Step::Deregister),
        1 => any::<usize>().prop_map(Step::DropLease),
        2 => (0..30_u64).prop_map(Step::Pass),
        2 => any::<bool>().prop_map(Step::ToExpiry),
        1 => Just(Step::Watch),
        1 => any::<usize>().prop_map(Step::Unwatch),
        4 => (any::<usize>(), 1..6_usize).prop_map(|(n, most)| Step::Read(n, most)),
        2 => (0..6_u8, status()).prop_map(|(n, health)| Step::Override(n, health)),
        1 => (0..6_u8, prop::option::of(status())).prop_map(|(n, instead)| Step::RemoveOverride(n, instead)),
    ];
    prop::collection::vec(step, 1..150)
}

fn cases() -> u32 {
    std::env::var("MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_what_is_true(events in 1..12_usize, steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(events).await;
            run.check().await;
            for step in steps {
                run.take(step).await;
                run.check().await;
            }
            run.finish();
        });
    }
}
