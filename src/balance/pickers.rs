use std::{fmt, sync::Arc};

use crate::{
    balance::{
        pick::{Candidates, Pick, Picker},
        weights::spread,
    },
    contract::Instance,
    lanes::{Lanes, Seat},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::random,
};

/// So often a picker looks for one that is free, before the balancer takes whoever is.
const LOOKS: usize = 8;

/// One after the other, whatever their weights.
///
/// Each thread counts by itself, from a place of its own, so that no cache line is shared and many processes do not
/// begin with the same instance. On one thread the order is exact.
#[derive(Clone)]
pub struct RoundRobin {
    counters: Arc<Lanes<AtomicU64>>,
}

/// Each by its weight, spread evenly: of any run of calls each gets nearly its share.
#[derive(Clone)]
pub struct Weighted {
    counters: Arc<Lanes<AtomicU64>>,
}

/// Any, by its weight.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

/// The one with fewer calls running, of two that are drawn by weight. Failures of late count as calls, so that an
/// instance which fails at once does not look idle.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoaded;

/// The one that is expected to answer earlier, of two that are drawn by weight: latency times the calls that run, where
/// latency is the peak of late, which fades, and a failure counts as seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma;

/// A counter that begins anywhere.
fn counter() -> AtomicU64 {
    AtomicU64::new((random() * (1_u64 << 52) as f64) as u64)
}

/// The next number of this thread.
#[inline]
fn next(counters: &Lanes<AtomicU64>) -> u64 {
    let lane = counters.get(Seat::here(), counter);
    let n = lane.at.load(Relaxed);
    lane.writer.add(lane.at, 1);
    n
}

/// The first of a few that is free, and may be given this call if it starts slowly.
#[inline]
fn first_of<C: Candidates>(candidates: &C, mut look: impl FnMut() -> usize) -> Option<usize> {
    if candidates.is_empty() {
        return None;
    }
    (0..LOOKS).map(|_| look()).find(|at| candidates.is_free(*at) && candidates.is_warm(*at))
}

/// Two that are drawn by weight, and the better of them.
#[inline]
fn better_of_two<C: Candidates>(candidates: &C, load: impl Fn(usize) -> f64) -> Option<usize> {
    if candidates.is_empty() {
        return None;
    }
    let may = |at: &usize| candidates.is_free(*at) && candidates.is_warm(*at);
    // One random number has bits for two places.
    let place = random();
    let one = Some(candidates.draw(place)).filter(may);
    let one = one.or_else(|| first_of(candidates, || candidates.draw(random())))?;
    if candidates.len() == 1 {
        return Some(one);
    }
    let second = (place * (1 << 26) as f64).fract();
    let other = Some(candidates.draw_other(second, one)).filter(may);
    match other.or_else(|| first_of(candidates, || candidates.draw_other(random(), one))) {
        // Where they are equal, the first: it was drawn by weight.
        Some(other) if load(other) < load(one) => Some(other),
        _ => Some(one),
    }
}

impl RoundRobin {
    /// Begins anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self { counters: Arc::new(Lanes::new(counter)) }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Weighted {
    /// Begins anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self { counters: Arc::new(Lanes::new(counter)) }
    }
}

impl Default for Weighted {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! without_a_plan {
    ($($picker:ident $measures:literal),*) => {$(
        impl Picker for $picker {
            type Plan = ();

            const MEASURES: bool = $measures;

            fn plan(&self, _: &[Arc<Instance>]) {}
        }
    )*};
}

without_a_plan!(RoundRobin false, Weighted false, Random false, LeastLoaded false, PeakEwma true);

impl<Req> Pick<Req> for RoundRobin {
    #[inline]
    fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        let count = candidates.len().max(1) as u64;
        first_of(candidates, || (next(&self.counters) % count) as usize)
    }
}

impl<Req> Pick<Req> for Weighted {
    #[inline]
    fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        first_of(candidates, || candidates.draw(spread(next(&self.counters))))
    }
}

impl<Req> Pick<Req> for Random {
    #[inline]
    fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        first_of(candidates, || candidates.draw(random()))
    }
}

impl<Req> Pick<Req> for LeastLoaded {
    #[inline]
    fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        better_of_two(candidates, |at| {
            (f64::from(candidates.pending(at)) + candidates.doubt(at)) / candidates.weight(at)
        })
    }
}

impl<Req> Pick<Req> for PeakEwma {
    #[inline]
    fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        better_of_two(candidates, |at| {
            let pending = f64::from(candidates.pending(at)) / candidates.weight(at);
            candidates.latency(at) * (pending + 1.0)
        })
    }
}

impl fmt::Debug for RoundRobin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobin").finish_non_exhaustive()
    }
}

impl fmt::Debug for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted").finish_non_exhaustive()
    }
}
