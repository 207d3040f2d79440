//! The keys and their policies: a bounded map in shards.
//!
//! **No two policies for one key.** A call holds the [`Entry`] of its key from the look-up to its end. An entry leaves
//! only under the lock of its shard, which every look-up takes, and only when the table holds the one reference there
//! is ([`Entry::is_free`]): so nobody has it, and nobody can get it any more. Who holds a permit or a handle of the
//! policy itself, from [`get`](super::Handle::get), counts too.
//!
//! **No code of the user under a lock.** Keys are hashed before the lock and compared, cloned and dropped outside of
//! it: the shards know hashes and entries, and no keys. The rejected design is a `HashMap` by key, which compares under
//! the lock, and can then wait for itself when a comparison comes back to the table.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::Duration,
};

use crate::{
    keyed::{
        KeyedPolicy,
        leave::{Rank, rank},
        shard::{Shard, Shared},
    },
    sync::{
        Counted, RwLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
            fence,
        },
    },
    time::{Moment, Tick},
};

/// A key and its policy.
#[derive(Debug)]
pub(super) struct Entry<K, P> {
    pub(super) policy: P,
    // None for the one of all calls without a key of their own.
    pub(super) key: Option<K>,
    pub(super) hash: u64,
    // Which settings it was made with.
    pub(super) version: u64,
    last_used: AtomicU64,
    // Keys with settings of their own never leave.
    pub(super) listed: AtomicBool,
}

impl<K, P> Entry<K, P> {
    pub(super) fn new(policy: P, key: Option<K>, hash: u64, version: u64) -> Self {
        Self { policy, key, hash, version, last_used: AtomicU64::new(0), listed: AtomicBool::new(false) }
    }

    /// Writes down that it was asked for now.
    #[inline]
    pub(super) fn touch(&self, now: &mut Moment) {
        self.last_used.store(now.tick().as_nanos(), Relaxed);
    }

    fn last_used(&self) -> Tick {
        Tick::from_nanos(self.last_used.load(Relaxed))
    }
}

impl<K, P: KeyedPolicy> Entry<K, P> {
    /// Whether nobody but the table has it. Means something under the lock of its shard.
    fn is_free(this: &Counted<Self>) -> bool {
        let free = Counted::strong_count(this) == 1 && this.policy.is_alone();
        // Whoever had it before has let go; what they did to the policy is to be seen.
        fence(Acquire);
        free
    }

    /// Whether it goes for want of use.
    pub(super) fn is_idle(this: &Counted<Self>, terms: &Terms, now: &mut Moment) -> bool {
        Self::rank(this, terms, now) == Some(Rank::Idle)
    }

    fn rank(this: &Counted<Self>, terms: &Terms, now: &mut Moment) -> Option<Rank> {
        if this.listed.load(Relaxed) || !Self::is_free(this) {
            return None;
        }
        let unused_for = now.tick().since(this.last_used());
        rank(this.policy.standing(now), unused_for, terms.idle_for)
    }
}

/// How many keys there may be, and how long one may go unused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) max_keys: usize,
    pub(super) idle_for: Duration,
}

/// A shard alone on its cache lines, with where the next look for a key to leave begins.
#[repr(align(128))]
struct Padded<K, P> {
    shard: RwLock<Shard<K, P>>,
    hand: AtomicUsize,
}

pub(super) struct Table<K, P> {
    shards: Box<[Padded<K, P>]>,
    hasher: RandomState,
    // The keys there are, and those that are about to be.
    taken: AtomicUsize,
    hand: AtomicUsize,
    // Keys that have left.
    left: AtomicU64,
}

/// Room for one key, given back when dropped.
pub(super) struct Room<'a>(&'a AtomicUsize);

impl Room<'_> {
    fn use_up(self) {
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

/// Where an entry was seen. No reference to it: that would keep it.
struct Place {
    shard: usize,
    at: usize,
    address: usize,
}

/// An entry that could leave.
struct Candidate {
    rank: Rank,
    last_used: Tick,
    place: Place,
}

/// How many entries a new key looks at, to find some that may leave for it, and how many of those are enough to choose
/// from: the one of four that was unused for longest is nearly always one of the older half.
const LOOKS: usize = 16;
const ENOUGH: usize = 4;
/// How many it looks at when there is room: only for one that is idle.
const GLANCES: usize = 2;
/// A shard for so many keys at least, so that a small table looks at all its keys and finds the right one.
const KEYS_PER_SHARD: usize = 64;
const MOST_SHARDS: usize = 64;

fn shards_for(max_keys: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(4, usize::from);
    let most = (4 * threads).next_power_of_two().min(MOST_SHARDS);
    let filled = (max_keys / KEYS_PER_SHARD).max(1);
    most.min(1 << filled.ilog2())
}

impl<K, P> Table<K, P> {
    pub(super) fn new(max_keys: usize) -> Self {
        let padded = || Padded { shard: RwLock::new(Shard::new()), hand: AtomicUsize::new(0) };
        Self {
            shards: (0..shards_for(max_keys)).map(|_| padded()).collect(),
            hasher: RandomState::new(),
            taken: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            left: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// By the middle bits: the map inside of a shard uses those at both ends.
    #[inline]
    fn shard_at(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.shards.len() - 1)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Padded<K, P> {
        &self.shards[self.shard_at(hash)]
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<Shared<K, P>> {
        let is = |entry: &Shared<K, P>| entry.key.as_ref().is_some_and(&is);
        let (first, more) = {
            let shard = self.shard(hash).shard.read();
            let mut found = shard.of_hash(hash).cloned();
            // Collecting nothing allocates nothing.
            (found.next()?, found.collect::<Vec<_>>())
        };
        if is(&first) {
            return Some(first);
        }
        more.into_iter().find(is)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|padded| padded.shard.read().entries.len()).sum()
    }

    /// How many keys have left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    /// All entries at one moment of each shard.
    pub(super) fn entries(&self) -> Vec<Shared<K, P>> {
        let mut all = Vec::with_capacity(self.taken.load(Relaxed));
        for padded in &self.shards {
            all.extend(padded.shard.read().entries.iter().cloned());
        }
        all
    }

    /// Bytes on the heap, without keys and policies.
    pub(super) fn heap_size(&self) -> usize {
        let shards = self.shards.iter().map(|padded| padded.shard.read().heap_size());
        size_of_val(&*self.shards) + shards.sum::<usize>()
    }
}

impl<K: Eq, P: KeyedPolicy> Table<K, P> {
    /// Room for one more key. Makes some if it must, by letting a key leave; in any case one of those that were not
    /// used for long leaves, if one of them is found.
    pub(super) fn room(&self, hash: u64, terms: &Terms, now: &mut Moment) -> Option<Room<'_>> {
        let free = |taken: usize| (taken < terms.max_keys).then_some(taken + 1);
        let room = self.taken.fetch_update(AcqRel, Relaxed, free).is_ok().then(|| Room(&self.taken));
        // Once more if somebody asked for the key that was to leave.
        for _ in 0..3 {
            // When one has to leave, it is of the shard that the new key comes to, if there is one: else the shards
            // would drift apart, and each grow in its turn.
            let (from, looks) = match room {
                Some(_) => (self.hand.fetch_add(1, Relaxed), GLANCES),
                None => (self.shard_at(hash), LOOKS),
            };
            let wanted = |candidate: &Candidate| candidate.rank == Rank::Idle || room.is_none();
            let Some(candidate) = self.candidate((from, looks), terms, now).filter(wanted) else { break };
            let Some(left) = self.take(&candidate.place, |entry| Entry::rank(entry, terms, now).is_some()) else {
                continue;
            };
            // Its room is the new key's, unless there are more keys than there may be now.
            let is_enough = self.taken.load(Relaxed) <= terms.max_keys;
            return room.or_else(|| is_enough.then_some(left));
        }
        room
    }

    /// The entry to leave first, of the next few in a shard and those after it.
    fn candidate(&self, (first, mut looks): (usize, usize), terms: &Terms, now: &mut Moment) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        let mut found = 0;
        for n in 0..self.shards.len() {
            let number = first.wrapping_add(n) & (self.shards.len() - 1);
            let Padded { shard, hand } = &self.shards[number];
            let shard = shard.read();
            let here = looks.min(shard.entries.len());
            looks -= here;
            for _ in 0..here {
                let at = hand.fetch_add(1, Relaxed) % shard.entries.len();
                let entry = &shard.entries[at];
                let Some(rank) = Entry::rank(entry, terms, now) else { continue };
                let last_used = entry.last_used();
                if best.as_ref().is_none_or(|best| (rank, last_used) < (best.rank, best.last_used)) {
                    let place = Place { shard: number, at, address: Counted::as_ptr(entry).addr() };
                    best = Some(Candidate { rank, last_used, place });
                }
                found += 1;
                if found == ENOUGH {
                    return best;
                }
            }
            if looks == 0 {
                break;
            }
        }
        best
    }

    /// Takes out an entry that is still there and still may leave; the room it had.
    fn take(&self, place: &Place, may: impl FnOnce(&Shared<K, P>) -> bool) -> Option<Room<'_>> {
        let mut shard = self.shards[place.shard].shard.write();
        let there = shard.entries.get(place.at).filter(|entry| Counted::as_ptr(entry).addr() == place.address);
        let left = there.is_some_and(may).then(|| shard.take(place.at))?;
        drop(shard);
        let room = Room(&self.taken);
        self.left.fetch_add(1, Relaxed);
        // Its key is the user's: dropped after the lock, and when nothing is left to do.
        drop(left);
        Some(room)
    }

    /// Takes out an entry by hand, unless it is listed or in use.
    pub(super) fn remove(&self, entry: Shared<K, P>) -> bool {
        let (shard, address) = (self.shard_at(entry.hash), Counted::as_ptr(&entry).addr());
        let at = self.shards[shard].shard.read().entries.iter().position(|there| Counted::ptr_eq(there, &entry));
        drop(entry);
        let free = |entry: &Shared<K, P>| !entry.listed.load(Relaxed) && Entry::is_free(entry);
        at.and_then(|at| self.take(&Place { shard, at, address }, free)).is_some()
    }

    /// Adds a key, unless it is there: then the one that is there. Gives the room back when the entry is out of date by
    /// now.
    pub(super) fn add<'a>(
        &self,
        room: Room<'a>,
        entry: &Shared<K, P>,
        is_current: impl Fn() -> bool,
    ) -> Result<Shared<K, P>, Room<'a>> {
        // Those of the same hash that are other keys.
        let mut others: Vec<Shared<K, P>> = Vec::new();
        loop {
            let mut shard = self.shard(entry.hash).shard.write();
            let known = others.iter().map(Counted::as_ptr).eq(shard.of_hash(entry.hash).map(Counted::as_ptr));
            if known && is_current() {
                shard.push(Counted::clone(entry));
                room.use_up();
                return Ok(Counted::clone(entry));
            } else if known {
                return Err(room);
            }
            let same_hash = shard.of_hash(entry.hash).cloned().collect();
            drop(shard);
            // Compared and dropped outside of the lock.
            others = same_hash;
            if let Some(there) = others.iter().find(|other| other.key == entry.key) {
                return Ok(Counted::clone(there));
            }
        }
    }

    /// Lets everything leave that `may`, and says how many did. Holds up a shard while it looks through it.
    pub(super) fn sweep(&self, mut may: impl FnMut(&Shared<K, P>) -> bool) -> usize {
        let mut count = 0;
        for padded in &self.shards {
            let mut left = Vec::new();
            let mut shard = padded.shard.write();
            for at in (0..shard.entries.len()).rev() {
                if may(&shard.entries[at]) {
                    left.push(shard.take(at));
                }
            }
            drop(shard);
            self.taken.fetch_sub(left.len(), AcqRel);
            self.left.fetch_add(left.len() as u64, Relaxed);
            count += left.len();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_for_64_keys_and_more_and_there_are_not_more_than_64_of_them() {
        assert_eq!([0, 1, 63, 64, 127, 128, 255, 256].map(shards_for), [1, 1, 1, 1, 1, 2, 2, 4]);
        assert!((4..=MOST_SHARDS).contains(&shards_for(usize::MAX)));
    }
}
