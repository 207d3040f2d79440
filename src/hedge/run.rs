use std::{future::Future, pin::pin};

use crate::{
    error::CarryRejection,
    hedge::{
        core::{Core, Ticket},
        handle::Handle,
        hedged::{Copies, Hedged},
        rule::{Judgement, judge, judge_any},
    },
    outcome::{Classify, OnError},
    time::Tick,
};

impl Handle {
    /// Runs an operation, and once more when the first takes too long or fails; the first good answer wins, and what
    /// else runs is dropped. The operation is told which copy it is: 1 is the first. It must be one that may be carried
    /// out twice.
    ///
    /// For an error that cannot carry a rejection, use [`run_any`](Self::run_any).
    ///
    /// Dropping the answer ends all copies. It needs a tokio runtime with timers when it has to wait, and panics
    /// without.
    ///
    /// # Errors
    ///
    /// The operation's own, from the copy that failed last.
    pub fn run<F, T, E>(&self, operation: impl FnMut(u32) -> F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        self.run_with(OnError, operation)
    }

    /// Like [`run`](Self::run), for errors of any type: every `Err` is a failure.
    ///
    /// ```
    /// # use mainstay::hedge::{Config, Handle};
    /// # tokio_test::block_on(async {
    /// let hedge = Handle::new("settings", Config::new());
    /// let number = hedge.run_any(async |_| "42".parse::<u32>()).await?;
    /// # Ok::<(), std::num::ParseIntError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_any<F, T, E>(&self, operation: impl FnMut(u32) -> F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_by(judge_any, operation)
    }

    /// Like [`run`](Self::run), with a classifier: what it calls a failure is worth another copy, and everything else
    /// ends the call at once, bad or good.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with<C, F, T, E>(
        &self,
        classify: C,
        operation: impl FnMut(u32) -> F,
    ) -> impl Future<Output = Result<T, E>>
    where
        C: Classify<T, E>,
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        self.run_by(move |result: Result<&T, &E>| judge(&classify, result), operation)
    }

    async fn run_by<F, T, E>(
        &self,
        judge: impl Fn(Result<&T, &E>) -> Judgement,
        mut operation: impl FnMut(u32) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let core = &*self.core;
        let wanted = core.begin(true);
        let mut hedged = pin!(Hedged::new(operation(1), wanted, Tick::NEVER));
        let mut copies = Operations { operation, core };
        std::future::poll_fn(|cx| hedged.as_mut().poll(core, &judge, &mut copies, cx)).await
    }
}

/// Copies of a closure that runs.
struct Operations<'a, O> {
    operation: O,
    core: &'a Core,
}

impl<F: Future, O: FnMut(u32) -> F> Copies for Operations<'_, O> {
    type Request = ();
    type Copy = F;

    fn request(&mut self, _: u32) -> Option<()> {
        Some(())
    }

    fn begin(&mut self, (): (), ticket: Ticket) -> F {
        let copy = (self.operation)(ticket.attempt);
        self.core.sent(ticket);
        copy
    }
}
