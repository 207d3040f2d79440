//! What is counted of calls, on a lane for each thread.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    lanes::{Lanes, Seat},
    sync::atomic::AtomicU64,
};

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Begun,
    Answered,
    Failed,
    Dropped,
    FellBack,
    Unknown,
}

const COUNTS: usize = 6;

/// Calls of one service, or of all.
#[derive(Debug)]
pub(super) struct Meter(Lanes<[AtomicU64; COUNTS]>);

fn counters() -> [AtomicU64; COUNTS] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// The sums at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    pub(super) in_flight: u64,
    pub(super) fallbacks_used: u64,
    pub(super) unknown: u64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self(Lanes::new(counters))
    }

    pub(super) fn count(&self, what: Count) {
        let lane = self.0.get(Seat::here(), counters);
        lane.writer.add(&lane.at[what as usize], 1);
    }

    fn sum(&self, what: Count) -> u64 {
        self.0.iter().fold(0, |sum, lane| sum.wrapping_add(lane[what as usize].load(Relaxed)))
    }

    /// The ends before the beginnings: a call that begins or ends meanwhile is in flight, and never less than none are.
    pub(super) fn sums(&self) -> Sums {
        let [answered, failed, dropped] = [Count::Answered, Count::Failed, Count::Dropped].map(|what| self.sum(what));
        let (fallbacks_used, unknown) = (self.sum(Count::FellBack), self.sum(Count::Unknown));
        let calls = self.sum(Count::Begun);
        let in_flight = calls.saturating_sub(answered + failed + dropped);
        Sums { calls, answered, failed, dropped, in_flight, fallbacks_used, unknown }
    }
}

/// The meter of one service, and that of all.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) own: Meter,
    pub(super) all: Arc<Meter>,
}

impl Meters {
    pub(super) fn count(&self, what: Count) {
        self.own.count(what);
        self.all.count(what);
    }
}
