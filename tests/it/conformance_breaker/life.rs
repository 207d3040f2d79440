//! Whole lives of a circuit: closed, open, half-open, and round again.

use mainstay::{
    Error, Reason,
    breaker::{CircuitBreakerLayer, Config, Handle, Permit, State},
    observe::Cause,
};
use tokio::time::{advance, sleep};

use super::{
    Told, bucket_begins, call_all, denied, half_open, lets_in, listen, ms, new, ns, play, secs, tasks_run, window,
};

#[tokio::test(start_paused = true)]
async fn cb_01_the_life_of_a_breaker_on_failures_in_a_row() {
    let config = Config::new().no_failure_rate().count_window(1_000).consecutive_failures(6);
    let breaker = new(config.open_for(secs(60)).probes(1));
    let in_a_row = || breaker.snapshot().consecutive_failures;
    play(&breaker, "FFFFF");
    assert_eq!((breaker.state(), window(&breaker), in_a_row()), (State::Closed, (0, 5), 5));
    play(&breaker, "S");
    assert_eq!((breaker.state(), window(&breaker), in_a_row()), (State::Closed, (1, 5), 0));
    play(&breaker, "F");
    assert_eq!((breaker.state(), window(&breaker), in_a_row()), (State::Closed, (1, 6), 1));
    play(&breaker, "FFFFF");
    assert_eq!((breaker.state(), window(&breaker), in_a_row()), (State::Open, (1, 11), 0));

    let mut ran = 0;
    for result in [Ok(()), Err(())] {
        let mut work = async || {
            ran += 1;
            result
        };
        assert!(matches!(breaker.run(work()).await, Err(Error::Rejected(_))));
    }
    assert_eq!((ran, window(&breaker), in_a_row()), (0, (1, 11), 0), "a call that is turned away changes nothing");

    advance(ms(59_999)).await;
    assert_eq!(breaker.state(), State::Open);
    advance(secs(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen, "to ask is enough, no call is needed");
    play(&breaker, "F");
    assert_eq!((breaker.state(), window(&breaker)), (State::Open, (0, 1)), "what opened it again: the probe");
    assert_eq!(breaker.snapshot().open_remaining, Some(secs(60)), "the full period, from now");
    advance(secs(60) + ns(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    play(&breaker, "S");
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (0, 0)));
}

/// The breaker of CB-02 to CB-04. A time window of one bucket is what they call a fixed interval.
fn custom() -> Handle {
    let config = Config::new().time_window(secs(30)).buckets(1).minimum_calls(3).failure_rate(0.6);
    new(config.open_for(secs(90)).probes(3))
}

#[tokio::test(start_paused = true)]
async fn cb_02_a_rate_over_a_minimum_within_a_fixed_interval() {
    let breaker = custom();
    let diary = listen(&breaker);
    bucket_begins(secs(30)).await;
    for _ in 0..5 {
        play(&breaker, "SFX");
    }
    // Ignored calls stand in the totals and in no window, so they do not go with the interval either.
    let ignored = || breaker.snapshot().totals.ignored;
    assert_eq!((breaker.state(), window(&breaker), ignored()), (State::Closed, (5, 5), 5));
    assert_eq!(breaker.snapshot().consecutive_failures, 1, "an ignored call does not end the row");
    advance(ms(29_999)).await;
    play(&breaker, "S");
    assert_eq!((window(&breaker), ignored()), ((6, 5), 5));
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
    advance(secs(1)).await;
    play(&breaker, "F");
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (0, 1)));
    assert_eq!(breaker.snapshot().consecutive_failures, 1);
    play(&breaker, "SF");
    assert_eq!((breaker.state(), window(&breaker)), (State::Open, (1, 2)));
    assert_eq!(diary.read(), [Told::Went(State::Closed, State::Open, Cause::FailureRate)]);
    advance(secs(90) + ns(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(diary.read(), [Told::Went(State::Open, State::HalfOpen, Cause::OpenPeriodOver)]);
}

#[tokio::test(start_paused = true)]
async fn cb_03_ignored_probes_give_their_place_back() {
    let breaker = custom();
    play(&breaker, "FFF");
    advance(secs(90) + ns(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let diary = listen(&breaker);
    play(&breaker, "XXXX");
    assert_eq!((breaker.state(), window(&breaker)), (State::HalfOpen, (0, 0)));
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(diary.read(), [Told::Went(State::HalfOpen, State::Open, Cause::ProbesFailed)]);
    advance(secs(90) + ns(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    play(&breaker, "SS");
    assert_eq!((breaker.state(), window(&breaker)), (State::HalfOpen, (2, 0)));
}

#[tokio::test(start_paused = true)]
async fn cb_04_a_call_beyond_the_probes_is_told_so() {
    let breaker = custom();
    play(&breaker, "FFF");
    advance(secs(90)).await;
    play(&breaker, "SS");
    let diary = listen(&breaker);
    let third = tokio::spawn({
        let breaker = breaker.clone();
        let work = async {
            sleep(ms(100)).await;
            Ok::<(), ()>(())
        };
        async move { breaker.run(work).await }
    });
    tasks_run().await;
    advance(ms(50)).await;
    // A call counts when it ends; until then it stands among the probes that run.
    assert_eq!((window(&breaker), breaker.snapshot().probes_running), ((2, 0), 1));
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    assert_eq!(third.await.expect("the third call does not panic"), Ok(()));
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (0, 0)));
    let expected =
        [Told::Rejected(Reason::CircuitProbing), Told::Went(State::HalfOpen, State::Closed, Cause::ProbesSucceeded)];
    assert_eq!(diary.read(), expected);
}

// Half-open has a name of its own here. There is no "still open" beside it: what counts is that it is not closed.
#[tokio::test(start_paused = true)]
async fn cb_11_one_probe_after_the_sleep_window() {
    let breaker = new(Config::new().minimum_calls(1).open_for(ms(200)).probes(1));
    // All four are under way before the first fails, for it alone opens the circuit.
    let calls: Vec<_> = (0..4).map(|_| breaker.acquire().unwrap()).collect();
    calls.into_iter().for_each(Permit::failure);
    assert_eq!(breaker.state(), State::Open);
    advance(ms(250)).await;
    let probe = breaker.acquire().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn cb_12_closing_forgets_the_failures_before() {
    let breaker = new(Config::new().minimum_calls(4).open_for(ms(100)).probes(1));
    call_all(&CircuitBreakerLayer::new(breaker.clone()), "FFFT").await;
    assert_eq!((breaker.state(), window(&breaker)), (State::Open, (0, 4)));
    advance(ms(100)).await;
    let probe = breaker.acquire().unwrap();
    assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
    probe.success();
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (0, 0)));
    // Of the old failures and these, five of eight would have failed.
    play(&breaker, "SSSF");
    advance(secs(1)).await;
    play(&breaker, "S");
    assert_eq!((breaker.state(), window(&breaker)), (State::Closed, (4, 1)));
}

#[tokio::test(start_paused = true)]
async fn cb_13_probes_fail_twice_and_then_it_recovers() {
    let breaker = new(Config::new().minimum_calls(4).open_for(ms(200)).probes(1));
    call_all(&CircuitBreakerLayer::new(breaker.clone()), "FFFT").await;
    assert_eq!(breaker.state(), State::Open);
    for _ in 0..2 {
        advance(ms(250)).await;
        let probe = breaker.acquire().unwrap();
        for _ in 0..3 {
            assert_eq!(denied(&breaker).reason(), Reason::CircuitProbing);
        }
        probe.failure();
        assert_eq!(breaker.state(), State::Open);
        for _ in 0..3 {
            assert_eq!(denied(&breaker).reason(), Reason::CircuitOpen);
        }
    }
    advance(ms(250)).await;
    play(&breaker, "S");
    assert_eq!(breaker.state(), State::Closed);
    assert!(lets_in(&breaker, 3));
}

#[tokio::test(start_paused = true)]
async fn cb_32_a_rejection_says_when_to_come_back() {
    let breaker = new(Config::new().open_for(secs(5)).probes(1));
    half_open(&breaker);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
    advance(ms(1)).await;
    let rejection = denied(&breaker);
    assert_eq!((rejection.reason(), rejection.retry_after()), (Reason::CircuitOpen, Some(ms(4_999))));
    advance(secs(10)).await;
    let probe = breaker.acquire().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}
