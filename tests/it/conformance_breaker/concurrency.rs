//! Real threads: nothing is lost, and nothing passes a limit. No test here waits for time to pass.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use mainstay::{
    Error, Outcome, Reason,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    classify_fn,
    time::Tick,
    window::{CountWindow, Kind},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Broken, half_open, listen, new, secs};

/// Does the same on so many threads, which begin together.
fn on_threads(threads: u64, work: impl Fn(u64) + Sync) {
    let begin = Barrier::new(threads as usize);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (begin, work) = (&begin, &work);
            scope.spawn(move || {
                begin.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn cb_39_more_calls_than_probes_at_the_same_time() {
    let breaker = new(Config::new().probes(3));
    half_open(&breaker);
    let (parked, leave) = (Barrier::new(4), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let probe = breaker.acquire();
                parked.wait();
                leave.wait();
                probe.expect("there is a place").success();
            });
        }
        parked.wait();
        let rejected = AtomicU64::new(0);
        on_threads(5, |_| {
            let probing = breaker.acquire().is_err_and(|rejection| rejection.reason() == Reason::CircuitProbing);
            rejected.fetch_add(u64::from(probing), Relaxed);
        });
        leave.wait();
        assert_eq!(rejected.into_inner(), 5);
    });
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().totals.rejected, 5);
}

// However many race for the places: three calls run, and the fourth does not.
#[test]
fn cb_39_a_race_for_the_probes_has_exactly_three_winners() {
    for _ in 0..100 {
        let breaker = new(Config::new().probes(3));
        half_open(&breaker);
        let (won, all) = (AtomicU64::new(0), Barrier::new(8));
        on_threads(8, |_| {
            let probe = breaker.acquire();
            won.fetch_add(u64::from(probe.is_ok()), Relaxed);
            // Nobody gives a place back before everybody has asked.
            all.wait();
        });
        assert_eq!(won.into_inner(), 3);
        assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::HalfOpen, 0));
    }
}

#[test]
fn cb_29_of_many_who_go_to_the_same_state_one_is_told_of() {
    for _ in 0..200 {
        let breaker = new(Config::new());
        let diary = listen(&breaker);
        on_threads(8, |_| breaker.force_open());
        assert_eq!(diary.transitions(), [(State::Closed, State::ForcedOpen)]);
    }
}

// Whoever resets in between must not find the circuit half-open afterwards: nothing would be probed.
#[test]
fn cb_29_a_race_does_not_lead_from_closed_to_half_open() {
    for _ in 0..200 {
        let breaker = new(Config::new());
        breaker.open_for(secs(60));
        let diary = listen(&breaker);
        on_threads(8, |thread| match thread % 2 {
            0 => breaker.reset(),
            _ => _ = breaker.transition_to(State::HalfOpen),
        });
        let moves = diary.transitions();
        assert!(!moves.contains(&(State::Closed, State::HalfOpen)), "{moves:?}");
        assert_eq!(breaker.state(), State::Closed);
    }
}

fn check_totals(breaker: &Handle) {
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.success, totals.calls.calls(), totals.ignored), (50_000, 50_000, 50_000));
    assert_eq!((totals.calls.failures(), totals.cancelled, totals.stale, totals.rejected), (0, 0, 0, 0));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn cb_51_nothing_is_lost_with_permits() {
    let breaker = new(Config::new().count_window(100_000));
    on_threads(10, |_| {
        for i in 0..10_000 {
            let outcome = if i % 2 == 0 { Outcome::Success } else { Outcome::Ignored };
            breaker.acquire().expect("a closed circuit lets every call in").record(outcome);
        }
    });
    check_totals(&breaker);
    assert_eq!(breaker.snapshot().window.success, 50_000);
}

#[test]
fn cb_51_nothing_is_lost_through_the_layer() {
    let breaker = new(Config::new());
    let excluded = classify_fn(|result: Result<&(), &Error<Broken>>| match result {
        Ok(()) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    });
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(excluded);
    on_threads(10, |_| {
        let calls = async |i: u32| if i % 2 == 0 { Ok(()) } else { Err(Error::Inner(Broken)) };
        let mut service = layer.layer(service_fn(calls));
        tokio_test::block_on(async {
            for i in 0..10_000 {
                let ready = service.ready().await.expect("a closed circuit is ready");
                assert_eq!(ready.call(i).await.is_ok(), i % 2 == 0);
            }
        });
    });
    check_totals(&breaker);
}

// Theirs drops updates under contention to stay fast; the claim is that it ends, and that the window holds what it may.
#[test]
fn cb_51_a_small_window_under_contention() {
    let began = Tick::now();
    let ten = CountWindow::new(10);
    on_threads(50, |_| (0..1_000).for_each(|_| assert!(ten.record(0, Kind::Success))));
    assert!(Tick::now().since(began) < secs(30));
    assert_eq!(ten.counts().calls(), 10);

    let hundred = CountWindow::new(100);
    on_threads(20, |_| {
        for kind in [Kind::Success, Kind::Failure] {
            (0..50).for_each(|_| assert!(hundred.record(0, kind)));
        }
        // Each of the other threads may be seen half-way: its call before the one it replaces is gone.
        let calls = hundred.counts().calls();
        assert!(0 < calls && calls < 100 + 20, "{calls}");
    });
    let calls = hundred.counts().calls();
    assert!(0 < calls && calls <= 100, "{calls}");
}

// Their two moving averages, 10 % over 500 calls and 5 % over 1000, are one window of 500 calls here.
#[test]
fn cb_57_three_percent_are_borne_and_half_are_not() {
    for (failing, opens) in [(3, false), (50, true)] {
        let breaker = new(Config::new().count_window(500).minimum_calls(500).failure_rate(0.1));
        let diary = listen(&breaker);
        on_threads(3, |_| {
            for i in 0..2_000_u64 {
                let Ok(call) = breaker.acquire() else { return };
                // Spread evenly: so many of any hundred in a row fail.
                if i * failing % 100 < failing { call.failure() } else { call.success() }
            }
        });
        let expected: &[_] = if opens { &[(State::Closed, State::Open)] } else { &[] };
        assert_eq!(diary.transitions(), expected, "{failing} % failed");
    }
}
