//! A bounded map from which the value that was written longest ago leaves. Pure: time comes in as an argument, keys are
//! hashes, and what leaves is handed out, so that nobody's code runs in here.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

use crate::time::Tick;

#[derive(Debug)]
pub(super) struct Shard<V> {
    slots: HashMap<u64, Slot<V>, BuildHasherDefault<Hashed>>,
    // In the order of writing, oldest first. A slot that was written again stands here more than once, and only its
    // last stamp counts.
    order: VecDeque<(u64, u64)>,
    writes: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    written: Tick,
    stamp: u64,
}

/// How many values there may be, and how old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) most: usize,
    pub(super) max_age: Duration,
}

impl<V> Shard<V> {
    pub(super) fn new() -> Self {
        Self { slots: HashMap::default(), order: VecDeque::new(), writes: 0 }
    }

    /// The value, and when it was written.
    pub(super) fn get(&self, hash: u64) -> Option<(&V, Tick)> {
        self.slots.get(&hash).map(|slot| (&slot.value, slot.written))
    }

    /// Writes a value. Gives back what left: the one before, the oldest where there was no room, and up to two that
    /// are too old, so that what is never asked for again does not stay for ever.
    pub(super) fn put(&mut self, hash: u64, value: V, now: Tick, bounds: Bounds) -> Vec<V> {
        self.writes += 1;
        self.order.push_back((hash, self.writes));
        let before = self.slots.insert(hash, Slot { value, written: now, stamp: self.writes });
        let mut left: Vec<V> = before.into_iter().map(|slot| slot.value).collect();
        for _ in 0..2 {
            let too_old = self.oldest().is_some_and(|written| now.since(written) > bounds.max_age);
            if too_old || self.slots.len() > bounds.most {
                left.extend(self.remove_oldest());
            }
        }
        // Hardly ever: half of the order, and more, is out of date.
        if self.order.len() > 2 * self.slots.len() + 32 {
            self.order.retain(|(hash, stamp)| self.slots.get(hash).is_some_and(|slot| slot.stamp == *stamp));
        }
        left
    }

    /// When the oldest value was written. Forgets what is out of date before it.
    fn oldest(&mut self) -> Option<Tick> {
        while let Some((hash, stamp)) = self.order.front() {
            match self.slots.get(hash) {
                Some(slot) if slot.stamp == *stamp => return Some(slot.written),
                _ => self.order.pop_front(),
            };
        }
        None
    }

    fn remove_oldest(&mut self) -> Option<V> {
        self.oldest()?;
        let (hash, _) = self.order.pop_front()?;
        self.slots.remove(&hash).map(|slot| slot.value)
    }

    pub(super) fn remove(&mut self, hash: u64) -> Option<V> {
        self.slots.remove(&hash).map(|slot| slot.value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// The key is a hash already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Never called: the keys are `u64`.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: u64) -> Tick {
        Tick::from_nanos(second * 1_000_000_000)
    }

    fn bounds(most: usize, seconds: u64) -> Bounds {
        Bounds { most, max_age: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_one_written_longest_ago_leaves() {
        let mut shard = Shard::new();
        let two = bounds(2, 1_000);
        assert_eq!(shard.put(1, "a", at(0), two), Vec::<&str>::new());
        assert_eq!(shard.put(2, "b", at(1), two), Vec::<&str>::new());
        assert_eq!(shard.put(1, "A", at(2), two), ["a"]);
        assert_eq!(shard.put(3, "c", at(3), two), ["b"]);
        assert_eq!(shard.get(1), Some((&"A", at(2))));
        assert_eq!((shard.get(2), shard.len()), (None, 2));
        assert_eq!(shard.remove(1), Some("A"));
        assert_eq!(shard.put(4, "d", at(4), two), Vec::<&str>::new());
        assert_eq!(shard.put(5, "e", at(5), two), ["c"]);
    }

    #[test]
    fn two_that_are_too_old_leave_with_every_write() {
        let mut shard = Shard::new();
        (0..5).for_each(|hash| drop(shard.put(hash, hash, at(hash), bounds(10, 10))));
        assert_eq!(shard.put(9, 9, at(14), bounds(10, 10)), [0, 1]);
        assert_eq!(shard.put(9, 9, at(14), bounds(10, 10)), [9, 2, 3]);
        assert_eq!(shard.put(8, 8, at(14), bounds(10, 10)), Vec::<u64>::new(), "what is just old enough stays");
        assert_eq!(shard.len(), 3);
    }

    #[test]
    fn a_value_that_is_written_for_ever_does_not_grow_the_order() {
        let mut shard = Shard::new();
        (0..100_000).for_each(|n| drop(shard.put(n % 3, n, at(n), bounds(3, 1_000_000))));
        assert!(shard.order.len() <= 2 * 3 + 33 && shard.order.capacity() < 1_000);
        // Nor behind one that stays, which is the oldest.
        let mut shard = Shard::new();
        for n in 0..10_000 {
            shard.put(n.min(1), n, at(n), bounds(3, 1_000_000));
            assert!(shard.order.len() <= 2 * 2 + 32, "{}", shard.order.len());
        }
        assert_eq!((shard.get(0), shard.get(1)), (Some((&0, at(0))), Some((&9_999, at(9_999)))));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_list_holds(
            most in 1_usize..6,
            writes in proptest::collection::vec((0_u64..8, any::<bool>()), 0..200),
        ) {
            let mut shard = Shard::new();
            // Oldest first.
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (n, (hash, removed)) in writes.into_iter().enumerate() {
                model.retain(|(other, _)| *other != hash);
                if removed {
                    shard.remove(hash);
                } else {
                    shard.put(hash, n, at(n as u64), bounds(most, 1_000_000));
                    model.push((hash, n));
                    let over = model.len().saturating_sub(most);
                    model.drain(..over);
                }
                prop_assert_eq!(shard.len(), model.len());
                for (hash, n) in &model {
                    prop_assert_eq!(shard.get(*hash), Some((n, at(*n as u64))));
                }
            }
        }
    }
}
