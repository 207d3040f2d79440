use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Sleep;

use crate::{
    admission::Entry,
    error::{Error, Reason, Rejection},
    name::Name,
    observe::{Event, Observer, Sink},
    rate_limit::{
        config::Config,
        gcra::{Cell, Decision, Quota},
    },
    settings::ConfigError,
    sync::{
        Counted, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::{Moment, Tick, nanos},
};

/// A rate limit: at most so many calls in a time, evenly.
///
/// Cheap to clone; all clones share the quota. Needs no runtime but to wait.
///
/// ```
/// use std::time::Duration;
/// use mainstay::rate_limit::{Config, Handle};
///
/// let limit = Handle::new("mail", Config::new(1, Duration::from_secs(60)));
/// assert!(limit.try_acquire().is_ok());
/// let rejection = limit.try_acquire().unwrap_err();
/// assert!(rejection.retry_after().is_some_and(|wait| wait > Duration::from_secs(59)));
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Counted<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    // Until when the calls let in are paid for: all the state there is, see `gcra`.
    paid_until: AtomicU64,
    interval: AtomicU64,
    tolerance: AtomicU64,
    // Nanoseconds; 0 when no call waits.
    max_wait: AtomicU64,
    rejected: AtomicU64,
    waited: AtomicU64,
    config: Mutex<Config>,
    sink: Sink,
    name: Name,
}

/// A rate limit at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the limit.
    pub policy: Name,
    /// What it is: `"rate_limit"`.
    pub kind: &'static str,
    /// How many calls would be let in at once.
    pub available: u64,
    /// Calls that were turned away.
    pub rejected: u64,
    /// Calls that had to wait for their turn.
    pub waited: u64,
}

/// The turn of a call that came too early.
#[derive(Debug)]
pub struct Turn {
    at: Tick,
    pub(super) cell: Cell,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Handle {
    /// A limit with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("rate limit {name:?}: {error}"),
        }
    }

    /// A limit with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings.
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Counted::new(Core::new(name, config)) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// Asks to make a call now. Never waits.
    ///
    /// # Errors
    ///
    /// [`Reason::RateLimited`] with the exact wait for the next call.
    pub fn try_acquire(&self) -> Result<(), Rejection> {
        self.try_acquire_many(1)
    }

    /// Asks to make so many calls at once, or one that costs as much.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire). More than the burst are never let in at once, and have no wait.
    pub fn try_acquire_many(&self, cost: u32) -> Result<(), Rejection> {
        self.core.take(cost, &mut Moment::new()).map(|_| ())
    }

    /// Asks to make a call, and waits for its turn if that comes within `max_wait`. Dropping the future gives the turn
    /// back.
    ///
    /// # Errors
    ///
    /// [`Reason::RateLimited`] at once when the turn would come too late.
    pub fn acquire(&self) -> AcquireTurn {
        AcquireTurn { core: Counted::clone(&self.core), turn: None, done: false }
    }

    /// Runs a future once it is its turn. It is not polled before.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when the turn would come too late, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.acquire().await?;
        pin!(future).await.map_err(Error::Inner)
    }

    /// Changes the settings under traffic. Turns that are given stay as they are.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings; they are then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.core.set(config);
        Ok(())
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        *self.core.config.lock()
    }

    /// Has an observer told of every call that is turned away.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let core = &self.core;
        Snapshot {
            policy: core.name.clone(),
            kind: "rate_limit",
            available: core.quota().available(core.paid_until.load(Relaxed), Tick::now().as_nanos()),
            rejected: core.rejected.load(Relaxed),
            waited: core.waited.load(Relaxed),
        }
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Counted::ptr_eq(&self.core, &other.core)
    }
}

impl Core {
    pub(super) fn new(name: Name, config: Config) -> Self {
        let core = Self {
            paid_until: AtomicU64::new(0),
            interval: AtomicU64::new(1),
            tolerance: AtomicU64::new(0),
            max_wait: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            config: Mutex::new(config),
            sink: Sink::default(),
            name,
        };
        core.set(config);
        core
    }

    fn set(&self, config: Config) {
        let mut current = self.config.lock();
        let (interval, tolerance) = config.quota().parts();
        self.interval.store(interval, Relaxed);
        self.tolerance.store(tolerance, Relaxed);
        self.max_wait.store(config.max_wait.map_or(0, nanos), Relaxed);
        *current = config;
    }

    /// Whether all calls let in so far are paid for, so that nothing is remembered.
    pub(super) fn is_full(&self, now: &mut Moment) -> bool {
        Quota::is_full(self.paid_until.load(Relaxed), now.tick().as_nanos())
    }

    /// Forgets what was let in.
    pub(super) fn refill(&self) {
        self.paid_until.store(0, Relaxed);
    }

    fn quota(&self) -> Quota {
        Quota::from_parts(self.interval.load(Relaxed), self.tolerance.load(Relaxed))
    }

    /// Takes the next turn if it comes within `most` nanoseconds; else how long that would be.
    fn reserve(&self, cost: u32, most: u64, now: &mut Moment) -> Result<Decision, u64> {
        let (quota, now) = (self.quota(), now.tick().as_nanos());
        let mut decision = Decision::default();
        let taken = self.paid_until.fetch_update(AcqRel, Acquire, |paid_until| {
            decision = quota.decide(paid_until, now, cost);
            (decision.wait <= most).then_some(decision.paid_until())
        });
        taken.map_or(Err(decision.wait), |_| Ok(decision))
    }

    pub(super) fn take(&self, cost: u32, now: &mut Moment) -> Result<Cell, Rejection> {
        match self.reserve(cost, 0, now) {
            Ok(decision) => Ok(decision.cell),
            Err(wait) => Err(self.refuse(cost, wait)),
        }
    }

    /// Takes a turn that is now.
    #[inline]
    pub(super) fn take_now(&self, now: &mut Moment) -> Option<Cell> {
        self.reserve(1, 0, now).ok().map(|decision| decision.cell)
    }

    /// Takes the next turn, if it does not come too late.
    pub(super) fn enter(&self, now: &mut Moment) -> Result<Entry<Cell, Turn>, Rejection> {
        match self.reserve(1, self.max_wait.load(Relaxed), now) {
            Ok(Decision { cell, wait: 0 }) => Ok(Entry::Admitted(cell)),
            Ok(Decision { cell, wait }) => {
                self.waited.fetch_add(1, Relaxed);
                Ok(Entry::Queued(Turn { at: now.tick() + Duration::from_nanos(wait), cell, alarm: None }))
            }
            Err(wait) => Err(self.refuse(1, wait)),
        }
    }

    /// A turn was not used: what of it is to come is for the next who asks.
    pub(super) fn give_back(&self, cell: Cell, now: &mut Moment) {
        let now = now.tick().as_nanos();
        let less = |paid_until| Some(Quota::refund(paid_until, cell, now));
        let _ = self.paid_until.fetch_update(AcqRel, Acquire, less);
    }

    #[cold]
    fn refuse(&self, cost: u32, wait: u64) -> Rejection {
        self.rejected.fetch_add(1, Relaxed);
        let (interval, tolerance) = self.quota().parts();
        let never = u64::from(cost.max(1) - 1).saturating_mul(interval) > tolerance;
        let rejection = Rejection::new(Reason::RateLimited, self.name.clone());
        let rejection = if never { rejection } else { rejection.with_retry_nanos(wait) };
        self.sink.tell(&self.name, || Event::Rejected(&rejection));
        rejection
    }
}

impl Turn {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        if self.alarm.is_none() {
            self.alarm = at.to_instant().map(|at| Box::pin(tokio::time::sleep_until(at)));
        }
        self.alarm.as_mut().map_or(Poll::Pending, |alarm| alarm.as_mut().poll(cx))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", self.name()).finish_non_exhaustive()
    }
}

/// Waits for the turn of a call: the answer of [`Handle::acquire`].
#[must_use = "futures do nothing unless polled"]
pub struct AcquireTurn {
    core: Counted<Core>,
    turn: Option<Turn>,
    done: bool,
}

impl Future for AcquireTurn {
    type Output = Result<(), Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.turn.is_none() {
            if this.done {
                return Poll::Ready(Ok(()));
            }
            this.turn = match this.core.enter(&mut Moment::new()) {
                Ok(Entry::Admitted(_)) => None,
                Ok(Entry::Queued(turn)) => Some(turn),
                Err(rejection) => return Poll::Ready(Err(rejection)),
            };
        }
        if let Some(turn) = &mut this.turn {
            ready!(turn.poll(cx));
        }
        this.turn = None;
        this.done = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for AcquireTurn {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.core.give_back(turn.cell, &mut Moment::new());
        }
    }
}

impl fmt::Debug for AcquireTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireTurn").field("waits", &self.turn.is_some()).finish_non_exhaustive()
    }
}
