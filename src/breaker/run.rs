use std::future::Future;

use crate::{
    admission::{Admitted, Verdict, drive, guard_begin},
    breaker::Handle,
    error::{CarryRejection, Error, Rejection},
    outcome::{Classify, OnError},
    time::Moment,
};

impl Handle {
    /// Calls a function behind the breaker: for work that is not asynchronous. It is not called when the call is turned
    /// away. An `Err` counts as a failure, whatever it is, and so does a panic, which goes on.
    ///
    /// ```
    /// # use mainstay::breaker::{Config, Handle};
    /// let breaker = Handle::new("settings", Config::new());
    /// let answer = breaker.call(|| "42".parse::<u32>())?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), mainstay::Error<std::num::ParseIntError>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when the call was turned away, [`Error::Inner`] with the function's own error.
    #[inline]
    pub fn call<T, E>(&self, function: impl FnOnce() -> Result<T, E>) -> Result<T, Error<E>> {
        let ticket = match self.core.admit(&mut Moment::new()) {
            Ok(ticket) => ticket,
            Err(rejection) => return Err(Error::Rejected(rejection)),
        };
        let (result, ticket) = guard_begin(self, ticket, function);
        match result {
            Ok(value) => {
                self.core.settle(&ticket, Verdict::Success, &mut Moment::new());
                Ok(value)
            }
            Err(error) => {
                self.core.settle(&ticket, Verdict::Failure { retry_after: None }, &mut Moment::new());
                Err(Error::Inner(error))
            }
        }
    }

    /// Runs a future behind the breaker. It is not polled when the call is turned away, and the permit is taken when
    /// the answer is first awaited. An `Err` counts as a failure, whatever it is: for one that may be another policy's
    /// rejection, use [`run_carrying`](Self::run_carrying).
    ///
    /// Dropping the answer counts as nothing, or as a failure after
    /// [`count_cancelled_after`](super::Config::count_cancelled_after).
    ///
    /// ```
    /// # use mainstay::breaker::{Config, Handle};
    /// # tokio_test::block_on(async {
    /// let breaker = Handle::new("user-db", Config::new());
    /// let user = breaker.run(async { Ok::<_, std::io::Error>("Ada") }).await?;
    /// # Ok::<(), mainstay::Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when the call was turned away, [`Error::Inner`] with the future's own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_with(OnError, future).await
    }

    /// Like [`run`](Self::run), for a future whose own error can carry rejections, such as another breaker's `run`: the
    /// error stays as it is, and rejections by policies further in are ignored instead of counted.
    ///
    /// ```
    /// # use mainstay::{Error, breaker::{Config, Handle}};
    /// # tokio_test::block_on(async {
    /// let (region, host) = (Handle::new("eu", Config::new()), Handle::new("eu-1", Config::new()));
    /// host.force_open();
    /// let answer: Result<(), Error<std::io::Error>> = region.run_carrying(host.run(async { Ok(()) })).await;
    /// assert!(answer.unwrap_err().is_rejection());
    /// assert_eq!(region.snapshot().totals.calls.failures(), 0);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// The future's own error, or the rejection in it.
    pub async fn run_carrying<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        let admitted = Admitted::admit(self, &mut Moment::new()).map_err(E::from_rejection)?;
        drive(admitted, &OnError, future).await
    }

    /// Like [`run`](Self::run), with a classifier. It sees the future's own error as [`Error::Inner`].
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<C, F, T, E>(&self, classify: C, future: F) -> Result<T, Error<E>>
    where
        C: Classify<T, Error<E>>,
        F: Future<Output = Result<T, E>>,
    {
        let admitted = Admitted::admit(self, &mut Moment::new())?;
        drive(admitted, &classify, async { future.await.map_err(Error::Inner) }).await
    }

    /// Like [`run`](Self::run), with a fallback for calls that were turned away. The service's own errors are passed
    /// on.
    ///
    /// # Errors
    ///
    /// The future's own error, or the fallback's.
    pub async fn run_or_else<F, T, E, G>(&self, future: F, fallback: impl FnOnce(Rejection) -> G) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        G: Future<Output = Result<T, E>>,
    {
        match self.run(future).await {
            Ok(value) => Ok(value),
            Err(Error::Inner(error)) => Err(error),
            Err(Error::Rejected(rejection)) => fallback(rejection).await,
        }
    }
}
