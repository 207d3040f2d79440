use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    observe::{CircuitState, Snapshot, Totals},
    settings::LONGEST,
    window::Counts,
};

/// What a breaker knows, to be written down and read by another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    state: CircuitState,
    open_remaining_ms: u64,
    failed_probings: u32,
    consecutive_failures: u64,
    window: Counts,
    totals: Totals,
}

impl Saved {
    pub(super) fn of(snapshot: &Snapshot, failed_probings: u32) -> Self {
        let left = snapshot.open_remaining.unwrap_or_default();
        Self {
            state: match snapshot.state {
                CircuitState::HalfOpen => CircuitState::Open,
                state => state,
            },
            // Up, so that a circuit does not come back before its time.
            open_remaining_ms: u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
            failed_probings,
            consecutive_failures: snapshot.consecutive_failures,
            window: snapshot.window,
            totals: snapshot.totals,
        }
    }

    /// The state to go to, and how long it is open. Half-open is no state to begin in: a probe is due at once instead.
    pub(super) fn target(&self) -> (CircuitState, Option<Duration>) {
        match self.state {
            CircuitState::Open => {
                (CircuitState::Open, Some(Duration::from_millis(self.open_remaining_ms).min(LONGEST)))
            }
            CircuitState::HalfOpen => (CircuitState::Open, Some(Duration::ZERO)),
            state => (state, None),
        }
    }

    pub(super) const fn window(&self) -> Counts {
        self.window
    }

    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) const fn failed_probings(&self) -> u32 {
        self.failed_probings
    }

    pub(super) const fn consecutive_failures(&self) -> u64 {
        self.consecutive_failures
    }
}
