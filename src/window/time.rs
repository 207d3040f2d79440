use std::time::Duration;

use crate::{
    lanes::{Lane, Lanes, Seat, Writer},
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::{Tick, nanos},
    window::{Counts, Kind},
};

/// The calls of the last so much time, in buckets.
///
/// The window is as long as was asked for, cut into buckets of equal length; with the passing of each bucket's length
/// the oldest bucket drops out whole. So it holds the calls of the present bucket and of the `buckets - 1` before it.
/// Cutting finer costs memory (32 bytes a bucket for each thread that records), not time.
///
/// Idle gaps of any length cost nothing. Time that runs backwards is clamped: the call counts in the newest bucket its
/// thread has seen. A bucket holds up to 2^40 calls of one kind a thread, and then stays there.
#[derive(Debug)]
pub struct TimeWindow {
    // Nanoseconds in a bucket.
    width: u64,
    buckets: u64,
    epoch: AtomicU64,
    lanes: Lanes<Ring>,
}

/// So many calls of one kind, at a time in an epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) epoch: u64,
    pub(super) kind: Kind,
    pub(super) calls: u64,
}

/// One thread's buckets.
///
/// A bucket is numbered from 1 on, over all epochs: a new epoch leaves out as many numbers as there are buckets, so
/// that emptying a window is the same as an idle gap, and costs nothing.
#[derive(Debug)]
struct Ring {
    // The newest bucket written and the epoch it belongs to, 0 for none: see `newest`.
    newest: AtomicU64,
    // The present bucket's bounds, place and epoch, for the one owner of a ring: they save it two divisions a record.
    from: AtomicU64,
    until: AtomicU64,
    slot: AtomicU64,
    epoch: AtomicU64,
    words: Box<[Line]>,
}

/// Two buckets of four kinds: 64 bytes, so that no other allocation shares the cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// A word is a count and the low bits of the bucket's number, so that a reader tells a count of this bucket from what
/// an old one left behind in the same place, in a single load. The number's other bits are in `Ring::newest`: no word
/// older than the ring's length outlives a move to a newer bucket, so the low bits cannot mean two buckets.
mod word {
    pub(super) const COUNT_BITS: u32 = 40;
    pub(super) const MOST: u64 = (1 << COUNT_BITS) - 1;
    pub(super) const TAG: u64 = u64::MAX >> COUNT_BITS;

    /// How many buckets the word is older than bucket `number`; a newer word seems older than half of all tags.
    pub(super) fn age(word: u64, number: u64) -> u64 {
        number.wrapping_sub(word >> COUNT_BITS) & TAG
    }

    /// Whether the word belongs to a bucket after `number`.
    pub(super) fn is_newer(word: u64, number: u64) -> bool {
        age(word, number) > TAG / 2
    }

    /// The word of bucket `number` before anything is counted in it.
    pub(super) fn none(number: u64) -> u64 {
        (number & TAG) << COUNT_BITS
    }

    /// The word with `n` more, in the bucket it is of.
    #[inline]
    pub(super) fn more(word: u64, n: u64) -> u64 {
        word + n.min(MOST - (word & MOST))
    }

    /// The word with `n` more in bucket `number`.
    pub(super) fn add(word: u64, number: u64, n: u64) -> u64 {
        let count = if age(word, number) == 0 { word & MOST } else { 0 };
        more(none(number) | count, n)
    }
}

/// The number of the newest bucket in the upper 56 bits, and the low bits of its epoch in the lower 8: in one word, so
/// that the second thread to enter an epoch knows that the first was there.
mod newest {
    const EPOCH_BITS: u32 = 8;
    const EPOCH: u64 = (1 << EPOCH_BITS) - 1;
    pub(super) const LAST: u64 = u64::MAX >> EPOCH_BITS;

    pub(super) fn of(number: u64, epoch: u64) -> u64 {
        number << EPOCH_BITS | epoch & EPOCH
    }

    pub(super) fn number(newest: u64) -> u64 {
        newest >> EPOCH_BITS
    }

    pub(super) fn is_of(newest: u64, epoch: u64) -> bool {
        (newest ^ epoch) & EPOCH == 0
    }
}

impl Ring {
    fn new(buckets: u64) -> Self {
        let lines = buckets.div_ceil(2);
        Self {
            newest: AtomicU64::new(0),
            from: AtomicU64::new(1),
            until: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            words: (0..lines).map(|_| Line(std::array::from_fn(|_| AtomicU64::new(0)))).collect(),
        }
    }

    #[inline]
    fn word(&self, slot: u64, kind: usize) -> &AtomicU64 {
        &self.words[(slot / 2) as usize].0[(slot % 2) as usize * 4 + kind]
    }
}

impl TimeWindow {
    /// A window of this length, cut into that many buckets.
    ///
    /// A length below one nanosecond a bucket is taken as one nanosecond a bucket, and no buckets as one: settings are
    /// checked where they are read.
    #[must_use]
    pub fn new(length: Duration, buckets: u32) -> Self {
        Self::with_lanes(length, buckets, |make| Lanes::new(make))
    }

    /// A window with a fixed number of lanes that have one owner, for models of threads.
    #[doc(hidden)]
    #[must_use]
    pub fn with_seats(length: Duration, buckets: u32, seats: usize) -> Self {
        Self::with_lanes(length, buckets, |make| Lanes::with_owned(seats, make))
    }

    fn with_lanes(length: Duration, buckets: u32, lanes: impl FnOnce(&dyn Fn() -> Ring) -> Lanes<Ring>) -> Self {
        let buckets = u64::from(buckets.max(1));
        let width = nanos(length).div_ceil(buckets).max(1);
        Self { width, buckets, epoch: AtomicU64::new(0), lanes: lanes(&|| Ring::new(buckets)) }
    }

    /// The length of the window, rounded up to whole buckets.
    #[must_use]
    pub const fn length(&self) -> Duration {
        Duration::from_nanos(self.width.saturating_mul(self.buckets))
    }

    /// Counts one call at a time in an epoch. Returns whether it was counted: a record of another epoch is not.
    pub fn record(&self, at: Tick, epoch: u64, kind: Kind) -> bool {
        self.add(Seat::here(), Entry { at: at.as_nanos(), epoch, kind, calls: 1 })
    }

    /// Counts a call on the lane of a seat.
    #[doc(hidden)]
    pub fn record_in(&self, seat: Seat, at: Tick, epoch: u64, kind: Kind) -> bool {
        self.add(seat, Entry { at: at.as_nanos(), epoch, kind, calls: 1 })
    }

    #[inline(always)]
    pub(super) fn add(&self, seat: Seat, entry: Entry) -> bool {
        let Entry { at, epoch, kind, calls } = entry;
        if self.epoch.load(Acquire) != epoch {
            return false;
        }
        let Lane { at: ring, writer } = self.lanes.get(seat, || Ring::new(self.buckets));
        match writer {
            Writer::Only => {
                let here = ring.from.load(Relaxed) <= at && at < ring.until.load(Relaxed);
                if !here || ring.epoch.load(Relaxed) != epoch {
                    self.move_to(ring, at, epoch);
                }
                // Of the newest bucket: made so when the ring came there.
                let word = ring.word(ring.slot.load(Relaxed), kind as usize);
                word.store(word::more(word.load(Relaxed), calls), Relaxed);
                true
            }
            // Put together anew: else it would lie in memory for every call.
            Writer::OneOfMany => self.add_shared(ring, Entry { at, epoch, kind, calls }),
        }
    }

    fn number(&self, at: u64, epoch: u64) -> u64 {
        (at / self.width).wrapping_add(epoch.wrapping_mul(self.buckets + 1)).wrapping_add(1) & newest::LAST
    }

    /// The number to record under in a ring whose newest bucket is `newest`. Should time have run back by more than the
    /// epochs are apart, the old epoch's buckets are left behind all the same.
    fn number_after(&self, newest: u64, at: u64, epoch: u64) -> u64 {
        let (number, before) = (self.number(at, epoch), newest::number(newest));
        let leaves_epoch = number <= before && !newest::is_of(newest, epoch);
        if leaves_epoch { before + self.buckets } else { number }
    }

    /// The owner of a ring goes on to the bucket of `at`.
    #[cold]
    fn move_to(&self, ring: &Ring, at: u64, epoch: u64) {
        let before = ring.newest.load(Relaxed);
        let number = self.number_after(before, at, epoch);
        if number > newest::number(before) {
            let start = at - at % self.width;
            ring.from.store(start, Relaxed);
            ring.until.store(start.saturating_add(self.width), Relaxed);
            ring.slot.store(number % self.buckets, Relaxed);
            self.forget(ring, newest::number(before), number, |word| word.store(0, Relaxed));
            Kind::ALL.into_iter().for_each(|kind| {
                ring.word(number % self.buckets, kind as usize).store(word::none(number), Relaxed);
            });
            // Release: who sees this number sees the words of older buckets gone.
            ring.newest.store(newest::of(number, epoch), Release);
        }
        ring.epoch.store(epoch, Relaxed);
    }

    #[cold]
    fn add_shared(&self, ring: &Ring, Entry { at, epoch, kind, calls }: Entry) -> bool {
        let number = loop {
            let number = self.number_after(ring.newest.load(Acquire), at, epoch);
            let before = ring.newest.fetch_max(newest::of(number, epoch), AcqRel);
            if number > newest::number(before) {
                self.forget_shared(ring, newest::number(before), number);
                break number;
            }
            if self.epoch.load(Acquire) != epoch {
                // The ring went on to a newer epoch since we looked.
                return false;
            }
            // Else a straggler of the epoch before was faster: again, after its bucket.
            if newest::is_of(before, epoch) {
                break newest::number(before);
            }
        };
        let word = ring.word(number % self.buckets, kind as usize);
        // A newer bucket in this place: ours dropped out while we were on our way.
        let add = |w| (!word::is_newer(w, number) || w == 0).then(|| word::add(w, number, calls));
        let _ = word.fetch_update(Relaxed, Relaxed, add);
        true
    }

    /// Clears what is old in the buckets that a shared ring passes: others may have been here before us, and gone on.
    fn forget_shared(&self, ring: &Ring, from: u64, to: u64) {
        // After an idle gap this long, what is old may look newer, and all must go; a thread that records in this very
        // instant may lose its call.
        let alike = to - from > word::TAG / 2 - self.buckets;
        let is_old = |w| alike || !word::is_newer(w, to) && word::age(w, to) >= self.buckets;
        self.forget(ring, from, to, |word| {
            let _ = word.fetch_update(Relaxed, Relaxed, |w| is_old(w).then_some(0));
        });
    }

    /// Clears the buckets that a ring passes on its way from one bucket to a newer one.
    fn forget(&self, ring: &Ring, from: u64, to: u64, clear: impl Fn(&AtomicU64)) {
        for passed in 0..(to - from).min(self.buckets) {
            let slot = (to - passed) % self.buckets;
            (0..Kind::ALL.len()).for_each(|kind| clear(ring.word(slot, kind)));
        }
    }

    /// What the window holds at this time.
    #[must_use]
    pub fn counts(&self, at: Tick) -> Counts {
        let epoch = self.epoch.load(Acquire);
        let newest = |ring: &Ring| Some(ring.newest.load(Acquire)).filter(|newest| newest::is_of(*newest, epoch));
        let written = || self.lanes.iter().filter_map(|ring| Some((ring, newest::number(newest(ring)?))));
        // Another thread may be a bucket ahead of us.
        let newest = written().map(|(_, number)| number).fold(self.number(at.as_nanos(), epoch), u64::max);
        let oldest = newest.saturating_sub(self.buckets - 1);
        let mut sums = [0_u64; 4];
        // In a ring that was last written before the window, old words might pass for new ones.
        for (ring, _) in written().filter(|(_, written)| *written >= oldest) {
            for Line(words) in &ring.words {
                for (at, word) in words.iter().enumerate() {
                    let word = word.load(Relaxed);
                    if word::age(word, newest) < self.buckets {
                        sums[at % 4] += word & word::MOST;
                    }
                }
            }
        }
        Counts::from_array(sums)
    }

    /// Empties the window and moves it to a later epoch.
    pub fn advance(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, AcqRel);
    }

    pub(crate) fn bucket_end(&self, at: Tick) -> Tick {
        let start = at.as_nanos() - at.as_nanos() % self.width;
        Tick::from_nanos(start.saturating_add(self.width))
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.lanes.heap_size(self.buckets.div_ceil(2) as usize * size_of::<Line>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Tick {
        Tick::from_nanos(n * 1_000_000)
    }

    #[test]
    fn a_late_record_of_an_earlier_epoch_is_refused() {
        let window = TimeWindow::new(Duration::from_secs(10), 10);
        assert!(window.record(ms(1), 0, Kind::Failure));
        window.advance(3);
        assert!(!window.record(ms(1), 0, Kind::Failure));
        assert_eq!(window.counts(ms(1)), Counts::default());
        assert!(window.record(ms(1), 3, Kind::Success));
        window.advance(2);
        assert_eq!(window.counts(ms(1)).calls(), 1);
    }

    #[test]
    fn gaps_of_any_length_empty_the_window_and_nothing_comes_back() {
        let windows = [(1, 10), (10_000, 10), (86_400_000 * 7, 3_600), (5, 1)];
        for ((length, buckets), seat) in
            windows.iter().flat_map(|of| [Seat::here(), Seat::SHARED].map(|seat| (*of, seat)))
        {
            let window = TimeWindow::new(Duration::from_millis(length), buckets);
            let record = |at: Tick, kind| window.add(seat, Entry { at: at.as_nanos(), epoch: 0, kind, calls: 1 });
            let mut at = 0_u64;
            for gap in [length, 1 << 20, 1 << 24, 1 << 32, (1 << 24) * 100, u64::from(u32::MAX)] {
                for kind in Kind::ALL {
                    assert!(record(ms(at), kind));
                }
                assert_eq!(window.counts(ms(at)).calls(), 4, "{length} {gap}");
                at += gap.max(length);
                assert_eq!(window.counts(ms(at)).calls(), 0, "{length} {gap}");
                // One kind only, so that the other words keep what the bucket left behind.
                record(ms(at), Kind::Success);
                assert_eq!(window.counts(ms(at)), Counts { success: 1, ..Counts::default() });
                at += length;
            }
        }
    }

    /// The only gaps that a word's few bits of its bucket's number can't tell apart by themselves.
    #[test]
    fn what_many_short_gaps_leave_behind_in_a_shared_ring_never_comes_back() {
        for buckets in [1_u64, 2, 7] {
            let bound = word::TAG / 2 - buckets;
            for first in [bound - 1, bound, bound + 1, word::TAG / 2 + 1, word::TAG / 2 + buckets, 1 << 22] {
                let window = TimeWindow::new(Duration::from_nanos(buckets), buckets as u32);
                let add = |at, kind| window.add(Seat::SHARED, Entry { at, epoch: 0, kind, calls: 1 });
                assert!(add(0, Kind::Failure) && add(first, Kind::Success));
                // Where the failure's bucket would be, by the bits that its words have.
                for at in [(1 << 23) + 1, 1 << 24] {
                    add(at, Kind::Success);
                    assert_eq!(window.counts(Tick::from_nanos(at)).failures(), 0, "{buckets} {first}");
                }
            }
        }
    }

    #[test]
    fn who_comes_second_to_a_bucket_of_a_shared_ring_leaves_what_the_first_counted() {
        let window = TimeWindow::new(Duration::from_nanos(10), 10);
        for gap in [1, 9, 10, 11, 1 << 20, word::TAG / 2 - 10] {
            let ring = Ring::new(10);
            let (from, to) = (5, 5 + gap);
            let mine = |number: u64| ring.word(number % 10, 0);
            let counted = word::add(0, to, 3);
            mine(to).store(counted, Relaxed);
            window.forget_shared(&ring, from, to);
            assert_eq!(mine(to).load(Relaxed), counted, "{gap}");
            // And of a bucket to which others have gone on.
            let newer = word::add(0, to + 10, 3);
            mine(to).store(newer, Relaxed);
            window.forget_shared(&ring, from, to);
            assert_eq!(mine(to).load(Relaxed), newer, "{gap}");
        }
    }

    #[test]
    fn an_epoch_that_begins_earlier_slides_on_when_its_time_has_come() {
        for seat in [Seat::here(), Seat::SHARED] {
            let window = TimeWindow::new(Duration::from_secs(10), 10);
            let add = |at: u64, epoch| {
                window.add(seat, Entry { at: ms(at).as_nanos(), epoch, kind: Kind::Failure, calls: 1 });
                window.counts(ms(at)).calls()
            };
            assert_eq!(add(500_000, 0), 1);
            window.advance(1);
            assert_eq!([480_000, 499_999, 520_000, 521_000].map(|at| add(at, 1)), [1, 2, 1, 2]);
        }
    }

    #[test]
    fn a_bucket_ends_where_it_ends_and_not_a_width_after_its_first_call() {
        let window = TimeWindow::new(Duration::from_secs(10), 10);
        for seat in [Seat::here(), Seat::SHARED] {
            let window = TimeWindow::new(Duration::from_secs(10), 10);
            for at in [ms(1_900), ms(2_050)] {
                assert!(window.add(seat, Entry { at: at.as_nanos(), epoch: 0, kind: Kind::Failure, calls: 1 }));
            }
            let left = [10_999, 11_000, 11_999, 12_000].map(|at| window.counts(ms(at)).calls());
            assert_eq!(left, [2, 1, 1, 0]);
        }
        assert_eq!(window.bucket_end(ms(1_900)), ms(2_000));
        assert_eq!(window.bucket_end(ms(2_000)), ms(3_000));
    }

    #[test]
    fn an_epoch_that_begins_at_an_earlier_time_than_the_one_before_has_its_own_calls_only() {
        for seat in [Seat::here(), Seat::SHARED] {
            let window = TimeWindow::new(Duration::from_secs(10), 10);
            let add =
                |at: Tick, epoch| window.add(seat, Entry { at: at.as_nanos(), epoch, kind: Kind::Failure, calls: 1 });
            assert!(add(ms(500_000), 0));
            window.advance(1);
            assert!(add(ms(1_000), 1) && add(ms(1_500), 1));
            assert_eq!(window.counts(ms(1_500)).calls(), 2);
        }
    }

    #[test]
    fn counts_beyond_32_bits_and_to_the_last_tick() {
        let window = TimeWindow::new(Duration::from_secs(1), 10);
        let late = |calls| Entry { at: u64::MAX, epoch: 0, kind: Kind::Failure, calls };
        for seat in [Seat::here(), Seat::SHARED] {
            window.add(seat, late(1 << 32));
            window.add(seat, late(5));
        }
        assert_eq!(window.counts(Tick::NEVER).failures(), 2 * ((1 << 32) + 5));
        window.add(Seat::here(), late(u64::MAX));
        assert_eq!(window.counts(Tick::NEVER).failures(), word::MOST + (1 << 32) + 5);
    }

    #[test]
    fn time_that_runs_backwards_counts_in_the_newest_bucket() {
        let window = TimeWindow::new(Duration::from_secs(1), 10);
        for seat in [Seat::here(), Seat::SHARED] {
            window.record_in(seat, ms(5_000), 0, Kind::Success);
            window.record_in(seat, ms(10), 0, Kind::Failure);
        }
        assert_eq!(window.counts(ms(0)).failures(), 2);
        assert_eq!(window.counts(ms(5_999)).failures(), 2);
        assert_eq!(window.counts(ms(6_000)).failures(), 0);
    }
}
