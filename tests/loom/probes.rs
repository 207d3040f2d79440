//! The places of probes while a circuit is half-open.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use loom::thread;
use mainstay::{
    admission::{Gate, Policy, Readiness},
    breaker::{Config, Handle, Permit, State},
};

use crate::support::{InUse, NEVER, at_second, block_on, model};

fn config() -> Config {
    let config = Config::new().no_failure_rate().consecutive_failures(1).open_for(Duration::from_secs(1));
    config.count_window(2).minimum_calls(2).half_open_for(Duration::from_secs(1)).measure_latency(false)
}

/// Open, and due at the first second, which it is for this thread.
fn due(config: Config) -> Handle {
    let breaker = Handle::new("x", config);
    breaker.acquire().unwrap().failure();
    at_second(1);
    breaker
}

#[test]
fn probes_no_more_run_at_a_time_than_may_and_it_does_not_wedge() {
    model(|| {
        // More results are needed than may run at a time: so it is the number at a time that holds them back.
        let breaker = due(config().probes(1).close_after(3));
        let in_use = Arc::new(InUse::default());
        let try_one = |breaker: &Handle, in_use: &InUse| {
            if let Ok(probe) = breaker.acquire() {
                in_use.enter(1);
                in_use.leave();
                drop(probe);
            }
        };
        let other = (breaker.clone(), Arc::clone(&in_use));
        let thread = thread::spawn(move || {
            at_second(1);
            try_one(&other.0, &other.1);
        });
        try_one(&breaker, &in_use);
        try_one(&breaker, &in_use);
        thread.join().unwrap();
        assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::HalfOpen, 0));
        (0..3).for_each(|_| breaker.acquire().unwrap().success());
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn probes_one_is_dropped_while_another_ends() {
    model(|| {
        let breaker = due(config().probes(2).close_after(2));
        let (one, two) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
        let thread = thread::spawn(move || drop(one));
        two.success();
        thread.join().unwrap();
        assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::HalfOpen, 0));
        assert_eq!(breaker.snapshot().window.success, 1);
        // One more result decides: there is a place for that one, and for no other.
        let last = breaker.acquire().unwrap();
        assert!(breaker.acquire().is_err());
        last.success();
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn probes_a_place_that_was_taken_back_does_not_decide() {
    model(|| {
        let breaker = due(config().probes(1).close_after(1));
        let slow = breaker.acquire().unwrap();
        let thread = thread::spawn(move || {
            at_second(2);
            slow.failure();
        });
        at_second(2);
        let next = breaker.acquire().map(Permit::success).is_ok();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        match next {
            true => assert_eq!((snapshot.state, snapshot.totals.stale), (State::Closed, 1)),
            false => assert_eq!((snapshot.state, snapshot.totals.stale), (State::Open, 0)),
        }
    });
}

#[test]
fn probes_exactly_so_many_results_decide() {
    model(|| {
        let breaker = due(config().probes(2).probe_failure_rate(0.5));
        let (one, two) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
        let failing = thread::spawn(move || {
            at_second(1);
            one.failure();
        });
        let other = breaker.clone();
        let asking = thread::spawn(move || {
            at_second(1);
            other.acquire().is_ok()
        });
        two.success();
        failing.join().unwrap();
        assert!(!asking.join().unwrap(), "a third result could decide nothing");
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.generation, snapshot.totals.stale), (State::Open, 3, 0));
        assert_eq!((snapshot.window.success, snapshot.window.failure), (1, 1));
    });
}

#[test]
fn probes_other_settings_decide_by_the_results_there_are() {
    model(|| {
        let breaker = due(config().probes(2).close_after(2));
        let (one, two) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
        drop(two);
        let thread = thread::spawn(move || {
            at_second(1);
            one.success();
        });
        // From now on one result is enough, whether it comes before or after.
        breaker.reconfigure(config().probes(2).close_after(1)).unwrap();
        thread.join().unwrap();
        assert_eq!((breaker.state(), breaker.snapshot().generation), (State::Closed, 3));
    });
}

#[test]
fn probes_who_waits_to_be_ready_is_woken_when_one_ends() {
    for success in [true, false] {
        model(move || {
            let breaker = due(config().probes(1).close_after(2).half_open_for(NEVER).readiness(Readiness::Unready));
            let probe = breaker.acquire().unwrap();
            let other = breaker.clone();
            let waiting = thread::spawn(move || {
                at_second(1);
                let mut waiting = Default::default();
                block_on(poll_fn(|cx| other.poll_gate(&mut waiting, cx)))
            });
            match success {
                true => probe.success(),
                false => drop(probe),
            }
            assert_eq!(waiting.join().unwrap(), Gate::Open);
            assert!(matches!(breaker.poll_gate(&mut Default::default(), &mut noop()), Poll::Ready(Gate::Open)));
        });
    }
}

fn noop() -> std::task::Context<'static> {
    std::task::Context::from_waker(std::task::Waker::noop())
}
