use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::{BoxError, CarryRejection, Reason},
    observe::GiveUp,
    outcome::{Classify, OnError, Outcome},
};

/// What a retry makes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// This is the answer, good or bad: another attempt would not change it.
    Final,
    /// Another attempt may do better.
    Failed {
        /// How long the service asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A policy turned the call away. The [settings](super::Config::retry_on) say which of these are tried again.
    Rejected {
        /// Why.
        reason: Reason,
        /// When to come back, where the policy knows.
        retry_after: Option<Duration>,
    },
}

/// Decides which results are worth another attempt.
///
/// [`Classified`] makes a rule of every [`Classify`]r, which is what most callers want. For an error without `Display`,
/// or one that cannot carry a rejection, implement the rule itself.
pub trait Rule<T, E> {
    /// What this result means.
    fn judge(&self, result: Result<&T, &E>) -> Judgement;

    /// The error as it stands in the log.
    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        let _ = error;
        None
    }

    /// What the caller gets when the retries are used up: by default the error of the last attempt, as it is.
    fn exhausted(&self, error: E, how: Exhausted) -> E {
        let _ = how;
        error
    }

    /// Whether every `Ok` is final without a question, as in [`Classify`].
    #[doc(hidden)]
    #[inline]
    fn takes_any_ok(&self) -> bool {
        false
    }
}

/// The rule that a [`Classify`]r makes, [`OnError`](crate::OnError) and closures through
/// [`classify_fn`](crate::classify_fn) among them.
///
/// A failure is tried again, a success and what is ignored are not. A rejection by a policy further in is not shown to
/// the classifier: the [settings](super::Config::retry_on) decide. The error has to be `Display` for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classified<C = OnError>(pub C);

impl<T, E: CarryRejection + fmt::Display, C: Classify<T, E>> Rule<T, E> for Classified<C> {
    #[inline]
    fn judge(&self, result: Result<&T, &E>) -> Judgement {
        if let Some(rejection) = result.err().and_then(E::rejection) {
            return Judgement::Rejected { reason: rejection.reason(), retry_after: rejection.retry_after() };
        }
        match self.0.classify(result) {
            Outcome::Success | Outcome::Ignored => Judgement::Final,
            Outcome::Failure => Judgement::Failed { retry_after: self.0.retry_after(result) },
        }
    }

    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        Some(error)
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        self.0.takes_any_ok()
    }
}

/// So that one value can decide for a retry and for a breaker.
impl<T, E, C: Classify<T, E>> Classify<T, E> for Classified<C> {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self.0.classify(result)
    }

    fn retry_after(&self, result: Result<&T, &E>) -> Option<Duration> {
        self.0.retry_after(result)
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        self.0.takes_any_ok()
    }
}

/// The rule for errors that cannot carry a rejection: every `Err` is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnyError;

impl<T, E: fmt::Display> Rule<T, E> for AnyError {
    fn judge(&self, result: Result<&T, &E>) -> Judgement {
        if result.is_ok() { Judgement::Final } else { Judgement::Failed { retry_after: None } }
    }

    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        Some(error)
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        true
    }
}

/// How the retries of a call came to their end.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// How many attempts were made.
    pub attempts: u32,
    /// Why there was not one more.
    pub why: GiveUp,
}

impl Exhausted {
    pub(super) const fn new(attempts: u32, why: GiveUp) -> Self {
        Self { attempts, why }
    }

    /// The last error with this said before it, for services whose error is boxed. The error is its
    /// [source](std::error::Error::source), so a rejection in it is still seen by layers further out.
    #[must_use]
    pub fn with_source(self, error: impl Into<BoxError>) -> ExhaustedError {
        ExhaustedError { how: self, source: error.into() }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.attempts;
        let plural = if attempts == 1 { "" } else { "s" };
        write!(f, "gave up after {attempts} attempt{plural}, ")?;
        f.write_str(match self.why {
            GiveUp::Attempts => "the most there are",
            GiveUp::Budget => "the retry budget is used up",
            GiveUp::Deadline => "the next would have come after the deadline",
            GiveUp::RetryAfter => "the service asks for a longer wait",
            GiveUp::Request => "the request cannot be sent again",
        })
    }
}

/// The last error of a call whose retries are used up. See [`RetryLayer::exhausted`](super::RetryLayer::exhausted).
#[derive(Debug, thiserror::Error)]
#[error("{how}: {source}")]
pub struct ExhaustedError {
    how: Exhausted,
    source: BoxError,
}

impl ExhaustedError {
    /// How it came to this.
    #[must_use]
    pub const fn how(&self) -> Exhausted {
        self.how
    }

    /// The last error.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

/// Another rule, with a say in what the caller gets when the retries are used up. Made by [`on_exhausted`].
pub struct OnExhausted<C, F> {
    pub(super) rule: Arc<C>,
    pub(super) hook: F,
}

/// Lets `hook` make something else of the last error when the retries of a call are used up. The type stays the same.
///
/// An error that is not worth another attempt does not come here.
///
/// ```
/// use mainstay::{Error, retry::{Classified, Config, Exhausted, Handle, on_exhausted}};
///
/// # tokio_test::block_on(async {
/// let retry = Handle::new("user-db", Config::new().attempts(1));
/// let rule = on_exhausted(<Classified>::default(), |error: Error<String>, how: Exhausted| match error {
///     Error::Inner(text) => Error::Inner(format!("{how}: {text}")),
///     rejected => rejected,
/// });
/// let error = retry.run_by(rule, async |_| Err::<(), _>(Error::Inner("down".to_owned()))).await.unwrap_err();
/// assert_eq!(error.to_string(), "gave up after 1 attempt, the most there are: down");
/// # });
/// ```
pub fn on_exhausted<C, E, F: Fn(E, Exhausted) -> E>(rule: C, hook: F) -> OnExhausted<C, F> {
    OnExhausted { rule: Arc::new(rule), hook }
}

impl<T, E, C: Rule<T, E>, F: Fn(E, Exhausted) -> E> Rule<T, E> for OnExhausted<C, F> {
    #[inline]
    fn judge(&self, result: Result<&T, &E>) -> Judgement {
        self.rule.judge(result)
    }

    fn describe<'a>(&self, error: &'a E) -> Option<&'a dyn fmt::Display> {
        self.rule.describe(error)
    }

    fn exhausted(&self, error: E, how: Exhausted) -> E {
        (self.hook)(error, how)
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        self.rule.takes_any_ok()
    }
}

impl<C, F> fmt::Debug for OnExhausted<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnExhausted").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_came_to_an_end_is_a_sentence() {
        for (attempts, why, told) in [
            (1, GiveUp::Request, "gave up after 1 attempt, the request cannot be sent again"),
            (3, GiveUp::Attempts, "gave up after 3 attempts, the most there are"),
            (2, GiveUp::Budget, "gave up after 2 attempts, the retry budget is used up"),
            (2, GiveUp::Deadline, "gave up after 2 attempts, the next would have come after the deadline"),
            (2, GiveUp::RetryAfter, "gave up after 2 attempts, the service asks for a longer wait"),
        ] {
            assert_eq!(Exhausted::new(attempts, why).to_string(), told);
        }
    }
}
