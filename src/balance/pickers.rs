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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::*;
    use crate::{balance::weights::Weights, time};

    /// Candidates of fixed loads, all of them free and warm unless it says otherwise.
    struct Fixed {
        weights: &'static [u32],
        pending: &'static [u32],
        latency: &'static [f64],
        cold: Option<usize>,
        taken: Option<usize>,
    }

    impl Fixed {
        const fn of(weights: &'static [u32], pending: &'static [u32], latency: &'static [f64]) -> Self {
            Self { weights, pending, latency, cold: None, taken: None }
        }

        fn rule(&self) -> Weights {
            Weights::new(self.weights)
        }
    }

    impl Candidates for Fixed {
        fn len(&self) -> usize {
            self.weights.len()
        }

        fn instance(&self, _: usize) -> &Arc<Instance> {
            unreachable!("no picker here asks for it")
        }

        fn is_free(&self, at: usize) -> bool {
            self.taken != Some(at)
        }

        fn pending(&self, at: usize) -> u32 {
            self.pending[at]
        }

        fn running(&self) -> u64 {
            self.pending.iter().map(|pending| u64::from(*pending)).sum()
        }

        fn doubt(&self, _: usize) -> f64 {
            0.0
        }

        fn latency(&self, at: usize) -> f64 {
            self.latency[at]
        }

        fn weight(&self, at: usize) -> f64 {
            self.rule().relative(self.weights[at])
        }

        fn is_warm(&self, at: usize) -> bool {
            self.cold != Some(at)
        }

        fn draw(&self, place: f64) -> usize {
            self.rule().draw(place)
        }

        fn draw_other(&self, place: f64, than: usize) -> usize {
            self.rule().draw_other(place, than)
        }
    }

    #[test]
    fn counters_begin_anywhere() {
        time::seed(1);
        let first: std::collections::BTreeSet<u64> = (0..64).map(|_| counter().load(Relaxed) % 5).collect();
        assert_eq!(first.len(), 5, "not all processes begin with the same one of five");
    }

    #[test]
    fn of_two_the_one_with_fewer_calls_for_its_weight_is_taken() {
        time::seed(1);
        for (weights, pending, best) in [(&[4, 1], &[4, 2], 0), (&[1, 4], &[1, 1], 1), (&[1, 1], &[2, 3], 0)] {
            let candidates = Fixed::of(weights, pending, &[]);
            assert!((0..20).all(|_| LeastLoaded.pick(&7, &(), &candidates) == Some(best)), "{weights:?} {pending:?}");
        }
    }

    #[test]
    fn of_two_the_one_that_is_expected_to_answer_earlier_is_taken() {
        time::seed(1);
        for (weights, pending, latency, best) in [
            (&[1, 1], &[0, 0], &[0.1, 0.2], 0),
            (&[1, 1], &[0, 0], &[0.2, 0.1], 1),
            (&[1, 1], &[9, 0], &[0.1, 5.0], 0),
            (&[4, 1], &[4, 2], &[1.0, 1.0], 0),
            (&[1, 4], &[1, 2], &[1.0, 1.0], 1),
        ] {
            let candidates = Fixed::of(weights, pending, latency);
            let picks = (0..20).map(|_| PeakEwma.pick(&7, &(), &candidates));
            assert!(picks.into_iter().all(|pick| pick == Some(best)), "{weights:?} {pending:?} {latency:?}");
        }
    }

    #[test]
    fn the_second_of_two_has_nothing_to_do_with_the_first() {
        time::seed(1);
        let (candidates, pairs) = (Fixed::of(&[1; 4], &[], &[]), RefCell::new(BTreeMap::<Vec<usize>, u32>::new()));
        for _ in 0..2_400 {
            let looked = RefCell::new(Vec::new());
            let equal = |at| {
                looked.borrow_mut().push(at);
                1.0
            };
            assert!(better_of_two(&candidates, equal).is_some());
            *pairs.borrow_mut().entry(looked.take()).or_default() += 1;
        }
        let pairs = pairs.into_inner();
        assert!(pairs.len() == 12 && pairs.values().all(|count| (120..=280).contains(count)), "{pairs:?}");
    }

    #[test]
    fn neither_of_two_is_taken_that_is_not_free_or_not_warm() {
        time::seed(1);
        for unfit in 0..3 {
            let cold = Fixed { cold: Some(unfit), ..Fixed::of(&[1; 3], &[], &[]) };
            let taken = Fixed { taken: Some(unfit), ..Fixed::of(&[1; 3], &[], &[]) };
            for candidates in [cold, taken] {
                let lightest = |at| f64::from(u8::from(at != unfit));
                let picks: Vec<_> = (0..50).map(|_| better_of_two(&candidates, lightest)).collect();
                assert!(picks.iter().any(Option::is_some) && !picks.contains(&Some(unfit)), "{picks:?} but {unfit}");
            }
        }
    }
}
