//! What the calls of a window have shown: each thread's on cache lines of its own, added up by whoever closes the
//! window.

use crate::{
    lanes::{Lane, Lanes, Seat, Writer},
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The latencies that one thread keeps: the last so many of a window. Enough for a median, and no more than a glance at
/// the end of a window.
#[cfg(not(mainstay_loom))]
const KEPT: usize = 64;
#[cfg(mainstay_loom)]
const KEPT: usize = 2;

/// The calls of one thread in a window.
#[derive(Debug)]
struct Tally {
    // Which window: what is left of another one is nothing. So nobody has to clear what a thread writes.
    window: AtomicU64,
    successes: AtomicU32,
    dropped: AtomicU32,
    in_flight: AtomicU32,
    // Of the lane that several threads share: one is writing, and another does not wait for it.
    busy: AtomicBool,
    latencies: [AtomicU64; KEPT],
}

impl Tally {
    fn new() -> Self {
        Self {
            window: AtomicU64::new(0),
            successes: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            busy: AtomicBool::new(false),
            latencies: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// A call of this window has ended. For one thread at a time.
    fn add(&self, window: u64, latency: Option<u64>, in_flight: u32) {
        let before = self.window.load(Relaxed);
        if before > window {
            // Threads share this lane, and another one has gone on to the next window already.
            return;
        }
        if before < window {
            for count in [&self.successes, &self.dropped, &self.in_flight] {
                count.store(0, Relaxed);
            }
            // Release: who sees this window sees nothing of the one before.
            self.window.store(window, Release);
        }
        if in_flight > self.in_flight.load(Relaxed) {
            self.in_flight.store(in_flight, Relaxed);
        }
        let Some(latency) = latency else {
            return self.dropped.store(self.dropped.load(Relaxed).saturating_add(1), Relaxed);
        };
        let successes = self.successes.load(Relaxed);
        self.latencies[successes as usize % KEPT].store(latency, Relaxed);
        // Release: who counts this call sees its latency.
        self.successes.store(successes.saturating_add(1), Release);
    }
}

/// The calls of all threads in this window.
#[doc(hidden)]
#[derive(Debug)]
pub struct Tallies {
    // From 1 on, so that a lane that was never written holds none of it.
    window: AtomicU64,
    lanes: Lanes<Tally>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self { window: AtomicU64::new(1), lanes: Lanes::new(Tally::new) }
    }
}

impl Tallies {
    /// With so many threads that write alone. Only for models, which play several threads.
    #[must_use]
    pub fn with_seats(seats: usize) -> Self {
        Self { window: AtomicU64::new(1), lanes: Lanes::with_owned(seats, Tally::new) }
    }

    /// A call has ended: after so many nanoseconds, or as a drop.
    #[inline]
    pub fn add_in(&self, seat: Seat, latency: Option<u64>, in_flight: u32) {
        let Lane { at: tally, writer } = self.lanes.get(seat, Tally::new);
        let window = self.window.load(Relaxed);
        match writer {
            Writer::Only => tally.add(window, latency, in_flight),
            Writer::OneOfMany if !tally.busy.swap(true, Acquire) => {
                tally.add(window, latency, in_flight);
                tally.busy.store(false, Release);
            }
            // The other call says as much as this one would.
            Writer::OneOfMany => {}
        }
    }

    fn in_window(&self) -> impl Iterator<Item = &Tally> {
        let window = self.window.load(Relaxed);
        self.lanes.iter().filter(move |tally| tally.window.load(Acquire) == window)
    }

    /// How many calls have ended in this window.
    pub(super) fn calls(&self) -> u32 {
        let calls = |tally: &Tally| tally.successes.load(Relaxed).saturating_add(tally.dropped.load(Relaxed));
        self.in_window().map(calls).fold(0, u32::saturating_add)
    }

    /// Closes the window, and adds up what it holds; what is added at this moment may be lost. For one at a time.
    pub fn close(&self, sum: &mut Sum) {
        sum.clear();
        for tally in self.in_window() {
            let (successes, dropped) = (tally.successes.load(Acquire), tally.dropped.load(Relaxed));
            sum.calls = sum.calls.saturating_add(successes).saturating_add(dropped);
            sum.dropped = sum.dropped.saturating_add(dropped);
            sum.in_flight = sum.in_flight.max(tally.in_flight.load(Relaxed));
            let kept = KEPT.min(successes as usize);
            sum.latencies.extend(tally.latencies[..kept].iter().map(|latency| latency.load(Relaxed)));
        }
        sum.latencies.sort_unstable();
        self.forget();
    }

    /// A window begins, and what this one holds is nothing. For one at a time.
    pub(super) fn forget(&self) {
        self.window.store(self.window.load(Relaxed) + 1, Relaxed);
    }
}

/// What a window has shown.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Sum {
    pub calls: u32,
    pub dropped: u32,
    pub in_flight: u32,
    // In order.
    pub latencies: Vec<u64>,
}

impl Sum {
    fn clear(&mut self) {
        self.latencies.clear();
        (self.calls, self.dropped, self.in_flight) = (0, 0, 0);
    }

    /// The latency that this share of the calls does not exceed; none when none succeeded.
    pub(super) fn percentile(&self, share: f64) -> Option<u64> {
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).or(self.latencies.last()).copied()
    }
}

#[cfg(all(test, not(mainstay_loom)))]
mod tests {
    use super::*;

    fn close(tallies: &Tallies) -> Sum {
        let mut sum = Sum::default();
        tallies.close(&mut sum);
        sum
    }

    fn sum(latencies: &[u64]) -> Sum {
        let tallies = Tallies::default();
        latencies.iter().for_each(|latency| tallies.add_in(Seat::here(), Some(*latency), 1));
        close(&tallies)
    }

    #[test]
    fn percentiles_are_latencies_that_were() {
        for (latencies, share, expected) in [
            (&[1, 2, 3, 4, 5][..], 0.5, Some(3)),
            (&[5, 1, 4, 2, 3], 0.5, Some(3)),
            (&[100, 300, 200, 200, 250], 0.5, Some(200)),
            (&[7], 0.5, Some(7)),
            (&[1, 2], 0.5, Some(1)),
            (&[1, 2, 3, 4], 1.0, Some(4)),
            (&[1, 2, 3, 4], 0.01, Some(1)),
            (&[], 0.5, None),
        ] {
            assert_eq!(sum(latencies).percentile(share), expected, "{share} of {latencies:?}");
        }
    }

    #[test]
    fn the_last_latencies_of_a_thread_are_kept_and_all_calls_are_counted() {
        let sum = sum(&(0..1_000).collect::<Vec<_>>());
        assert_eq!((sum.calls, sum.latencies.len(), sum.latencies[0]), (1_000, KEPT, 1_000 - KEPT as u64));
    }

    #[test]
    fn threads_are_added_up_and_a_window_that_is_closed_is_over() {
        let tallies = Tallies::with_seats(1);
        for (seat, latency, in_flight) in
            [(Seat::numbered(0), Some(5), 3), (Seat::numbered(0), None, 9), (Seat::SHARED, Some(1), 4)]
        {
            tallies.add_in(seat, latency, in_flight);
        }
        assert_eq!(tallies.calls(), 3);
        let sum = close(&tallies);
        assert_eq!((sum.calls, sum.dropped, sum.in_flight), (3, 1, 9));
        assert_eq!((sum.percentile(0.5), sum.percentile(1.0)), (Some(1), Some(5)));
        assert_eq!((tallies.calls(), close(&tallies).calls), (0, 0));
        tallies.add_in(Seat::SHARED, Some(7), 1);
        tallies.forget();
        tallies.add_in(Seat::numbered(0), Some(8), 2);
        let sum = close(&tallies);
        assert_eq!((sum.calls, sum.in_flight, sum.latencies), (1, 2, vec![8]));
    }
}
