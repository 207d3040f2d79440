//! The breaker's word: generations, transitions, and results that come late.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom::thread;
use mainstay::{
    breaker::{Config, Handle, Permit, State},
    observe::Event,
    window::Counts,
};

use crate::support::{OWNER, at_second, model};

/// Opens after so many failures in a row, for a second.
fn consecutive(failures: u64) -> Config {
    let config = Config::new().no_failure_rate().consecutive_failures(failures);
    config.count_window(2).minimum_calls(2).open_for(Duration::from_secs(1)).measure_latency(false)
}

/// Opens when so many calls have failed of as many.
fn all_of(calls: usize) -> Config {
    let config = Config::new().failure_rate(1.0).count_window(calls).minimum_calls(calls as u64);
    config.open_for(Duration::from_secs(1)).measure_latency(false)
}

/// The breaker, and all its changes of state with their generations.
fn watched(config: Config) -> (Handle, impl Fn() -> Vec<(State, State, u64)>) {
    let breaker = Handle::new("x", config);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    breaker.observe(move |event: &Event<'_>| {
        if let Event::Transition(change) = event {
            log.lock().unwrap().push((change.from, change.to, change.generation));
        }
    });
    (breaker, move || {
        let mut seen = seen.lock().unwrap().clone();
        // Told after the lock: in whatever order.
        seen.sort_unstable_by_key(|(_, _, generation)| *generation);
        seen
    })
}

fn fail(breaker: &Handle) -> bool {
    breaker.acquire().map(Permit::failure).is_ok()
}

#[test]
fn breaker_two_failures_that_open_it_are_one_transition() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1));
        let other = breaker.clone();
        let thread = thread::spawn(move || fail(&other));
        let admitted = u64::from(fail(&breaker)) + u64::from(thread.join().unwrap());
        assert_eq!(transitions(), [(State::Closed, State::Open, 1)]);
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.calls.failure + totals.stale, totals.rejected), (admitted, 2 - admitted));
    });
}

#[test]
fn breaker_failures_that_open_it_together_are_not_missed() {
    for config in [consecutive(2), all_of(2)] {
        model(move || {
            let (breaker, transitions) = watched(config.clone());
            let other = breaker.clone();
            let thread = thread::spawn(move || {
                // On a lane of its own: what is added to one lane is in one order anyhow.
                OWNER.take();
                assert!(fail(&other));
            });
            assert!(fail(&breaker));
            thread.join().unwrap();
            assert_eq!(transitions(), [(State::Closed, State::Open, 1)]);
        });
    }
}

#[test]
fn breaker_a_late_result_counts_in_no_later_generation() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(2));
        let late = breaker.acquire().unwrap();
        let thread = thread::spawn(move || late.failure());
        breaker.reset();
        // In the new generation, beside the one that comes late.
        assert!(fail(&breaker));
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.generation, snapshot.consecutive_failures), (State::Closed, 1, 1));
        assert_eq!(snapshot.window, Counts { failure: 1, ..Counts::default() });
        assert!(transitions().is_empty());
        assert!(fail(&breaker));
        assert_eq!(transitions(), [(State::Closed, State::Open, 2)]);
    });
}

#[test]
fn breaker_what_is_forced_by_hand_stays_whatever_comes() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1));
        let late = breaker.acquire().unwrap();
        let thread = thread::spawn(move || late.failure());
        breaker.force_open();
        thread.join().unwrap();
        assert_eq!(breaker.state(), State::ForcedOpen);
        let seen = transitions();
        let generation = breaker.snapshot().generation;
        assert_eq!(seen.last().unwrap(), &(seen.last().unwrap().0, State::ForcedOpen, generation));
        assert_eq!(seen.len() as u64, generation, "each told once: {seen:?}");
    });
}

#[test]
fn breaker_two_who_force_it_open_are_one_transition() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1));
        let other = breaker.clone();
        let thread = thread::spawn(move || other.force_open());
        breaker.force_open();
        thread.join().unwrap();
        assert_eq!(transitions(), [(State::Closed, State::ForcedOpen, 1)]);
    });
}

#[test]
fn breaker_two_by_hand_and_one_that_fails_are_whole_transitions() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1));
        let late = breaker.acquire().unwrap();
        let failing = thread::spawn(move || late.failure());
        let other = breaker.clone();
        let forcing = thread::spawn(move || other.force_open());
        breaker.disable();
        forcing.join().unwrap();
        failing.join().unwrap();
        let seen = transitions();
        for (n, (_, _, generation)) in seen.iter().enumerate() {
            assert_eq!(*generation, n as u64 + 1, "{seen:?}");
        }
        for pair in seen.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "each begins where the one before has ended: {seen:?}");
        }
        let last = seen.last().unwrap();
        assert_eq!((last.1, last.2), (breaker.state(), breaker.snapshot().generation));
        assert!(matches!(last.1, State::Disabled | State::ForcedOpen));
    });
}

#[test]
fn breaker_new_settings_are_looked_at_by_the_next_call() {
    model(|| {
        let breaker =
            Handle::new("x", Config::new().no_failure_rate().count_window(4).minimum_calls(4).measure_latency(false));
        let permit = breaker.acquire().unwrap();
        let thread = thread::spawn(move || permit.failure());
        breaker
            .reconfigure(Config::new().failure_rate(0.5).count_window(4).minimum_calls(1).measure_latency(false))
            .unwrap();
        thread.join().unwrap();
        // Half of the calls have failed, or all.
        if let Ok(permit) = breaker.acquire() {
            permit.success();
        }
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn breaker_the_end_of_the_open_period_is_one_transition() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1).probes(1));
        assert!(fail(&breaker));
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            at_second(1);
            other.acquire()
        });
        at_second(1);
        let probes = [breaker.acquire(), thread.join().unwrap()];
        assert_eq!(probes.iter().filter(|probe| probe.is_ok()).count(), 1);
        assert_eq!(transitions()[1..], [(State::Open, State::HalfOpen, 2)]);
        assert_eq!(breaker.snapshot().probes_running, 1);
    });
}

#[test]
fn breaker_an_open_period_that_is_set_anew_is_not_ended_by_the_end_of_the_last() {
    model(|| {
        let (breaker, transitions) = watched(consecutive(1).probes(1));
        assert!(fail(&breaker));
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            at_second(1);
            other.acquire().map(Permit::failure).is_ok()
        });
        // It ends at the tenth second from here on.
        breaker.open_for(Duration::from_secs(10));
        let probed = thread.join().unwrap();
        at_second(9);
        let seen = transitions();
        assert_eq!(breaker.state(), State::Open, "{seen:?}");
        assert_eq!(probed, seen.iter().any(|change| change.1 == State::HalfOpen), "{seen:?}");
        at_second(11);
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}
