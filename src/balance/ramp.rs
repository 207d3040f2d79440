//! Slow start: how much of its share an instance is given that has just come. The pure rule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Checks, ConfigError, Span};

/// How an instance that has just come, or come back, is given its calls: few at first, so that its caches and
/// connections fill before the crowd arrives. Off by default.
///
/// ```
/// use std::time::Duration;
/// use mainstay::balance::{Config, SlowStart};
///
/// let config = Config::new().slow_start(SlowStart::new(Duration::from_secs(60)).aggression(2.0));
/// assert!(config.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawSlowStart", into = "RawSlowStart")]
pub struct SlowStart {
    pub(super) window: Duration,
    pub(super) aggression: f64,
    pub(super) min_share: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSlowStart {
    window: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aggression: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_share: Option<f64>,
}

impl SlowStart {
    /// Its share grows to the whole within this time, from 1 ms to a year.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, aggression: 1.0, min_share: 0.1 }
    }

    /// The share grows as the time does with 1.0, the default; faster at first with more, slower with less. From 0.01
    /// to 100.
    #[must_use]
    pub const fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = aggression;
        self
    }

    /// The share it has from the beginning, more than 0 and at most 1. Default 0.1: with less, an instance might see no
    /// call before its time is over.
    #[must_use]
    pub const fn min_share(mut self, share: f64) -> Self {
        self.min_share = share;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.duration("window", self.window);
        checks.range("aggression", self.aggression, 0.01..=100.0);
        checks.rate("min_share", self.min_share);
        checks.finish()
    }

    /// The share of an instance that has been there for so long.
    pub(super) fn share(&self, elapsed: Duration) -> f64 {
        if elapsed >= self.window {
            return 1.0;
        }
        let part = elapsed.as_secs_f64() / self.window.as_secs_f64();
        part.powf(1.0 / self.aggression).clamp(self.min_share, 1.0)
    }
}

impl TryFrom<RawSlowStart> for SlowStart {
    type Error = ConfigError;

    fn try_from(raw: RawSlowStart) -> Result<Self, ConfigError> {
        let slow = Self::new(raw.window.or_refuse("window")?);
        let slow = Self {
            aggression: raw.aggression.unwrap_or(slow.aggression),
            min_share: raw.min_share.unwrap_or(slow.min_share),
            ..slow
        };
        slow.check().map(|()| slow)
    }
}

impl From<SlowStart> for RawSlowStart {
    fn from(slow: SlowStart) -> Self {
        let SlowStart { window, aggression, min_share } = slow;
        Self { window: window.into(), aggression: Some(aggression), min_share: Some(min_share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_the_least_to_the_whole() {
        let second = Duration::from_secs(1);
        let slow = SlowStart::new(second * 60);
        for (elapsed, share) in [(0, 0.1), (6, 0.1), (15, 0.25), (30, 0.5), (59, 59.0 / 60.0), (60, 1.0), (900, 1.0)] {
            assert!((slow.share(second * elapsed) - share).abs() < 1e-9, "{elapsed}");
        }
        assert!((slow.aggression(2.0).share(second * 15) - 0.5).abs() < 1e-9);
        assert!((slow.aggression(0.5).share(second * 30) - 0.25).abs() < 1e-9);
        assert!(slow.min_share(1.0).share(Duration::ZERO) >= 1.0);
    }
}
