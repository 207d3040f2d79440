use crate::{
    lanes::{Lane, Lanes, Seat, Writer},
    sync::atomic::{
        AtomicU8, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
    window::{Counts, Kind},
};

/// The last so many calls.
///
/// A ring with a place for every call: a call takes the place of the one that came as many calls before. Recording, and
/// reading the counts, cost the same at any size.
///
/// Threads take places in blocks of up to 16 (an eighth of the window at most, so one by one below 16), for a place
/// taken alone would be a cache line shared by all. So with one thread the window is exactly the last calls in order.
/// With several, a thread that falls silent holds back the rest of its block: that many of the calls in the window, 15
/// at most for each such thread, are older than they should be.
#[derive(Debug)]
pub struct CountWindow {
    size: u64,
    // Places in a block, a power of two; the last block of the ring may be shorter.
    block: u64,
    blocks: u64,
    epoch: AtomicU64,
    // Apart, so that a breaker with a time window does not pay for the padding.
    head: Box<Head>,
    places: Box<[Line]>,
    lanes: Lanes<Share>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Head(AtomicU64);

#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU8; 64]);

/// One thread's part of the window.
#[derive(Debug)]
struct Share {
    // What is left of the block the thread is filling, see `lease`.
    lease: AtomicU64,
    // Calls of each kind that this thread put in, less those it took out, modulo 2^64: only the sum over all threads
    // is a count.
    sums: [AtomicU64; 4],
}

const BLOCK_MOST: u64 = 16;

/// The rest of a block in one word: its line, the next place on it, and the place after its last. Worked out once a
/// block, because a division costs more than everything else in a record.
mod lease {
    const NEXT: u64 = 1 << 8;

    pub(super) const NONE: u64 = 0;

    pub(super) fn new(line: u64, first: u64, length: u64) -> u64 {
        line << 16 | first << 8 | (first + length)
    }

    pub(super) fn is_used_up(lease: u64) -> bool {
        lease >> 8 & 0xff == lease & 0xff
    }

    pub(super) fn place(lease: u64) -> (usize, usize) {
        ((lease >> 16) as usize, (lease >> 8 & 0xff) as usize)
    }

    pub(super) fn without_first(lease: u64) -> u64 {
        lease + NEXT
    }
}

/// A place holds the kind and the low bits of the epoch, so that taking back a record never takes one of a newer epoch.
mod place {
    use super::Kind;

    pub(super) const EMPTY: u8 = 0;

    pub(super) fn of(kind: Kind, epoch: u64) -> u8 {
        (epoch as u8) << 3 | (kind as u8 + 1)
    }

    pub(super) fn kind(place: u8) -> Option<usize> {
        usize::from(place & 7).checked_sub(1)
    }
}

impl CountWindow {
    /// A window over this many calls; 0 is taken as 1.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::with_lanes(size, Lanes::new)
    }

    /// A window with a fixed number of lanes that have one owner, for models of threads.
    #[doc(hidden)]
    #[must_use]
    pub fn with_seats(size: usize, seats: usize) -> Self {
        Self::with_lanes(size, |make| Lanes::with_owned(seats, make))
    }

    fn with_lanes(size: usize, lanes: impl FnOnce(fn() -> Share) -> Lanes<Share>) -> Self {
        let size = size.max(1) as u64;
        let block = 1_u64 << (size / 8).clamp(1, BLOCK_MOST).ilog2();
        let blocks = size.div_ceil(block);
        // Neighbouring blocks, which different threads fill at the same time, lie on different lines.
        let lines = (blocks * block).div_ceil(64).max(blocks.min(4));
        Self {
            size,
            block,
            blocks,
            epoch: AtomicU64::new(0),
            head: Box::new(Head(AtomicU64::new(0))),
            places: (0..lines).map(|_| Line(std::array::from_fn(|_| AtomicU8::new(place::EMPTY)))).collect(),
            lanes: lanes(Share::new),
        }
    }

    /// How many calls the window holds.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    /// Counts one call in an epoch. Returns whether it was counted: a record of another epoch is not.
    #[inline]
    pub fn record(&self, epoch: u64, kind: Kind) -> bool {
        self.record_in(Seat::here(), epoch, kind)
    }

    /// Counts a call on the lane of a seat.
    #[doc(hidden)]
    #[inline]
    pub fn record_in(&self, seat: Seat, epoch: u64, kind: Kind) -> bool {
        if self.epoch.load(Acquire) != epoch {
            return false;
        }
        let share = self.lanes.get(seat, Share::new);
        let place = self.take_place(&share);
        let mine = place::of(kind, epoch);
        // Sequentially consistent, as `advance` is: either it sees this record, or we see its epoch below.
        let old = place.swap(mine, SeqCst);
        share.at.replace(share.writer, place::kind(old), Some(kind as usize));
        if self.epoch.load(SeqCst) == epoch {
            return true;
        }
        if place.compare_exchange(mine, place::EMPTY, SeqCst, Relaxed).is_ok() {
            share.at.replace(share.writer, Some(kind as usize), None);
        }
        false
    }

    /// The place for the next call: of the lane's block, or of a fresh one where that is used up.
    #[inline]
    fn take_place(&self, share: &Lane<'_, Share>) -> &AtomicU8 {
        let lease = share.at.lease.load(Relaxed);
        let taken = if lease::is_used_up(lease) { self.take_block() } else { lease };
        match share.writer {
            Writer::Only => share.at.lease.store(lease::without_first(taken), Relaxed),
            Writer::OneOfMany => return self.take_shared(share.at, lease, taken),
        }
        self.place(taken)
    }

    fn take_shared(&self, share: &Share, mut lease: u64, mut taken: u64) -> &AtomicU8 {
        loop {
            let rest = lease::without_first(taken);
            match share.lease.compare_exchange(lease, rest, AcqRel, Relaxed) {
                Ok(_) => return self.place(taken),
                // We hold a whole new block, and another thread was faster with its own. One place of ours is used; the
                // rest keeps older calls until the ring comes round.
                Err(_) if lease::is_used_up(lease) => return self.place(taken),
                Err(now) => {
                    lease = now;
                    taken = if lease::is_used_up(lease) { self.take_block() } else { lease };
                }
            }
        }
    }

    #[cold]
    fn take_block(&self) -> u64 {
        let block = self.head.0.fetch_add(1, Relaxed) % self.blocks;
        let lines = self.places.len() as u64;
        // The last block of the ring may be shorter.
        let length = self.block.min(self.size - block * self.block);
        lease::new(block % lines, block / lines * self.block, length)
    }

    #[inline]
    fn place(&self, lease: u64) -> &AtomicU8 {
        let (line, place) = lease::place(lease);
        &self.places[line].0[place]
    }

    /// What the window holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sums = [0_u64; 4];
        for share in self.lanes.iter() {
            for (sum, part) in sums.iter_mut().zip(&share.sums) {
                *sum = sum.wrapping_add(part.load(Relaxed));
            }
        }
        // Seen half-way, one thread's removal may come before another's addition: less than nothing is nothing.
        Counts::from_array(sums.map(|sum| if sum >> 63 == 1 { 0 } else { sum.min(self.size) }))
    }

    /// Empties the window and moves it to a later epoch. Takes time in proportion to the size.
    pub fn advance(&self, epoch: u64) {
        self.advance_in(Seat::here(), epoch);
    }

    /// Empties the window on the lane of a seat.
    #[doc(hidden)]
    pub fn advance_in(&self, seat: Seat, epoch: u64) {
        if self.epoch.fetch_max(epoch, SeqCst) >= epoch {
            return;
        }
        let share = self.lanes.get(seat, Share::new);
        for place in self.places.iter().flat_map(|line| &line.0) {
            let old = place.swap(place::EMPTY, SeqCst);
            share.at.replace(share.writer, place::kind(old), None);
        }
    }

    pub(crate) fn heap_size(&self) -> usize {
        size_of::<Head>() + size_of_val(&*self.places) + self.lanes.heap_size(0)
    }
}

impl Share {
    fn new() -> Self {
        Self { lease: AtomicU64::new(lease::NONE), sums: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn replace(&self, writer: Writer, old: Option<usize>, new: Option<usize>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            writer.add(&self.sums[old], u64::MAX);
        }
        if let Some(new) = new {
            writer.add(&self.sums[new], 1);
        }
    }
}

#[cfg(all(test, not(mainstay_loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_thread_sees_exactly_the_last_calls_at_every_size() {
        for size in (1..70).chain([100, 127, 128, 129, 130, 1_000]) {
            let window = CountWindow::new(size);
            let kinds: Vec<Kind> = (0..size * 3 + 7).map(|i| Kind::ALL[(i * i / 3 + i) % 4]).collect();
            for (i, kind) in kinds.iter().enumerate() {
                assert!(window.record(0, *kind));
                let last = &kinds[(i + 1).saturating_sub(size)..=i];
                for kind in Kind::ALL {
                    let expected = last.iter().filter(|k| **k == kind).count() as u64;
                    assert_eq!(window.counts().of(kind), expected, "size {size}, call {i}");
                }
            }
        }
    }

    #[test]
    fn a_late_record_of_an_earlier_epoch_is_refused() {
        let window = CountWindow::new(4);
        (0..9).for_each(|_| assert!(window.record(0, Kind::Failure)));
        window.advance(2);
        assert_eq!(window.counts(), Counts::default());
        assert!(!window.record(0, Kind::Failure));
        assert!(window.record(2, Kind::SlowSuccess));
        window.advance(1);
        assert_eq!(window.counts(), Counts { slow_success: 1, ..Counts::default() });
    }

    #[test]
    fn threads_and_epochs_together_leave_exactly_what_the_places_hold() {
        let window = Arc::new(CountWindow::with_seats(100, 2));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let window = Arc::clone(&window);
                std::thread::spawn(move || {
                    let seat = if n < 2 { Seat::numbered(n) } else { Seat::SHARED };
                    for i in 0..20_000_u64 {
                        window.record_in(seat, i / 5_000, Kind::ALL[(i % 4) as usize]);
                    }
                })
            })
            .collect();
        for epoch in 1..4 {
            std::thread::yield_now();
            window.advance_in(Seat::SHARED, epoch);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut held = [0; 4];
        for place in window.places.iter().flat_map(|line| &line.0) {
            if let Some(kind) = place::kind(place.load(SeqCst)) {
                held[kind] += 1;
            }
        }
        assert_eq!(window.counts(), Counts::from_array(held));
        assert!(window.counts().calls() <= 100);
    }
}
