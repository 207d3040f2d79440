//! Probes: how many, what they decide, and what becomes of those that are lost.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use mainstay::{
    Outcome, Reason,
    breaker::{Config, Handle, State},
};
use tokio::time::advance;

use super::{
    Told, denied, go, half_open, hours, lets_in, listen, metrics, ms, new, ns, play, play_for, rates::rates, secs,
    window,
};

fn probing(config: Config) -> Handle {
    let breaker = new(config);
    half_open(&breaker);
    breaker
}

#[tokio::test(start_paused = true)]
async fn cb_08_dropped_probes_give_their_places_back_at_once() {
    let breaker = probing(Config::new().probes(3));
    let probes: Vec<_> = (0..3).map(|_| breaker.acquire().unwrap()).collect();
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    drop(probes);
    assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::HalfOpen, 0));
    play(&breaker, "SSS");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_08_forgotten_probes_lose_their_places_in_time() {
    for idle in [secs(30), hours(24)] {
        let breaker = probing(Config::new().probes(3));
        (0..3).for_each(|_| mem::forget(breaker.acquire().unwrap()));
        advance(secs(30) - ns(1)).await;
        assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
        advance(idle - secs(30) + ns(1)).await;
        play(&breaker, "SSS");
        assert_eq!(breaker.state(), State::Closed);
    }
}

// A panic is a failure and no cancellation, so it opens the circuit again; wedge it cannot.
#[tokio::test(start_paused = true)]
async fn cb_08_a_probe_that_panics_has_failed() {
    let breaker = probing(Config::new().probes(3));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _probe = breaker.acquire().unwrap();
        panic!("in the probe");
    }));
    assert!(panicked.is_err());
    assert_eq!(breaker.state(), State::Open);
    advance(secs(30)).await;
    play(&breaker, "SSS");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_23_the_failure_rate_of_exactly_four_probes_decides() {
    let breaker = probing(rates());
    play(&breaker, "FFS");
    assert_eq!(breaker.state(), State::HalfOpen);
    play(&breaker, "F");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Open, (Some(0.75), 1, 4, 3, 0)));

    let breaker = probing(rates());
    play(&breaker, "FSS");
    assert_eq!(breaker.state(), State::HalfOpen);
    play(&breaker, "S");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Closed, (None, 0, 0, 0, 0)));
    play(&breaker, "S");
    assert_eq!(metrics(&breaker), (None, 1, 1, 0, 0));
}

// Theirs says how long a call took while no time passes. Here five seconds pass, so a probe may take longer than the
// one second of the other scenarios.
#[tokio::test(start_paused = true)]
async fn cb_23_slow_probes_open_it_again() {
    let breaker = probing(rates().half_open_for(secs(30)));
    for _ in 0..3 {
        play_for(&breaker, secs(5), Outcome::Success).await;
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    play_for(&breaker, secs(1), Outcome::Success).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.window.slow()), (State::Open, 3));
    assert_eq!((snapshot.slow_rate, snapshot.failure_rate), (Some(0.75), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn cb_24_exactly_four_places() {
    let breaker = probing(rates());
    let mut probes: Vec<_> = (0..4).map(|_| breaker.acquire().unwrap()).collect();
    for _ in 0..2 {
        assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    }
    drop(probes.pop());
    probes.push(breaker.acquire().unwrap());
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);

    half_open(&breaker);
    let fresh: Vec<_> = (0..4).map(|_| breaker.acquire().unwrap()).collect();
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    // Places of the time before are not places of this one.
    drop(probes);
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    assert_eq!(breaker.snapshot().probes_running, 4);
    drop(fresh);
}

#[tokio::test(start_paused = true)]
async fn cb_25_an_ignored_probe_is_not_counted() {
    let breaker = probing(rates());
    play(&breaker, "SSS");
    assert_eq!(metrics(&breaker), (None, 3, 3, 0, 0));
    play(&breaker, "X");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::HalfOpen, (None, 3, 3, 0, 0)));
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Closed, "one of four failed");
}

#[tokio::test(start_paused = true)]
async fn cb_25_ignored_probes_leave_the_decision_to_others() {
    let breaker = probing(rates());
    play(&breaker, "XXXX");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::HalfOpen, (None, 0, 0, 0, 0)));
    play(&breaker, "SSS");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::HalfOpen, (None, 3, 3, 0, 0)));
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Closed);
}

// Theirs closes the circuit on a filtered error. That says nothing about the service, so here it decides nothing.
#[tokio::test(start_paused = true)]
async fn cb_46_a_filtered_probe_does_not_close() {
    let breaker = probing(Config::new().probes(1));
    play(&breaker, "X");
    assert_eq!(breaker.state(), State::HalfOpen);
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_55_a_probe_that_hangs_is_bounded_by_time() {
    let breaker = new(Config::new().open_for(ms(20)).probes(1).half_open_for(secs(1)));
    go(&breaker, State::Open);
    advance(ms(20)).await;
    let hung = breaker.acquire().unwrap();
    // For fifty times the open period, and not for ever.
    for _ in 0..100 {
        assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
        advance(ms(10)).await;
    }
    let diary = listen(&breaker);
    let next = breaker.acquire().unwrap();
    hung.failure();
    assert_eq!((breaker.state(), window(&breaker)), (State::HalfOpen, (0, 0)));
    assert_eq!(diary.read(), [Told::Stale]);
    next.success();
    assert_eq!(breaker.state(), State::Closed);
    assert!(lets_in(&breaker, 1));
}
