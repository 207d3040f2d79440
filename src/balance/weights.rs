//! Draws by weight: from a number between 0 and 1 to a member. The pure rule.

/// The weights of the members that calls are given to.
#[derive(Debug)]
pub(super) struct Weights {
    count: usize,
    mean: f64,
    // The sum of the weights up to and with each member; none when all are the same.
    sums: Option<Box<[u64]>>,
}

impl Weights {
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mean = if weights.is_empty() { 1.0 } else { total as f64 / weights.len() as f64 };
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let sums = (!even).then(|| {
            let mut sum = 0;
            let add = |weight: &u32| {
                sum += u64::from(*weight);
                sum
            };
            weights.iter().map(add).collect()
        });
        Self { count: weights.len(), mean, sums }
    }

    /// The member at this place, from 0 up to but not including 1, of the line on which each has a piece as long as its
    /// weight. Members there must be.
    #[inline]
    pub(super) fn draw(&self, place: f64) -> usize {
        let at = match &self.sums {
            None => (place * self.count as f64) as usize,
            Some(sums) => {
                let total = sums.last().copied().unwrap_or_default();
                let point = (place * total as f64) as u64;
                sums.partition_point(|sum| *sum <= point)
            }
        };
        at.min(self.count.saturating_sub(1))
    }

    /// The member at this place of the line without the piece of one of them. Two members there must be.
    #[inline]
    pub(super) fn draw_other(&self, place: f64, than: usize) -> usize {
        let at = match &self.sums {
            None => {
                let at = (place * (self.count - 1) as f64) as usize;
                if at < than { at } else { at + 1 }
            }
            Some(sums) => {
                let before = than.checked_sub(1).map_or(0, |before| sums[before]);
                let weight = sums[than] - before;
                let total = sums.last().copied().unwrap_or_default() - weight;
                let point = (place * total as f64) as u64;
                let point = if point < before { point } else { point + weight };
                sums.partition_point(|sum| *sum <= point)
            }
        };
        at.min(self.count - 1)
    }

    /// A weight in relation to the mean.
    #[inline]
    pub(super) fn relative(&self, weight: u32) -> f64 {
        if self.sums.is_none() { 1.0 } else { f64::from(weight) / self.mean }
    }
}

/// The place of the n-th call on a line from 0 to 1, so that every run of calls is spread evenly: the multiples of the
/// golden ratio, which leave no gap and make no heap.
///
/// Smooth weighted round robin does the same with a counter for each instance, which all threads would write.
#[inline]
pub(super) fn spread(n: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    (n.wrapping_mul(GOLDEN) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_member_by_weight() {
        let weights = Weights::new(&[1, 0, 2, 5]);
        for (place, member) in [(0.0, 0), (0.124, 0), (0.125, 2), (0.374, 2), (0.375, 3), (0.999_999, 3), (1.0, 3)] {
            assert_eq!(weights.draw(place), member, "{place}");
        }
        assert_eq!((weights.relative(1), weights.relative(4)), (0.5, 2.0));
        let even = Weights::new(&[7; 4]);
        assert_eq!([0.0, 0.25, 0.5, 0.99, 1.0].map(|place| even.draw(place)), [0, 1, 2, 3, 3]);
        assert_eq!(even.relative(7), 1.0);
        for (place, than, member) in [(0.0, 0, 2), (0.99, 3, 2), (0.34, 3, 2), (0.33, 3, 0), (0.5, 2, 3), (0.1, 2, 0)] {
            assert_eq!(weights.draw_other(place, than), member, "{place} but {than}");
        }
        assert_eq!([0.0, 0.34, 0.67, 1.0].map(|place| even.draw_other(place, 1)), [0, 2, 3, 3]);
        assert_eq!(Weights::new(&[]).draw(0.5), 0);
        assert_eq!(Weights::new(&[0, 0]).draw(0.5), 1);
    }

    proptest::proptest! {
        #[test]
        fn another_one_is_another_one(
            weights in proptest::collection::vec(1_u32..50, 2..12),
            place in 0.0..1.0_f64,
            than in 0_usize..12,
        ) {
            let than = than % weights.len();
            let other = Weights::new(&weights).draw_other(place, than);
            proptest::prop_assert!(other != than && other < weights.len(), "{}", other);
        }

        #[test]
        fn every_run_of_calls_is_near_the_shares(
            weights in proptest::collection::vec(1_u32..50, 2..12),
            begin in proptest::prelude::any::<u64>(),
            calls in 1_usize..400,
        ) {
            let rule = Weights::new(&weights);
            let mut counts = vec![0_u32; weights.len()];
            for n in 0..calls as u64 {
                counts[rule.draw(spread(begin.wrapping_add(n)))] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let due = calls as f64 * f64::from(*weight) / f64::from(total);
                // The discrepancy of this sequence grows with the logarithm of the calls only.
                proptest::prop_assert!((f64::from(*count) - due).abs() < 4.0, "{} for {}", count, due);
            }
        }
    }
}
