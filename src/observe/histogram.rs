use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    lanes::Writer,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
    time::Tick,
};

/// Buckets to a doubling of the latency: a bucket is an eighth of its lower bound wide at most.
const STEPS: u32 = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The shortest latency told apart is 2^10 ns, about a microsecond; the longest 2^42 ns, over an hour.
const SHORTEST: u32 = 10;
const DOUBLINGS: u32 = 32;
const BUCKETS: usize = (STEPS * DOUBLINGS) as usize;

/// After this long the calls before weigh half.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// One thread's latencies, in buckets that grow with the latency.
///
/// The percentiles of a whole process lifetime hide what is happening now, so the counts halve once a minute: what
/// [`Latency`] says is mostly about the last minutes. Our own, because the crates for this either lock, share one
/// array among all threads, or count for ever.
#[derive(Debug)]
// Alone on its cache lines, as a lane is.
#[repr(align(128))]
pub(crate) struct Histogram {
    halve_at: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { halve_at: AtomicU64::new(0), counts: std::array::from_fn(|_| AtomicU32::new(0)) }
    }

    #[inline(always)]
    pub(crate) fn record(&self, writer: Writer, now: Tick, latency: u64) {
        if now.as_nanos() >= self.halve_at.load(Relaxed) {
            self.halve(writer, now);
        }
        let bucket = &self.counts[bucket_of(latency)];
        let count = bucket.load(Relaxed);
        // Full is full: four billion calls of one latency in two minutes leave the percentiles right.
        if count < u32::MAX {
            match writer {
                Writer::Only => bucket.store(count + 1, Relaxed),
                Writer::OneOfMany => {
                    let _ = bucket.fetch_update(Relaxed, Relaxed, |count| count.checked_add(1));
                }
            }
        }
    }

    #[cold]
    fn halve(&self, writer: Writer, now: Tick) {
        let due = self.halve_at.load(Relaxed);
        let next = (now + HALF_LIFE).as_nanos();
        if self.halve_at.compare_exchange(due, next, AcqRel, Relaxed).is_err() || due == 0 {
            return;
        }
        for bucket in &self.counts {
            let count = bucket.load(Relaxed);
            let rest = faded(count, due, now);
            match writer {
                Writer::Only => bucket.store(rest, Relaxed),
                Writer::OneOfMany => {
                    bucket.fetch_sub(count - rest, Relaxed);
                }
            }
        }
    }

    /// Adds what these weigh now. A thread that records no more halves no more, and yet its past fades.
    pub(crate) fn add_to(&self, sum: &mut Sum, now: Tick) {
        let due = self.halve_at.load(Relaxed);
        for (sum, count) in sum.0.iter_mut().zip(&self.counts) {
            *sum += u64::from(faded(count.load(Relaxed), due, now));
        }
    }
}

/// What is left of a count that was to be halved at `due`, and once in a half-life from then on.
fn faded(count: u32, due: u64, now: Tick) -> u32 {
    if now.as_nanos() < due {
        return count;
    }
    let halvings = 1 + now.nanos_since(Tick::from_nanos(due)) / HALF_LIFE.as_nanos() as u64;
    if halvings < 32 { count >> halvings } else { 0 }
}

#[inline]
fn bucket_of(latency: u64) -> usize {
    let latency = latency.max(1 << SHORTEST);
    let doubling = latency.ilog2();
    let step = (latency >> (doubling - STEP_BITS)) as usize & (STEPS as usize - 1);
    ((doubling - SHORTEST) as usize * STEPS as usize + step).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle_of(bucket: usize) -> u64 {
    let width = 1_u64 << (bucket as u32 / STEPS + SHORTEST - STEP_BITS);
    (u64::from(STEPS) + (bucket % STEPS as usize) as u64) * width + width / 2
}

/// The histograms of all threads, added up.
#[derive(Debug)]
pub(crate) struct Sum([u64; BUCKETS]);

impl Sum {
    pub(crate) fn new() -> Self {
        Self([0; BUCKETS])
    }

    pub(crate) fn latency(&self) -> Option<Latency> {
        let calls = self.0.iter().sum();
        let at = |percent: u64| Duration::from_nanos(self.per_mille(percent * 10, calls));
        (calls > 0).then(|| Latency { calls, p50: at(50), p95: at(95), p99: at(99) })
    }

    /// How many calls there are, and the latency that so many in a thousand do not exceed.
    pub(crate) fn at(&self, per_mille: u64) -> (u64, Duration) {
        let calls = self.0.iter().sum();
        (calls, Duration::from_nanos(self.per_mille(per_mille, calls)))
    }

    fn per_mille(&self, per_mille: u64, calls: u64) -> u64 {
        let rank = u128::from(calls) * u128::from(per_mille);
        let mut below = 0_u128;
        let bucket = self.0.iter().position(|count| {
            below += u128::from(*count) * 1_000;
            below >= rank
        });
        middle_of(bucket.unwrap_or(BUCKETS - 1))
    }
}

/// How long recent calls took, to within a sixteenth.
///
/// Recent: what happened a minute ago weighs half of what happens now, so this is mostly about the last minutes.
/// Latencies below a microsecond count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The calls this speaks of, older ones by their lower weight.
    pub calls: u64,
    /// Half of the calls took no longer.
    #[serde(rename = "p50_ms", serialize_with = "millis")]
    pub p50: Duration,
    /// 95 of 100 calls took no longer.
    #[serde(rename = "p95_ms", serialize_with = "millis")]
    pub p95: Duration,
    /// 99 of 100 calls took no longer.
    #[serde(rename = "p99_ms", serialize_with = "millis")]
    pub p99: Duration,
}

/// Milliseconds to three places.
pub(crate) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_into_a_bucket_that_is_near_it() {
        for exponent in SHORTEST..SHORTEST + DOUBLINGS {
            for latency in [1_u64 << exponent, (1 << exponent) + 1, (1 << exponent) * 3 / 2, (2 << exponent) - 1] {
                let middle = middle_of(bucket_of(latency));
                assert!(middle.abs_diff(latency) <= latency / 16 + 1, "{latency} read as {middle}");
            }
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_known_distribution() {
        for writer in [Writer::Only, Writer::OneOfMany] {
            let histogram = Histogram::new();
            for ms in 1..=1_000 {
                histogram.record(writer, Tick::from_nanos(5), ms * 1_000_000);
            }
            let mut sum = Sum::new();
            histogram.add_to(&mut sum, Tick::from_nanos(5));
            let latency = sum.latency().unwrap();
            assert_eq!(latency.calls, 1_000);
            for (read, ms) in [(latency.p50, 500), (latency.p95, 950), (latency.p99, 990)] {
                assert!(read.as_millis().abs_diff(ms) <= ms / 16, "{read:?} for {ms}ms");
            }
        }
        assert_eq!(Sum::new().latency(), None);
    }

    #[test]
    fn a_full_bucket_stays_full_until_it_fades() {
        for writer in [Writer::Only, Writer::OneOfMany] {
            let histogram = Histogram::new();
            histogram.record(writer, Tick::default(), 1_000_000);
            let bucket = &histogram.counts[bucket_of(1_000_000)];
            bucket.store(u32::MAX, Relaxed);
            histogram.record(writer, Tick::default(), 1_000_000);
            assert_eq!(bucket.load(Relaxed), u32::MAX);
        }
        let due = Tick::from_nanos(1_000);
        let faded_at = |now| faded(64, due.as_nanos(), now);
        assert_eq!((faded_at(Tick::from_nanos(999)), faded_at(due), faded_at(due + HALF_LIFE)), (64, 32, 16));
        let rest = [29, 30, 31, 1_000].map(|more| faded(u32::MAX, due.as_nanos(), due + HALF_LIFE * more));
        assert_eq!(rest, [3, 1, 0, 0], "and nothing is left after as many halvings as it has digits");
    }

    #[test]
    fn the_past_fades() {
        let second = |n: u64| Tick::from_nanos(1 + n * 1_000_000_000);
        for writer in [Writer::Only, Writer::OneOfMany] {
            let histogram = Histogram::new();
            let calls_at = |histogram: &Histogram, now| {
                let mut sum = Sum::new();
                histogram.add_to(&mut sum, now);
                sum.latency().map_or(0, |latency| latency.calls)
            };
            let calls = |histogram: &Histogram| calls_at(histogram, second(0));
            (0..1_000).for_each(|_| histogram.record(writer, second(0), 1_000_000));
            histogram.record(writer, second(59), 1_000_000);
            assert_eq!(calls(&histogram), 1_001);
            histogram.record(writer, second(60), 1_000_000);
            assert_eq!(calls(&histogram), 501);
            histogram.record(writer, second(60 * 3), 1_000_000);
            assert_eq!(calls(&histogram), 501 / 4 + 1);
            // Nobody has recorded since.
            assert_eq!(calls_at(&histogram, second(60 * 4)), 63);
            assert_eq!(calls_at(&histogram, second(60 * 60)), 0);
            histogram.record(writer, second(86_400), 1_000_000);
            assert_eq!(calls(&histogram), 1);
        }
    }
}
