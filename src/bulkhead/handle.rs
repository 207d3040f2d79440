use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use serde::Serialize;

use crate::{
    bulkhead::{
        config::Config,
        core::{Core, Wait},
    },
    error::{Error, Rejection},
    name::Name,
    observe::Observer,
    priority::Priority,
    settings::ConfigError,
    sync::atomic::Ordering::Relaxed,
};

/// A bulkhead: at most so many calls at a time.
///
/// Cheap to clone; all clones share the places. Each has a [priority](Self::with_priority).
///
/// ```
/// use mainstay::bulkhead::{Config, Handle};
///
/// let bulkhead = Handle::new("payments", Config::new(1));
/// let permit = bulkhead.try_acquire()?;
/// assert_eq!(bulkhead.try_acquire().unwrap_err().to_string(), "bulkhead \"payments\" is full");
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok::<(), mainstay::Rejection>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
    pub(super) priority: Priority,
}

/// A bulkhead at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the bulkhead.
    pub policy: Name,
    /// What it is: `"bulkhead"`.
    pub kind: &'static str,
    /// How many calls may run.
    pub limit: u32,
    /// How many run.
    pub running: u32,
    /// How many wait.
    pub waiting: u32,
    /// Calls that were turned away, those that waited too long among them.
    pub rejected: u64,
    /// Calls that had to wait.
    pub queued: u64,
    /// Calls that waited too long.
    pub waited_too_long: u64,
    /// Calls that were given up while they waited.
    pub left: u64,
}

impl Handle {
    /// A bulkhead with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "settings are made for one handle, as everywhere")]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("bulkhead {name:?}: {error}"),
        }
    }

    /// A bulkhead with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings.
    #[allow(clippy::needless_pass_by_value, reason = "settings are made for one handle, as everywhere")]
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Arc::new(Core::new(name, &config)), priority: Priority::default() })
    }

    /// The same bulkhead for calls of another priority.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { core: Arc::clone(&self.core), priority }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// How many calls run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.core.running()
    }

    /// Takes a place if there is one. Never waits, needs no runtime.
    ///
    /// # Errors
    ///
    /// [`Reason::BulkheadFull`](crate::Reason) when there is none, or somebody waits for it already.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        self.core.take(self.priority).map(|()| Permit { core: Arc::clone(&self.core) })
    }

    /// Takes a place, and waits in the queue for one if it must. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`Reason::BulkheadFull`](crate::Reason) when the queue is full too, or the wait took too long.
    pub fn acquire(&self) -> Acquire {
        Acquire { core: Arc::clone(&self.core), priority: self.priority, wait: None }
    }

    /// Calls a function in a place of its own, for work that is not asynchronous. It is not called when there is none.
    ///
    /// ```
    /// # use mainstay::bulkhead::{Config, Handle};
    /// let bulkhead = Handle::new("thumbnails", Config::new(4));
    /// let size = bulkhead.call(|| "640".parse::<u32>())?;
    /// assert_eq!((size, bulkhead.running()), (640, 0));
    /// # Ok::<(), mainstay::Error<std::num::ParseIntError>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when there is no place, [`Error::Inner`] with the function's own error.
    #[inline]
    pub fn call<T, E>(&self, function: impl FnOnce() -> Result<T, E>) -> Result<T, Error<E>> {
        struct Place<'a>(&'a Core);

        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.give_back();
            }
        }

        self.core.take(self.priority)?;
        let _place = Place(&self.core);
        function().map_err(Error::Inner)
    }

    /// Runs a future in a place of its own, and waits for one if it must. It is not polled before.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when it got no place, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let _permit = self.acquire().await?;
        pin!(future).await.map_err(Error::Inner)
    }

    /// Changes the settings under traffic. Calls that run go on, even when the new limit is below their number; places
    /// that are added go to those that wait.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings; they are then as they were.
    #[allow(clippy::needless_pass_by_value, reason = "settings are made for one handle, as everywhere")]
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.core.set(&config);
        Ok(())
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.config()
    }

    /// Has an observer told of every call that is turned away.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counts = &self.core.counts;
        Snapshot {
            policy: self.core.name.clone(),
            kind: "bulkhead",
            limit: self.core.config().limit,
            running: self.core.running(),
            waiting: self.core.waiting(),
            rejected: counts.rejected.load(Relaxed),
            queued: counts.queued.load(Relaxed),
            waited_too_long: counts.waited_too_long.load(Relaxed),
            left: counts.left.load(Relaxed),
        }
    }

    /// Whether `other` is a clone of this handle, of whatever priority.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", self.name())
            .field("running", &self.running())
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// A place in a bulkhead, given back when dropped.
#[must_use = "a permit that is dropped gives its place back"]
pub struct Permit {
    core: Arc<Core>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.give_back();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("bulkhead", &self.core.name).finish_non_exhaustive()
    }
}

/// Waits for a place: the answer of [`Handle::acquire`].
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    core: Arc<Core>,
    priority: Priority,
    wait: Option<Wait>,
}

impl Future for Acquire {
    type Output = Result<Permit, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let permit = |core: &Arc<Core>| Permit { core: Arc::clone(core) };
        if this.wait.is_none() {
            match this.core.enter(this.priority) {
                Ok(None) => return Poll::Ready(Ok(permit(&this.core))),
                Ok(Some(wait)) => this.wait = Some(wait),
                Err(rejection) => return Poll::Ready(Err(rejection)),
            }
        }
        let Some(wait) = &mut this.wait else { return Poll::Pending };
        let Poll::Ready(waited) = this.core.poll_wait(wait, cx) else { return Poll::Pending };
        this.wait = None;
        Poll::Ready(waited.map(|()| permit(&this.core)))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.core.abandon(&wait);
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("waits", &self.wait.is_some()).finish_non_exhaustive()
    }
}
