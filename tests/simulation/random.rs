//! Random numbers that are the same in every run with the same seed.

use std::{ops::Range, time::Duration};

use crate::ms;

/// SplitMix64: any seed will do, neighbours among them.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    pub fn small(&mut self, range: Range<u32>) -> u32 {
        self.within(range.start.into()..range.end.into()) as u32
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.within(0..100) < share
    }

    pub fn maybe<T>(&mut self, share: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.percent(share).then(|| make(self))
    }

    pub fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.within(0..these.len() as u64) as usize]
    }

    /// As likely each as its weight says.
    pub fn weighted<T: Copy>(&mut self, these: &[(u64, T)]) -> T {
        let mut at = self.within(0..these.iter().map(|(weight, _)| weight).sum());
        let found = these.iter().find(|(weight, _)| at.checked_sub(*weight).map(|left| at = left).is_none());
        found.expect("a place within the sum of the weights").1
    }

    pub fn share(&mut self) -> f64 {
        self.within(1..101) as f64 / 100.0
    }

    /// Between 1 ms and about so many, short ones as often as long ones.
    pub fn time(&mut self, longest: u64) -> Duration {
        let bits = self.within(1..u64::from(longest.ilog2()) + 2);
        ms(self.within(1..(1 << bits).min(longest) + 1))
    }
}
