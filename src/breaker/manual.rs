use std::time::Duration;

use crate::{
    breaker::{Handle, switch::Switch},
    name::Name,
    observe::{Cause, CircuitState},
    settings::LONGEST,
    time::{Moment, random},
};

/// A change of state that does not exist: half-open follows on open, and on nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker \"{breaker}\" cannot go from {from} to {to}")]
pub struct IllegalTransition {
    breaker: Name,
    from: CircuitState,
    to: CircuitState,
}

/// The circuit by hand.
impl Handle {
    /// Closes the circuit and forgets what the window and the probes knew. Calls that run now count for nothing any more.
    /// The totals stay.
    pub fn reset(&self) {
        let from = self.core.look_at_clock(&mut Moment::new()).state();
        self.go_to(CircuitState::Closed, from == CircuitState::Closed, None);
    }

    /// Opens the circuit until somebody says otherwise: no time and no call changes that.
    pub fn force_open(&self) {
        self.go_to(CircuitState::ForcedOpen, false, None);
    }

    /// Opens the circuit for so long, at most a year.
    pub fn open_for(&self, period: Duration) {
        self.go_to(CircuitState::Open, true, Some(period.min(LONGEST)));
    }

    /// Lets everything through and counts nothing.
    pub fn disable(&self) {
        self.go_to(CircuitState::Disabled, false, None);
    }

    /// Lets everything through and counts, but only tells when it would have opened.
    pub fn only_measure(&self) {
        self.go_to(CircuitState::MetricsOnly, false, None);
    }

    /// Goes to a state by hand. Going to the state it is in changes nothing and tells nobody.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] to half-open from any other state than open: there would be nothing to probe.
    pub fn transition_to(&self, to: CircuitState) -> Result<(), IllegalTransition> {
        let from = self.state();
        if to == CircuitState::HalfOpen && !matches!(from, CircuitState::Open | CircuitState::HalfOpen) {
            return Err(IllegalTransition { breaker: self.core.name.clone(), from, to });
        }
        self.go_to(to, false, None);
        Ok(())
    }

    /// Changes the state; `even_if_there` starts a new generation in the same state, which nobody is told of unless the
    /// circuit opens anew.
    fn go_to(&self, to: CircuitState, even_if_there: bool, period: Option<Duration>) {
        let mut now = Moment::new();
        let from = self.core.look_at_clock(&mut now).state();
        if from == to && !even_if_there {
            return;
        }
        let counts = self.core.window.counts(&mut now);
        let now = now.tick();
        let mut cold = self.core.cold.lock();
        let base = cold.config.open_period().after(0, random());
        let open_for = (to == CircuitState::Open).then(|| period.unwrap_or(base));
        let notice = self.core.switch(&mut cold, Switch { to, cause: Cause::Manual, counts, open_for }, now);
        drop(cold);
        match from == to && period.is_none() {
            true => self.core.waiters.wake_all(),
            false => self.core.publish(Some(notice)),
        }
    }
}
