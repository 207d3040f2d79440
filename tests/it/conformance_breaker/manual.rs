//! The circuit by hand, and results that come when the circuit has moved on.

use mainstay::{
    Outcome, Reason,
    breaker::{Config, Permit, State},
    observe::Cause,
    window::Counts,
};
use tokio::time::advance;

use super::{Told, denied, go, half_open, lets_in, listen, metrics, new, play, rates::rates, secs, window};

#[tokio::test(start_paused = true)]
async fn cb_27_forced_open_stays_open() {
    let breaker = new(rates());
    breaker.force_open();
    denied(&breaker);
    advance(secs(6)).await;
    denied(&breaker);
    assert_eq!((breaker.state(), breaker.snapshot().totals.rejected), (State::ForcedOpen, 2));
}

#[tokio::test(start_paused = true)]
async fn cb_27_disabled_counts_nothing_and_never_opens() {
    let breaker = new(rates());
    breaker.disable();
    let diary = listen(&breaker);
    play(&breaker, "SFFFF");
    assert!(lets_in(&breaker, 1));
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Disabled, (None, 0, 0, 0, 0)));
    assert_eq!(breaker.snapshot().totals.calls, Counts::default());
    assert_eq!(diary.read(), []);
}

#[tokio::test(start_paused = true)]
async fn cb_28_only_measuring_tells_once_that_it_would_have_opened() {
    let breaker = new(rates());
    breaker.only_measure();
    let diary = listen(&breaker);
    play(&breaker, "FFFSS");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::MetricsOnly, (Some(0.6), 2, 5, 3, 0)));
    assert_eq!(diary.read(), [Told::WouldOpen(Cause::FailureRate)]);
    play(&breaker, "F");
    assert_eq!((breaker.state(), diary.read()), (State::MetricsOnly, vec![]));
}

// The five calls run at the same time: one after the other they would not all be in a window of 20 seconds.
#[tokio::test(start_paused = true)]
async fn cb_28_each_reason_is_told_once() {
    let breaker = new(rates());
    breaker.only_measure();
    let diary = listen(&breaker);
    let calls: Vec<_> = (0..5).map(|_| breaker.acquire().unwrap()).collect();
    advance(secs(5)).await;
    calls.into_iter().for_each(Permit::failure);
    assert_eq!(diary.read(), [Told::WouldOpen(Cause::FailureRate), Told::WouldOpen(Cause::SlowRate)]);
    assert_eq!(breaker.state(), State::MetricsOnly);
}

#[tokio::test(start_paused = true)]
async fn cb_29_closed_does_not_go_to_half_open() {
    let breaker = new(Config::new());
    let error = breaker.transition_to(State::HalfOpen).unwrap_err().to_string();
    for word in ["conformance", "closed", "half_open"] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_29_going_where_it_is_tells_nobody() {
    let breaker = new(Config::new());
    let order = [State::Open, State::HalfOpen, State::Disabled, State::MetricsOnly, State::ForcedOpen, State::Closed];
    for state in order {
        go(&breaker, state);
        let diary = listen(&breaker);
        go(&breaker, state);
        assert_eq!((breaker.state(), diary.read()), (state, vec![]));
    }
}

// Isolated is "forced open" here. It is told apart from an open circuit by the state, and by a rejection that knows no
// time to come back.
#[tokio::test(start_paused = true)]
async fn cb_31_isolate_and_close_by_hand() {
    let breaker = new(Config::new());
    let diary = listen(&breaker);
    breaker.force_open();
    breaker.force_open();
    assert_eq!(breaker.state(), State::ForcedOpen);
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::ForcedOpen, Cause::Manual)]);
    let rejection = denied(&breaker);
    assert_eq!((rejection.reason(), rejection.retry_after()), (Reason::CircuitOpen, None));
    assert_eq!(diary.read(), [Told::Rejected(Reason::CircuitOpen)]);
    breaker.reset();
    assert_eq!(diary.read(), [Told::Went(State::ForcedOpen, State::Closed, Cause::Manual)]);
    assert!(lets_in(&breaker, 1));
}

// A call that was let in before the circuit opened or was isolated comes late there: it counts as stale and as nothing
// else. Theirs adds a late failure to its metric.
#[tokio::test(start_paused = true)]
async fn cb_34_every_outcome_in_every_state() {
    use Outcome::{Failure, Success};
    for (state, outcome, after) in [
        (State::HalfOpen, Success, State::Closed),
        (State::ForcedOpen, Success, State::ForcedOpen),
        (State::Open, Success, State::Open),
        (State::Closed, Success, State::Closed),
        (State::HalfOpen, Failure, State::Open),
        (State::Closed, Failure, State::Closed),
        (State::Open, Failure, State::Open),
        (State::ForcedOpen, Failure, State::ForcedOpen),
    ] {
        let breaker = new(Config::new().probes(1));
        if state == State::HalfOpen {
            half_open(&breaker);
        }
        let call = breaker.acquire().unwrap();
        go(&breaker, state);
        let late = breaker.snapshot().generation > 0 && state != State::HalfOpen;
        call.record(outcome);
        assert_eq!(breaker.state(), after, "{outcome:?} while {state}");
        let totals = breaker.snapshot().totals;
        assert_eq!((totals.stale, totals.calls.calls()), if late { (1, 0) } else { (0, 1) });
    }
    let breaks = new(Config::new().consecutive_failures(1));
    play(&breaks, "F");
    assert_eq!(breaks.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn cb_34_a_late_failure_does_not_lengthen_the_break() {
    let breaker = new(Config::basic().open_for(secs(5)));
    let late = breaker.acquire().unwrap();
    play(&breaker, "FFFFF");
    let diary = listen(&breaker);
    advance(secs(3)).await;
    late.failure();
    assert_eq!(diary.read(), [Told::Stale]);
    assert_eq!((window(&breaker), breaker.snapshot().open_remaining), ((0, 5), Some(secs(2))));
    advance(secs(2)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}
