//! One copy of a counter per thread, so that no two threads write the same cache line.
//!
//! A thread takes a seat when it first counts something and leaves it when it ends. A seat below the number of lanes
//! makes the thread the only writer of that lane: it counts with a plain load and store, and needs no atomic addition.
//! The threads that found no such seat share one more lane and count there with atomic additions.
//!
//! The rejected design is one atomic counter with padding: exact as well, but every record then waits for the cache
//! line to travel from core to core.

use std::fmt;

use crate::sync::atomic::{AtomicU64, Ordering};

#[cfg(mainstay_loom)]
mod modelled;
#[cfg(not(mainstay_loom))]
mod seats;

#[cfg(mainstay_loom)]
use modelled as seats;

use seats::Lazy;
pub(crate) use seats::owned_lanes;

/// A thread's place among the lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(u32);

impl Seat {
    /// The seat of all threads that have none of their own.
    pub const SHARED: Self = Self(u32::MAX);

    /// A seat by number. Only for tests and models that play several threads; two threads that use one number at a
    /// time lose counts.
    #[doc(hidden)]
    #[must_use]
    pub const fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// A `T` for every core, made when a thread first needs it, and one that all further threads share.
pub(crate) struct Lanes<T> {
    owned: Box<[Lazy<T>]>,
    shared: Lazy<T>,
}

/// A lane and the way to write it.
#[derive(Debug)]
pub(crate) struct Lane<'a, T> {
    pub(crate) at: &'a T,
    pub(crate) writer: Writer,
}

/// How a lane may be written: by one thread, or by many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Only,
    OneOfMany,
}

impl Writer {
    /// Adds, wrapping around.
    #[inline]
    pub(crate) fn add(self, cell: &AtomicU64, n: u64) {
        match self {
            Self::Only => cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed),
            Self::OneOfMany => {
                cell.fetch_add(n, Ordering::Relaxed);
            }
        }
    }
}

impl<T> Lanes<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self::with_owned(owned_lanes(), make)
    }

    pub(crate) fn with_owned(owned: usize, make: impl Fn() -> T) -> Self {
        Self { owned: (0..owned).map(|_| Lazy::new(&make)).collect(), shared: Lazy::new(&make) }
    }

    /// The lane of a seat.
    #[inline(always)]
    pub(crate) fn get(&self, seat: Seat, make: impl Fn() -> T) -> Lane<'_, T> {
        match self.owned.get(seat.0 as usize) {
            Some(lane) => Lane { at: lane.get_or_init(make), writer: Writer::Only },
            None => Lane { at: self.shared.get_or_init(make), writer: Writer::OneOfMany },
        }
    }

    /// The lanes in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.owned.iter().chain([&self.shared]).filter_map(Lazy::get)
    }

    /// Bytes on the heap, where each lane in use has so many more on its own account.
    pub(crate) fn heap_size(&self, more: usize) -> usize {
        size_of_val(&*self.owned) + self.iter().count() * (size_of::<Padded<T>>() + more)
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("in_use", &self.iter().count()).finish_non_exhaustive()
    }
}

/// Lanes that all are there from the start, side by side: where a lane is looked for so often that the way over a
/// pointer counts. The last is the one that is shared.
pub(crate) struct Row<T>(Box<[Padded<T>]>);

impl<T> Row<T> {
    /// So many lanes; there may be none.
    pub(crate) fn new(lanes: usize, make: impl Fn() -> T) -> Self {
        Self((0..lanes).map(|_| Padded(make())).collect())
    }

    /// The lane of a seat.
    #[inline(always)]
    pub(crate) fn get(&self, seat: Seat) -> Option<&T> {
        let at = (seat.0 as usize).min(self.0.len().wrapping_sub(1));
        self.0.get(at).map(|lane| &lane.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|lane| &lane.0)
    }

    /// Bytes on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl<T> fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("lanes", &self.len()).finish_non_exhaustive()
    }
}

/// Alone on its cache lines: two, because processors fetch them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

#[cfg(all(test, not(mainstay_loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_thread_that_ends_leaves_its_seat_and_no_count_is_lost() {
        let lanes = Arc::new(Lanes::with_owned(2, || AtomicU64::new(0)));
        for _ in 0..50 {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let lanes = Arc::clone(&lanes);
                    std::thread::spawn(move || {
                        for _ in 0..1_000 {
                            let lane = lanes.get(Seat::here(), || AtomicU64::new(0));
                            lane.writer.add(lane.at, 1);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        let total: u64 = lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).sum();
        assert_eq!(total, 50 * 4 * 1_000);
        assert_eq!(Seat::here(), Seat::here());
        assert_ne!(Seat::here(), Seat::SHARED);
    }

    #[test]
    fn no_two_lanes_share_a_cache_line() {
        let lanes = Lanes::with_owned(8, || AtomicU64::new(0));
        let at = |seat: u32| std::ptr::from_ref(lanes.get(Seat::numbered(seat), || AtomicU64::new(0)).at).addr();
        let mut lines: Vec<usize> = (0..9).map(|seat| at(seat) / 128).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 9);
    }

    #[test]
    fn in_a_row_the_last_lane_is_shared_and_there_may_be_none() {
        let row = Row::new(3, || AtomicU64::new(0));
        let at = |seat: Seat| std::ptr::from_ref(row.get(seat).unwrap()).addr() / 128;
        let lanes = [0, 1, 2, 3].map(|seat| at(Seat::numbered(seat)));
        assert!(lanes[0] < lanes[1] && lanes[1] < lanes[2] && lanes[2] == lanes[3]);
        assert_eq!((at(Seat::SHARED), row.heap_size()), (lanes[2], 3 * 128));
        assert!(Row::new(0, || ()).get(Seat::SHARED).is_none());
    }
}
