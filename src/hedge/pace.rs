use std::time::Duration;

use crate::{
    hedge::{config::Config, rule},
    lanes::{Lanes, Seat},
    observe::{Histogram, Latency, Sum},
    settings::ConfigError,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Tick, nanos},
};

/// The percentile is taken this often at most: adding up the latencies of all threads costs as much as many calls.
const REVIEW: Duration = Duration::from_millis(100);

/// The settings, and the delay that follows from them and from the latencies so far.
#[derive(Debug)]
pub(super) struct Pace {
    // What calls read, in words of their own, so that they take no lock.
    attempts: AtomicU32,
    delay: AtomicU64,
    review_at: AtomicU64,
    measures: AtomicBool,
    // The delay is only written under this, so that a review with the settings before cannot undo a change.
    config: RwLock<Config>,
    latencies: Lanes<Histogram>,
}

impl Pace {
    pub(super) fn new(config: Config) -> Self {
        let pace = Self {
            attempts: AtomicU32::new(0),
            delay: AtomicU64::new(0),
            review_at: AtomicU64::new(0),
            measures: AtomicBool::new(false),
            config: RwLock::new(config),
            latencies: Lanes::new(Histogram::new),
        };
        pace.take_over(&config);
        pace
    }

    pub(super) fn config(&self) -> Config {
        *self.config.read()
    }

    /// Changes everything but the budget, which is in use.
    pub(super) fn set(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        let mut current = self.config.write();
        if config.budget != current.budget {
            let shown = if config.budget.is_some() { "another" } else { "off" };
            return Err(ConfigError::new("budget", shown, "cannot be changed while it is in use"));
        }
        self.take_over(&config);
        *current = config;
        Ok(())
    }

    fn take_over(&self, config: &Config) {
        self.attempts.store(config.attempts, Relaxed);
        self.delay.store(nanos(rule::delay(config, || self.measured(config, Tick::now()))), Relaxed);
        self.measures.store(config.delay.is_none(), Relaxed);
        self.review_at.store(if config.delay.is_none() { 0 } else { u64::MAX }, Relaxed);
    }

    #[inline]
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Relaxed)
    }

    /// Whether latencies are of use.
    #[inline]
    pub(super) fn measures(&self) -> bool {
        self.measures.load(Relaxed)
    }

    /// How long to wait for the next copy.
    pub(super) fn delay(&self, now: Tick) -> Duration {
        let due = self.review_at.load(Relaxed);
        // Whoever comes first reviews, the others take the delay as it is.
        let is_due = now.as_nanos() >= due && due != u64::MAX;
        if is_due && self.review_at.compare_exchange(due, (now + REVIEW).as_nanos(), Relaxed, Relaxed).is_ok() {
            self.review(now);
        }
        Duration::from_nanos(self.delay.load(Relaxed))
    }

    #[cold]
    fn review(&self, now: Tick) {
        let config = self.config.read();
        self.delay.store(nanos(rule::delay(&config, || self.measured(&config, now))), Relaxed);
    }

    fn measured(&self, config: &Config, now: Tick) -> (u64, Duration) {
        self.sum(now).at((config.percentile * 10.0).round() as u64)
    }

    fn sum(&self, now: Tick) -> Sum {
        let mut sum = Sum::new();
        self.latencies.iter().for_each(|lane| lane.add_to(&mut sum, now));
        sum
    }

    pub(super) fn record(&self, now: Tick, latency: u64) {
        let lane = self.latencies.get(Seat::here(), Histogram::new);
        lane.at.record(lane.writer, now, latency);
    }

    pub(super) fn latency(&self) -> Option<Latency> {
        self.sum(Tick::now()).latency()
    }

    pub(super) fn heap_size(&self) -> usize {
        self.latencies.heap_size(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Tick {
        Tick::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn near(delay: Duration, ms: u32) -> bool {
        delay.abs_diff(MS * ms) <= MS * ms / 16
    }

    #[test]
    fn the_delay_is_reviewed_ten_times_a_second_and_follows_the_calls() {
        let pace = Pace::new(Config::new().min_samples(20).max_delay(MS * 10_000));
        assert_eq!(pace.delay(at(0)), MS * 500);
        (1..=19).for_each(|ms| pace.record(at(0), ms * 1_000_000));
        assert_eq!(pace.delay(at(100)), MS * 500, "one call is missing");
        pace.record(at(100), 20_000_000);
        assert_eq!(pace.delay(at(199)), MS * 500, "not yet reviewed");
        assert!(near(pace.delay(at(200)), 19), "{:?}", pace.delay(at(200)));
        (0..1_000).for_each(|_| pace.record(at(200), 200_000_000));
        assert!(near(pace.delay(at(300)), 200));
    }

    #[test]
    fn a_change_counts_at_once_and_a_budget_in_use_stays() {
        let pace = Pace::new(Config::new());
        (0..100).for_each(|_| pace.record(at(0), 50_000_000));
        assert!(near(pace.delay(at(0)), 50));
        pace.set(Config::new().delay(MS * 7).attempts(3)).unwrap();
        assert_eq!((pace.delay(at(1)), pace.attempts(), pace.measures()), (MS * 7, 3, false));
        assert_eq!(pace.delay(Tick::NEVER), MS * 7);
        assert_eq!(pace.set(Config::new().attempts(0)).unwrap_err().field(), "attempts");
        assert_eq!(pace.set(Config::new().no_budget()).unwrap_err().field(), "budget");
        assert_eq!(pace.config(), Config::new().delay(MS * 7).attempts(3));
        pace.set(Config::new()).unwrap();
        assert!(near(pace.delay(at(1)), 50) && pace.measures());
    }
}
