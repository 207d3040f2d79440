//! What a result of one copy means for the others, and how long to wait for the next. Pure: results, settings and
//! measured latencies go in, a decision comes out.

use std::time::Duration;

use crate::{
    error::CarryRejection,
    hedge::config::Config,
    outcome::{Classify, Outcome},
};

/// What a result of one copy means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is the answer, good or bad: another copy would say the same.
    Final,
    /// This copy failed, and another may do better: the next is sent at once.
    Failed,
    /// This copy failed, and the service asks to be left alone: no other is sent, those that run go on.
    Leave,
    /// A policy further in turned this copy away to protect the service: no other is sent, those that run go on, and
    /// the caller would rather hear how those failed.
    Rejected,
}

/// The judgement that a classifier makes. A rejection by a policy further in is not shown to it, as for a retry.
#[inline]
pub(crate) fn judge<T, E, C>(classify: &C, result: Result<&T, &E>) -> Judgement
where
    C: Classify<T, E>,
    E: CarryRejection,
{
    if let Some(rejection) = result.err().and_then(E::rejection) {
        return if rejection.reason().blames_service() { Judgement::Failed } else { Judgement::Rejected };
    }
    match classify.classify(result) {
        Outcome::Success | Outcome::Ignored => Judgement::Final,
        Outcome::Failure => match classify.retry_after(result) {
            Some(wait) if !wait.is_zero() => Judgement::Leave,
            _ => Judgement::Failed,
        },
    }
}

/// The judgement for errors that cannot carry a rejection: every `Err` is a failure.
#[inline]
pub(crate) fn judge_any<T, E>(result: Result<&T, &E>) -> Judgement {
    if result.is_ok() { Judgement::Final } else { Judgement::Failed }
}

/// How long to wait for the next copy. `measured` says how many calls there were and what their percentile is.
pub(super) fn delay(config: &Config, measured: impl FnOnce() -> (u64, Duration)) -> Duration {
    if let Some(delay) = config.delay {
        return delay;
    }
    match measured() {
        (calls, _) if calls < config.min_samples.into() => config.initial(),
        (_, percentile) => percentile.max(config.min_delay).min(config.max_delay),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        error::{Error, Reason, Rejection},
        name::Name,
        outcome::OnError,
    };

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_delay_follows_the_percentile_within_its_limits_once_it_means_something() {
        let config = Config::new().min_samples(20).min_delay(MS * 5).max_delay(MS * 100);
        for (config, calls, percentile, expected) in [
            (config, 0, 50, 100),
            (config, 19, 50, 100),
            (config, 20, 50, 50),
            (config, 20, 4, 5),
            (config, 20, 101, 100),
            (config.initial_delay(MS * 7), 19, 50, 7),
            (config.max_delay(MS * 9_000), 19, 50, 500),
            (config.max_delay(MS * 9_000).min_delay(MS * 800), 19, 50, 800),
            (config.delay(MS * 3), 1_000, 50, 3),
        ] {
            assert_eq!(delay(&config, || (calls, MS * percentile)), MS * expected, "{calls}, {percentile}");
        }
    }

    #[test]
    fn what_ends_a_call_what_asks_for_another_copy_and_what_forbids_one() {
        let rejected = |reason| Err(Error::Rejected(Rejection::new(reason, Name::new("x").unwrap())));
        let on_error = |result: Result<u32, Error<u32>>| judge(&OnError, result.as_ref());
        assert_eq!(on_error(Ok(1)), Judgement::Final);
        assert_eq!(on_error(Err(Error::Inner(1))), Judgement::Failed);
        assert_eq!(on_error(rejected(Reason::TimedOut)), Judgement::Failed);
        for reason in [Reason::CircuitOpen, Reason::CircuitProbing, Reason::BulkheadFull, Reason::RateLimited] {
            assert_eq!(on_error(rejected(reason)), Judgement::Rejected);
        }
        struct Asks(u64);
        impl Classify<u32, Error<u32>> for Asks {
            fn classify(&self, result: Result<&u32, &Error<u32>>) -> Outcome {
                if result.is_ok() { Outcome::Failure } else { Outcome::Ignored }
            }
            fn retry_after(&self, _: Result<&u32, &Error<u32>>) -> Option<Duration> {
                Some(Duration::from_nanos(self.0))
            }
        }
        assert_eq!(judge(&Asks(0), Ok(&1)), Judgement::Failed);
        assert_eq!(judge(&Asks(1), Ok(&1)), Judgement::Leave);
        assert_eq!(judge(&Asks(1), Err(&Error::Inner(1))), Judgement::Final);
        assert_eq!([judge_any::<_, u32>(Ok(&1)), judge_any::<u32, _>(Err(&1))], [Judgement::Final, Judgement::Failed]);
    }

    proptest! {
        #[test]
        fn the_delay_never_leaves_its_limits(
            (calls, percentile) in (any::<u64>(), any::<u64>().prop_map(Duration::from_nanos)),
            (least, more, samples) in (1_u64..100_000, 0_u64..100_000, 1_u32..1_000_000),
        ) {
            let (least, most) = (MS * least as u32, MS * (least + more) as u32);
            let config = Config::new().min_delay(least).max_delay(most).min_samples(samples);
            prop_assert!(config.check().is_ok());
            let delay = delay(&config, || (calls, percentile));
            prop_assert!(delay >= least && delay <= most);
        }
    }
}
