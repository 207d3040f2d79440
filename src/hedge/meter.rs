use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde::Serialize;

use crate::{
    budget::Budget,
    hedge::core::Core,
    lanes::{Lanes, Seat},
    name::Name,
    observe::{Latency, millis},
    sync::atomic::AtomicU64,
    time::Tick,
};

/// One thing to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Calls,
    Hedges,
    Won,
    Cancelled,
    OverBudget,
    NotReplayed,
}

/// The counters of one hedge, a lane for each thread.
#[derive(Debug)]
pub(super) struct Meter(Lanes<[AtomicU64; 6]>);

fn counters() -> [AtomicU64; 6] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Meter {
    pub(super) fn new() -> Self {
        Self(Lanes::new(counters))
    }

    #[inline]
    pub(super) fn count(&self, seat: Seat, what: Count) {
        self.add(seat, what, 1);
    }

    #[inline]
    pub(super) fn add(&self, seat: Seat, what: Count, n: u64) {
        let lane = self.0.get(seat, counters);
        lane.writer.add(&lane.at[what as usize], n);
    }

    fn totals(&self) -> [u64; 6] {
        let mut sums = [0_u64; 6];
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

/// A hedge at one moment, for dashboards, health endpoints and tests. Serialises to plain JSON.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the hedge.
    pub policy: Name,
    /// What it is: `"hedge"`.
    pub kind: &'static str,
    /// Calls, each counted once however many copies were sent.
    pub calls: u64,
    /// Copies after the first, counted when they are sent.
    pub hedges: u64,
    /// Calls that were answered well by one of these.
    pub won: u64,
    /// Copies that were dropped because another had answered.
    pub cancelled: u64,
    /// Calls that got no further copy because the budget was used up.
    pub over_budget: u64,
    /// Calls that got no further copy because their request could not be sent again.
    pub not_replayed: u64,
    /// How long a call waits now before another copy is sent.
    #[serde(rename = "delay_ms", serialize_with = "millis")]
    pub delay: Duration,
    /// How long recent first copies took that had to wait, by which the delay is chosen; none when the delay is fixed,
    /// or none was measured.
    pub latency: Option<Latency>,
    /// How many copies the budget allows now; none without a budget.
    pub budget_available: Option<u64>,
}

impl Snapshot {
    pub(super) fn of(core: &Core) -> Self {
        let [counted, hedges, won, cancelled, over_budget, not_replayed] = core.meter.totals();
        let budget = core.budget.as_ref();
        Self {
            policy: core.name.clone(),
            kind: "hedge",
            calls: budget.filter(|_| !core.counts_calls).map_or(counted, Budget::calls),
            hedges,
            won,
            cancelled,
            over_budget,
            not_replayed,
            delay: core.pace.delay(Tick::now()),
            latency: core.pace.latency(),
            budget_available: budget.map(Budget::available),
        }
    }
}
