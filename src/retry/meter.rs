use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::{
    budget::Budget,
    lanes::{Lanes, Seat},
    name::Name,
    observe::GiveUp,
    retry::core::Core,
    sync::atomic::AtomicU64,
};

/// One thing to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Calls,
    Retries,
    Recovered,
    Attempts,
    Budget,
    Deadline,
    RetryAfter,
    Request,
}

impl From<GiveUp> for Count {
    fn from(why: GiveUp) -> Self {
        match why {
            GiveUp::Attempts => Self::Attempts,
            GiveUp::Budget => Self::Budget,
            GiveUp::Deadline => Self::Deadline,
            GiveUp::RetryAfter => Self::RetryAfter,
            GiveUp::Request => Self::Request,
        }
    }
}

/// The counters of one retry, a lane for each thread.
#[derive(Debug)]
pub(super) struct Meter(Lanes<[AtomicU64; 8]>);

fn counters() -> [AtomicU64; 8] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Meter {
    pub(super) fn new() -> Self {
        Self(Lanes::new(counters))
    }

    #[inline]
    pub(super) fn count(&self, seat: Seat, what: Count) {
        let lane = self.0.get(seat, counters);
        lane.writer.add(&lane.at[what as usize], 1);
    }

    fn totals(&self) -> [u64; 8] {
        let mut sums = [0_u64; 8];
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

/// A retry at one moment, for dashboards, health endpoints and tests. Serialises to plain JSON.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the retry.
    pub policy: Name,
    /// What it is: `"retry"`.
    pub kind: &'static str,
    /// Calls, each counted once however often it was tried.
    pub calls: u64,
    /// Attempts after the first, counted when they begin.
    pub retries: u64,
    /// Calls that were answered by a retry.
    pub recovered: u64,
    /// Calls that failed with no attempts left.
    pub exhausted: u64,
    /// Calls that were not tried again because the budget was used up.
    pub budget_refused: u64,
    /// Calls that were not tried again because the wait would have passed their deadline.
    pub past_deadline: u64,
    /// Calls that were not tried again because the service asked to be left alone for too long.
    pub asked_too_long: u64,
    /// Calls that were not tried again because their request could not be sent again.
    pub not_replayed: u64,
    /// How many retries the budget allows now; none without a budget.
    pub budget_available: Option<u64>,
}

impl Snapshot {
    pub(super) fn of(core: &Core) -> Self {
        let [counted, retries, recovered, exhausted, budget_refused, past_deadline, asked_too_long, not_replayed] =
            core.meter.totals();
        let budget = core.budget.as_ref();
        Self {
            policy: core.name.clone(),
            kind: "retry",
            calls: budget.filter(|_| !core.counts_calls).map_or(counted, Budget::calls),
            retries,
            recovered,
            exhausted,
            budget_refused,
            past_deadline,
            asked_too_long,
            not_replayed,
            budget_available: budget.map(Budget::available),
        }
    }
}
