//! Failures in a row, in one word with the generation they belong to.
//!
//! The rejected design is a plain counter that each transition sets to zero: a failure that was counted in the window
//! just before the transition then begins the row of the next generation.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The low bits of the generation in the upper 20 bits, the number of failures in the lower 44.
#[derive(Debug, Default)]
pub(super) struct Row(AtomicU64);

const LENGTH_BITS: u32 = 44;
const LONGEST: u64 = (1 << LENGTH_BITS) - 1;

const fn word(generation: u64, length: u64) -> u64 {
    generation << LENGTH_BITS | if length < LONGEST { length } else { LONGEST }
}

impl Row {
    /// Begins the row of a generation, under the lock of the transition.
    pub(super) fn begin(&self, generation: u64, length: u64) {
        // Exchanged, not stored: loom knows no order between a store and an addition of another thread.
        self.0.swap(word(generation, length), Relaxed);
    }

    /// One failure more in a generation. How many there are now, none if the generation is over.
    pub(super) fn failed(&self, generation: u64) -> u64 {
        let longer = |now: u64| (now & !LONGEST == word(generation, 0)).then(|| word(generation, (now & LONGEST) + 1));
        self.0.fetch_update(Relaxed, Relaxed, longer).map_or(0, |before| (before & LONGEST) + 1)
    }

    /// A success ends the row: a load on the way of every success, a write only after a failure.
    #[inline]
    pub(super) fn end(&self, generation: u64) {
        if self.0.load(Relaxed) & LONGEST != 0 {
            let ended = word(generation, 0);
            let _ = self.0.fetch_update(Relaxed, Relaxed, |now| (now & !LONGEST == ended).then_some(ended));
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.0.load(Relaxed) & LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_another_generation_neither_lengthens_nor_ends_a_row() {
        let row = Row::default();
        assert_eq!((row.failed(0), row.failed(0)), (1, 2));
        row.begin(1, 0);
        assert_eq!(row.failed(0), 0);
        assert_eq!(row.failed(1), 1);
        row.end(0);
        assert_eq!(row.length(), 1);
        row.end(1);
        assert_eq!(row.length(), 0);
    }

    #[test]
    fn the_longest_row_stays_in_its_generation() {
        let row = Row::default();
        row.begin(u64::MAX, u64::MAX);
        assert_eq!(row.failed(u64::MAX), LONGEST + 1);
        assert_eq!(row.length(), LONGEST);
        row.end(u64::MAX);
        assert_eq!(row.length(), 0);
    }
}
