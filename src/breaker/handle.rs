use std::{
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
    time::Duration,
};

use crate::{
    admission::Readiness,
    breaker::{cold::Switch, config::Config, core::Core, permit::Permit, probing::Decision, saved::Saved},
    error::Rejection,
    name::Name,
    observe::{Cause, CircuitState, LastTransition, Observer, Snapshot},
    settings::ConfigError,
    sync::atomic::Ordering::Relaxed,
    time::{Moment, Tick},
    waiters::Waiters,
    window::Counts,
};

/// A circuit breaker: the switch, the eye and the door for callers without Tower.
///
/// Cheap to clone; all clones are one breaker. Give one to a
/// [`CircuitBreakerLayer`](super::CircuitBreakerLayer), keep another for the dashboard. It needs no runtime.
///
/// ```
/// use mainstay::breaker::{Config, Handle, State};
///
/// let breaker = Handle::new("payments", Config::basic());
/// assert_eq!(breaker.state(), State::Closed);
/// breaker.force_open();
/// let rejection = breaker.acquire().unwrap_err();
/// assert_eq!(rejection.to_string(), "circuit breaker \"payments\" is open");
/// breaker.reset();
/// breaker.acquire()?.success();
/// # Ok::<(), mainstay::Rejection>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
}

impl Handle {
    /// A breaker with a name and settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible, with all that is wrong as the message. For values from outside, use
    /// [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("circuit breaker {name:?}: {error}"),
        }
    }

    /// A breaker with a name and settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings: see [`Name::new`] and [`Config::check`].
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Core::new(name, config) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// The state it is in now. An open period that is over is over: the answer is then half-open, without any traffic.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.core.look_at_clock(&mut Moment::new()).state()
    }

    /// Asks to make a call.
    ///
    /// # Errors
    ///
    /// The rejection, while the circuit is open, or half-open with all probes taken.
    pub fn acquire(&self) -> Result<Permit, Rejection> {
        match self.core.admit(&mut Moment::new()) {
            Ok(ticket) => Ok(Permit::new(self.clone(), ticket)),
            Err(rejection) => Err(rejection),
        }
    }

    /// Has an observer told of transitions, rejections and late results from now on.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// Changes the settings under traffic. What the window knows is kept, and so is the state: an open period that has
    /// begun ends when it was going to. A half-open circuit whose probes have given enough results for the new settings
    /// is decided by them.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, and a different `window`: what it knows could not be kept. The settings are
    /// then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        let mut cold = self.core.cold.lock();
        config.keeps_window_of(&cold.config)?;
        self.core.limits.set(&config);
        self.core.honors_retry_after.store(config.honor_retry_after.is_some(), Relaxed);
        self.core.unready.store(config.readiness == Readiness::Unready, Relaxed);
        // The next call compares what the window holds with the new thresholds.
        self.core.review.set(Tick::default());
        let before = std::mem::replace(&mut cold.config, config);
        self.core.set_alarm_if_wanted(&mut cold);
        // The results of the probes may be enough by now, and then no further one would come.
        let decision = match self.core.word().state() {
            CircuitState::HalfOpen => cold.probing.decision(&cold.config.probe_rules()),
            _ => Decision::Undecided,
        };
        let notice = self.core.follow(decision, &mut cold, &mut Moment::new());
        // The old predicate is the user's code, and its end too: not under the lock.
        drop(cold);
        drop(before);
        self.core.waiters.wake_all();
        self.core.publish(notice);
        Ok(())
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.cold.lock().config.clone()
    }

    /// What it knows now, for dashboards and health endpoints. Adds up the counts of all threads; never on the way of a
    /// call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut now = Moment::new();
        let core = &*self.core;
        core.look_at_clock(&mut now);
        let cold = core.cold.lock();
        let word = core.word();
        let mut snapshot = Snapshot::new(core.name.clone(), "circuit_breaker", word.state());
        snapshot.generation = word.generation();
        snapshot.window = core.known(&cold, &mut now);
        // The results of probes are shown while they run, and after they have opened the circuit again.
        let probed =
            word.state() == CircuitState::HalfOpen || cold.last.is_some_and(|last| last.cause == Cause::ProbesFailed);
        let enough = |counts: &Counts| match probed {
            true => counts.calls() >= u64::from(cold.config.probes),
            false => counts.calls() >= core.limits.minimum_calls(),
        };
        if enough(&snapshot.window) {
            snapshot.failure_rate = snapshot.window.failure_rate();
            snapshot.slow_rate = snapshot.window.slow_rate();
        }
        let now = now.tick();
        snapshot.consecutive_failures = core.row.length();
        snapshot.totals = core.meter.totals();
        snapshot.latency = core.meter.latencies();
        snapshot.probes_running = cold.probing.running();
        if word.state() == CircuitState::Open {
            let until = Tick::from_nanos(core.reopen_at.load(Relaxed));
            snapshot.open_remaining = Some(until.since(now));
        }
        let open_now = cold.opened_at.map_or(Duration::ZERO, |since| now.since(since));
        snapshot.time_open = cold.time_open.saturating_add(open_now);
        snapshot.last_transition =
            cold.last.map(|last| LastTransition::new(last.from, last.to, last.cause, (now.since(last.at), last.wall)));
        snapshot
    }

    /// What a new process needs to go on where this one stops. A half-open circuit is saved as one whose open period is
    /// over.
    #[must_use]
    pub fn save(&self) -> Saved {
        let snapshot = self.snapshot();
        let failed_probings = self.core.cold.lock().failed_probings;
        Saved::of(&snapshot, failed_probings)
    }

    /// Goes on where another breaker was saved: state, open period, window and totals. The saved totals are added to
    /// what was counted here already. In a time window the saved calls count as made now; of more calls than a count
    /// window holds it takes each kind by its share.
    pub fn restore(&self, saved: &Saved) {
        let mut now = Moment::new();
        let core = &*self.core;
        let (to, open_for) = saved.target();
        let notice = {
            let mut cold = core.cold.lock();
            let switch = Switch { to, cause: Cause::Restored, counts: saved.window(), open_for };
            let notice = core.switch(&mut cold, switch, now.tick());
            cold.failed_probings = saved.failed_probings();
            if matches!(to, CircuitState::Closed | CircuitState::MetricsOnly) {
                core.window.restore(&mut now, notice.generation, saved.window());
                core.row.begin(notice.generation, saved.consecutive_failures());
                core.review.set(Tick::default());
            }
            notice
        };
        core.meter.restore(saved.totals());
        core.publish(Some(notice));
    }

    /// Bytes of memory this breaker takes, without its observers: under 1 KiB before the first call on a machine with
    /// up to 5 cores (32 bytes more for each further core), and about 2 KiB more for each thread that calls through it,
    /// up to two threads more than there are cores (with 10 buckets; 32 bytes a thread more for each further one). A
    /// count window takes a byte for each of its calls on top, 384 bytes at least.
    #[must_use]
    pub fn memory(&self) -> usize {
        // Two reference counts come before the core.
        let core = 2 * size_of::<usize>() + size_of::<Core>();
        core + Waiters::HEAP_SIZE + self.core.window.heap_size() + self.core.meter.heap_size()
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

// A panic in the caller's code leaves the breaker right: no user code runs under its lock, and whatever is half-done
// when a panic begins is settled while it goes on.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", self.name())
            .field("state", &self.core.word().state())
            .finish_non_exhaustive()
    }
}
