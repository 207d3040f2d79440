//! What a call writes into a sliding window, beside a ring behind a mutex. Time comes in: no clock is read.

use std::sync::{Arc, Mutex, PoisonError};

use mainstay::{
    time::Tick,
    window::{CountWindow, Kind, TimeWindow},
};

use crate::{
    case::{Case, Side, operation},
    peers::{WINDOW, WINDOW_CALLS},
};

pub fn cases() -> Vec<Case> {
    let sides = vec![over_time(10), time_ring(10), over_calls(WINDOW_CALLS), call_ring(WINDOW_CALLS)];
    vec![Case::answered("window", sides)]
}

/// A window, and the time at which a thread begins a sample.
struct Timed<W> {
    window: Arc<W>,
    begin: u64,
}

impl<W> Timed<W> {
    fn new(window: W) -> Self {
        Self { window: Arc::new(window), begin: 0 }
    }

    /// Four nanoseconds a call: less than any takes, so that no sample begins before another has ended.
    fn at(&self, n: u64) -> u64 {
        self.begin + (n & u64::from(u32::MAX)) * 4
    }
}

impl<W> Clone for Timed<W> {
    fn clone(&self) -> Self {
        Self { window: Arc::clone(&self.window), begin: Tick::now().as_nanos() }
    }
}

/// Ours, of so many buckets.
pub fn over_time(buckets: u32) -> Side {
    operation("mainstay", Timed::new(TimeWindow::new(WINDOW, buckets)), |it, n| {
        it.window.record(Tick::from_nanos(it.at(n)), 0, Kind::Success);
        true
    })
}

/// Ours, of so many calls.
pub fn over_calls(size: usize) -> Side {
    operation("mainstay-count", Arc::new(CountWindow::new(size)), |it, _| {
        it.record(0, Kind::Success);
        true
    })
}

/// Buckets of successes and failures, and the newest's number.
struct TimeRing {
    buckets: Vec<[u64; 2]>,
    newest: u64,
    width: u64,
}

impl TimeRing {
    fn record(&mut self, at: u64, kind: usize) {
        let (bucket, count) = (at / self.width, self.buckets.len() as u64);
        for stale in (self.newest + 1).max((bucket + 1).saturating_sub(count))..=bucket {
            self.buckets[(stale % count) as usize] = [0; 2];
        }
        self.newest = self.newest.max(bucket);
        self.buckets[(bucket % count) as usize][kind] += 1;
    }
}

/// The last calls, and how many of them failed.
struct CallRing {
    failed: Vec<bool>,
    next: usize,
    failures: usize,
}

impl CallRing {
    fn record(&mut self, failed: bool) {
        let old = std::mem::replace(&mut self.failed[self.next], failed);
        self.failures = self.failures + usize::from(failed) - usize::from(old);
        self.next = if self.next + 1 == self.failed.len() { 0 } else { self.next + 1 };
    }
}

/// A user's own, of so many buckets.
pub fn time_ring(buckets: u32) -> Side {
    let width = WINDOW.as_nanos() as u64 / u64::from(buckets);
    let ring = TimeRing { buckets: vec![[0; 2]; buckets as usize], newest: 0, width };
    operation("mutex-ring", Timed::new(Mutex::new(ring)), |it, n| {
        it.window.lock().unwrap_or_else(PoisonError::into_inner).record(it.at(n), 0);
        true
    })
}

/// A user's own, of so many calls.
pub fn call_ring(size: usize) -> Side {
    let ring = CallRing { failed: vec![false; size], next: 0, failures: 0 };
    operation("mutex-ring-count", Arc::new(Mutex::new(ring)), |it, _| {
        it.lock().unwrap_or_else(PoisonError::into_inner).record(false);
        true
    })
}
