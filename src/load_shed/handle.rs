use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use serde::Serialize;

use crate::{
    admission::{Admitted, Entry, Verdict, drive},
    error::{CarryRejection, Error, Rejection},
    load_shed::{
        config::Config,
        core::{Cause, Core},
        gate::{Held, Wait},
    },
    name::Name,
    observe::Observer,
    outcome::{Classify, OnError, Outcome},
    priority::Priority,
    settings::ConfigError,
    sync::atomic::Ordering::Relaxed,
    time::Moment,
};

/// A shedder: turns calls away early when there are too many.
///
/// Cheap to clone; all clones are one. Each has a [priority](Self::with_priority).
///
/// ```
/// use mainstay::{Priority, load_shed::{Config, Handle}};
///
/// let shedder = Handle::new("api", Config::new().in_flight(10).shares(0.9, 0.5));
/// let batch = shedder.with_priority(Priority::Low);
/// let permits: Vec<_> = (0..5).map(|_| batch.try_acquire().expect("half of the places")).collect();
/// assert_eq!(batch.try_acquire().unwrap_err().to_string(), "\"api\" is overloaded");
/// assert!(shedder.try_acquire().is_ok());
/// # drop(permits);
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
    pub(super) priority: Priority,
}

/// A shedder at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The name of the shedder.
    pub policy: Name,
    /// What it is: `"load_shed"`.
    pub kind: &'static str,
    /// How many calls may run, where there is a limit.
    pub limit: Option<u32>,
    /// How many run, of those that a limit was there for when they began.
    pub in_flight: u32,
    /// How many wait in the queue.
    pub waiting: u32,
    /// Whether the queue stands, for calls of low priority at least: the newest are served first, and none waits for
    /// long.
    pub standing: bool,
    /// The share of calls of normal priority that the throttle turns away.
    pub throttled: f64,
    /// Requests in the throttle's window, those among them that were turned away here.
    pub requests: u64,
    /// Those of them that the service accepted.
    pub accepts: u64,
    /// Calls that were shed, by cause.
    pub shed: Shed,
    /// Calls that had to wait.
    pub queued: u64,
    /// Calls that were given up while they waited.
    pub left: u64,
}

/// Calls that were shed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shed {
    /// As many ran as may, and no more could wait.
    pub in_flight: u64,
    /// They had waited too long.
    pub queue_delay: u64,
    /// The service accepts few calls.
    pub throttle: u64,
    /// The service was not ready.
    pub not_ready: u64,
}

impl Shed {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.in_flight + self.queue_delay + self.throttle + self.not_ready
    }
}

impl Handle {
    /// A shedder with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("shedder {name:?}: {error}"),
        }
    }

    /// A shedder with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings.
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Arc::new(Core::new(name, config)), priority: Priority::default() })
    }

    /// The same shedder for calls of another priority.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { core: Arc::clone(&self.core), priority }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// Lets a call in if none of the triggers fires. Never waits, needs no runtime.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`](crate::Reason) when one does.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        let held = self.core.admit(self.priority, &mut Moment::new())?;
        Ok(Permit { core: Arc::clone(&self.core), held: Some(held) })
    }

    /// Lets a call in, and has it wait in the queue if it must. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`](crate::Reason) when a trigger fires, the queue is full, or the wait takes too long.
    pub fn acquire(&self) -> Acquire {
        Acquire { core: Arc::clone(&self.core), priority: self.priority, wait: None }
    }

    /// Runs a future once it is let in, and waits in the queue for that if it must. It is not polled before. An `Err`
    /// is a failure, whatever it is: for one that may be another policy's rejection, use
    /// [`run_carrying`](Self::run_carrying).
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when it was shed, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_with(OnError, future).await
    }

    /// Like [`run`](Self::run), for a future whose own error can carry rejections: the error stays as it is, and
    /// rejections by policies further in are requests neither accepted nor refused.
    ///
    /// # Errors
    ///
    /// The future's own error, or the rejection in it.
    pub async fn run_carrying<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        let permit = self.acquire().await.map_err(E::from_rejection)?;
        drive(Admitted::with(self, permit.into_held()), &OnError, future).await
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
        let permit = self.acquire().await?;
        let future = async { future.await.map_err(Error::Inner) };
        drive(Admitted::with(self, permit.into_held()), &classify, future).await
    }

    /// Changes the settings under traffic. Calls that run go on, even when the new limit is below their number; places
    /// that are added go to those that wait. Calls that began while there was no limit are not counted under a new one.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, and another window of the throttle than it has: what it knows could not be
    /// kept. The settings are then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.core.set(config)
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.config()
    }

    /// Has an observer told of every call that is shed.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (core, mut now) = (&*self.core, Moment::new());
        let (requests, accepts) = core.throttle.requests(&mut now);
        Snapshot {
            policy: core.name.clone(),
            kind: "load_shed",
            limit: core.config().in_flight,
            in_flight: core.gate.running(),
            waiting: core.gate.waiting(),
            standing: core.gate.stands(),
            throttled: core.throttle.share(Priority::Normal, &mut now),
            requests,
            accepts,
            shed: Shed {
                in_flight: core.shed_for(Cause::InFlight),
                queue_delay: core.shed_for(Cause::QueueDelay),
                throttle: core.shed_for(Cause::Throttle),
                not_ready: core.shed_for(Cause::NotReady),
            },
            queued: core.queued.load(Relaxed),
            left: core.left.load(Relaxed),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", self.name())
            .field("in_flight", &self.core.gate.running())
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// The leave to make one call, for callers without Tower.
///
/// Tell it how the call ended, if there is a throttle. Dropping it gives the place back and says that the call was
/// cancelled.
#[must_use = "a permit that is dropped gives its place back"]
pub struct Permit {
    core: Arc<Core>,
    held: Option<Held>,
}

impl Permit {
    /// The call ended like this: the service accepted the request when it is a success, and did not when it is a
    /// failure.
    pub fn record(self, outcome: Outcome) {
        self.settle(match outcome {
            Outcome::Success => Verdict::Success,
            Outcome::Failure => Verdict::Failure { retry_after: None },
            Outcome::Ignored => Verdict::Ignored,
        });
    }

    /// The service accepted the request.
    pub fn success(self) {
        self.record(Outcome::Success);
    }

    /// The service did not accept the request.
    pub fn failure(self) {
        self.record(Outcome::Failure);
    }

    fn settle(mut self, verdict: Verdict) {
        if let Some(held) = self.held.take() {
            self.core.settle(held, verdict, &mut Moment::new());
        }
    }

    /// The place alone, for somebody else to settle.
    fn into_held(mut self) -> Held {
        self.held.take().expect("a permit holds its place until it is settled")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // The panic of the code between `acquire` and here: without Tower this is the one place that can see it.
            let verdict =
                if std::thread::panicking() { Verdict::Failure { retry_after: None } } else { Verdict::Cancelled };
            self.core.settle(held, verdict, &mut Moment::new());
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("shedder", &self.core.name).finish_non_exhaustive()
    }
}

/// Waits to be let in: the answer of [`Handle::acquire`].
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
        let permit = |core: &Arc<Core>, held| Permit { core: Arc::clone(core), held: Some(held) };
        if this.wait.is_none() {
            match this.core.enter(this.priority, &mut Moment::new()) {
                Ok(Entry::Admitted(held)) => return Poll::Ready(Ok(permit(&this.core, held))),
                Ok(Entry::Queued(wait)) => this.wait = Some(wait),
                Err(rejection) => return Poll::Ready(Err(rejection)),
            }
        }
        let Some(wait) = &mut this.wait else { return Poll::Pending };
        let Poll::Ready(waited) = this.core.poll_wait(wait, cx) else { return Poll::Pending };
        this.wait = None;
        Poll::Ready(waited.map(|held| permit(&this.core, held)))
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
