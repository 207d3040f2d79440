use std::{fmt, time::Duration};

use crate::{
    outcome::{Classify, Outcome},
    retry::{Exhausted, Judgement, Rule},
};

/// A classifier for the breaker and a rule for the retry. Made by
/// [`StackBuilder::retry_rule`](super::StackBuilder::retry_rule).
pub struct Judges<C, Q> {
    pub(super) classify: C,
    pub(super) rule: Q,
}

impl<C, Q> Judges<C, Q> {
    /// Both.
    #[must_use]
    pub const fn new(classify: C, rule: Q) -> Self {
        Self { classify, rule }
    }
}

impl<T, E, C: Classify<T, E>, Q> Classify<T, E> for Judges<C, Q> {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self.classify.classify(result)
    }

    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        self.classify.retry_after(result)
    }
}

impl<T, E, C, Q: Rule<T, E>> Rule<T, E> for Judges<C, Q> {
    #[inline]
    fn judge(&self, result: Result<&T, &E>) -> Judgement {
        self.rule.judge(result)
    }

    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        self.rule.describe(error)
    }

    fn exhausted(&self, error: E, how: Exhausted) -> E {
        self.rule.exhausted(error, how)
    }
}

impl<C, Q> fmt::Debug for Judges<C, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judges").finish_non_exhaustive()
    }
}
