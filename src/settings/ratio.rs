use std::num::NonZeroU32;

/// A share between none and all as an exact fraction, so that a rate is compared with it in integers.
///
/// A rate is given as a float, and 0.1 as a float is not one tenth. [`Ratio::of`] takes the fraction with the smallest
/// denominator that rounds to that float, which is the one that was meant: 0.1 is 1/10, 2.0 / 3.0 is 2/3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ratio {
    part: u32,
    whole: NonZeroU32,
}

impl Ratio {
    /// The simplest fraction that rounds to `share`, found along its continued fraction.
    ///
    /// `share` is taken as 0 when it is below 0 or no number, and as 1 when it is above 1: callers check it before. A
    /// share too small for 32 bits is taken as the smallest there is, since no share at all is reached by nothing.
    pub(crate) fn of(share: f64) -> Self {
        let target = if share > 0.0 { share.min(1.0) } else { 0.0 };
        // Convergents h/k: (h0, k0) is the one before (h1, k1).
        let (mut h0, mut k0, mut h1, mut k1) = (0_u64, 1_u64, 1_u64, 0_u64);
        let mut rest = target;
        loop {
            let term = rest.floor();
            // A float in [0, 1] is the best fraction of its kind long before the denominator outgrows 32 bits.
            // Not always: rounding errors can make a term that overflows.
            let next = |one: u64, before| (term as u64).checked_mul(one)?.checked_add(before);
            let (Some(h2), Some(k2)) = (next(h1, h0), next(k1, k0)) else { break };
            if k2 > u64::from(u32::MAX) {
                break;
            }
            (h0, k0, h1, k1) = (h1, k1, h2, k2);
            if h1 as f64 / k1 as f64 == target || rest == term {
                break;
            }
            rest = 1.0 / (rest - term);
        }
        if h1 == 0 && target > 0.0 {
            return Self { part: 1, whole: NonZeroU32::MAX };
        }
        let part = u32::try_from(h1).unwrap_or(u32::MAX);
        let whole = u32::try_from(k1).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        Self { part, whole }
    }

    /// Whether `part` of `whole` is at least this share. Nothing of nothing is no share.
    pub(crate) fn reached_by(self, part: u64, whole: u64) -> bool {
        whole > 0 && u128::from(part) * u128::from(self.whole.get()) >= u128::from(whole) * u128::from(self.part)
    }

    pub(crate) const fn part(self) -> u32 {
        self.part
    }

    pub(crate) const fn whole(self) -> NonZeroU32 {
        self.whole
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.part) << 32 | u64::from(self.whole.get())
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let whole = NonZeroU32::new((bits & u64::from(u32::MAX)) as u32)?;
        Some(Self { part: (bits >> 32) as u32, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(share: f64) -> (u32, u32) {
        let ratio = Ratio::of(share);
        (ratio.part, ratio.whole.get())
    }

    #[test]
    fn a_float_is_the_fraction_that_was_meant() {
        assert_eq!(fraction(0.1), (1, 10));
        assert_eq!(fraction(2.0 / 3.0), (2, 3));
        assert_eq!(fraction(0.29), (29, 100));
        assert_eq!(fraction(0.333), (333, 1000));
        assert_eq!(fraction(1.0), (1, 1));
        assert_eq!(fraction(0.0), (0, 1));
        // The simplest that is this float, and the finest there is.
        assert_eq!(fraction(4_797_476.0 / 8_509_917.0), (4_797_476, 8_509_917));
        assert_eq!(fraction(2.0 / f64::from(u32::MAX)), (2, u32::MAX));
        for whole in 1..2_000_u32 {
            for part in [1, whole / 3, whole / 2, whole - 1, whole] {
                let ratio = Ratio::of(f64::from(part) / f64::from(whole));
                assert!(ratio.reached_by(part.into(), whole.into()), "{part}/{whole} as {ratio:?}");
                assert!(part == 0 || !ratio.reached_by(u64::from(part) - 1, whole.into()), "{part}/{whole}");
            }
        }
    }

    #[test]
    fn no_share_overflows_or_becomes_nothing() {
        for share in [2.3666538472916603e-4, 1.1371874511364766e-4, 2.247001657163722e-4] {
            let (part, whole) = fraction(share);
            assert!((f64::from(part) / f64::from(whole) - share).abs() < 1e-9, "{share}");
        }
        for share in [f64::MIN_POSITIVE, 5e-324, 1e-10, 2.4e-10] {
            assert!(!Ratio::of(share).reached_by(0, 1), "{share}");
            assert!(Ratio::of(share).reached_by(1, 1_000_000), "{share}");
        }
    }

    #[test]
    fn comparing_does_not_overflow() {
        assert!(Ratio::of(0.5).reached_by(u64::MAX, u64::MAX));
        assert!(!Ratio::of(f64::MIN_POSITIVE).reached_by(0, 0));
        assert_eq!(Ratio::from_bits(Ratio::of(0.7).to_bits()), Some(Ratio::of(0.7)));
        assert_eq!(Ratio::from_bits(0), None);
    }
}
