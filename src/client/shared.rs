use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::{
    outcome::{Classify, Outcome},
    retry::{Exhausted, Judgement, Rule},
};

/// One classifier and rule, for the policies of a service and for its balancer.
#[derive(Debug)]
pub(super) struct Shared<C>(pub(super) Arc<C>);

impl<C> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, E, C: Classify<T, E>> Classify<T, E> for Shared<C> {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self.0.classify(result)
    }

    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        self.0.retry_after(result)
    }
}

impl<T, E, C: Rule<T, E>> Rule<T, E> for Shared<C> {
    fn judge(&self, result: Result<&T, &E>) -> Judgement {
        self.0.judge(result)
    }

    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        self.0.describe(error)
    }

    fn exhausted(&self, error: E, how: Exhausted) -> E {
        self.0.exhausted(error, how)
    }
}

/// Names the kind of a failed result.
pub(super) type KindOf<T, E> = dyn Fn(Result<&T, &E>) -> Option<Cow<'static, str>> + Send + Sync;
