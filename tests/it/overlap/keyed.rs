//! Keyed bulkheads: each key has its own places and row, keys come and go, and those with a call in them stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
};

use mainstay::{
    Priority, Reason,
    bulkhead::{self, Snapshot},
    keyed::{Config, Handle, KeyedLayer, key_fn},
};
use tower::Layer;

use super::{
    Bell, Call, End, Room, Said, called, desk, flat,
    places::{Came, Places, Set},
    plans, state,
};
use crate::support::ms;

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    Refused,
    Waits { until: Option<u64> },
    Granted,
    Runs,
}

/// The policy of all that have none of their own.
const OTHERS: u32 = u32::MAX;
const MAX_KEYS: usize = 2;

struct Keyed {
    handle: Handle<u32, bulkhead::Handle>,
    set: Set,
    policies: BTreeMap<u32, Places>,
    /// Where each call is, and whether it has a handle of that policy to its end.
    calls: BTreeMap<usize, (u32, bool, State)>,
    now: u64,
}

fn settings(setting: u8) -> Set {
    let limit = u32::from(setting % 3) + 1;
    let max_queue = u32::from(setting / 3) % 3;
    Set { limit, reserve: 0, max_queue, max_wait: [None, Some(10), Some(25)][usize::from(setting / 9) % 3] }
}

fn config(set: Set) -> Config<u32, bulkhead::Config> {
    let one = bulkhead::Config::new(set.limit).max_queue(set.max_queue);
    let one = set.max_wait.into_iter().fold(one, |one, wait| one.max_wait(ms(wait)));
    Config::new(one).max_keys(MAX_KEYS).idle_for(ms(100))
}

impl Keyed {
    fn new(setting: u8) -> Self {
        let set = settings(setting);
        let policies = BTreeMap::from([(OTHERS, Places::new(set))]);
        Self { handle: Handle::new("x", config(set)), set, policies, calls: BTreeMap::new(), now: 0 }
    }

    /// Whether a call is in a policy, or has its handle.
    fn is_held(&self, key: u32) -> bool {
        self.calls.values().any(|(of, holds, state)| *of == key && (*holds || !matches!(state, State::Refused)))
    }

    /// Which policy a call has got, now that it has asked for its key.
    fn found(&mut self, key: u32) -> u32 {
        let there: BTreeSet<u32> = self.handle.keys().into_iter().collect();
        let gone: Vec<u32> = self.policies.keys().copied().filter(|known| !there.contains(known)).collect();
        for known in gone.into_iter().filter(|known| *known != OTHERS) {
            assert!(!self.is_held(known), "a key with a call in it has left");
            self.policies.remove(&known);
        }
        if there.contains(&key) {
            self.policies.entry(key).or_insert_with(|| Places::new(self.set));
            return key;
        }
        let full = there.len() == MAX_KEYS && there.iter().all(|known| self.is_held(*known));
        assert!(full, "there was room for the key");
        OTHERS
    }

    fn enter(&mut self, id: usize, of: u32, waits: bool) -> State {
        let places = self.policies.get_mut(&of).unwrap();
        let priority = Priority::Normal;
        match if waits { places.enter(priority, id) } else { places.take(priority) } {
            Came::In => State::Runs,
            Came::Waits => State::Waits { until: self.set.max_wait.map(|wait| self.now + wait) },
            Came::Refused => State::Refused,
        }
    }

    fn grant(&mut self, served: Vec<usize>) {
        for id in served {
            self.calls.get_mut(&id).unwrap().2 = State::Granted;
        }
    }

    fn knows(&self, key: u32, known: &Snapshot) {
        let places = &self.policies[&key];
        let seen = (known.limit, known.running, known.waiting as usize);
        assert_eq!(seen, (places.set.limit, places.running, places.line.len()), "of {key}");
        let counted = (known.rejected, known.queued, known.waited_too_long, known.left);
        assert_eq!(counted, (places.rejected, places.queued, places.waited_too_long, places.left), "of {key}");
    }
}

impl Room for Keyed {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let (key, bell) = (u32::from(key), bell.clone());
        // The last one has no key.
        let by = self.handle.by(key_fn(move |_: &Bell| (key < 4).then_some(key)));
        let call: Call = match way {
            0 => called(KeyedLayer::new(by).layer(desk()), bell),
            1 => called(KeyedLayer::new(by).queued().layer(desk()), bell),
            _ if key == 4 => {
                let others = self.handle.others();
                Box::pin(async move { flat(others.run(bell).await) })
            }
            _ => {
                let policy = self.handle.get(key);
                Box::pin(async move { flat(policy.run(bell).await) })
            }
        };
        let of = if key == 4 { OTHERS } else { self.found(key) };
        let begun = if way > 1 { State::New } else { self.enter(id, of, way == 1) };
        self.calls.insert(id, (of, way > 1, begun));
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let (of, holds, mut now) = state(&mut self.calls, id);
        if let State::New = now {
            now = self.enter(id, of, true);
        }
        match now {
            State::Granted => now = State::Runs,
            State::Waits { until: Some(until) } if until <= self.now => {
                self.policies.get_mut(&of).unwrap().too_long(id);
                now = State::Refused;
            }
            _ => {}
        }
        let said = match (now, end) {
            (State::Refused, _) => return Poll::Ready(Said::Rejected(Reason::BulkheadFull)),
            (State::Runs, Some(End::Ok)) => Said::Ok,
            (State::Runs, Some(End::Fail)) => Said::Failed,
            (State::Runs, Some(End::Panic)) => Said::Panicked,
            _ => {
                self.calls.insert(id, (of, holds, now));
                return Poll::Pending;
            }
        };
        let served = self.policies.get_mut(&of).unwrap().give_back();
        self.grant(served);
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        let (of, _, now) = state(&mut self.calls, id);
        if matches!(now, State::New | State::Refused) {
            return;
        }
        let places = self.policies.get_mut(&of).unwrap();
        let served = if matches!(now, State::Runs) { places.give_back() } else { places.leave(id) };
        self.grant(served);
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
        let _ = self.handle.sweep();
        // Who was idle for too long has left; nobody comes.
        let there = self.handle.keys();
        let gone: Vec<u32> = self.policies.keys().copied().filter(|key| !there.contains(key)).collect();
        for key in gone.into_iter().filter(|key| *key != OTHERS) {
            assert!(!self.is_held(key), "a key with a call in it was swept out");
            self.policies.remove(&key);
        }
    }

    fn set(&mut self, setting: u8) {
        self.set = settings(setting);
        self.handle.reconfigure(config(self.set)).unwrap();
        let mut served = Vec::new();
        for places in self.policies.values_mut() {
            places.set = self.set;
            served.extend(places.serve());
        }
        self.grant(served);
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        match self.calls[&id].2 {
            State::New => false,
            State::Refused | State::Granted => true,
            State::Waits { until } => until.is_some_and(|until| until <= self.now),
            State::Runs => end.is_some(),
        }
    }

    fn check(&self) {
        let listing = self.handle.listing();
        assert_eq!(listing.len() + 1, self.policies.len());
        listing.iter().for_each(|of| self.knows(of.key, &of.snapshot));
        self.knows(OTHERS, &self.handle.snapshot().others);
    }
}

#[test]
fn keyed_bulkheads_do_what_the_model_does() {
    plans(3, 5, Keyed::new);
}
