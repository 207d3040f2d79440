//! How long a circuit stays open, and what rejections count for.

use mainstay::{
    Reason,
    breaker::{Config, Handle, State},
    observe::Cause,
};
use tokio::time::advance;

use super::{
    Told, denied, go, half_open, hours, lets_in, listen, metrics, ms, new, play, rates::rates, secs, tasks_run,
};

// The anchors disagree about the very end of the period; here it admits.
#[tokio::test(start_paused = true)]
async fn cb_20_half_open_from_exactly_the_end_of_the_period() {
    let breaker = new(rates());
    play(&breaker, "FFFFF");
    assert_eq!(denied(&breaker).retry_after(), Some(secs(5)));
    advance(secs(3)).await;
    assert_eq!(denied(&breaker).retry_after(), Some(secs(2)));
    assert_eq!(breaker.snapshot().totals.rejected, 2);
    advance(ms(1_999)).await;
    assert_eq!(denied(&breaker).retry_after(), Some(ms(1)));
    advance(ms(1)).await;
    assert!(lets_in(&breaker, 1));
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn cb_20_half_open_begins_with_no_counts() {
    let breaker = new(rates());
    play(&breaker, "FFFFF");
    denied(&breaker);
    advance(secs(3)).await;
    denied(&breaker);
    advance(secs(3)).await;
    assert!(lets_in(&breaker, 1));
    assert_eq!(breaker.state(), State::HalfOpen);
    // What was turned away is a total of the breaker's life, and no count of its window.
    assert_eq!(metrics(&breaker), (None, 0, 0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn cb_21_open_for_as_long_as_somebody_says() {
    for (period, part) in [(hours(2), hours(1)), (secs(30 * 60), secs(15 * 60))] {
        let breaker = new(rates());
        breaker.open_for(period);
        assert_eq!(denied(&breaker).retry_after(), Some(period));
        advance(part).await;
        assert_eq!(denied(&breaker).retry_after(), Some(period - part));
        assert_eq!(breaker.snapshot().totals.rejected, 2);
        advance(period - part + secs(1)).await;
        assert!(lets_in(&breaker, 1));
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn cb_30_the_wake_up_needs_no_traffic_and_is_called_off() {
    let runtime = tokio::runtime::Handle::current();
    let alarms = || runtime.metrics().num_alive_tasks();
    let breaker = new(Config::new().open_for(secs(2)).wake_up(true));
    let diary = listen(&breaker);
    assert_eq!(alarms(), 0);
    go(&breaker, State::Open);
    assert_eq!(alarms(), 1);
    advance(ms(1_999)).await;
    tasks_run().await;
    assert_eq!(diary.transitions(), [(State::Closed, State::Open)]);
    advance(ms(1)).await;
    tasks_run().await;
    assert_eq!(diary.read(), [Told::Went(State::Open, State::HalfOpen, Cause::OpenPeriodOver)]);
    assert_eq!(alarms(), 0);

    go(&breaker, State::Open);
    assert_eq!(alarms(), 1);
    breaker.force_open();
    tasks_run().await;
    assert_eq!(alarms(), 0);
    advance(secs(10)).await;
    tasks_run().await;
    assert_eq!(diary.transitions(), [(State::HalfOpen, State::Open), (State::Open, State::ForcedOpen)]);
}

#[tokio::test(start_paused = true)]
async fn cb_50_a_call_that_is_turned_away_is_no_call() {
    let open: fn(&Handle) = |breaker| go(breaker, State::Open);
    let exhausted: fn(&Handle) = |breaker| {
        half_open(breaker);
        // Probes that are forgotten keep their places for a while.
        (0..4).for_each(|_| std::mem::forget(breaker.acquire()));
    };
    for (turn, reason) in
        [(open, Reason::CircuitOpen), (Handle::force_open, Reason::CircuitOpen), (exhausted, Reason::CircuitProbing)]
    {
        let breaker = new(rates());
        play(&breaker, "SF");
        turn(&breaker);
        let before = breaker.snapshot();
        assert_eq!(denied(&breaker).reason(), reason);
        let after = breaker.snapshot();
        assert_eq!((before.totals.rejected, after.totals.rejected), (0, 1));
        assert_eq!((after.window, after.totals.calls), (before.window, before.totals.calls));
    }
}

/// The open periods of so many trips one after the other, in milliseconds.
async fn periods(breaker: &Handle, trips: usize) -> Vec<u128> {
    let mut periods = Vec::new();
    for _ in 0..trips {
        play(breaker, "F");
        let period = denied(breaker).retry_after().expect("an open circuit knows when to come back");
        periods.push(period.as_millis());
        advance(period).await;
    }
    periods
}

// Theirs goes back to the shortest time when it was quiet for 210 ms; ours when it has closed in between, however soon,
// for it has seen probes succeed.
#[tokio::test(start_paused = true)]
async fn cb_57_the_open_period_doubles_and_begins_anew() {
    let config = || Config::new().minimum_calls(1).open_for(ms(10)).probes(1);
    let breaker = new(config().open_growth(2.0, ms(200)));
    assert_eq!(periods(&breaker, 3).await, [10, 20, 40]);
    play(&breaker, "S");
    advance(ms(210)).await;
    assert_eq!(periods(&breaker, 6).await, [10, 20, 40, 80, 160, 200]);

    let barely = new(config().open_growth(2.0, ms(11)));
    assert_eq!(periods(&barely, 3).await, [10, 11, 11]);
}

// Their moving average over 500 calls that allows 10 % errors is a count here: 50 failures are well, one more is not.
#[tokio::test(start_paused = true)]
async fn cb_57_the_first_failures_of_a_fresh_window_are_borne_and_no_probe_may_fail() {
    let breaker = new(Config::advanced(|counts| counts.failures() > 50).count_window(500).probes(10));
    play(&breaker, &"F".repeat(50));
    assert_eq!(breaker.state(), State::Closed);
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open);
    advance(secs(30)).await;
    play(&breaker, "F");
    assert_eq!(breaker.state(), State::Open, "the first of ten probes failed");
}
