use serde::{Deserialize, Serialize};

use crate::{
    lanes::{Lanes, Seat},
    observe::histogram::{Histogram, Latency, Sum},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Tick,
    window::{Counts, Kind},
};

/// What happened to a policy since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Totals {
    /// Calls that were counted, by kind.
    pub calls: Counts,
    /// Calls that said nothing about the service.
    pub ignored: u64,
    /// Calls that were given up before they ended.
    pub cancelled: u64,
    /// Results that came too late to count.
    pub stale: u64,
    /// Calls that were turned away.
    pub rejected: u64,
}

/// One thing to count, beside a counted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Ignored = 4,
    Cancelled = 5,
    Stale = 6,
    Rejected = 7,
}

/// The counters and latencies of one policy, a lane for each thread.
#[derive(Debug)]
pub(crate) struct Meter {
    lanes: Lanes<[AtomicU64; 8]>,
    latencies: Lanes<Histogram>,
}

fn counters() -> [AtomicU64; 8] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { lanes: Lanes::new(counters), latencies: Lanes::new(Histogram::new) }
    }

    #[inline(always)]
    pub(crate) fn count(&self, seat: Seat, kind: Kind) {
        self.add(seat, kind as usize, 1);
    }

    #[inline]
    pub(crate) fn tally(&self, tally: Tally) {
        self.add(Seat::here(), tally as usize, 1);
    }

    #[inline(always)]
    fn add(&self, seat: Seat, counter: usize, n: u64) {
        let lane = self.lanes.get(seat, counters);
        lane.writer.add(&lane.at[counter], n);
    }

    #[inline(always)]
    pub(crate) fn latency(&self, seat: Seat, now: Tick, nanos: u64) {
        let lane = self.latencies.get(seat, Histogram::new);
        lane.at.record(lane.writer, now, nanos);
    }

    pub(crate) fn restore(&self, totals: &Totals) {
        let seat = Seat::here();
        Kind::ALL.into_iter().for_each(|kind| self.add(seat, kind as usize, totals.calls.of(kind)));
        self.add(seat, Tally::Ignored as usize, totals.ignored);
        self.add(seat, Tally::Cancelled as usize, totals.cancelled);
        self.add(seat, Tally::Stale as usize, totals.stale);
        self.add(seat, Tally::Rejected as usize, totals.rejected);
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut sums = [0_u64; 8];
        for lane in self.lanes.iter() {
            for (sum, counter) in sums.iter_mut().zip(lane) {
                *sum = sum.wrapping_add(counter.load(Relaxed));
            }
        }
        let [success, failure, slow_success, slow_failure, ignored, cancelled, stale, rejected] = sums;
        let calls = Counts::from_array([success, failure, slow_success, slow_failure]);
        Totals { calls, ignored, cancelled, stale, rejected }
    }

    pub(crate) fn latencies(&self) -> Option<Latency> {
        let mut sum = Sum::new();
        self.add_latencies(&mut sum, Tick::now());
        sum.latency()
    }

    pub(crate) fn add_latencies(&self, sum: &mut Sum, now: Tick) {
        self.latencies.iter().for_each(|lane| lane.add_to(sum, now));
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.lanes.heap_size(0) + self.latencies.heap_size(0)
    }
}
