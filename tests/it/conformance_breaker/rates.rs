//! What opens a closed circuit: rates over time, slow calls, and two signals together.

use mainstay::{
    Error, Outcome,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    classify_fn,
    observe::Cause,
};
use tokio::time::advance;

use super::{Broken, Told, call, denied, half_open, listen, metrics, ms, new, play, play_for, secs};

/// The settings of CB-17 to CB-25.
pub(super) fn rates() -> Config {
    let config = Config::new().time_window(secs(20)).minimum_calls(5).failure_rate(0.5).slow_calls(secs(4), 0.5);
    config.probes(4).probe_failure_rate(0.5).open_for(secs(5)).half_open_for(secs(1))
}

#[tokio::test(start_paused = true)]
async fn cb_17_rate_with_a_minimum_seen_at_each_step() {
    let breaker = new(rates());
    let diary = listen(&breaker);
    let mut seen = Vec::new();
    for one in ["F", "F", "F", "S", "S"] {
        play(&breaker, one);
        seen.push(metrics(&breaker));
    }
    let expected = [(None, 0, 1, 1, 0), (None, 0, 2, 2, 0), (None, 0, 3, 3, 0), (None, 1, 4, 3, 0)];
    assert_eq!(seen[..4], expected);
    assert_eq!((breaker.state(), seen[4]), (State::Open, (Some(0.6), 2, 5, 3, 0)), "a success opened it");
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::Open, Cause::FailureRate)]);
    denied(&breaker);
    assert_eq!(metrics(&breaker), (Some(0.6), 2, 5, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn cb_18_exactly_the_threshold_opens() {
    let breaker = new(rates());
    for one in ["S", "S", "S", "F", "F"] {
        play(&breaker, one);
        advance(secs(1)).await;
    }
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Closed, (Some(0.4), 3, 5, 2, 0)));
    play(&breaker, "F");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Open, (Some(0.5), 3, 6, 3, 0)));
}

#[tokio::test(start_paused = true)]
async fn cb_19_slow_calls_open_whether_they_fail_or_not() {
    use Outcome::{Failure, Success};
    let breaker = new(rates());
    let diary = listen(&breaker);
    for (took, outcome) in
        [(ms(5_000), Failure), (ms(5_000), Success), (ms(100), Failure), (ms(100), Success), (ms(5_000), Success)]
    {
        assert_eq!(breaker.state(), State::Closed);
        play_for(&breaker, took, outcome).await;
    }
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::Open);
    assert_eq!((snapshot.window.calls(), snapshot.window.slow()), (5, 3));
    assert_eq!((snapshot.slow_rate, snapshot.failure_rate), (Some(0.6), Some(0.4)));
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::Open, Cause::SlowRate)]);
}

#[tokio::test(start_paused = true)]
async fn cb_19_a_call_of_exactly_the_threshold_is_not_slow() {
    let breaker = new(rates());
    play_for(&breaker, secs(4), Outcome::Success).await;
    assert_eq!(breaker.snapshot().window.slow(), 0);
    play_for(&breaker, secs(4) + ms(1), Outcome::Success).await;
    assert_eq!(breaker.snapshot().window.slow(), 1);
}

/// With no delay at all between open and half-open; the shortest here is a millisecond.
async fn after_the_delay(breaker: &Handle, calls: &str) -> State {
    if breaker.state() == State::Open {
        advance(ms(1)).await;
    }
    play(breaker, calls);
    breaker.state()
}

#[tokio::test(start_paused = true)]
async fn cb_38_so_many_failures_within_a_time() {
    let config = Config::advanced(|counts| counts.failures() >= 2).time_window(ms(200)).open_for(ms(1));
    let breaker = new(config.probes(2).probe_failure_rate(1.0));
    play(&breaker, "FS");
    advance(ms(210)).await;
    play(&breaker, "FS");
    advance(ms(50)).await;
    assert_eq!(breaker.state(), State::Closed);
    let mut seen = Vec::new();
    for one in ["F", "F", "F", "F", "S"] {
        seen.push(after_the_delay(&breaker, one).await);
    }
    assert_eq!(seen, [State::Open, State::HalfOpen, State::Open, State::HalfOpen, State::Closed]);
}

#[tokio::test(start_paused = true)]
async fn cb_38_a_rate_within_a_time() {
    let config = Config::new().time_window(ms(200)).minimum_calls(3).failure_rate(0.5).open_for(ms(1));
    let breaker = new(config.probes(3).probe_failure_rate(0.5));
    play(&breaker, "FS");
    advance(ms(210)).await;
    play(&breaker, "FS");
    advance(ms(50)).await;
    let mut seen = Vec::new();
    for calls in ["S", "F", "F", "FF", "F", "SS"] {
        seen.push(after_the_delay(&breaker, calls).await);
    }
    let expected = [State::Closed, State::Open, State::HalfOpen, State::Open, State::HalfOpen, State::Closed];
    assert_eq!(seen, expected);
}

/// Two signals: so many failures in a row, and less than 80 % success. A share of failures of 20 % or more is the same,
/// but for the exact bound. The shortest minimum is one call, so that (d) with none is (b) with a failure first.
fn two_signals(in_a_row: u64, minimum: u64) -> Config {
    let config = Config::new().time_window(secs(10)).failure_rate(0.2).minimum_calls(minimum);
    config.consecutive_failures(in_a_row).open_for(secs(1)).probes(1)
}

#[tokio::test(start_paused = true)]
async fn cb_48_a_without_a_rate_only_failures_in_a_row_open() {
    let in_a_row = || new(two_signals(3, 1).no_failure_rate());
    let breaker = in_a_row();
    play(&breaker, "FF");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
    let breaker = in_a_row();
    play(&breaker, "FFSFF");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_48_bcd_the_rate_opens_from_its_minimum_on() {
    let breaker = new(two_signals(100, 1));
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);

    let breaker = new(two_signals(100, 5));
    play(&breaker, "FFFF");
    assert_eq!(breaker.state(), State::Closed);

    let breaker = new(two_signals(100, 1));
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
}

// (e) needs an answer that is a failure for one signal and none for the other. An outcome here means the same to every
// signal, and what it is the classifier says; so of (e) and (f) remains that a classifier can make a good-looking
// answer fail a probe.
#[tokio::test(start_paused = true)]
async fn cb_48_f_the_classifier_can_fail_a_probe_that_was_answered() {
    let breaker = new(two_signals(100, 1));
    half_open(&breaker);
    let too_many = classify_fn(|_: Result<&(), &Error<Broken>>| Outcome::Failure);
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(too_many);
    assert_eq!(call(&layer, 'S').await, Ok(()));
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn cb_48_g_failures_in_a_row_are_named_before_the_rate() {
    let breaker = new(two_signals(3, 3));
    let diary = listen(&breaker);
    play(&breaker, "FFF");
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::Open, Cause::ConsecutiveFailures)]);
}

#[tokio::test(start_paused = true)]
async fn cb_48_h_after_it_closed_the_open_period_is_the_first_again() {
    let breaker = new(two_signals(3, 1).open_growth(2.0, secs(60)));
    play(&breaker, "F");
    assert_eq!(denied(&breaker).retry_after(), Some(secs(1)));
    advance(secs(1)).await;
    play(&breaker, "F");
    assert_eq!(denied(&breaker).retry_after(), Some(secs(2)));
    advance(secs(2)).await;
    play(&breaker, "SF");
    assert_eq!(denied(&breaker).retry_after(), Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn cb_48_i_idle_for_longer_than_the_window_it_begins_anew() {
    let breaker = new(two_signals(100, 5));
    play(&breaker, "FFFF");
    advance(secs(10) + ms(1)).await;
    play(&breaker, "FFFF");
    assert_eq!((breaker.state(), metrics(&breaker)), (State::Closed, (None, 0, 4, 4, 0)));
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
}
