//! State and generation in one word: a call through a closed circuit loads it once on the way in and once on the way
//! out.

use crate::observe::CircuitState;

/// The generation in the upper 61 bits, the state in the lower three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const fn new(generation: u64, state: CircuitState) -> Self {
        let bits = match state {
            CircuitState::Closed => 0,
            CircuitState::MetricsOnly => 1,
            CircuitState::Disabled => 2,
            CircuitState::Open => 3,
            CircuitState::HalfOpen => 4,
            CircuitState::ForcedOpen => 5,
        };
        Self(generation << 3 | bits)
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> 3
    }

    pub(super) const fn state(self) -> CircuitState {
        match self.0 & 7 {
            0 => CircuitState::Closed,
            1 => CircuitState::MetricsOnly,
            2 => CircuitState::Disabled,
            3 => CircuitState::Open,
            4 => CircuitState::HalfOpen,
            _ => CircuitState::ForcedOpen,
        }
    }

    /// Whether calls go through unhindered: closed, measuring only, or disabled.
    pub(super) const fn passes(self) -> bool {
        self.0 & 7 <= 2
    }

    /// Whether calls go through and their results are counted in the window.
    pub(super) const fn counts(self) -> bool {
        self.0 & 7 <= 1
    }
}
