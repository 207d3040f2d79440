use std::{fmt, future::Future};

use crate::{
    error::CarryRejection,
    outcome::{Classify, OnError},
    retry::{
        core::Step,
        handle::Handle,
        plan::Course,
        rule::{AnyError, Classified, Rule},
    },
    time::Tick,
};

impl Handle {
    /// Runs an operation, and again when it fails. The error of the last attempt is returned as it is.
    ///
    /// Rejections by policies further in are not tried again, except those that the
    /// [settings](super::Config::retry_on) name. For an error that cannot carry one, use [`run_any`](Self::run_any).
    ///
    /// Dropping the answer ends it: nothing runs on, and a retry that had not begun goes back into the budget. It needs
    /// a tokio runtime with timers when there is a wait, and panics without.
    ///
    /// ```
    /// # use mainstay::{Error, breaker, retry::{Config, Handle}};
    /// # tokio_test::block_on(async {
    /// let breaker = breaker::Handle::new("user-db", breaker::Config::new());
    /// let retry = Handle::new("user-db", Config::new());
    /// let user = retry.run(|| breaker.run(async { Ok::<_, std::io::Error>("Ada") })).await?;
    /// # Ok::<(), Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The operation's own, from its last attempt.
    pub fn run<F, T, E>(&self, mut operation: impl FnMut() -> F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection + fmt::Display,
    {
        self.run_by(Classified(OnError), move |_| operation())
    }

    /// Like [`run`](Self::run), for errors of any type: every `Err` is tried again.
    ///
    /// ```
    /// # use mainstay::retry::{Config, Handle};
    /// # tokio_test::block_on(async {
    /// let retry = Handle::new("settings", Config::new().attempts(2));
    /// let number = retry.run_any(async || "42".parse::<u32>()).await?;
    /// # Ok::<(), std::num::ParseIntError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The operation's own, from its last attempt.
    pub fn run_any<F, T, E>(&self, mut operation: impl FnMut() -> F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: fmt::Display,
    {
        self.run_by(AnyError, move |_| operation())
    }

    /// Like [`run`](Self::run), with a classifier, for an operation that is told which attempt it is: 1 is the first.
    ///
    /// ```
    /// # use mainstay::{BoxError, Outcome, classify_fn, retry::{Config, Handle}};
    /// # tokio_test::block_on(async {
    /// let retry = Handle::new("jobs", Config::new());
    /// let not_yet = classify_fn(|result: Result<&u32, &BoxError>| match result {
    ///     Ok(0) => Outcome::Failure,
    ///     Ok(_) => Outcome::Success,
    ///     Err(_) => Outcome::Ignored,
    /// });
    /// let ready = retry.run_with(not_yet, async |attempt| Ok::<u32, BoxError>(attempt - 1)).await?;
    /// assert_eq!(ready, 1);
    /// # Ok::<(), BoxError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The operation's own, from its last attempt.
    pub fn run_with<C, F, T, E>(
        &self,
        classify: C,
        operation: impl FnMut(u32) -> F,
    ) -> impl Future<Output = Result<T, E>>
    where
        C: Classify<T, E>,
        F: Future<Output = Result<T, E>>,
        E: CarryRejection + fmt::Display,
    {
        self.run_by(Classified(classify), operation)
    }

    /// Like [`run_with`](Self::run_with), with a rule.
    ///
    /// # Errors
    ///
    /// The operation's own, from its last attempt, or what the rule makes of it.
    pub async fn run_by<C, F, T, E>(&self, rule: C, mut operation: impl FnMut(u32) -> F) -> Result<T, E>
    where
        C: Rule<T, E>,
        F: Future<Output = Result<T, E>>,
    {
        let core = &*self.core;
        let mut course = Course::new(core.begin(Tick::NEVER));
        loop {
            let result = operation(course.attempt).await;
            match core.step(&rule, &mut course, result.as_ref(), |_| Some(())) {
                Step::Final => return result,
                Step::GiveUp(how) => return result.map_err(|error| rule.exhausted(error, how)),
                Step::Again(next) => {
                    // Before the wait: a failed answer may hold a connection.
                    drop(result);
                    if !next.wait.is_zero() {
                        // In a box, so that an operation that does not wait does not move a timer about.
                        Box::pin(tokio::time::sleep(next.wait)).await;
                    }
                    core.attempt(next);
                }
            }
        }
    }
}
