use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::{
    name::Name,
    observe::{Cause, CircuitState, Latency, Totals, histogram::millis},
    window::Counts,
};

/// A policy at one moment, for dashboards, health endpoints and tests.
///
/// Serialises to plain JSON: states and causes in `snake_case`, durations in milliseconds, instants in milliseconds
/// since 1970.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The name of the policy.
    pub policy: Name,
    /// What it is: `"circuit_breaker"`.
    pub kind: &'static str,
    /// The state it is in now; an open period that is over is over here too.
    pub state: CircuitState,
    /// How often it has changed its state.
    pub generation: u64,
    /// What the window holds. While the circuit is open: what it held when it opened. While it is half-open: the
    /// results of the probes.
    pub window: Counts,
    /// The share of calls in the window that failed; none while there are fewer than `minimum_calls`, and when the
    /// window shows the results of probes, fewer than `probes`.
    pub failure_rate: Option<f64>,
    /// The share of calls in the window that were slow; none in the same cases.
    pub slow_rate: Option<f64>,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// Everything since the policy was made.
    pub totals: Totals,
    /// Probes that run now.
    pub probes_running: u32,
    /// How long recent calls took; none when none was measured.
    pub latency: Option<Latency>,
    /// How long until an open circuit lets the first probe through; none when it is not open, or until somebody says
    /// otherwise.
    #[serde(rename = "open_remaining_ms", serialize_with = "optional_millis")]
    pub open_remaining: Option<Duration>,
    /// How long the circuit has been open in all.
    #[serde(rename = "time_open_ms", serialize_with = "millis")]
    pub time_open: Duration,
    /// The last change of state.
    pub last_transition: Option<LastTransition>,
}

/// The last change of state.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastTransition {
    /// The state before.
    pub from: CircuitState,
    /// The state since.
    pub to: CircuitState,
    /// Why.
    pub cause: Cause,
    /// How long ago, by the clock that also decides.
    #[serde(rename = "ago_ms", serialize_with = "millis")]
    pub ago: Duration,
    /// When, by the wall clock, for people.
    #[serde(rename = "at_unix_ms", serialize_with = "unix_millis")]
    pub at: SystemTime,
}

impl Snapshot {
    pub(crate) fn new(policy: Name, kind: &'static str, state: CircuitState) -> Self {
        Self {
            policy,
            kind,
            state,
            generation: 0,
            window: Counts::default(),
            failure_rate: None,
            slow_rate: None,
            consecutive_failures: 0,
            totals: Totals::default(),
            probes_running: 0,
            latency: None,
            open_remaining: None,
            time_open: Duration::ZERO,
            last_transition: None,
        }
    }
}

impl LastTransition {
    pub(crate) const fn new(
        from: CircuitState,
        to: CircuitState,
        cause: Cause,
        (ago, at): (Duration, SystemTime),
    ) -> Self {
        Self { from, to, cause, ago, at }
    }
}

// Serde hands over a reference to the field.
#[allow(clippy::ref_option)]
pub(crate) fn optional_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn unix_millis<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
