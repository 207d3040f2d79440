use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{error::Rejection, window::Counts};

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Calls go through and are counted.
    Closed,
    /// Calls are rejected until the open period is over.
    Open,
    /// A few probes go through; their results decide.
    HalfOpen,
    /// Calls are rejected until somebody says otherwise.
    ForcedOpen,
    /// Calls go through and nothing is counted.
    Disabled,
    /// Calls go through and are counted; the circuit tells when it would have opened, and does not.
    MetricsOnly,
}

impl CircuitState {
    /// The state in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a circuit changed its state.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// The failure rate reached its threshold.
    FailureRate,
    /// The slow-call rate reached its threshold.
    SlowRate,
    /// The custom predicate said so.
    Predicate,
    /// The open period is over.
    OpenPeriodOver,
    /// A probe failed, or too many of them did.
    ProbesFailed,
    /// The probes succeeded.
    ProbesSucceeded,
    /// Somebody asked for it.
    Manual,
    /// A saved state was restored.
    Restored,
}

impl Cause {
    /// The cause in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::Predicate => "predicate",
            Self::OpenPeriodOver => "open_period_over",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Manual => "manual",
            Self::Restored => "restored",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A circuit went from one state to another.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Transition<'a> {
    /// The breaker.
    pub policy: &'a str,
    /// The state before.
    pub from: CircuitState,
    /// The state since.
    pub to: CircuitState,
    /// Why.
    pub cause: Cause,
    /// Counts the transitions of this breaker: observers on several threads can put them in order.
    pub generation: u64,
    /// What the window held when it was decided.
    pub counts: Counts,
    /// When, by the wall clock, for people.
    pub at: SystemTime,
    /// How long the circuit will stay open; none when it is not open, or until somebody says otherwise.
    pub open_for: Option<Duration>,
}

/// Why a failed call was not tried again, although it might have been.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// There are no attempts left.
    Attempts,
    /// The budget of retries is used up.
    Budget,
    /// The wait would have passed the deadline.
    Deadline,
    /// The service asks to be left alone for longer than a call waits.
    RetryAfter,
    /// The request cannot be sent again.
    Request,
}

impl GiveUp {
    /// The reason in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call failed and will be tried again.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Retry<'a> {
    /// The retry.
    pub policy: &'a str,
    /// Which attempt failed: 1 is the first.
    pub attempt: u32,
    /// How long until the next one.
    pub next_delay: Duration,
    /// The error, or that a result counts as a failure.
    pub error: fmt::Arguments<'a>,
}

impl<'a> Retry<'a> {
    pub(crate) const fn new(policy: &'a str, attempt: u32, next_delay: Duration, error: fmt::Arguments<'a>) -> Self {
        Self { policy, attempt, next_delay, error }
    }
}

/// Why an instance was ejected.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EjectionCause {
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// Its success rate was far below that of the others.
    SuccessRate,
    /// Its failure rate reached the threshold.
    FailureRate,
    /// Somebody asked for it.
    Manual,
}

impl EjectionCause {
    /// The cause in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::FailureRate => "failure_rate",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An instance does worse than the others and gets no calls for a while.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Ejection<'a> {
    /// The balancer.
    pub policy: &'a str,
    /// The instance.
    pub instance: &'a str,
    /// Why.
    pub cause: EjectionCause,
    /// Which ejection of this instance it is, less those that were forgiven: 1 is the first.
    pub ejections: u32,
    /// How long it lasts; none until somebody says otherwise.
    pub ejected_for: Option<Duration>,
    /// Whether it was ejected; if not, the balancer only tells whom it would eject.
    pub enforced: bool,
}

impl<'a> Ejection<'a> {
    pub(crate) const fn new(policy: &'a str, instance: &'a str, cause: EjectionCause, ejections: u32) -> Self {
        Self { policy, instance, cause, ejections, ejected_for: None, enforced: true }
    }
}

/// Something rare that happened to a policy.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A circuit changed its state.
    Transition(Transition<'a>),
    /// A circuit that only measures would have opened. Told once for each cause, until it is reset.
    WouldOpen {
        /// The breaker.
        policy: &'a str,
        /// Why it would have opened.
        cause: Cause,
        /// What the window held.
        counts: Counts,
    },
    /// A call was turned away.
    Rejected(&'a Rejection),
    /// A result came after its generation was over, or after its probe was taken back, and was not counted.
    Stale {
        /// The breaker.
        policy: &'a str,
    },
    /// A call failed and will be tried again. Told before the wait, which the caller may yet cut short.
    Retry(Retry<'a>),
    /// A call failed and is not tried again, although its failure is one that would be.
    GaveUp {
        /// The retry.
        policy: &'a str,
        /// How many attempts were made.
        attempts: u32,
        /// Why.
        why: GiveUp,
    },
    /// Another copy of a call that runs was sent.
    Hedged {
        /// The hedge.
        policy: &'a str,
        /// Which copy: 2 is the first that is sent beside the call itself.
        attempt: u32,
        /// How long the call has waited.
        delay: Duration,
    },
    /// A call failed and was answered by its fallback.
    Fallback {
        /// The fallback.
        policy: &'a str,
        /// What it was for: the error, or that a result counts as a failure.
        error: fmt::Arguments<'a>,
    },
    /// A fallback failed too. The caller gets the first error, unless another fallback comes after this one.
    FallbackFailed {
        /// The fallback.
        policy: &'a str,
        /// What it was for: the error, or that a result counts as a failure.
        error: fmt::Arguments<'a>,
        /// The fallback's own error, which goes to nobody else.
        second: fmt::Arguments<'a>,
    },
    /// An instance was ejected, or would have been.
    Ejected(Ejection<'a>),
    /// An ejected instance gets calls again.
    Readmitted {
        /// The balancer.
        policy: &'a str,
        /// The instance.
        instance: &'a str,
    },
    /// So few instances are usable that all are used, or no longer so.
    Panic {
        /// The balancer.
        policy: &'a str,
        /// Whether it panics from now on.
        panics: bool,
        /// Instances that are neither unhealthy nor ejected.
        usable: usize,
        /// Instances that take calls.
        instances: usize,
    },
}

impl Event<'_> {
    /// The policy it happened to.
    #[must_use]
    pub fn policy(&self) -> &str {
        match self {
            Self::Transition(change) => change.policy,
            Self::WouldOpen { policy, .. } | Self::Stale { policy } | Self::GaveUp { policy, .. } => policy,
            Self::Hedged { policy, .. } | Self::Fallback { policy, .. } | Self::FallbackFailed { policy, .. } => policy,
            Self::Retry(retry) => retry.policy,
            Self::Rejected(rejection) => rejection.policy(),
            Self::Ejected(ejection) => ejection.policy,
            Self::Readmitted { policy, .. } | Self::Panic { policy, .. } => policy,
        }
    }
}
