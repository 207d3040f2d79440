//! Which leases run, and which run out next. Pure: time comes in as an argument.

use std::collections::{BTreeSet, HashMap};

use crate::{contract::InstanceId, time::Tick};

/// The leases of one service's instances, at most one for each.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<InstanceId, Held>,
    // In the order in which they run out: nobody has to look at all of them.
    order: BTreeSet<(Tick, InstanceId)>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    key: u64,
    until: Tick,
}

impl Leases {
    /// Grants a lease, unless another runs for the same instance.
    pub(super) fn grant(&mut self, id: &InstanceId, key: u64, until: Tick) -> bool {
        if self.held.contains_key(id) {
            return false;
        }
        self.held.insert(id.clone(), Held { key, until });
        self.order.insert((until, id.clone()));
        true
    }

    /// Makes a lease last until a later time. False if it does not run.
    pub(super) fn renew(&mut self, id: &InstanceId, key: u64, until: Tick) -> bool {
        let Some(held) = self.held.get_mut(id).filter(|held| held.key == key) else { return false };
        // Two heartbeats at a time may come in the wrong order.
        if until > held.until {
            let mut place = (held.until, id.clone());
            self.order.remove(&place);
            place.0 = until;
            self.order.insert(place);
            held.until = until;
        }
        true
    }

    /// Whether this very lease runs.
    pub(super) fn runs(&self, id: &InstanceId, key: u64) -> bool {
        self.held.get(id).is_some_and(|held| held.key == key)
    }

    /// Ends a lease. False if it does not run.
    pub(super) fn release(&mut self, id: &InstanceId, key: u64) -> bool {
        if !self.runs(id, key) {
            return false;
        }
        if let Some(held) = self.held.remove(id) {
            self.order.remove(&(held.until, id.clone()));
        }
        true
    }

    /// Takes out one lease that has run out, and when it did. At exactly its end it has.
    pub(super) fn expire(&mut self, now: Tick) -> Option<(Tick, InstanceId)> {
        if self.next() > now {
            return None;
        }
        let (until, id) = self.order.pop_first()?;
        self.held.remove(&id);
        Some((until, id))
    }

    /// When the next lease runs out.
    pub(super) fn next(&self) -> Tick {
        self.order.first().map_or(Tick::NEVER, |(until, _)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> InstanceId {
        InstanceId::new(&format!("i{n}")).unwrap()
    }

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn a_lease_runs_out_at_exactly_its_end() {
        let mut leases = Leases::default();
        assert_eq!(leases.next(), Tick::NEVER);
        assert!(leases.grant(&id(1), 1, at(100)));
        assert!(!leases.grant(&id(1), 2, at(200)), "one runs");
        assert_eq!(leases.expire(at(99)), None);
        assert!(leases.renew(&id(1), 1, at(150)));
        assert!(leases.renew(&id(1), 1, at(120)), "a late heartbeat does not shorten it");
        assert_eq!(leases.next(), at(150));
        assert!(!leases.renew(&id(1), 7, at(900)), "not this one");
        assert!(!leases.release(&id(1), 7));
        assert_eq!(leases.expire(at(149)), None);
        assert_eq!(leases.expire(at(151)), Some((at(150), id(1))));
        assert!(!leases.renew(&id(1), 1, at(300)));
        assert_eq!((leases.len(), leases.order.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn it_is_as_a_map_that_is_looked_at_whole(
            steps in prop::collection::vec((0..4_u8, 0..6_u64, 0..40_u64), 1..200),
        ) {
            let (mut leases, mut model, mut now) = (Leases::default(), BTreeMap::<u64, (u64, u64)>::new(), 0);
            for (key, (kind, n, time)) in (1..).zip(steps) {
                let theirs = model.get(&n).map_or(0, |(key, _)| *key);
                match kind {
                    0 => {
                        let free = !model.contains_key(&n);
                        prop_assert_eq!(leases.grant(&id(n), key, at(now + time)), free);
                        model.entry(n).or_insert((key, now + time));
                    }
                    1 => {
                        prop_assert_eq!(leases.renew(&id(n), theirs, at(now + time)), theirs != 0);
                        model.entry(n).and_modify(|(_, until)| *until = (now + time).max(*until));
                    }
                    2 => prop_assert_eq!(leases.release(&id(n), theirs), model.remove(&n).is_some()),
                    _ => now += time,
                }
                let expired = std::iter::from_fn(|| leases.expire(at(now)));
                let mut gone: Vec<InstanceId> = expired.map(|(_, id)| id).collect();
                gone.sort();
                let over = model.iter().filter(|(_, (_, until))| *until <= now).map(|(n, _)| *n).collect::<Vec<_>>();
                prop_assert_eq!(gone, over.iter().map(|n| id(*n)).collect::<Vec<_>>());
                model.retain(|_, (_, until)| *until > now);
                let next = model.values().map(|(_, until)| at(*until)).min().unwrap_or(Tick::NEVER);
                prop_assert_eq!((leases.next(), leases.len()), (next, model.len()));
                prop_assert_eq!(leases.order.len(), model.len());
            }
        }
    }
}
