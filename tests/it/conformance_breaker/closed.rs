//! What opens a closed circuit: counts.

use mainstay::{
    breaker::{Config, State},
    observe::Cause,
};

use super::{Told, lets_in, listen, new, play};

/// Opens at 40 % of so many calls.
fn at_forty_percent(minimum: u64) -> Config {
    Config::new().failure_rate(0.4).minimum_calls(minimum)
}

// Theirs looks at the counts when a health snapshot is taken, here after all eight calls. Ours looks at every call, so
// the minimum stands for the snapshot; without it the fifth call, with 2 of 5, opens the circuit.
#[tokio::test(start_paused = true)]
async fn cb_14_half_is_above_forty_percent_and_three_eighths_are_below() {
    let breaker = new(at_forty_percent(8));
    play(&breaker, "SSFSFSF");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);

    let breaker = new(at_forty_percent(1));
    play(&breaker, "SSFSSFSF");
    assert_eq!(breaker.state(), State::Closed);

    let breaker = new(at_forty_percent(1));
    play(&breaker, "SSFS");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn cb_15_few_calls_never_open() {
    let breaker = new(Config::basic());
    play(&breaker, "FFFF");
    assert_eq!(breaker.state(), State::Closed);
    assert!(lets_in(&breaker, 1));
}

// All calls of a row are under way before the first ends: else eleven would never be counted, for the tenth opens.
#[tokio::test(start_paused = true)]
async fn cb_35_rate_and_minimum_throughput() {
    for (calls, failures, opens) in [(10, 0, false), (10, 1, true), (10, 2, true), (11, 3, true), (9, 1, false)] {
        let breaker = new(Config::new().minimum_calls(10).failure_rate(0.1));
        let permits: Vec<_> = (0..calls).map(|_| breaker.acquire().unwrap()).collect();
        for (i, permit) in permits.into_iter().enumerate() {
            if i < calls - failures { permit.success() } else { permit.failure() }
        }
        let expected = if opens { State::Open } else { State::Closed };
        assert_eq!(breaker.state(), expected, "{failures} of {calls}");
    }
}

#[tokio::test(start_paused = true)]
async fn cb_36_failures_in_a_row() {
    let breaker = new(Config::new().no_failure_rate().consecutive_failures(3));
    play(&breaker, "FSFF");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);

    let breaker = new(Config::new().no_failure_rate().consecutive_failures(2));
    for _ in 0..20 {
        play(&breaker, "SF");
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn cb_36_so_many_of_so_many() {
    let breaker = new(Config::new().count_window(3).minimum_calls(3).failure_rate(2.0 / 3.0));
    play(&breaker, "FS");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);

    let breaker = new(Config::new().count_window(4).minimum_calls(4).failure_rate(0.75));
    for _ in 0..20 {
        play(&breaker, "SF");
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn cb_42_the_window_is_full_before_it_decides_and_slides_then() {
    let last_four = || new(Config::new().count_window(4).minimum_calls(4).failure_rate(0.5));
    let breaker = last_four();
    play(&breaker, "SFSS");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);

    let breaker = last_four();
    play(&breaker, "SFF");
    assert_eq!(breaker.state(), State::Closed);
    let diary = listen(&breaker);
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Open, "a success can complete the minimum");
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::Open, Cause::FailureRate)]);
}

#[tokio::test(start_paused = true)]
async fn cb_46_three_calls_are_enough_and_two_are_not() {
    let breaker = new(Config::new().minimum_calls(3));
    play(&breaker, "FF");
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn cb_52_a_window_of_the_last_hundred_slides_whatever_came_before() {
    let histories = [(0, 100), (100, 50), (1_000, 50), (10_000, 50), (100_000, 50), (1_000_000, 50)];
    for (successes, needed) in histories {
        let breaker = new(Config::new().count_window(100).minimum_calls(100).failure_rate(0.5));
        for _ in 0..successes {
            play(&breaker, "S");
        }
        let mut failures = 0;
        while breaker.state() == State::Closed && failures < 1_000 {
            play(&breaker, "F");
            failures += 1;
        }
        assert_eq!(failures, needed, "after {successes} successes");
    }
}
