//! What makes a test repeatable: the random numbers of a thread, and the moment its ticks are counted from.

use std::{cell::Cell, time::Instant};

thread_local! {
    static NUMBERS: Cell<Option<u64>> = const { Cell::new(None) };
    static EPOCH: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub(super) fn begin(seed: u64, epoch: Option<Instant>) {
    NUMBERS.set(Some(seed));
    EPOCH.set(epoch);
}

/// The next random number in 0..1 after the seed, none without one.
pub(super) fn random() -> Option<f64> {
    let state = NUMBERS.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    NUMBERS.set(Some(state));
    Some((mixed(state) >> 11) as f64 / (1_u64 << 53) as f64)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), whose states are multiples of one odd number.
const fn mixed(state: u64) -> u64 {
    let once = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}

pub(super) fn epoch() -> Option<Instant> {
    EPOCH.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix() {
        // The first numbers of the reference implementation after the seed 0.
        let first = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        let states = (1..=3).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!(states.map(mixed).eq(first));
    }
}
