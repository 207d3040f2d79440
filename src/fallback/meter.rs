use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::{
    fallback::core::Core,
    lanes::{Lanes, Seat},
    name::Name,
    sync::atomic::AtomicU64,
};

/// What a failed call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Used,
    Failed,
    Nothing,
    NotCovered,
}

/// The counters of one fallback, a lane for each thread: when a service is down, every call falls back.
#[derive(Debug)]
pub(super) struct Meter(Lanes<[AtomicU64; 4]>);

fn counters() -> [AtomicU64; 4] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Meter {
    pub(super) fn new() -> Self {
        Self(Lanes::new(counters))
    }

    pub(super) fn count(&self, what: Count) {
        let lane = self.0.get(Seat::here(), counters);
        lane.writer.add(&lane.at[what as usize], 1);
    }

    fn totals(&self) -> [u64; 4] {
        let mut sums = [0_u64; 4];
        for lane in self.0.iter() {
            for (sum, counter) in sums.iter_mut().zip(lane) {
                *sum = sum.wrapping_add(counter.load(Relaxed));
            }
        }
        sums
    }

    pub(super) fn heap_size(&self) -> usize {
        self.0.heap_size(0)
    }
}

/// A fallback at one moment, for dashboards, health endpoints and tests. Serialises to plain JSON.
///
/// A failed call is counted when it has its answer, and in one place only.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the fallback.
    pub policy: Name,
    /// What it is: `"fallback"`.
    pub kind: &'static str,
    /// Calls that the fallback answered.
    pub used: u64,
    /// Calls for which the fallback failed too.
    pub failed: u64,
    /// Calls for which the fallback had nothing to give: no answer is kept, or the request could not be sent again.
    pub nothing: u64,
    /// Calls that failed in a way the fallback is not for.
    pub not_covered: u64,
}

impl Snapshot {
    pub(super) fn of(core: &Core) -> Self {
        let [used, failed, nothing, not_covered] = core.meter.totals();
        Self { policy: core.name.clone(), kind: "fallback", used, failed, nothing, not_covered }
    }
}
