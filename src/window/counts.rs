use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// One call, as a window sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It succeeded in time.
    Success,
    /// It failed in time.
    Failure,
    /// It succeeded, but slowly.
    SlowSuccess,
    /// It failed, and slowly.
    SlowFailure,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::SlowSuccess, Self::SlowFailure];

    /// The kind of a call that failed or not, slowly or not.
    #[must_use]
    pub const fn of(failed: bool, slow: bool) -> Self {
        match (failed, slow) {
            (false, false) => Self::Success,
            (true, false) => Self::Failure,
            (false, true) => Self::SlowSuccess,
            (true, true) => Self::SlowFailure,
        }
    }
}

/// How many calls of each kind. The four are disjoint; the methods add them up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Calls that succeeded in time.
    pub success: u64,
    /// Calls that failed in time.
    pub failure: u64,
    /// Calls that succeeded slowly.
    pub slow_success: u64,
    /// Calls that failed slowly.
    pub slow_failure: u64,
}

impl Counts {
    pub(crate) const fn from_array([success, failure, slow_success, slow_failure]: [u64; 4]) -> Self {
        Self { success, failure, slow_success, slow_failure }
    }

    /// How many of this kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Success => self.success,
            Kind::Failure => self.failure,
            Kind::SlowSuccess => self.slow_success,
            Kind::SlowFailure => self.slow_failure,
        }
    }

    /// All calls.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.successes().saturating_add(self.failures())
    }

    /// Calls that succeeded, slowly or not.
    #[must_use]
    pub const fn successes(&self) -> u64 {
        self.success.saturating_add(self.slow_success)
    }

    /// Calls that failed, slowly or not.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failure.saturating_add(self.slow_failure)
    }

    /// Calls that were slow, whether they succeeded or failed.
    #[must_use]
    pub const fn slow(&self) -> u64 {
        self.slow_success.saturating_add(self.slow_failure)
    }

    /// The share of calls that failed, from 0 to 1; none when there were no calls.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        share(self.failures(), self.calls())
    }

    /// The share of calls that were slow, from 0 to 1; none when there were no calls.
    #[must_use]
    pub fn slow_rate(&self) -> Option<f64> {
        share(self.slow(), self.calls())
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            success: self.success.saturating_add(other.success),
            failure: self.failure.saturating_add(other.failure),
            slow_success: self.slow_success.saturating_add(other.slow_success),
            slow_failure: self.slow_failure.saturating_add(other.slow_failure),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
