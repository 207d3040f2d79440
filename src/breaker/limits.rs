//! The settings that every call looks at, readable without a lock and changeable under traffic.

use crate::{
    breaker::{config::Config, trip::Thresholds},
    settings::Ratio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::nanos,
};

const OFF: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Limits {
    failure_rate: AtomicU64,
    slow_rate: AtomicU64,
    minimum_calls: AtomicU64,
    consecutive_failures: AtomicU64,
    slow_after: AtomicU64,
    cancelled_after: AtomicU64,
    timed: AtomicBool,
    measured: AtomicBool,
    predicate: AtomicBool,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let limits = Self {
            failure_rate: AtomicU64::new(0),
            slow_rate: AtomicU64::new(0),
            minimum_calls: AtomicU64::new(0),
            consecutive_failures: AtomicU64::new(0),
            slow_after: AtomicU64::new(0),
            cancelled_after: AtomicU64::new(0),
            timed: AtomicBool::new(false),
            measured: AtomicBool::new(false),
            predicate: AtomicBool::new(false),
        };
        limits.set(config);
        limits
    }

    pub(super) fn set(&self, config: &Config) {
        let rules = config.thresholds();
        self.failure_rate.store(rules.failure_rate.map_or(0, Ratio::to_bits), Relaxed);
        self.slow_rate.store(rules.slow_rate.map_or(0, Ratio::to_bits), Relaxed);
        self.minimum_calls.store(rules.minimum_calls, Relaxed);
        self.consecutive_failures.store(rules.consecutive_failures.unwrap_or(OFF), Relaxed);
        self.slow_after.store(config.slow_after.map_or(OFF, nanos), Relaxed);
        self.cancelled_after.store(config.cancelled_after().map_or(OFF, nanos), Relaxed);
        self.timed.store(config.is_timed(), Relaxed);
        self.measured.store(config.measure_latency, Relaxed);
        self.predicate.store(config.predicate.is_some(), Relaxed);
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        let most = self.consecutive_failures.load(Relaxed);
        Thresholds {
            failure_rate: Ratio::from_bits(self.failure_rate.load(Relaxed)),
            slow_rate: Ratio::from_bits(self.slow_rate.load(Relaxed)),
            minimum_calls: self.minimum_calls.load(Relaxed),
            consecutive_failures: (most != OFF).then_some(most),
        }
    }

    pub(super) fn minimum_calls(&self) -> u64 {
        self.minimum_calls.load(Relaxed)
    }

    /// Slow is strictly longer than the threshold.
    #[inline]
    pub(super) fn is_slow(&self, nanos: u64) -> bool {
        nanos > self.slow_after.load(Relaxed)
    }

    /// Whether a call given up after so long is a failure.
    #[inline]
    pub(super) fn counts_cancelled(&self, nanos: u64) -> bool {
        nanos > self.cancelled_after.load(Relaxed)
    }

    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timed.load(Relaxed)
    }

    #[inline]
    pub(super) fn is_measured(&self) -> bool {
        self.measured.load(Relaxed)
    }

    #[inline]
    pub(super) fn has_predicate(&self) -> bool {
        self.predicate.load(Relaxed)
    }
}
