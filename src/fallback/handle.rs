use std::{fmt, future::Future, pin::pin, sync::Arc};

use crate::{
    fallback::{core::Core, cover::AnyError, falling::Falling, meter::Snapshot, strategy::Strategy},
    name::Name,
    observe::Observer,
    outcome::Classify,
    settings::ConfigError,
};

/// A fallback's name, its counters and its observers, and the door for callers without Tower.
///
/// Cheap to clone; all clones are one. What is answered is the [strategy's](Strategy) work, which is given to the
/// [layer](super::FallbackLayer) or to [`run`](Self::run).
///
/// ```
/// use mainstay::fallback::{Fallback, Handle};
///
/// # tokio_test::block_on(async {
/// let fallback = Handle::new("user-db");
/// let guest = Fallback::value("guest");
/// let user = fallback.run(&guest, async { Err("down") }).await;
/// assert_eq!(user, Ok("guest"));
/// assert_eq!(fallback.snapshot().used, 1);
/// # });
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Handle {
    /// A fallback with a name that is written in code.
    ///
    /// # Panics
    ///
    /// When the name is impossible. For one from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str) -> Self {
        match Self::try_new(name) {
            Ok(handle) => handle,
            Err(error) => panic!("fallback {name:?}: {error}"),
        }
    }

    /// A fallback with a name from outside.
    ///
    /// # Errors
    ///
    /// When the name is none: see [`Name::new`].
    pub fn try_new(name: &str) -> Result<Self, ConfigError> {
        Ok(Self { core: Arc::new(Core::new(Name::new(name)?)) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// Has an observer told of every call that a fallback answers, and of every fallback that fails, from now on.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it has counted, for dashboards and health endpoints. Adds up the counts of all threads; never on the way of
    /// a call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core)
    }

    /// Bytes of memory this takes, without observers and what the strategy keeps: under 1 KiB before the first failure
    /// on a machine with up to 4 cores, and 128 bytes more for each thread on which a call fails.
    #[must_use]
    pub fn memory(&self) -> usize {
        2 * size_of::<usize>() + size_of::<Core>() + self.core.meter.heap_size()
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Runs a future, and answers with the fallback when it fails. The future is dropped before the fallback runs.
    ///
    /// Dropping the answer ends it; nothing is counted then.
    ///
    /// # Errors
    ///
    /// The future's own, when the fallback is not for it, has nothing to give, or fails too.
    pub async fn run<S, F, T, E>(&self, strategy: &S, future: F) -> Result<T, E>
    where
        S: Strategy<(), T, E>,
        F: Future<Output = Result<T, E>>,
        E: fmt::Display,
    {
        self.run_with(AnyError, strategy, future).await
    }

    /// Like [`run`](Self::run), with a classifier: what it calls a failure is answered by the fallback, and nothing
    /// else. It sees rejections too; [`Classified`](super::Classified) answers for those whatever the classifier says.
    ///
    /// ```
    /// # use mainstay::{Outcome, classify_fn, fallback::{Fallback, Handle}};
    /// # tokio_test::block_on(async {
    /// let fallback = Handle::new("stock");
    /// let found = classify_fn(|result: Result<&Vec<u32>, &String>| match result {
    ///     Ok(found) if found.is_empty() => Outcome::Failure,
    ///     Ok(_) => Outcome::Success,
    ///     Err(_) => Outcome::Ignored,
    /// });
    /// let answer = fallback.run_with(found, &Fallback::value(vec![7]), async { Ok(vec![]) }).await;
    /// assert_eq!(answer, Ok(vec![7]));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<C, S, F, T, E>(&self, classify: C, strategy: &S, future: F) -> Result<T, E>
    where
        C: Classify<T, E>,
        S: Strategy<(), T, E>,
        F: Future<Output = Result<T, E>>,
        E: fmt::Display,
    {
        let kept = self.core.keep(strategy, &mut ());
        let result = future.await;
        self.finish(&classify, strategy, kept, result).await
    }

    /// Like [`run`](Self::run), for an operation on a request, which a fallback may have to know: the key of a cached
    /// answer, or what to send to another service.
    ///
    /// With Tower's `oneshot` as the operation, an error of `poll_ready` is covered too:
    ///
    /// ```
    /// # use mainstay::{fallback::{CacheConfig, Fallback, Handle}};
    /// # use tower::{ServiceExt, service_fn};
    /// # tokio_test::block_on(async {
    /// # let client = service_fn(async |id: u32| if id == 1 { Ok("Ada") } else { Err("down") });
    /// let fallback = Handle::new("user-db");
    /// let last_good = Fallback::cached(CacheConfig::new(), |id: &u32| Some(*id));
    /// let user = fallback.run_for(&last_good, 1, |id| client.oneshot(id)).await?;
    /// # Ok::<(), &str>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_for<S, Req, F, T, E>(
        &self,
        strategy: &S,
        mut request: Req,
        operation: impl FnOnce(Req) -> F,
    ) -> Result<T, E>
    where
        S: Strategy<Req, T, E>,
        F: Future<Output = Result<T, E>>,
        E: fmt::Display,
    {
        let kept = self.core.keep(strategy, &mut request);
        let result = operation(request).await;
        self.finish(&AnyError, strategy, kept, result).await
    }

    async fn finish<C, S, Req, T, E>(
        &self,
        classify: &C,
        strategy: &S,
        mut kept: Option<S::Kept>,
        result: Result<T, E>,
    ) -> Result<T, E>
    where
        C: Classify<T, E>,
        S: Strategy<Req, T, E>,
        E: fmt::Display,
    {
        let core = &*self.core;
        let future = core.step(strategy, classify, &mut kept, result.as_ref());
        let (Some(future), Some(kept)) = (future, kept) else { return result };
        let mut falling = pin!(Falling::new(future, kept, result));
        std::future::poll_fn(|cx| falling.as_mut().poll(core, strategy, cx)).await
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", self.name()).finish_non_exhaustive()
    }
}
