//! What somebody who keeps many breakers asks one of them. Nothing here changes a state or tells anybody.

use std::sync::Arc;

use crate::{
    admission::Readiness,
    breaker::{Config, Handle, core::Core},
    name::Name,
    observe::CircuitState,
    settings::ConfigError,
    sync::atomic::Ordering::Acquire,
    time::{Moment, Tick},
};

impl Handle {
    /// A breaker whose name and settings were checked before.
    pub(crate) fn of_checked(name: Name, config: Config) -> Self {
        Self { core: Core::new(name, config) }
    }

    /// Whether this is the only handle, and no permit is out.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.core) == 1
    }

    /// The state it would be in if it were asked now.
    pub(crate) fn state_at(&self, now: &mut Moment) -> CircuitState {
        match self.core.word().state() {
            CircuitState::Open if now.tick().as_nanos() >= self.core.reopen_at.load(Acquire) => CircuitState::HalfOpen,
            state => state,
        }
    }

    /// Until when a call would be turned away, as far as can be known now; none when it would be let in.
    #[inline]
    pub(crate) fn shut_until(&self, now: &mut Moment) -> Option<Tick> {
        if self.core.word().passes() { None } else { self.core.shut_until(now) }
    }

    /// Whether there may be something that counts against the service: in the window, or as a row of failures.
    pub(crate) fn has_doubts(&self) -> bool {
        self.core.review.seen().may_be_due() || self.core.row.length() > 0
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take these settings.
    pub(crate) fn accepts(&self, config: &Config) -> Result<(), ConfigError> {
        config.check()?;
        config.keeps_window_of(&self.core.cold.lock().config)
    }
}

impl Config {
    pub(crate) fn is_unready(&self) -> bool {
        self.readiness == Readiness::Unready
    }
}
