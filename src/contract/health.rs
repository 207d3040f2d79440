use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{contract::moment, time::wall};

/// How well a service or an instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// It does its work. The default: what is not known to be ill is well.
    #[default]
    Healthy,
    /// It does its work, though not as it should: callers who have a choice go elsewhere.
    Degraded,
    /// It does not do its work, and is not called.
    Unhealthy,
}

impl HealthStatus {
    /// The status in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How well something is, since when this is known, and what there is to say about it.
///
/// ```
/// use mainstay::contract::{Health, HealthStatus};
///
/// let health = Health::degraded("the replica lags").with_detail("lag", "12s");
/// assert_eq!(health.status(), HealthStatus::Degraded);
/// assert_eq!(health.to_string(), "degraded: the replica lags");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    status: HealthStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(rename = "at_unix_ms", with = "moment", default = "wall")]
    at: SystemTime,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<String, String>,
}

impl Health {
    /// As the status says, known since now.
    #[must_use]
    pub fn new(status: HealthStatus) -> Self {
        Self { status, message: None, at: wall(), details: BTreeMap::new() }
    }

    /// Healthy, known since now.
    #[must_use]
    pub fn healthy() -> Self {
        Self::new(HealthStatus::Healthy)
    }

    /// Degraded, known since now.
    #[must_use]
    pub fn degraded(message: impl Into<String>) -> Self {
        Self::new(HealthStatus::Degraded).with_message(message)
    }

    /// Unhealthy, known since now.
    #[must_use]
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new(HealthStatus::Unhealthy).with_message(message)
    }

    /// The same with a message for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The same with one more detail; one of the same key is replaced.
    #[must_use]
    pub fn with_detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.insert(key.into(), value.to_string());
        self
    }

    /// The same, known since then.
    #[must_use]
    pub fn known_at(mut self, at: SystemTime) -> Self {
        self.at = at;
        self
    }

    /// How well it is.
    #[must_use]
    pub const fn status(&self) -> HealthStatus {
        self.status
    }

    /// What there is to say about it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Since when this is known, by the wall clock, for people.
    #[must_use]
    pub const fn at(&self) -> SystemTime {
        self.at
    }

    /// Details, by key.
    #[must_use]
    pub const fn details(&self) -> &BTreeMap<String, String> {
        &self.details
    }

    /// Whether it says the same as another, whenever that became known.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.status, &self.message, &self.details) == (other.status, &other.message, &other.details)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::healthy()
    }
}

impl From<HealthStatus> for Health {
    fn from(status: HealthStatus) -> Self {
        Self::new(status)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.status),
            None => fmt::Display::fmt(&self.status, f),
        }
    }
}
