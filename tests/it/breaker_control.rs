//! The breaker's rules beyond the first trip, and the breaker by hand.

use std::time::Duration;

use mainstay::{
    Error,
    breaker::{Config, Handle, Readiness, Saved, State},
    window::Counts,
};

use crate::support::*;

#[test]
fn without_a_runtime_everything_but_waiting_works() {
    let breaker = Handle::new("x", consecutive(1).wake_up(true));
    let told = transitions(&breaker);
    fail(&breaker, 1);
    assert!(breaker.acquire().is_err());
    assert_eq!(breaker.snapshot().state, State::Open);
    breaker.reset();
    succeed(&breaker, 1);
    assert_eq!(*told.lock().unwrap(), ["closed>open:consecutive_failures", "open>closed:manual"]);
}

#[tokio::test(start_paused = true)]
async fn admits_again_at_exactly_the_deadline_and_says_how_long_until_then() {
    let breaker = Handle::new("x", consecutive(1));
    fail(&breaker, 1);
    advance(ms(1)).await;
    assert_eq!(breaker.acquire().unwrap_err().retry_after(), Some(ms(9_999)));
    advance(ms(9_998) + Duration::from_nanos(999_999)).await;
    assert_eq!(breaker.acquire().unwrap_err().retry_after(), Some(Duration::from_nanos(1)));
    advance(Duration::from_nanos(1)).await;
    assert!(breaker.acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_question_after_the_open_period_does_not_say_open() {
    let breaker = Handle::new("x", consecutive(1));
    let told = transitions(&breaker);
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    assert_eq!(told.lock().unwrap()[1], "open>half_open:open_period_over");
}

#[tokio::test(start_paused = true)]
async fn wake_up_turns_half_open_with_nobody_asking_and_only_when_still_open() {
    let breaker = Handle::new("x", consecutive(1).wake_up(true));
    let told = transitions(&breaker);
    fail(&breaker, 1);
    tokio::time::sleep(ms(10_001)).await;
    assert_eq!(told.lock().unwrap().len(), 2, "{told:?}");
    breaker.reset();
    fail(&breaker, 1);
    breaker.force_open();
    tokio::time::sleep(ms(60_000)).await;
    assert_eq!(told.lock().unwrap().last().unwrap(), "open>forced_open:manual");
    fail(&Handle::new("dropped", consecutive(1).wake_up(true)), 1);
    tokio::time::sleep(ms(60_000)).await;
}

#[tokio::test(start_paused = true)]
async fn the_open_period_grows_while_probes_fail_and_starts_anew_after_a_success() {
    let config = consecutive(1).open_for(ms(100)).open_growth(2.0, ms(350));
    let breaker = Handle::new("x", config);
    fail(&breaker, 1);
    for period in [100, 200, 350, 350] {
        assert_eq!(breaker.snapshot().open_remaining, Some(ms(period)));
        advance(ms(period)).await;
        fail(&breaker, 1);
    }
    advance(ms(350)).await;
    succeed(&breaker, 1);
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_open_periods_within_its_bounds() {
    let periods: Vec<Duration> = (0..200)
        .map(|_| {
            let breaker = Handle::new("x", consecutive(1).open_jitter(0.2));
            fail(&breaker, 1);
            breaker.snapshot().open_remaining.unwrap()
        })
        .collect();
    assert!(periods.iter().all(|p| (ms(8_000)..=ms(12_000)).contains(p)), "{periods:?}");
    assert!(periods.iter().any(|p| *p < ms(9_000)) && periods.iter().any(|p| *p > ms(11_000)));
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_the_service_sets_the_open_period() {
    for (asked, open_for) in [(30, 30_000), (600, 120_000)] {
        let breaker = Handle::new("x", consecutive(2).honor_retry_after(ms(120_000)));
        breaker.acquire().unwrap().failure_with_retry_after(Duration::from_secs(asked));
        fail(&breaker, 1);
        assert_eq!(breaker.snapshot().open_remaining, Some(ms(open_for)));
    }
    let deaf = Handle::new("x", consecutive(1));
    deaf.acquire().unwrap().failure_with_retry_after(Duration::from_secs(30));
    assert_eq!(deaf.snapshot().open_remaining, Some(ms(10_000)));
    let passed = Handle::new("x", consecutive(2).honor_retry_after(ms(120_000)));
    passed.acquire().unwrap().failure_with_retry_after(ms(5));
    advance(ms(5)).await;
    fail(&passed, 1);
    assert_eq!(passed.snapshot().open_remaining, Some(ms(10_000)), "what was asked for is over");
    let probed = Handle::new("x", consecutive(1).honor_retry_after(ms(120_000)));
    fail(&probed, 1);
    advance(ms(10_000)).await;
    probed.acquire().unwrap().failure_with_retry_after(Duration::from_secs(40));
    assert_eq!(probed.snapshot().open_remaining, Some(ms(40_000)));
}

#[tokio::test(start_paused = true)]
async fn old_successes_that_drop_out_of_the_window_can_open_the_circuit() {
    let config = Config::new().time_window(ms(10_000)).minimum_calls(5).failure_rate(0.5);
    let breaker = Handle::new("x", config);
    succeed(&breaker, 10);
    advance(ms(5_000)).await;
    fail(&breaker, 9);
    assert_eq!(breaker.state(), State::Closed);
    advance(ms(5_000)).await;
    // 9 of 9 failed by now; the success that finds out makes it 9 of 10.
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_predicate_decides_over_all_counts_even_at_a_success() {
    let breaker = Handle::new("x", Config::advanced(|counts| counts.calls() >= 7));
    let told = transitions(&breaker);
    succeed(&breaker, 6);
    assert_eq!(breaker.state(), State::Closed);
    succeed(&breaker, 1);
    assert_eq!(*told.lock().unwrap(), ["closed>open:predicate"]);
    let answer = breaker.run_or_else(async { Ok::<_, Boom>("live") }, |_| async { Ok("cached") }).await;
    assert_eq!(answer, Ok("cached"));
}

#[tokio::test(start_paused = true)]
async fn presets_are_what_their_docs_say() {
    for (config, failures) in [(Config::basic(), 5), (Config::tenant(), 5), (Config::operation(), 10)] {
        let breaker = Handle::new("x", config);
        fail(&breaker, failures - 1);
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
    }
    let basic = Handle::new("basic", Config::basic());
    fail(&basic, 5);
    assert_eq!(basic.snapshot().open_remaining, Some(ms(30_000)));
    advance(ms(30_000)).await;
    let probes: Vec<_> = std::iter::from_fn(|| basic.acquire().ok()).collect();
    assert_eq!(probes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_traffic_and_the_window_is_kept() {
    let breaker = Handle::new("x", Config::new().minimum_calls(100));
    let running = breaker.acquire().unwrap();
    fail(&breaker, 10);
    succeed(&breaker, 10);
    breaker.reconfigure(Config::new().minimum_calls(21).open_for(ms(77))).unwrap();
    assert_eq!(breaker.snapshot().window, Counts { success: 10, failure: 10, ..Counts::default() });
    running.failure();
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.open_remaining), (State::Open, Some(ms(77))));
    assert_eq!(snapshot.totals.stale, 0);

    let error = breaker.reconfigure(Config::new().count_window(50)).unwrap_err();
    assert_eq!(error.field(), "window");
    let error = breaker.reconfigure(Config::new().failure_rate(0.0)).unwrap_err();
    assert_eq!(error.field(), "failure_rate");
    breaker.reset();
    fail(&breaker, 20);
    assert_eq!(breaker.state(), State::Closed, "a refused change leaves the settings as they were");
}

#[tokio::test(start_paused = true)]
async fn readiness_mode_can_change_too() {
    let breaker = Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    let layer = mainstay::breaker::CircuitBreakerLayer::new(breaker.clone());
    let service = tower::service_fn(|n: u32| std::future::ready(Answer::Ok(n)));
    let mut service = tower_test::mock::Spawn::new(tower::Layer::layer(&layer, service));
    breaker.force_open();
    tokio_test::assert_pending!(service.poll_ready());
    breaker.reconfigure(consecutive(1)).unwrap();
    assert!(service.is_woken());
    tokio_test::assert_ready_ok!(service.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_saved_breaker_goes_on_where_it_stopped() {
    let first = Handle::new("x", consecutive(3).minimum_calls(50).failure_rate(0.9));
    succeed(&first, 4);
    fail(&first, 2);
    let text = serde_json::to_string(&first.save()).unwrap();
    let second = Handle::new("x", consecutive(3).minimum_calls(50).failure_rate(0.9));
    second.restore(&serde_json::from_str::<Saved>(&text).unwrap());
    assert_eq!(second.snapshot().window, first.snapshot().window);
    assert_eq!(second.snapshot().totals, first.snapshot().totals);
    assert_eq!(second.state(), State::Closed);
    fail(&second, 1);
    assert_eq!(second.state(), State::Open, "the third failure in a row");

    advance(ms(4_000)).await;
    let third = Handle::new("x", consecutive(3));
    third.restore(&second.save());
    assert_eq!(third.snapshot().open_remaining, Some(ms(6_000)));
    advance(ms(6_000)).await;
    let fourth = Handle::new("x", consecutive(3));
    assert_eq!(third.state(), State::HalfOpen);
    fourth.restore(&third.save());
    assert_eq!(fourth.state(), State::HalfOpen);
    succeed(&fourth, 1);
    assert_eq!(fourth.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_count_window_is_restored_as_far_as_it_fits() {
    let first = Handle::new("x", Config::new().count_window(100).minimum_calls(100));
    succeed(&first, 60);
    fail(&first, 30);
    let second = Handle::new("x", Config::new().count_window(100).minimum_calls(100));
    second.restore(&first.save());
    assert_eq!(second.snapshot().window, Counts { success: 60, failure: 30, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn run_classifies_and_keeps_the_error() {
    let breaker = Handle::new("x", consecutive(1));
    assert_eq!(breaker.run(async { Ok::<_, Boom>(1) }).await, Ok(1));
    assert_eq!(breaker.run(async { Err::<(), _>(Boom) }).await, Err(Error::Inner(Boom)));
    let error = breaker.run(async { Ok::<(), Boom>(()) }).await.unwrap_err();
    assert!(error.is_rejection());
    assert_eq!(error.retry_after(), Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn reset_forgets_and_calls_that_run_count_for_nothing() {
    let breaker = Handle::new("x", consecutive(2));
    let told = transitions(&breaker);
    fail(&breaker, 1);
    let running = breaker.acquire().unwrap();
    breaker.reset();
    running.failure();
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    assert!(told.lock().unwrap().is_empty(), "closed to closed is no transition");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn an_idle_breaker_takes_less_than_a_kibibyte_and_a_used_one_little_more() {
    // A count window has a byte for each call, and a few lines that threads must not share.
    for (config, window) in [(Config::new(), 0), (Config::new().count_window(100), 384)] {
        let breaker = Handle::new("x", config);
        assert!(breaker.memory() <= 1_024 + window, "{} bytes", breaker.memory());
        let idle = breaker.memory();
        let mut kept = None;
        let real = allocation_counter::measure(|| kept = Some(Handle::new("x", breaker.config())));
        assert_eq!(real.bytes_current, idle as i64, "what it says is what the allocator gave");
        succeed(&breaker, 1);
        fail(&breaker, 1);
        assert!(breaker.memory() <= idle + 2_304, "{} bytes", breaker.memory());
    }
}

#[tokio::test(start_paused = true)]
async fn opening_an_open_circuit_by_hand_keeps_what_it_knew_and_starts_the_periods_anew() {
    let breaker = Handle::new("x", consecutive(3).open_growth(2.0, ms(60_000)));
    succeed(&breaker, 2);
    fail(&breaker, 3);
    breaker.open_for(ms(100));
    breaker.force_open();
    assert_eq!(breaker.snapshot().window, Counts { success: 2, failure: 3, ..Counts::default() });
    breaker.open_for(ms(100));
    advance(ms(100)).await;
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(20_000)));
    breaker.reset();
    breaker.transition_to(State::Open).unwrap();
    assert_eq!(breaker.snapshot().open_remaining, Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn a_run_inside_a_run_does_not_blame_the_service_for_a_rejection() {
    let (outer, inner) = (Handle::new("outer", consecutive(1)), Handle::new("inner", consecutive(1)));
    inner.force_open();
    let answer = outer.run_carrying(inner.run(async { Ok::<(), Boom>(()) })).await;
    assert!(answer.unwrap_err().is_rejection());
    assert_eq!((outer.state(), outer.snapshot().totals.ignored), (State::Closed, 1));
    inner.reset();
    let answer = outer.run_carrying(inner.run(async { Err::<(), _>(Boom) })).await;
    assert_eq!(answer, Err(Error::Inner(Boom)));
    assert_eq!(outer.state(), State::Open);
}
