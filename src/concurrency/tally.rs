//! What one thread's calls have shown in this window, and what all threads' have together. Pure.

/// The latencies that one thread keeps: the last so many of a window. Enough for a median, and no more than a glance at
/// the end of a window.
const KEPT: usize = 64;

/// The calls of one thread in this window.
#[derive(Debug)]
pub(super) struct Tally {
    successes: u32,
    dropped: u32,
    in_flight: u32,
    latencies: [u64; KEPT],
}

impl Tally {
    pub(super) const fn new() -> Self {
        Self { successes: 0, dropped: 0, in_flight: 0, latencies: [0; KEPT] }
    }

    /// A call has ended: after so many nanoseconds, or as a drop.
    pub(super) fn add(&mut self, latency: Option<u64>, in_flight: u32) {
        match latency {
            Some(latency) => {
                self.latencies[self.successes as usize % KEPT] = latency;
                self.successes = self.successes.saturating_add(1);
            }
            None => self.dropped = self.dropped.saturating_add(1),
        }
        self.in_flight = self.in_flight.max(in_flight);
    }

    pub(super) const fn calls(&self) -> u32 {
        self.successes.saturating_add(self.dropped)
    }

    /// A window begins.
    pub(super) const fn clear(&mut self) {
        (self.successes, self.dropped, self.in_flight) = (0, 0, 0);
    }
}

/// The calls of all threads in a window.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) calls: u32,
    pub(super) dropped: u32,
    pub(super) in_flight: u32,
    // In order, once they are all there.
    latencies: Vec<u64>,
}

impl Sum {
    pub(super) fn clear(&mut self) {
        self.latencies.clear();
        (self.calls, self.dropped, self.in_flight) = (0, 0, 0);
    }

    pub(super) fn add(&mut self, tally: &Tally) {
        self.calls = self.calls.saturating_add(tally.calls());
        self.dropped = self.dropped.saturating_add(tally.dropped);
        self.in_flight = self.in_flight.max(tally.in_flight);
        let kept = KEPT.min(tally.successes as usize);
        self.latencies.extend_from_slice(&tally.latencies[..kept]);
    }

    pub(super) fn sort(&mut self) {
        self.latencies.sort_unstable();
    }

    /// The latency that this share of the calls does not exceed; none when none succeeded.
    pub(super) fn percentile(&self, share: f64) -> Option<u64> {
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).or(self.latencies.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(latencies: &[u64]) -> Sum {
        let (mut tally, mut sum) = (Tally::new(), Sum::default());
        latencies.iter().for_each(|latency| tally.add(Some(*latency), 1));
        sum.add(&tally);
        sum.sort();
        sum
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
    fn threads_are_added_up() {
        let (mut one, mut two, mut sum) = (Tally::new(), Tally::new(), Sum::default());
        one.add(Some(5), 3);
        one.add(None, 9);
        two.add(Some(1), 4);
        [&one, &two].into_iter().for_each(|tally| sum.add(tally));
        sum.sort();
        assert_eq!((sum.calls, sum.dropped, sum.in_flight), (3, 1, 9));
        assert_eq!((sum.percentile(0.5), sum.percentile(1.0)), (Some(1), Some(5)));
        one.clear();
        sum.clear();
        sum.add(&one);
        assert_eq!((sum.calls, sum.in_flight, sum.percentile(0.5)), (0, 0, None));
    }
}
