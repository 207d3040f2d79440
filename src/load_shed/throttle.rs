//! Client-side throttling: a caller turns its own calls away when the service behind accepts few of them, so that the
//! service need not spend work on saying no. After "Handling Overload" in the book "Site Reliability Engineering".

use std::{sync::OnceLock, time::Duration};

use crate::{
    load_shed::Throttle,
    priority::Priority,
    settings::{ConfigError, Span},
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    time::{Moment, random},
    window::{Counts, Kind, TimeWindow},
};

/// The share of the calls to turn away, of so many requests in the window, of which so many were accepted.
pub(super) fn odds(requests: u64, accepts: u64, k: f64) -> f64 {
    let over = requests as f64 - k * accepts as f64;
    (over / (requests as f64 + 1.0)).max(0.0)
}

/// What a priority makes of `k`: what is above one is half for low priority, and double for high.
pub(super) fn shifted(k: f64, priority: Priority) -> f64 {
    let slack = match priority {
        Priority::Low => 0.5,
        Priority::Normal => 1.0,
        Priority::High => 2.0,
    };
    1.0 + (k - 1.0) * slack
}

/// A request that the service accepted, one that it did not, and one that it was not asked about.
const ACCEPTED: Kind = Kind::Success;
const REFUSED: Kind = Kind::Failure;
const SHED: Kind = Kind::SlowFailure;

/// The throttle of one handle.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    on: AtomicBool,
    // Whether any call may have to be turned away. Only refusals and shed calls raise the odds, and look; so a call
    // that finds this off needs neither a clock nor the counts.
    alert: AtomicBool,
    k: AtomicU64,
    min_requests: AtomicU64,
    cap: AtomicU64,
    // Made when first switched on.
    window: OnceLock<Requests>,
}

#[derive(Debug)]
struct Requests {
    length: Duration,
    buckets: u32,
    window: TimeWindow,
}

impl Throttling {
    /// Whether these settings can be taken over: what a window knows cannot be kept in another one.
    pub(super) fn check(&self, throttle: Option<&Throttle>) -> Result<(), ConfigError> {
        let (Some(requests), Some(throttle)) = (self.window.get(), throttle) else { return Ok(()) };
        if (requests.length, requests.buckets) == (throttle.window, throttle.buckets) {
            return Ok(());
        }
        let (length, buckets) = (Span::from(requests.length), requests.buckets);
        let why = format!("cannot change while in use, it is {length} in {buckets} buckets; make a new shedder");
        Err(ConfigError::new("throttle.window", Span::from(throttle.window), why))
    }

    pub(super) fn set(&self, throttle: Option<&Throttle>) {
        if let Some(throttle) = throttle {
            self.k.store(throttle.k.to_bits(), Relaxed);
            self.min_requests.store(throttle.min_requests, Relaxed);
            self.cap.store(throttle.cap.to_bits(), Relaxed);
            let (length, buckets) = (throttle.window, throttle.buckets);
            self.window.get_or_init(|| Requests { length, buckets, window: TimeWindow::new(length, buckets) });
        }
        self.on.store(throttle.is_some(), Relaxed);
        // The next call looks.
        self.alert.store(throttle.is_some(), Relaxed);
    }

    fn settings(&self) -> Throttle {
        Throttle {
            k: f64::from_bits(self.k.load(Relaxed)),
            min_requests: self.min_requests.load(Relaxed),
            cap: f64::from_bits(self.cap.load(Relaxed)),
            ..Throttle::new()
        }
    }

    fn window(&self) -> Option<&TimeWindow> {
        self.window.get().filter(|_| self.on.load(Relaxed)).map(|requests| &requests.window)
    }

    /// What the window holds: requests, and those of them that were accepted.
    pub(super) fn requests(&self, now: &mut Moment) -> (u64, u64) {
        self.window().map_or((0, 0), |window| requests(&window.counts(now.tick())))
    }

    /// The share of the calls of a priority that is turned away now.
    pub(super) fn share(&self, priority: Priority, now: &mut Moment) -> f64 {
        if !self.on.load(Relaxed) {
            return 0.0;
        }
        let (requests, accepts) = self.requests(now);
        self.settings().share(requests, accepts, priority)
    }

    /// Decides about a call.
    #[inline]
    pub(super) fn sheds(&self, priority: Priority, now: &mut Moment) -> bool {
        self.alert.load(Relaxed) && self.draws(priority, now)
    }

    #[cold]
    fn draws(&self, priority: Priority, now: &mut Moment) -> bool {
        let (requests, accepts) = self.look(now);
        let share = self.settings().share(requests, accepts, priority);
        let sheds = share > 0.0 && random() < share;
        if sheds {
            self.record(SHED, now);
        }
        sheds
    }

    /// Looks whether calls have to be turned away, of the lowest priority at least.
    fn look(&self, now: &mut Moment) -> (u64, u64) {
        let alarms = |(requests, accepts)| self.settings().share(requests, accepts, Priority::Low) > 0.0;
        let seen = self.requests(now);
        let alert = alarms(seen);
        // Written when it changes only: every call reads it.
        if self.alert.load(Relaxed) != alert {
            self.alert.store(alert, Relaxed);
            // What was refused after the counts were read found the alert on, and now it is off.
            fence(SeqCst);
            if !alert && alarms(self.requests(now)) {
                self.alert.store(true, Relaxed);
            }
        }
        seen
    }

    #[inline]
    pub(super) fn accepted(&self, now: &mut Moment) {
        self.record(ACCEPTED, now);
    }

    #[cold]
    pub(super) fn refused(&self, now: &mut Moment) {
        self.record(REFUSED, now);
        // Of two that are refused at the same time one sees both; and either this one sees that somebody has put the
        // alert off, or that one sees this refusal.
        fence(SeqCst);
        self.look(now);
    }

    #[inline]
    fn record(&self, kind: Kind, now: &mut Moment) {
        if let Some(window) = self.window() {
            window.record(now.tick(), 0, kind);
        }
    }
}

fn requests(counts: &Counts) -> (u64, u64) {
    (counts.calls(), counts.of(ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odds_are_those_of_the_book() {
        for (requests, accepts, k, expected) in [
            (0, 0, 2.0, 0.0),
            (100, 50, 2.0, 0.0),
            (100, 49, 2.0, 2.0 / 101.0),
            (100, 0, 2.0, 100.0 / 101.0),
            (1_000, 100, 2.0, 800.0 / 1_001.0),
            (1_000, 1_000, 1.0, 0.0),
            (u64::MAX, 0, 2.0, 1.0),
            (5, 9, 2.0, 0.0),
        ] {
            assert!((odds(requests, accepts, k) - expected).abs() < 1e-12, "{requests} {accepts}");
        }
    }

    #[test]
    fn a_low_priority_is_shed_earlier_and_a_high_one_later_but_none_while_all_are_accepted() {
        let of = |k, priority| shifted(k, priority);
        assert_eq!([of(2.0, Priority::Low), of(2.0, Priority::Normal), of(2.0, Priority::High)], [1.5, 2.0, 3.0]);
        assert_eq!([of(1.0, Priority::Low), of(1.0, Priority::High)], [1.0, 1.0]);
        assert_eq!(odds(1_000, 1_000, of(1.1, Priority::Low)), 0.0);
    }

    proptest::proptest! {
        #[test]
        fn shares_are_shares_and_fall_with_what_is_accepted(
            requests in 0_u64..1_000_000, accepts in 0_u64..1_000_000, k in 1.0_f64..10.0,
        ) {
            let accepts = accepts.min(requests);
            let share = odds(requests, accepts, k);
            proptest::prop_assert!((0.0..1.0).contains(&share));
            proptest::prop_assert!(odds(requests, (accepts + 1).min(requests), k) <= share);
            proptest::prop_assert!(odds(requests, accepts, shifted(k, Priority::High)) <= share);
        }
    }
}
