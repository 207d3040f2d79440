use std::{fmt, future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use serde::Serialize;

use crate::{
    error::{CarryRejection, Error, Reason, Rejection},
    name::Name,
    observe::{Event, Observer, Sink},
    settings::{Checks, ConfigError, Span},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::nanos,
    timeout::timer::Timer,
};

/// A limit with a name, which counts what it cuts off and can be changed while in use.
///
/// Cheap to clone; all clones are one.
///
/// ```
/// use std::time::Duration;
/// use mainstay::timeout::Handle;
///
/// # tokio_test::block_on(async {
/// let limit = Handle::new("user-db", Duration::from_millis(250));
/// let user = limit.run(async { Ok::<_, std::io::Error>("Ada") }).await?;
/// assert_eq!(limit.snapshot().timed_out, 0);
/// # Ok::<(), mainstay::Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(crate) struct Core {
    name: Name,
    limit: AtomicU64,
    timed_out: AtomicU64,
    deadline_passed: AtomicU64,
    sink: Sink,
}

/// A limit at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the limit.
    pub policy: Name,
    /// What it is: `"timeout"`.
    pub kind: &'static str,
    /// The limit, in milliseconds.
    pub limit_ms: u64,
    /// Calls that were cut off.
    pub timed_out: u64,
    /// Calls that were not made, because their deadline had passed.
    pub deadline_passed: u64,
}

impl Handle {
    /// A limit that is written in code, from 1 ms to a year.
    ///
    /// # Panics
    ///
    /// When the name or the limit is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, limit: Duration) -> Self {
        match Self::try_new(name, limit) {
            Ok(handle) => handle,
            Err(error) => panic!("timeout {name:?}: {error}"),
        }
    }

    /// A limit from outside.
    ///
    /// # Errors
    ///
    /// When the name is none, or the limit is not from 1 ms to a year.
    pub fn try_new(name: &str, limit: Duration) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, check(limit))?;
        Ok(Self { core: Arc::new(Core::new(name, limit)) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.core.limit()
    }

    /// Changes the limit for calls that do not wait yet.
    ///
    /// # Errors
    ///
    /// When it is not from 1 ms to a year.
    pub fn set_limit(&self, limit: Duration) -> Result<(), ConfigError> {
        check(limit)?;
        self.core.limit.store(nanos(limit), Relaxed);
        Ok(())
    }

    /// Has an observer told of every call that is cut off.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it has cut off.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            policy: self.core.name.clone(),
            kind: "timeout",
            limit_ms: u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX),
            timed_out: self.core.timed_out.load(Relaxed),
            deadline_passed: self.core.deadline_passed.load(Relaxed),
        }
    }

    /// Runs a future within the limit, which runs from its first wait on. A future that is ready in time wins, even
    /// when both come at once. One that is cut off is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] with [`Reason::TimedOut`] when it was cut off, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_carrying(async { future.await.map_err(Error::Inner) }).await
    }

    /// Like [`run`](Self::run), for a future whose own error can carry rejections: the error stays as it is.
    ///
    /// # Errors
    ///
    /// The future's own error, or the rejection in it.
    pub async fn run_carrying<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        let mut future = pin!(future);
        let mut timer = Timer::default();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            timer.poll(self.core.limit(), None, cx).map(|()| Err(E::from_rejection(self.core.cut_off())))
        })
        .await
    }
}

pub(super) fn check(limit: Duration) -> Result<(), ConfigError> {
    let mut checks = Checks::default();
    checks.duration("timeout", limit);
    checks.finish()
}

impl Core {
    fn new(name: Name, limit: Duration) -> Self {
        Self {
            name,
            limit: AtomicU64::new(nanos(limit)),
            timed_out: AtomicU64::new(0),
            deadline_passed: AtomicU64::new(0),
            sink: Sink::default(),
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Relaxed))
    }

    /// Counts and tells that a call was cut off.
    #[cold]
    pub(crate) fn cut_off(&self) -> Rejection {
        self.timed_out.fetch_add(1, Relaxed);
        self.tell(Reason::TimedOut)
    }

    /// Counts and tells that a call came too late.
    #[cold]
    pub(crate) fn too_late(&self) -> Rejection {
        self.deadline_passed.fetch_add(1, Relaxed);
        self.tell(Reason::DeadlinePassed)
    }

    fn tell(&self, reason: Reason) -> Rejection {
        let rejection = Rejection::new(reason, self.name.clone());
        self.sink.tell(&self.name, || Event::Rejected(&rejection));
        rejection
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = Span::from(self.limit());
        f.debug_struct("Handle").field("name", self.name()).field("limit", &format_args!("{limit}")).finish()
    }
}
