use std::sync::OnceLock;

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
    lanes: Lanes<Book>,
}

/// What one thread has counted, and measured if anything was.
#[derive(Debug)]
struct Book {
    counters: [AtomicU64; 8],
    latencies: OnceLock<Box<Histogram>>,
}

impl Book {
    fn new() -> Self {
        Self { counters: std::array::from_fn(|_| AtomicU64::new(0)), latencies: OnceLock::new() }
    }

    #[inline(always)]
    fn latencies(&self) -> &Histogram {
        match self.latencies.get() {
            Some(latencies) => latencies,
            None => self.first_latency(),
        }
    }

    #[cold]
    #[inline(never)]
    fn first_latency(&self) -> &Histogram {
        self.latencies.get_or_init(|| Box::new(Histogram::new()))
    }
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { lanes: Lanes::new(Book::new) }
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
        let lane = self.lanes.get(seat, Book::new);
        lane.writer.add(&lane.at.counters[counter], n);
    }

    /// Counts a call that took so long.
    #[inline(always)]
    pub(crate) fn measure(&self, seat: Seat, kind: Kind, (now, nanos): (Tick, u64)) {
        let lane = self.lanes.get(seat, Book::new);
        lane.writer.add(&lane.at.counters[kind as usize], 1);
        lane.at.latencies().record(lane.writer, now, nanos);
    }

    /// How long a call took that is counted elsewhere.
    pub(crate) fn latency(&self, seat: Seat, now: Tick, nanos: u64) {
        let lane = self.lanes.get(seat, Book::new);
        lane.at.latencies().record(lane.writer, now, nanos);
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
            for (sum, counter) in sums.iter_mut().zip(&lane.counters) {
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
        self.histograms().for_each(|latencies| latencies.add_to(sum, now));
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.lanes.heap_size(0) + self.histograms().count() * size_of::<Histogram>()
    }

    fn histograms(&self) -> impl Iterator<Item = &Histogram> {
        self.lanes.iter().filter_map(|book| Some(&**book.latencies.get()?))
    }
}
