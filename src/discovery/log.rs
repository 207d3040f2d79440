//! What is known of one service, and its last changes. Pure: no clock, no lock.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    contract::{Instance, InstanceId, ServiceName},
    discovery::update::{Change, Event, Gone, Snapshot, Stale, Update},
};

#[derive(Debug)]
pub(super) struct Log {
    service: ServiceName,
    known: BTreeMap<InstanceId, Arc<Instance>>,
    stale: Option<Arc<Stale>>,
    // The number of the last change.
    sequence: u64,
    // The last changes, while somebody watches.
    events: VecDeque<Event>,
    most_events: usize,
    watchers: usize,
    closed: bool,
    // Made when it is asked for, and not with every change: of 10 000 that come at once, most are never seen alone.
    snapshot: Option<Arc<Snapshot>>,
}

/// Where a watcher is: the number of the event it wants next, none before its first snapshot.
pub(super) type Cursor = Option<u64>;

/// What there is for a watcher.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Update(Update),
    Nothing,
    End,
}

impl Log {
    pub(super) const fn new(service: ServiceName, most_events: usize) -> Self {
        Self {
            service,
            known: BTreeMap::new(),
            stale: None,
            sequence: 0,
            events: VecDeque::new(),
            most_events,
            watchers: 0,
            closed: false,
            snapshot: None,
        }
    }

    /// An instance is as it is given. Nothing happens when that was known.
    pub(super) fn put(&mut self, instance: Arc<Instance>) {
        if self.closed {
            return;
        }
        let change = match self.known.get(instance.id()) {
            Some(known) if known.says_the_same(&instance) => return,
            Some(_) => Change::Updated(Arc::clone(&instance)),
            None => Change::Added(Arc::clone(&instance)),
        };
        self.known.insert(instance.id().clone(), instance);
        self.push(change);
    }

    /// An instance is gone.
    pub(super) fn take(&mut self, id: &InstanceId, why: Gone) -> Option<Arc<Instance>> {
        if self.closed {
            return None;
        }
        let instance = self.known.remove(id)?;
        self.push(Change::Removed(Arc::clone(&instance), why));
        Some(instance)
    }

    /// All that is known is this, and no more.
    pub(super) fn replace(&mut self, set: &BTreeMap<InstanceId, Arc<Instance>>, why: Gone) {
        let gone: Vec<InstanceId> = self.known.keys().filter(|id| !set.contains_key(*id)).cloned().collect();
        for id in &gone {
            self.take(id, why);
        }
        set.values().for_each(|instance| self.put(Arc::clone(instance)));
    }

    /// What is known may not be the truth any more. The first reason of a row stays.
    pub(super) fn set_stale(&mut self, stale: Arc<Stale>) -> bool {
        let is_new = self.stale.is_none() && !self.closed;
        if is_new {
            self.stale = Some(Arc::clone(&stale));
            self.push(Change::Stale(stale));
        }
        is_new
    }

    pub(super) fn set_fresh(&mut self) {
        if !self.closed && self.stale.take().is_some() {
            self.push(Change::Fresh);
        }
    }

    fn push(&mut self, change: Change) {
        self.sequence += 1;
        self.snapshot = None;
        if self.watchers == 0 {
            return;
        }
        if self.events.len() >= self.most_events {
            self.events.pop_front();
        }
        self.events.push_back(Event { sequence: self.sequence, change });
    }

    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        let make = || {
            Arc::new(Snapshot {
                service: self.service.clone(),
                sequence: self.sequence,
                instances: self.known.values().cloned().collect(),
                stale: self.stale.clone(),
                missed: 0,
            })
        };
        Arc::clone(self.snapshot.get_or_insert_with(make))
    }

    /// What comes next for a watcher.
    pub(super) fn read(&mut self, cursor: &mut Cursor) -> Read {
        let after = self.sequence + 1;
        let first = after - self.events.len() as u64;
        let missed = match *cursor {
            Some(next) if next >= after => return if self.closed { Read::End } else { Read::Nothing },
            Some(next) if next >= first => {
                *cursor = Some(next + 1);
                let at = usize::try_from(next - first).ok();
                let event = at.and_then(|at| self.events.get(at)).cloned();
                return event.map_or(Read::Nothing, |event| Read::Update(Update::Event(event)));
            }
            Some(next) => after - next,
            None => 0,
        };
        *cursor = Some(after);
        let snapshot = self.snapshot();
        let snapshot = match missed {
            0 => snapshot,
            missed => Arc::new(Snapshot { missed, ..Snapshot::clone(&snapshot) }),
        };
        Read::Update(Update::Snapshot(snapshot))
    }

    pub(super) fn join(&mut self) {
        self.watchers += 1;
    }

    /// A watcher leaves; with the last one, the events do.
    pub(super) fn leave(&mut self) {
        self.watchers -= 1;
        if self.watchers == 0 {
            self.events = VecDeque::new();
        }
    }

    /// There will be no more changes.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.known.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) const fn watchers(&self) -> usize {
        self.watchers
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::wall;

    fn instance(n: u16) -> Arc<Instance> {
        Arc::new(Instance::new("users", &format!("i{n}"), "10.0.0.1", 1_000 + n).unwrap())
    }

    fn log(most_events: usize) -> Log {
        Log::new(ServiceName::new("users").unwrap(), most_events)
    }

    fn read(log: &mut Log, cursor: &mut Cursor) -> String {
        match log.read(cursor) {
            Read::Nothing => "-".into(),
            Read::End => "end".into(),
            Read::Update(Update::Snapshot(all)) => {
                format!("{} to {} missed {}", all.len(), all.sequence, all.missed)
            }
            Read::Update(Update::Event(event)) => match event.change {
                Change::Added(added) => format!("{}+{}", event.sequence, added.id()),
                Change::Updated(updated) => format!("{}~{}", event.sequence, updated.id()),
                Change::Removed(removed, why) => format!("{}-{} {why}", event.sequence, removed.id()),
                Change::Stale(stale) => format!("{} stale {}", event.sequence, stale.why),
                Change::Fresh => format!("{} fresh", event.sequence),
            },
        }
    }

    #[test]
    fn a_watcher_reads_a_snapshot_and_then_every_change_once() {
        let (mut log, mut cursor) = (log(8), None);
        log.put(instance(1));
        log.join();
        log.put(instance(2));
        assert_eq!(read(&mut log, &mut cursor), "2 to 2 missed 0");
        log.put(instance(2));
        assert_eq!(read(&mut log, &mut cursor), "-", "that was known");
        let weak = Instance::clone(&instance(2)).with_weight(0).unwrap();
        log.put(Arc::new(weak));
        log.take(&InstanceId::new("i1").unwrap(), Gone::Expired);
        assert!(log.take(&InstanceId::new("i1").unwrap(), Gone::Expired).is_none());
        assert!(log.set_stale(Arc::new(Stale { since: wall(), why: "first".into() })));
        assert!(!log.set_stale(Arc::new(Stale { since: wall(), why: "second".into() })));
        log.set_fresh();
        log.set_fresh();
        log.close();
        for expected in ["3~i2", "4-i1 expired", "5 stale first", "6 fresh", "end", "end"] {
            assert_eq!(read(&mut log, &mut cursor), expected);
        }
        assert_eq!(read(&mut log, &mut None), "1 to 6 missed 0");
    }

    #[test]
    fn a_watcher_that_is_too_far_behind_is_told_how_far() {
        let (mut log, mut slow, mut slower) = (log(3), None, None);
        log.join();
        log.join();
        assert_eq!(read(&mut log, &mut slow), "0 to 0 missed 0");
        assert_eq!(read(&mut log, &mut slower), "0 to 0 missed 0");
        (1..=3).for_each(|n| log.put(instance(n)));
        assert_eq!(read(&mut log, &mut slow), "1+i1");
        log.put(instance(4));
        assert_eq!(read(&mut log, &mut slow), "2+i2", "just within");
        assert_eq!(read(&mut log, &mut slower), "4 to 4 missed 4");
        assert_eq!(read(&mut log, &mut slower), "-");
        log.put(instance(5));
        assert_eq!(read(&mut log, &mut slower), "5+i5");
        log.leave();
        assert_eq!(log.events.len(), 3);
        log.leave();
        assert_eq!(log.events.capacity(), 0, "nobody watches");
        log.put(instance(6));
        assert_eq!((log.events.capacity(), log.sequence()), (0, 6));
    }

    #[test]
    fn a_set_is_told_as_what_is_different() {
        let (mut log, mut cursor) = (log(100), None);
        let set = |of: &[u16]| of.iter().map(|n| (instance(*n).id().clone(), instance(*n))).collect();
        log.join();
        log.replace(&set(&[1, 2, 3]), Gone::Left);
        let before = log.snapshot();
        assert_eq!(read(&mut log, &mut cursor), "3 to 3 missed 0");
        log.replace(&set(&[1, 2, 3]), Gone::Left);
        assert!(Arc::ptr_eq(&before, &log.snapshot()), "nothing is made anew for nothing");
        log.replace(&set(&[2, 4]), Gone::Left);
        for expected in ["4-i1 left", "5-i3 left", "6+i4", "-"] {
            assert_eq!(read(&mut log, &mut cursor), expected);
        }
        assert!(log.snapshot().get(instance(4).id()).is_some() && log.snapshot().get(instance(1).id()).is_none());
    }
}
