//! What only transitions and probes touch, behind the breaker's lock; and what they tell once it is released.

use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use crate::{
    breaker::{config::Config, probing::Probing},
    name::Name,
    observe::{Cause, CircuitState, Event, Transition},
    time::Tick,
    window::Counts,
};

/// What only transitions and probes touch.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) config: Config,
    pub(super) probing: Probing,
    // Probings that failed since the circuit was last closed.
    pub(super) failed_probings: u32,
    // What the window held when the circuit opened.
    pub(super) at_opening: Counts,
    pub(super) opened_at: Option<Tick>,
    pub(super) time_open: Duration,
    pub(super) last: Option<Last>,
    // What a circuit that only measures has told already.
    pub(super) told: Vec<Cause>,
    pub(super) alarm: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) from: CircuitState,
    pub(super) to: CircuitState,
    pub(super) cause: Cause,
    pub(super) at: Tick,
    pub(super) wall: SystemTime,
}

/// A transition to tell.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) from: CircuitState,
    pub(super) to: CircuitState,
    pub(super) cause: Cause,
    pub(super) generation: u64,
    pub(super) counts: Counts,
    pub(super) at: SystemTime,
    pub(super) open_for: Option<Duration>,
}

/// Where to, why, and with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switch {
    pub(super) to: CircuitState,
    pub(super) cause: Cause,
    pub(super) counts: Counts,
    pub(super) open_for: Option<Duration>,
}

impl Cold {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            probing: Probing::default(),
            failed_probings: 0,
            at_opening: Counts::default(),
            opened_at: None,
            time_open: Duration::ZERO,
            last: None,
            told: Vec::new(),
            alarm: None,
        }
    }
}

impl Notice {
    pub(super) fn event<'a>(&self, name: &'a Name) -> Event<'a> {
        Event::Transition(Transition {
            policy: name.as_str(),
            from: self.from,
            to: self.to,
            cause: self.cause,
            generation: self.generation,
            counts: self.counts,
            at: self.at,
            open_for: self.open_for,
        })
    }

    pub(super) fn log(&self, name: &Name) {
        let (breaker, from, to, cause) = (name.as_str(), self.from.as_str(), self.to.as_str(), self.cause.as_str());
        match (self.to, self.open_for) {
            (CircuitState::Open, Some(open_for)) => {
                tracing::warn!(breaker, from, to, cause, ?open_for, "circuit breaker opened");
            }
            _ => tracing::info!(breaker, from, to, cause, "circuit breaker changed its state"),
        }
    }
}
