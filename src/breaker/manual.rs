use std::time::Duration;

use crate::{
    breaker::{Handle, cold::Switch},
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
    /// Closes the circuit and forgets what the window and the probes knew. Calls that run now count for nothing any
    /// more. The totals stay.
    pub fn reset(&self) {
        self.go_to(CircuitState::Closed, true, None);
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
        let from = self.go_to(to, false, None);
        match exists(from, to) {
            true => Ok(()),
            false => Err(IllegalTransition { breaker: self.core.name.clone(), from, to }),
        }
    }

    /// Changes the state, if there is such a transition, and returns the state before; `even_if_there` starts a new
    /// generation in the same state, which nobody is told of unless the circuit opens anew.
    fn go_to(&self, to: CircuitState, even_if_there: bool, period: Option<Duration>) -> CircuitState {
        let core = &*self.core;
        let mut now = Moment::new();
        // Locked from the look to the change: two who force it open at once are one transition, and a circuit that is
        // reset in between does not go half-open.
        let mut cold = core.cold.lock();
        let due = core.turn_half_open_if_due(&mut cold, now.tick());
        let from = core.word().state();
        let notice = (exists(from, to) && (from != to || even_if_there)).then(|| {
            let counts = core.known(&cold, &mut now);
            // By hand the periods start anew too.
            cold.failed_probings = 0;
            let base = cold.config.open_period().after(0, random);
            let open_for = (to == CircuitState::Open).then(|| period.unwrap_or(base));
            core.switch(&mut cold, Switch { to, cause: Cause::Manual, counts, open_for }, now.tick())
        });
        drop(cold);
        core.publish(due);
        match notice {
            Some(_) if from == to && period.is_none() => core.waiters.wake_all(),
            notice => core.publish(notice),
        }
        from
    }
}

/// Half-open follows on open, and on nothing else.
fn exists(from: CircuitState, to: CircuitState) -> bool {
    to != CircuitState::HalfOpen || matches!(from, CircuitState::Open | CircuitState::HalfOpen)
}
