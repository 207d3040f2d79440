//! One shedder: its triggers, asked in the order of what they cost.

use std::task::{Context, Poll, Waker, ready};

use crate::{
    admission::{Entry, Verdict},
    error::{Reason, Rejection},
    load_shed::{
        config::Config,
        gate::{Gate, Held, Wait},
        throttle::Throttling,
    },
    name::Name,
    observe::{Event, Sink},
    priority::Priority,
    settings::ConfigError,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Moment,
    waiters::wake,
};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) gate: Gate,
    pub(super) throttle: Throttling,
    shed: [AtomicU64; 4],
    pub(super) queued: AtomicU64,
    pub(super) left: AtomicU64,
    config: Mutex<Config>,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

/// Why a call was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    InFlight,
    QueueDelay,
    Throttle,
    NotReady,
}

impl Core {
    pub(super) fn new(name: Name, config: Config) -> Self {
        let core = Self {
            gate: Gate::default(),
            throttle: Throttling::default(),
            shed: Default::default(),
            queued: AtomicU64::new(0),
            left: AtomicU64::new(0),
            config: Mutex::new(config),
            sink: Sink::default(),
            name,
        };
        let _nobody_waits = core.apply(&config);
        core
    }

    #[must_use]
    fn apply(&self, config: &Config) -> Vec<Waker> {
        self.throttle.set(config.throttle.as_ref());
        self.gate.set(config)
    }

    pub(super) fn set(&self, config: Config) -> Result<(), ConfigError> {
        let wakers = {
            // Held throughout, so that two who change the settings do not leave half of each.
            let mut current = self.config.lock();
            self.throttle.check(config.throttle.as_ref())?;
            *current = config;
            self.apply(&config)
        };
        // After this lock too: whoever is woken may ask for the settings.
        wake(wakers);
        Ok(())
    }

    pub(super) fn config(&self) -> Config {
        *self.config.lock()
    }

    /// How many calls were shed for this.
    pub(super) fn shed_for(&self, cause: Cause) -> u64 {
        self.shed[cause as usize].load(Relaxed)
    }

    #[cold]
    pub(super) fn shed(&self, cause: Cause) -> Rejection {
        self.shed[cause as usize].fetch_add(1, Relaxed);
        let rejection = Rejection::new(Reason::Overloaded, self.name.clone());
        self.sink.tell(&self.name, || Event::Rejected(&rejection));
        rejection
    }

    /// Lets a call in, or sheds it.
    #[inline]
    pub(super) fn admit(&self, priority: Priority, now: &mut Moment) -> Result<Held, Rejection> {
        if self.throttle.sheds(priority, now) {
            return Err(self.shed(Cause::Throttle));
        }
        self.gate.take(priority).ok_or_else(|| self.shed(Cause::InFlight))
    }

    /// Lets a call in, or queues it, or sheds it.
    pub(super) fn enter(&self, priority: Priority, now: &mut Moment) -> Result<Entry<Held, Wait>, Rejection> {
        if self.throttle.sheds(priority, now) {
            return Err(self.shed(Cause::Throttle));
        }
        let entry = self.gate.enter(priority, now).ok_or_else(|| self.shed(Cause::InFlight))?;
        if matches!(entry, Entry::Queued(_)) {
            self.queued.fetch_add(1, Relaxed);
        }
        Ok(entry)
    }

    pub(super) fn poll_wait(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Held, Rejection>> {
        let held = ready!(self.gate.poll_wait(wait, cx));
        Poll::Ready(held.ok_or_else(|| self.shed(Cause::QueueDelay)))
    }

    pub(super) fn abandon(&self, wait: &Wait) {
        self.left.fetch_add(1, Relaxed);
        self.gate.abandon(wait);
    }

    /// Gives the place back, and learns whether the service accepted the request.
    #[inline]
    pub(super) fn settle(&self, held: Held, verdict: Verdict, now: &mut Moment) {
        self.gate.give_back(held);
        match verdict {
            // An answer that had begun was one to a request that was accepted.
            Verdict::Success | Verdict::BrokenOff { .. } => self.throttle.accepted(now),
            Verdict::Failure { .. } => self.throttle.refused(now),
            Verdict::Ignored | Verdict::Cancelled | Verdict::Unused => {}
        }
    }
}
