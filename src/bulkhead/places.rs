//! The places of a bulkhead: one word, and for each thread a few places of it that nobody uses.
//!
//! One word that all threads write costs each of them the way of its cache line from core to core. So a thread takes
//! some places at once, and calls come and go in its own lane; the word counts them as taken all the while. That alone
//! would not be exact: a call might be turned away while another lane has a place to spare. Hence three states:
//!
//! - *calm*: places go through the lanes. Few lie there, at most half of those that the lowest priority may have.
//! - *sweeping*: somebody found no place in the word. Under the lock of the queue, all that lies in lanes goes back.
//! - *swept*: nothing lies in the lanes, the word alone is right, and everything goes through it, until less than a
//!   quarter is in use. Only now is a call turned away or queued, so nobody ever waits while it is calm.
//!
//! No place is forgotten in a lane: a giver first puts its place there and then looks at the word again; a sweeper
//! first writes the word and then goes through the lanes. Both write the lane, so one of them comes second and sees
//! what the other did before: a sweeper that comes second finds the place, a giver that comes second finds that it is
//! calm no more, and takes a place back from the lane to the word. Therefore every access to a lane writes it, even if
//! it changes nothing.
//!
//! Places that are on their way between a lane and the word are in neither. The thread that moves them says so in the
//! lane before, and a sweeper waits for it: the way is a few instructions long, without a lock.
//!
//! The rejected design: a look at the lanes by reading them. What is read is no sum of one moment: a place that leaves
//! a lane not yet read for one that was is missed, and a call turned away that had a place.

use crate::{
    lanes::{Row, Seat, owned_lanes},
    sync::{
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
        pause,
    },
};

/// Places that are taken from one word, and rest in lanes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Places {
    // How many are taken in the lower half, those that rest in lanes among them; above it how many wait, and the state.
    // While somebody waits, the word changes under the lock only: so no place is given back past a waiter.
    word: AtomicU64,
    // So many more are taken at once for a lane; 0 where lanes are not worth it.
    batch: AtomicU32,
    // The word is not filled beyond this for the sake of lanes.
    quiet: AtomicU32,
    // None where they would never be used.
    lanes: Row<Idle>,
}

/// The idle places of a lane in the lower half, and above it how many threads move places to or from it.
#[derive(Debug)]
struct Idle(AtomicU64);

const MOVER: u64 = 1 << 32;

/// More makes the shared word no cheaper: a thread then comes to it for every ninth call at most.
const MOST_AT_ONCE: u32 = 8;

/// What came of the wish for a place.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Take {
    /// It is taken.
    Taken,
    /// There is none.
    Full,
    /// Somebody waits already.
    Behind,
    /// The word has none; the lanes may.
    Unswept,
    /// It was taken and may not be kept: it is to be handed back under the lock, and then looked for again.
    Stray,
}

/// What came of the wish for a place, or one in the queue.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Join {
    /// A place is taken.
    Took,
    /// One more waits.
    Joined,
    /// The queue is full too.
    TurnedAway,
    /// The word has no place; the lanes may.
    Unswept,
}

const ONE_WAITS: u64 = 1 << 32;
const WAITING: u64 = (1 << 30) - 1;
const STATE: u64 = SWEEPING | SWEPT;
const SWEEPING: u64 = 1 << 62;
const SWEPT: u64 = 2 << 62;

#[inline]
fn taken(word: u64) -> u32 {
    (word & u64::from(u32::MAX)) as u32
}

#[inline]
fn waiting(word: u64) -> u32 {
    (word >> 32 & WAITING) as u32
}

/// Neither swept nor being swept. Then nobody waits.
#[inline]
fn is_calm(word: u64) -> bool {
    word >> 32 == 0
}

impl Idle {
    /// Takes so many, if there are as many. Movers say at the same time that they have them under way.
    #[inline]
    fn take(&self, places: u64, movers: u64) -> bool {
        let enough = |idle| (u64::from(taken(idle)) >= places).then(|| idle - places + movers);
        self.0.fetch_update(AcqRel, Relaxed, enough).is_ok()
    }

    /// Takes all, those that are under way here among them.
    fn take_all(&self) -> u64 {
        let mut all = 0;
        loop {
            let idle = self.0.fetch_and(!u64::from(u32::MAX), AcqRel);
            all += u64::from(taken(idle));
            if idle < MOVER {
                return all;
            }
            pause();
        }
    }
}

impl Places {
    /// For calls of the lowest priority there are `lowest` places.
    pub(super) fn new(lowest: u32, may_lease: bool) -> Self {
        let lanes = owned_lanes() + 1;
        let lanes = if may_lease && batch(lowest / 2, lanes) > 0 { lanes } else { 0 };
        Self::of(lanes, lowest, may_lease)
    }

    /// With so many threads that have a lane of their own. Only for models, which play several threads.
    #[must_use]
    pub fn with_seats(lowest: u32, seats: usize) -> Self {
        Self::of(seats + 1, lowest, true)
    }

    fn of(lanes: usize, lowest: u32, may_lease: bool) -> Self {
        let places = Self {
            word: AtomicU64::new(SWEPT),
            batch: AtomicU32::new(0),
            quiet: AtomicU32::new(0),
            lanes: Row::new(lanes, || Idle(AtomicU64::new(0))),
        };
        places.set(lowest, may_lease);
        let start = places.calmed(SWEPT);
        places.word.store(start, Relaxed);
        places
    }

    /// Takes over how many places the lowest priority may have. Under the lock.
    pub fn set(&self, lowest: u32, may_lease: bool) {
        let quiet = if may_lease { lowest / 2 } else { 0 };
        let batch = batch(quiet, self.lanes.len());
        self.batch.store(batch, Relaxed);
        self.quiet.store(if batch > 0 { quiet } else { 0 }, Relaxed);
        if batch == 0 {
            self.sweep();
        }
    }

    /// Takes one of `room` places.
    #[inline]
    pub(super) fn take(&self, room: u32) -> Take {
        self.take_at(Seat::here, room)
    }

    /// [`take`](Self::take), as the thread with this seat.
    pub fn take_in(&self, seat: Seat, room: u32) -> Take {
        self.take_at(|| seat, room)
    }

    #[inline(always)]
    fn take_at(&self, seat: impl FnOnce() -> Seat, room: u32) -> Take {
        if !is_calm(self.word.load(Relaxed)) {
            return self.take_from_word(room);
        }
        let Some(idle) = self.lanes.get(seat()) else { return self.take_from_word(room) };
        if !idle.take(1, 0) {
            return self.lease(idle, room);
        }
        // Again: by now somebody may wait, who goes first, or the room be smaller, or used by those who matter more.
        // The word counts the place in hand, so that no more than there is room for are in use at this moment.
        let word = self.word.load(Acquire);
        if waiting(word) == 0 && taken(word) <= room { Take::Taken } else { Take::Stray }
    }

    #[inline(never)]
    fn take_from_word(&self, room: u32) -> Take {
        let mut word = self.word.load(Relaxed);
        while waiting(word) == 0 && taken(word) < room {
            match self.word.compare_exchange_weak(word, word + 1, AcqRel, Relaxed) {
                Ok(_) => return Take::Taken,
                Err(now) => word = now,
            }
        }
        match (waiting(word), word & STATE) {
            (0, SWEPT) => Take::Full,
            (0, _) => Take::Unswept,
            _ => Take::Behind,
        }
    }

    /// Takes one place, and a few more for this lane while most are free.
    #[cold]
    fn lease(&self, idle: &Idle, room: u32) -> Take {
        let (batch, quiet) = (self.batch.load(Relaxed), self.quiet.load(Relaxed).min(room));
        let more = |word| (is_calm(word) && taken(word) + batch < quiet).then(|| word + 1 + u64::from(batch));
        if batch == 0 || more(self.word.load(Relaxed)).is_none() {
            return self.take_from_word(room);
        }
        idle.0.fetch_add(MOVER, AcqRel);
        let leased = self.word.fetch_update(AcqRel, Relaxed, more).is_ok();
        let places = if leased { u64::from(batch) } else { 0 };
        idle.0.fetch_sub(MOVER - places, AcqRel);
        if leased { Take::Taken } else { self.take_from_word(room) }
    }

    /// Gives a place back. So many are left, which are to be [handed back](Self::hand_back) under the lock.
    #[inline]
    pub(super) fn give(&self) -> u32 {
        self.give_at(Seat::here)
    }

    /// [`give`](Self::give), as the thread with this seat.
    pub fn give_in(&self, seat: Seat) -> u32 {
        self.give_at(|| seat)
    }

    #[inline(always)]
    fn give_at(&self, seat: impl FnOnce() -> Seat) -> u32 {
        if !is_calm(self.word.load(Relaxed)) {
            return self.give_to_word(1);
        }
        let Some(idle) = self.lanes.get(seat()) else { return self.give_to_word(1) };
        let before = idle.0.fetch_add(1, AcqRel);
        if taken(before) < 2 * self.batch.load(Relaxed) && is_calm(self.word.load(Acquire)) {
            return 0;
        }
        self.tidy(idle)
    }

    /// A lane does not keep too many, and nothing that came after a sweep.
    #[cold]
    fn tidy(&self, idle: &Idle) -> u32 {
        let batch = self.batch.load(Relaxed).max(1);
        let mut left = 0;
        if taken(idle.0.load(Relaxed)) > 2 * batch && idle.take(batch.into(), MOVER) {
            left = self.give_to_word(batch);
            // Not under the lock that may be needed for those left: a sweeper holds it while it waits for us.
            idle.0.fetch_sub(MOVER, AcqRel);
        }
        // One, whosesoever it is: each giver that comes after the sweep takes one back, so that none stays. Where there
        // is none, somebody has taken it.
        if !is_calm(self.word.load(Acquire)) && idle.take(1, 0) {
            left += self.give_to_word(1);
        }
        left
    }

    /// Gives so many back to the word. So many are left, since somebody waits.
    #[inline(never)]
    pub fn give_to_word(&self, places: u32) -> u32 {
        let free = |word| (waiting(word) == 0).then(|| self.calmed(word - u64::from(places)));
        if self.word.fetch_update(AcqRel, Acquire, free).is_ok() { 0 } else { places }
    }

    /// The word, where so few are in use that they may go through the lanes again.
    #[inline]
    fn calmed(&self, word: u64) -> u64 {
        let few = word >> 32 == SWEPT >> 32 && taken(word) < self.quiet.load(Relaxed) / 2;
        if few { word & !STATE } else { word }
    }

    /// Has all that lies in the lanes in the word. Under the lock: who sweeps has places in hand, and nobody is to be
    /// turned away for want of them.
    pub fn sweep(&self) {
        let begin = |word| (word & STATE != SWEPT).then_some(word | SWEEPING);
        if self.word.fetch_update(AcqRel, Acquire, begin).is_err() {
            return;
        }
        let found: u64 = self.lanes.iter().map(Idle::take_all).sum();
        let done = |word| Some((word & !STATE | SWEPT) - found);
        let _always = self.word.fetch_update(AcqRel, Acquire, done);
    }

    /// Takes one of `room` places, whoever waits. Under the lock.
    pub(super) fn take_past(&self, room: u32) -> bool {
        self.word.fetch_update(AcqRel, Acquire, |word| (taken(word) < room).then_some(word + 1)).is_ok()
    }

    /// Takes one of `room` places, or a place among `max_queue` that wait. Under the lock, and in one step with the
    /// look at the places: one that is given back after it finds the waiter.
    pub fn take_or_join(&self, room: u32, max_queue: u32) -> Join {
        let mut join = Join::TurnedAway;
        let step = |word| {
            let step;
            (join, step) = match (waiting(word), word & STATE) {
                (0, _) if taken(word) < room => (Join::Took, Some(1)),
                (n, SWEPT) if n < max_queue => (Join::Joined, Some(ONE_WAITS)),
                (_, SWEPT) => (Join::TurnedAway, None),
                _ => (Join::Unswept, None),
            };
            step.map(|step| word + step)
        };
        let _is_in_join = self.word.fetch_update(AcqRel, Acquire, step);
        join
    }

    /// Gives so many back although somebody waits, who is to be served. Under the lock.
    pub fn hand_back(&self, places: u32) {
        self.word.fetch_sub(places.into(), AcqRel);
    }

    /// One waits less. Under the lock.
    pub(super) fn leave(&self) {
        self.word.fetch_sub(ONE_WAITS, AcqRel);
    }

    /// One waits less and one more is taken. Under the lock.
    pub fn grant(&self) {
        self.word.fetch_sub(ONE_WAITS - 1, AcqRel);
    }

    /// How many are taken, as far as those who wait are concerned: nothing lies in the lanes while somebody does.
    pub fn taken(&self) -> u32 {
        taken(self.word.load(Acquire))
    }

    /// How many are in use. Exact while none is taken or given back.
    pub fn running(&self) -> u32 {
        let word = self.word.load(Acquire);
        let idle = self.lanes.iter().map(|idle| taken(idle.0.load(Acquire))).fold(0, u32::saturating_add);
        taken(word).saturating_sub(idle)
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        waiting(self.word.load(Acquire))
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.lanes.heap_size()
    }
}

/// How many places a thread takes at once for its lane: so few that all lanes together, with twice as many in each,
/// hold no more than `quiet`.
fn batch(quiet: u32, lanes: usize) -> u32 {
    let filled = u32::try_from(2 * lanes).unwrap_or(u32::MAX);
    quiet.checked_div(filled).unwrap_or(0).min(MOST_AT_ONCE)
}

#[cfg(all(test, not(mainstay_loom)))]
mod tests {
    use super::*;

    const HERE: Seat = Seat::numbered(0);
    const THERE: Seat = Seat::numbered(1);

    /// Three lanes, and two places at a time for each.
    fn places() -> Places {
        Places::with_seats(24, 2)
    }

    fn take(places: &Places, seat: Seat, room: u32) -> bool {
        match places.take_in(seat, room) {
            Take::Taken => true,
            Take::Unswept => {
                places.sweep();
                take(places, seat, room)
            }
            Take::Stray => {
                assert_eq!(places.give_to_word(1), 0);
                take(places, seat, room)
            }
            Take::Full | Take::Behind => false,
        }
    }

    fn take_all(places: &Places, seat: Seat, room: u32) -> u32 {
        (0..).take_while(|_| take(places, seat, room)).count() as u32
    }

    fn is_calm_now(places: &Places) -> bool {
        is_calm(places.word.load(Relaxed))
    }

    #[test]
    fn while_it_is_calm_a_thread_goes_to_the_word_once() {
        let places = places();
        assert!(take(&places, HERE, 24));
        assert_eq!((places.taken(), places.running()), (3, 1), "two more lie in the lane");
        for _ in 0..100 {
            assert!(take(&places, HERE, 24) && take(&places, HERE, 24));
            assert_eq!(places.running(), 3);
            assert_eq!(places.give_in(HERE) + places.give_in(HERE), 0);
            assert_eq!((places.taken(), places.running()), (3, 1));
        }
        assert_eq!((places.give_in(HERE), places.running()), (0, 0));
    }

    #[test]
    fn all_places_can_be_taken_wherever_they_lie() {
        let places = places();
        for seat in [HERE, THERE, Seat::SHARED] {
            assert!(take(&places, seat, 24) && places.give_in(seat) == 0);
        }
        assert_eq!((places.taken(), places.running()), (9, 0));
        assert_eq!(take_all(&places, HERE, 24), 24);
        assert_eq!((places.taken(), places.running(), is_calm_now(&places)), (24, 24, false));
        assert_eq!(places.take_in(THERE, 24), Take::Full);
        assert_eq!(places.give_in(THERE), 0);
        assert_eq!(places.take_in(Seat::SHARED, 24), Take::Taken);
    }

    #[test]
    fn a_lane_that_only_gets_places_passes_them_on() {
        let places = places();
        for _ in 0..100 {
            assert!(take(&places, HERE, 24));
            assert_eq!(places.give_in(THERE), 0);
            assert!(places.taken() <= 7, "no more than two and four lie idle, and one is used");
            assert_eq!(places.running(), 0);
        }
        assert!(is_calm_now(&places));
    }

    #[test]
    fn it_is_calm_again_when_less_than_a_quarter_is_in_use() {
        let places = places();
        assert_eq!(take_all(&places, HERE, 24), 24);
        for left in (0..24).rev() {
            assert_eq!(places.give_in(HERE), 0);
            assert_eq!((places.running(), is_calm_now(&places)), (left, left < 6));
        }
        assert!((1..=4).contains(&places.taken()), "the last ones lie in the lane, no more than it may hold");
    }

    #[test]
    fn who_may_not_use_the_reserve_gets_no_idle_place_of_it() {
        let places = places();
        (0..22).for_each(|_| assert!(take(&places, HERE, 24)));
        assert!(is_calm_now(&places), "it never was full");
        assert_eq!((places.give_in(THERE), places.running()), (0, 21));
        assert!(!take(&places, THERE, 21), "21 are in use, and the one that is idle is none of the first 21");
        assert_eq!((places.running(), places.taken()), (21, 21));
        assert!(take(&places, THERE, 24));
    }

    #[test]
    fn who_waits_is_given_to_and_nobody_passes() {
        let places = places();
        assert_eq!(take_all(&places, HERE, 24), 24);
        assert_eq!((places.take_or_join(24, 1), places.waiting()), (Join::Joined, 1));
        assert_eq!(places.take_or_join(24, 1), Join::TurnedAway);
        assert_eq!(places.give_in(HERE), 1, "under the lock");
        places.hand_back(1);
        assert_eq!(places.take_in(HERE, 24), Take::Behind);
        places.grant();
        assert_eq!((places.taken(), places.waiting()), (24, 0));
    }

    #[test]
    fn nobody_joins_while_places_may_lie_in_lanes() {
        let places = places();
        (0..20).for_each(|_| assert!(take(&places, HERE, 24)));
        assert!(places.taken() < 24);
        (0..4).for_each(|_| assert!(take(&places, HERE, 24)));
        assert_eq!(places.give_in(HERE), 0);
        assert_eq!(places.take_or_join(24, 1), Join::Unswept);
        places.sweep();
        assert_eq!(places.take_or_join(24, 1), Join::Took);
    }

    #[test]
    fn other_limits_take_nothing_and_lose_nothing() {
        let places = places();
        assert!(take(&places, HERE, 24) && take(&places, THERE, 24));
        places.set(3, true);
        assert_eq!((places.taken(), places.running(), is_calm_now(&places)), (2, 2, false), "no lanes for so few");
        assert_eq!(take_all(&places, HERE, 3), 1);
        places.set(48, true);
        assert_eq!(places.give_in(HERE), 0);
        assert!(is_calm_now(&places));
        assert_eq!(take_all(&places, THERE, 48), 46);
        places.set(48, false);
        (0..48).for_each(|_| assert_eq!(places.give_in(HERE), 0));
        assert_eq!((places.taken(), is_calm_now(&places)), (0, false));
    }

    #[test]
    fn few_places_have_no_lanes() {
        for (places, lanes, at_once) in
            [(10, 3, 0), (16, 4, 1), (64, 4, 4), (64, 10, 1), (64, 66, 0), (1_000_000, 66, 8), (64, 0, 0)]
        {
            assert_eq!(batch(places / 2, lanes), at_once, "{places} places, {lanes} lanes");
        }
        for places in [Places::new(3, true), Places::new(1_000, false)] {
            assert_eq!((places.lanes.len(), places.heap_size()), (0, 0));
            assert!(take(&places, HERE, 1) && !take(&places, THERE, 1));
            assert_eq!((places.give_in(HERE), places.taken(), places.heap_size()), (0, 0, 0));
            places.set(1_000, true);
            assert!(take(&places, HERE, 1_000) && places.give_in(HERE) == 0);
            assert_eq!((places.taken(), places.heap_size()), (0, 0));
        }
    }
}
