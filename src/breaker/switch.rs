//! How a breaker changes its state: always under its lock, always with a new generation, told after the lock.

use tokio::task::AbortHandle;

use crate::{
    breaker::{
        cold::{Cold, Last, Notice, Switch},
        core::{Core, first_review},
        word::Word,
    },
    observe::{Cause, CircuitState, Event},
    sync::atomic::Ordering::{Relaxed, Release},
    time::{Moment, Tick, random, wall},
    window::Counts,
};

impl Core {
    /// Goes to another state. The window starts anew in every generation.
    pub(super) fn switch(&self, cold: &mut Cold, switch: Switch, now: Tick) -> Notice {
        let from = self.word();
        let generation = from.generation() + 1;
        let Switch { to, cause, counts, open_for } = switch;
        self.count_time_open(cold, to, now);
        match to {
            CircuitState::Open | CircuitState::ForcedOpen => cold.at_opening = counts,
            CircuitState::Closed | CircuitState::Disabled | CircuitState::MetricsOnly => cold.failed_probings = 0,
            CircuitState::HalfOpen => {}
        }
        cold.probing.restart();
        cold.told.clear();
        let at = wall();
        cold.last = Some(Last { from: from.state(), to, cause, at: now, wall: at });
        self.window.advance(generation);
        self.row.begin(generation, 0);
        self.asked_until.store(0, Relaxed);
        self.review.set(first_review(self.limits.has_predicate()));
        let reopen_at = open_for.map_or(Tick::NEVER, |period| now + period);
        self.reopen_at.store(reopen_at.as_nanos(), Release);
        self.word.store(Word::new(generation, to).0, Release);
        self.set_alarm_if_wanted(cold);
        Notice { from: from.state(), to, cause, generation, counts, at, open_for }
    }

    /// What the window holds; while open what it held when the circuit opened, while half-open the results of the
    /// probes.
    pub(super) fn known(&self, cold: &Cold, now: &mut Moment) -> Counts {
        match self.word().state() {
            CircuitState::Open | CircuitState::ForcedOpen => cold.at_opening,
            CircuitState::HalfOpen => cold.probing.results(),
            _ => self.window.counts(now),
        }
    }

    fn count_time_open(&self, cold: &mut Cold, to: CircuitState, now: Tick) {
        if let Some(since) = cold.opened_at.take() {
            cold.time_open = cold.time_open.saturating_add(now.since(since));
        }
        if matches!(to, CircuitState::Open | CircuitState::ForcedOpen) {
            cold.opened_at = Some(now);
        }
    }

    /// Sets the alarm anew, after a transition or a change of the settings.
    pub(super) fn set_alarm_if_wanted(&self, cold: &mut Cold) {
        if let Some(alarm) = cold.alarm.take() {
            alarm.abort();
        }
        if cold.config.wake_up && self.word().state() == CircuitState::Open {
            cold.alarm = self.set_alarm(Tick::from_nanos(self.reopen_at.load(Relaxed)));
        }
    }

    /// A task that turns the circuit half-open on time. It knows the breaker weakly, and none is started where there is
    /// no runtime: the next call or question then does the same.
    fn set_alarm(&self, due: Tick) -> Option<AbortHandle> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (core, at) = (self.me.clone(), due.to_instant()?);
        let task = runtime.spawn(async move {
            tokio::time::sleep_until(at).await;
            if let Some(core) = core.upgrade() {
                // It rings once. Were the clock of the ticks behind that of the timer, the time would seem not to have
                // come, and the circuit stay open until somebody asks.
                core.look_at_clock(&mut Moment::from(Tick::now().max(due)));
            }
        });
        Some(task.abort_handle())
    }

    /// Opens a closed circuit, or tells that it would have. Whether `word` has ended with it.
    ///
    /// The window is read again and compared with the settings under the lock: the first look may have fallen between
    /// two settings, or have seen one thread's calls long before another's because it was interrupted in between, and
    /// a circuit must not open for a rate that never was.
    pub(super) fn trip(&self, word: Word, seen: Cause, in_a_row: u64, now: Tick) -> bool {
        let mut cold = self.cold.lock();
        if self.word() != word {
            return true;
        }
        let counts = &self.window.counts(&mut Moment::from(now));
        let mut causes: Vec<Cause> = cold.config.thresholds().reached(counts, in_a_row).collect();
        if seen == Cause::Predicate {
            causes.push(seen);
        }
        if word.state() == CircuitState::MetricsOnly {
            let new: Vec<Cause> = causes.iter().copied().filter(|cause| !cold.told.contains(cause)).collect();
            cold.told.extend(&new);
            drop(cold);
            self.tell_would_open(&new, counts);
            return false;
        }
        let Some(&cause) = causes.first() else { return false };
        let open_for =
            self.asked_period(&cold.config, now).unwrap_or_else(|| cold.config.open_period().after(0, random));
        let switch = Switch { to: CircuitState::Open, cause, counts: *counts, open_for: Some(open_for) };
        let notice = self.switch(&mut cold, switch, now);
        drop(cold);
        self.publish(Some(notice));
        true
    }

    fn tell_would_open(&self, causes: &[Cause], counts: &Counts) {
        for &cause in causes {
            let (breaker, why) = (self.name.as_str(), cause.as_str());
            tracing::warn!(breaker, cause = why, "circuit breaker would have opened, but only measures");
            self.sink.tell(&self.name, || Event::WouldOpen { policy: self.name.as_str(), cause, counts: *counts });
        }
    }

    /// Looks whether the open period is over, so that nobody is told "open" after it.
    pub(super) fn look_at_clock(&self, now: &mut Moment) -> Word {
        let word = self.word();
        if word.state() != CircuitState::Open {
            return word;
        }
        let notice = {
            let mut cold = self.cold.lock();
            self.turn_half_open_if_due(&mut cold, now.tick())
        };
        self.publish(notice);
        self.word()
    }

    /// An open circuit admits again at exactly the end of its period.
    pub(super) fn turn_half_open_if_due(&self, cold: &mut Cold, now: Tick) -> Option<Notice> {
        let due = self.word().state() == CircuitState::Open && now.as_nanos() >= self.reopen_at.load(Relaxed);
        let switch = Switch {
            to: CircuitState::HalfOpen,
            cause: Cause::OpenPeriodOver,
            counts: cold.at_opening,
            open_for: None,
        };
        due.then(|| self.switch(cold, switch, now))
    }

    pub(super) fn close_after_probes(&self, cold: &mut Cold, now: Tick) -> Notice {
        let counts = cold.probing.results();
        let switch = Switch { to: CircuitState::Closed, cause: Cause::ProbesSucceeded, counts, open_for: None };
        self.switch(cold, switch, now)
    }

    pub(super) fn reopen(&self, cold: &mut Cold, now: Tick) -> Notice {
        cold.failed_probings = cold.failed_probings.saturating_add(1);
        let counts = cold.probing.results();
        let usual = || cold.config.open_period().after(cold.failed_probings, random);
        let open_for = Some(self.asked_period(&cold.config, now).unwrap_or_else(usual));
        self.switch(cold, Switch { to: CircuitState::Open, cause: Cause::ProbesFailed, counts, open_for }, now)
    }
}
