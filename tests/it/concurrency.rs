//! Adaptive concurrency: what the limits learn, what they do not learn from, and what is left after cancellation.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use mainstay::{
    Error, OnOverload, Reason,
    admission::AdmissionLayer,
    concurrency::{Aimd, Algorithm, ConcurrencyLayer, Config, Drops, Gradient, Handle, Permit, Sample, Vegas},
    observe::Event,
    timeout::TimeoutLayer,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

/// One that is asked after every millisecond in which a call has ended.
fn quick(config: Config) -> Config {
    config.window(ms(1)).min_calls(1)
}

/// Takes every place there is.
fn fill(limit: &Handle) -> Vec<Permit> {
    std::iter::from_fn(|| limit.try_acquire().ok()).collect()
}

/// As many calls at a time as may run, all of which take so long and succeed.
async fn round(limit: &Handle, took: Duration) {
    let permits = fill(limit);
    advance(took).await;
    permits.into_iter().for_each(Permit::success);
}

/// The limit after each of so many rounds.
async fn rounds(limit: &Handle, took: Duration, times: usize) -> Vec<u32> {
    let mut limits = Vec::new();
    for _ in 0..times {
        round(limit, took).await;
        limits.push(limit.limit());
    }
    limits
}

#[test]
fn places_are_taken_up_to_the_limit_and_given_back() {
    let limit = Handle::new("x", Config::new().initial(5));
    let permits = fill(&limit);
    assert_eq!((permits.len(), limit.in_flight()), (5, 5));
    let rejection = limit.try_acquire().unwrap_err();
    assert_eq!((rejection.reason(), rejection.policy(), rejection.retry_after()), (Reason::Overloaded, "x", None));
    drop(permits);
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.limit, snapshot.rejected, snapshot.dropped), (0, 5, 2, 0));
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!((&json["kind"], &json["algorithm"]), (&"concurrency".into(), &"gradient".into()));
    assert_eq!((&json["base_latency_ms"], &json["latency_ms"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

#[tokio::test(start_paused = true)]
async fn ad_02_aimd() {
    let second = Duration::from_secs(1);
    assert_eq!(Aimd::new().next_limit(20.0, &Sample::new(second, 10)), 21.0);
    assert_eq!(Aimd::new().next_limit(30.0, &Sample::dropped(10)), 27.0);
    assert_eq!(Aimd::new().next_limit(30.0, &Sample::new(5 * second + ms(1), 30)), 27.0);

    let limit = Handle::new("x", quick(Config::aimd()).ceiling(21));
    assert_eq!(rounds(&limit, ms(10), 3).await, [21, 21, 21]);
    // A call that timed out after five seconds.
    let permits = fill(&limit);
    advance(5 * second).await;
    permits.into_iter().for_each(Permit::failure);
    assert_eq!(limit.limit(), 18);
    assert_eq!((limit.snapshot().dropped, limit.snapshot().algorithm), (21, "aimd"));

    for ratio in [0.49, 1.0, 1.5, f64::NAN] {
        let error = Config::new().algorithm(Aimd::new().backoff(ratio)).check().unwrap_err();
        assert_eq!((error.field(), error.why()), ("backoff", "must be a number in [0.5, 1)"));
    }
    assert!(Config::new().algorithm(Aimd::new().backoff(0.5)).check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn ad_03_gradient2_and_drops_count() {
    // With a measured base the formula is exact.
    let mut gradient = Gradient::new().remeasure_every(Duration::from_secs(3_600));
    gradient.first_limit(20.0);
    gradient.next_limit(20.0, &Sample::new(ms(100), 20));
    for (limit, latency, in_flight, next) in [
        (100.0, 100, 100, 0.8 * 100.0 + 0.2 * (100.0 + 4.0)),
        (100.0, 150, 100, 0.8 * 100.0 + 0.2 * (100.0 + 4.0)),
        (100.0, 200, 100, 0.8 * 100.0 + 0.2 * (75.0 + 4.0)),
        (100.0, 300, 100, 0.8 * 100.0 + 0.2 * (50.0 + 4.0)),
        (100.0, 900, 100, 0.8 * 100.0 + 0.2 * (50.0 + 4.0)),
        (100.0, 900, 49, 100.0),
        (100.0, 300, 50, 0.8 * 100.0 + 0.2 * (50.0 + 4.0)),
    ] {
        let got = gradient.next_limit(limit, &Sample::new(ms(latency), in_flight));
        assert!((got - next).abs() < 1e-9, "{latency} ms with {in_flight}: {got} for {next}");
    }

    // The average: plain at first, and cut by a twentieth while it is more than twice the present latency.
    let mut gradient = Gradient::new();
    gradient.next_limit(20.0, &Sample::new(ms(100), 20));
    assert_eq!(gradient.base_latency(), Some(ms(100)));
    gradient.next_limit(20.0, &Sample::new(ms(10), 20));
    assert_eq!(gradient.base_latency(), Some(Duration::from_micros(52_250)));

    // The source ignores drops.
    let limit = Handle::new("x", quick(Config::new()).floor(20).initial(100).ceiling(200));
    assert!(rounds(&limit, ms(10), 200).await.into_iter().all(|limit| (100..=200).contains(&limit)));
    assert_eq!(limit.limit(), 200);
    let dropped = |limit: &Handle| fill(limit).into_iter().for_each(Permit::dropped);
    for expected in [180, 162, 145, 131] {
        advance(ms(1)).await;
        dropped(&limit);
        // All of them end at once, and the first one closes the window.
        advance(ms(1)).await;
        dropped(&limit);
        assert!(limit.limit() <= expected, "{} for {expected}", limit.limit());
    }
    for _ in 0..100 {
        advance(ms(1)).await;
        dropped(&limit);
    }
    assert_eq!(limit.limit(), 20);
}

#[tokio::test(start_paused = true)]
async fn ad_04_steps_by_the_queue_and_the_median_of_a_window() {
    // The source's own limiter steps by one too. It lets a limit grow of which a quarter is used; here half must be.
    let learnt = || {
        let mut vegas = Vegas::new();
        (0..10).for_each(|_| assert_eq!(vegas.next_limit(20.0, &Sample::new(ms(1_000), 5)), 20.0));
        assert_eq!(vegas.base_latency(), Some(ms(1_000)));
        vegas
    };
    let steps = |latencies: [u64; 2]| {
        let (mut vegas, mut limit) = (learnt(), 20.0);
        latencies.map(|latency| {
            limit = vegas.next_limit(limit, &Sample::new(ms(latency), 10));
            limit
        })
    };
    assert_eq!(learnt().next_limit(20.0, &Sample::new(ms(1_000), 5)), 20.0);
    assert_eq!(steps([1_000, 1_000])[0], 21.0);
    assert_eq!(steps([2_000, 2_000]), [19.0, 18.0]);
    assert_eq!(steps([1_300, 1_300]), [20.0, 20.0]);

    let limit = Handle::new("x", Config::vegas().min_calls(5).window(ms(10)));
    let mut permits = fill(&limit).into_iter();
    for (wait, call) in [(100, 1), (100, 2), (50, 1), (50, 1)] {
        advance(ms(wait)).await;
        permits.by_ref().take(call).for_each(Permit::success);
    }
    // 100, 200, 200, 250 and 300 ms.
    assert_eq!((limit.snapshot().latency, limit.snapshot().base_latency), (Some(ms(200)), Some(ms(200))));
}

/// A gradient whose base latency is measured over so many calls.
fn measured(calls: u32, tolerance: f64) -> Config {
    let gradient = Gradient::new().tolerance(tolerance).headroom(10);
    let gradient = gradient.remeasure_every(Duration::from_secs(100)).remeasure_calls(calls).remeasure_jitter(0.1);
    quick(Config::new().algorithm(gradient)).floor(7)
}

fn base(limit: &Handle) -> Option<Duration> {
    limit.snapshot().base_latency
}

#[tokio::test(start_paused = true)]
async fn ad_06_the_base_latency_is_measured_at_the_floor() {
    let limit = Handle::new("x", measured(50, 1.5));
    assert_eq!(limit.limit(), 7);
    let permits = fill(&limit);
    assert_eq!((permits.len(), limit.snapshot().rejected), (7, 1));
    assert!(limit.try_acquire().is_err());
    // Cancelled calls give their places back and are no samples.
    advance(ms(1_000)).await;
    drop(permits);
    assert_eq!((limit.in_flight(), base(&limit)), (0, None));
    assert_eq!(rounds(&limit, ms(13), 7).await, [7; 7]);
    assert_eq!(rounds(&limit, ms(13), 1).await, [20], "56 calls, and the limit is what it was to be");
    assert_eq!(base(&limit), Some(ms(13)));

    let limit = Handle::new("x", measured(5, 1.5));
    let mut permits = fill(&limit).into_iter();
    for _ in 1..=5 {
        advance(ms(1)).await;
        permits.by_ref().take(1).for_each(Permit::success);
    }
    assert_eq!(base(&limit), Some(ms(3)));
    drop(permits);
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(limit.limit(), 20, "without calls nothing changes");
}

#[tokio::test(start_paused = true)]
async fn ad_06_within_the_tolerance_it_grows_and_beyond_it_shrinks_to_the_floor_and_not_below() {
    let after = async |tolerance, initial| {
        let limit = Handle::new("x", measured(7, tolerance).initial(initial).ceiling(100_000));
        round(&limit, ms(5)).await;
        assert_eq!((limit.limit(), base(&limit)), (initial, Some(ms(5))));
        limit
    };
    let limits = rounds(&after(1.5, 20).await, ms(6), 10).await;
    assert!(limits.is_sorted_by(|one, next| one < next) && limits[0] > 20, "{limits:?}");
    let limits = rounds(&after(1.1, 20).await, ms(4), 10).await;
    assert!(limits.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= 2 * pair[0]), "{limits:?}");
    let limits = rounds(&after(1.1, 1_000).await, ms(6), 10).await;
    assert!(limits.windows(2).all(|pair| pair[0] > pair[1]), "{limits:?}");
    let limits = rounds(&after(1.1, 1_000).await, ms(500), 60).await;
    assert!(limits.iter().all(|limit| *limit >= 7), "{limits:?}");
}

#[tokio::test(start_paused = true)]
async fn ad_06_it_measures_again_after_the_interval_or_at_the_floor_and_restores_the_limit() {
    let limit = Handle::new("x", measured(14, 1.5).initial(100).percentile(1.0));
    rounds(&limit, ms(10), 2).await;
    assert_eq!((limit.limit(), base(&limit)), (100, Some(ms(10))));
    advance(Duration::from_secs(99)).await;
    assert!(rounds(&limit, ms(10), 1).await[0] > 100);
    let (before, late) = (limit.limit(), limit.try_acquire().unwrap());
    advance(Duration::from_secs(11)).await;
    limit.try_acquire().unwrap().success();
    assert_eq!(limit.limit(), 7, "an interval of 100 to 110 s is over");
    // A call that began before the measurement does not count in it.
    let stood = fill(&limit);
    assert_eq!(stood.len(), 6);
    drop(stood);
    late.success();
    assert_eq!(rounds(&limit, ms(20), 1).await, [7]);
    assert_eq!(rounds(&limit, ms(20), 1).await, [before]);
    assert_eq!(base(&limit), Some(ms(20)));

    // A service that has become slower for good, at a limit that the floor holds up.
    let gradient = Gradient::new().headroom(1).remeasure_every(Duration::from_secs(3_600)).remeasure_calls(7);
    let limit = Handle::new("x", quick(Config::new().algorithm(gradient)).initial(7).floor(7));
    round(&limit, ms(1)).await;
    let limits = rounds(&limit, ms(1_000), 60).await;
    assert!(limits.iter().all(|limit| *limit >= 7));
    assert_eq!(base(&limit), Some(ms(1_000)));
}

#[tokio::test(start_paused = true)]
async fn a_measurement_restores_a_limit_that_is_not_used_and_begins_with_no_calls_of_before() {
    let one = async |limit: &Handle| {
        let permit = limit.try_acquire().unwrap();
        advance(ms(10)).await;
        permit.success();
    };
    let limit = Handle::new("x", measured(3, 1.5));
    one(&limit).await;
    one(&limit).await;
    assert_eq!(limit.limit(), 7);
    one(&limit).await;
    assert_eq!((limit.limit(), base(&limit)), (20, Some(ms(10))));

    let limit = Handle::new("x", Config::new().window(ms(1_000)));
    one(&limit).await;
    one(&limit).await;
    limit.reconfigure(measured(3, 1.5)).unwrap();
    one(&limit).await;
    assert_eq!((limit.limit(), base(&limit)), (7, None));
}

#[tokio::test(start_paused = true)]
async fn a_limit_was_used_that_was_used_when_a_call_began_or_when_it_ended() {
    let limit = Handle::new("x", quick(Config::aimd()));
    let mut permits = fill(&limit);
    let last = permits.pop().unwrap();
    drop(permits);
    advance(ms(10)).await;
    last.success();
    assert_eq!(limit.limit(), 21);
    let first = limit.try_acquire().unwrap();
    let permits = fill(&limit);
    advance(ms(10)).await;
    first.success();
    assert_eq!(limit.limit(), 22);
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn ad_14_a_limit_that_is_not_used_does_not_grow() {
    for config in [Config::aimd(), Config::vegas(), Config::new(), Config::custom(Greedy)] {
        let limit = Handle::new("x", quick(config).initial(50).ceiling(200));
        for _ in 0..1_000 {
            let permit = limit.try_acquire().unwrap();
            advance(ms(10)).await;
            permit.success();
        }
        assert_eq!((limit.limit(), limit.snapshot().algorithm == "aimd"), (50, limit.config() == quick_aimd()));
        // Half of it is.
        for _ in 0..20 {
            let permits: Vec<_> = (0..limit.limit().div_ceil(2)).map(|_| limit.try_acquire().unwrap()).collect();
            advance(ms(10)).await;
            permits.into_iter().for_each(Permit::success);
        }
        assert!(limit.limit() > 50, "{:?}", limit.snapshot());
    }
}

fn quick_aimd() -> Config {
    quick(Config::aimd()).initial(50).ceiling(200)
}

#[derive(Clone)]
struct Greedy;

impl Algorithm for Greedy {
    fn next_limit(&mut self, limit: f64, _: &Sample) -> f64 {
        limit * 2.0
    }
}

#[tokio::test(start_paused = true)]
async fn under_every_algorithm_a_slow_service_gets_less_and_a_quick_one_more() {
    for config in [Config::aimd().algorithm(Aimd::new().max_latency(ms(50))), Config::vegas(), Config::new()] {
        let limit = Handle::new("x", quick(config));
        let grown = *rounds(&limit, ms(10), 50).await.last().unwrap();
        assert!(grown > 30, "{grown}");
        rounds(&limit, ms(400), 5).await;
        assert!(limit.limit() < grown, "{:?}", limit.snapshot());
        assert!(limit.limit() >= 5);
    }
}

#[tokio::test(start_paused = true)]
async fn one_lucky_call_and_one_unlucky_move_nothing() {
    let limit = Handle::new("x", Config::new().window(ms(1)));
    let learn = async |last: fn(Permit)| {
        let mut permits = fill(&limit);
        last(permits.pop().unwrap());
        advance(ms(100)).await;
        permits.into_iter().for_each(Permit::success);
        limit.snapshot()
    };
    let snapshot = learn(Permit::success).await;
    assert_eq!((snapshot.latency, snapshot.base_latency), (Some(ms(100)), Some(ms(100))));
    // An error that comes at once says nothing about capacity, and no more does one of two hundred.
    let before = limit.limit();
    let snapshot = learn(Permit::failure).await;
    assert_eq!((snapshot.dropped, snapshot.limit >= before), (0, true));
    // A window with fewer calls than a median takes goes on, and is forgotten when it is old.
    let limit = Handle::new("x", Config::new().window(ms(1)));
    // Nobody is turned away: that would say that the limit keeps them few.
    let successes = |calls| {
        let permits: Vec<_> = (0..calls).map(|_| limit.try_acquire().unwrap()).collect();
        permits.into_iter().for_each(Permit::success);
    };
    advance(ms(1)).await;
    successes(8);
    advance(ms(200)).await;
    successes(1);
    successes(9);
    assert_eq!((limit.limit(), limit.snapshot().latency), (20, None));
    advance(ms(1)).await;
    successes(1);
    assert_eq!((limit.limit(), limit.snapshot().latency), (20, Some(ms(0))));
}

#[tokio::test(start_paused = true)]
async fn a_share_of_drops_is_tolerated_and_more_is_not() {
    for (dropped, shrinks) in [(1, false), (2, true)] {
        let config = Config::aimd().window(ms(1)).min_calls(100).initial(100).tolerated_drops(0.01);
        let limit = Handle::new("x", config);
        let mut permits = fill(&limit);
        advance(ms(10)).await;
        permits.drain(..dropped).for_each(Permit::dropped);
        permits.into_iter().for_each(Permit::success);
        assert_eq!(limit.limit(), if shrinks { 90 } else { 101 });
    }
}

#[tokio::test(start_paused = true)]
async fn time_outs_are_drops_quick_errors_are_not_unless_the_classifier_is_taken_at_its_word() {
    let service = |took: u64| {
        service_fn(move |fails: bool| async move {
            tokio::time::sleep(ms(took)).await;
            if fails { Answer::Err(Error::Inner(Boom)) } else { Answer::Ok(1) }
        })
    };
    let calls = async |layer: &ConcurrencyLayer<OnOverload>, took: u64, fails| {
        let timed = TimeoutLayer::new(ms(50)).layer(service(took));
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(layer.layer(timed.clone()).oneshot(fails))).collect();
        for call in calls {
            let _ = call.await.unwrap();
        }
    };
    let limit = Handle::new("x", Config::aimd().initial(20).window(ms(1)));
    let layer = ConcurrencyLayer::new(limit.clone());
    let plain = async |took: u64, fails| {
        let timed = TimeoutLayer::new(ms(50)).layer(service(took));
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(layer.layer(timed.clone()).oneshot(fails))).collect();
        for call in calls {
            let _ = call.await.unwrap();
        }
    };
    plain(10, false).await;
    assert_eq!((limit.limit(), limit.snapshot().dropped), (21, 0));
    plain(5, true).await;
    assert_eq!((limit.limit(), limit.snapshot().dropped), (21, 0), "errors as quick as answers");
    plain(1_000, false).await;
    assert_eq!((limit.limit(), limit.snapshot().dropped), (18, 20), "time-outs");

    let limit = Handle::new("x", Config::aimd().initial(20).window(ms(1)).drops(Drops::Every));
    let layer = ConcurrencyLayer::new(limit.clone()).classify(OnOverload);
    calls(&layer, 5, true).await;
    assert_eq!((limit.limit(), limit.snapshot().dropped), (20, 0), "no error of the service itself is overload");
    calls(&layer, 1_000, false).await;
    assert_eq!((limit.limit(), limit.snapshot().dropped), (18, 20));
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_further_in_turns_away_counts_as_nothing() {
    let (limit, breaker) =
        (Handle::new("x", quick(Config::aimd())), mainstay::breaker::Handle::new("b", consecutive(1)));
    breaker.force_open();
    let layer = AdmissionLayer::new((limit.clone(), breaker.clone()));
    for _ in 0..50 {
        advance(ms(10)).await;
        let answer = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))).oneshot(1).await;
        assert!(answer.unwrap_err().is_rejection());
        let inner = limit.run_carrying(breaker.run(async { Ok::<u32, Boom>(1) })).await;
        assert!(inner.unwrap_err().is_rejection());
    }
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.dropped, snapshot.latency, snapshot.in_flight), (20, 0, None, 0));
}

#[tokio::test(start_paused = true)]
async fn limits_change_under_traffic_without_losing_a_place_and_what_was_learnt_is_kept() {
    let limit = Handle::new("x", quick(Config::new()).initial(10));
    round(&limit, ms(10)).await;
    assert_eq!(base(&limit), Some(ms(10)));
    let permits = fill(&limit);
    assert_eq!(permits.len(), 10);
    limit.reconfigure(quick(Config::new()).initial(5).ceiling(6)).unwrap();
    assert_eq!((limit.limit(), limit.in_flight(), base(&limit)), (6, 10, Some(ms(10))));
    assert!(limit.try_acquire().is_err());
    let mut permits = permits.into_iter();
    permits.by_ref().take(4).for_each(drop);
    assert!(limit.try_acquire().is_err());
    permits.by_ref().take(1).for_each(drop);
    assert!(limit.try_acquire().is_ok());
    drop(permits);
    limit.reconfigure(quick(Config::vegas()).floor(30).initial(40)).unwrap();
    assert_eq!((limit.limit(), limit.in_flight(), base(&limit)), (30, 0, None), "another algorithm knows nothing yet");
    assert_eq!(limit.snapshot().algorithm, "vegas");
    let error = limit.reconfigure(Config::new().floor(0)).unwrap_err();
    assert_eq!((error.field(), limit.limit()), ("floor", 30));
    assert_eq!(limit.config(), quick(Config::vegas()).floor(30).initial(40));
}

/// Says what it is told to, and counts how often it is asked.
#[derive(Clone)]
struct Told {
    answer: f64,
    asked: Arc<AtomicUsize>,
    handle: Arc<std::sync::OnceLock<Handle>>,
}

impl Algorithm for Told {
    fn next_limit(&mut self, _: f64, sample: &Sample) -> f64 {
        self.asked.fetch_add(1, SeqCst);
        // It may look at the limit it serves: it is asked under no lock.
        if let Some(handle) = self.handle.get() {
            assert!(handle.snapshot().limit > 0 && handle.config().check().is_ok());
            handle.reconfigure(handle.config()).unwrap();
        }
        assert!(!sample.overloaded, "told to panic by a drop");
        self.answer
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_of_ones_own_is_kept_in_bounds_and_its_panic_leaves_the_limit_right() {
    for (answer, expected) in
        [(7.9, 7), (1e300, 50), (f64::INFINITY, 50), (0.0, 5), (-1e300, 5), (f64::NAN, 20), (f64::NEG_INFINITY, 5)]
    {
        let told = Told { answer, asked: Arc::default(), handle: Arc::default() };
        let limit = Handle::new("x", quick(Config::custom(told.clone())).initial(20).ceiling(50));
        told.handle.set(limit.clone()).unwrap();
        round(&limit, ms(10)).await;
        assert_eq!((limit.limit(), told.asked.load(SeqCst)), (expected, 1), "{answer}");
        assert_eq!((limit.snapshot().algorithm, limit.in_flight()), ("custom", 0));
        let permits = fill(&limit);
        advance(ms(10)).await;
        assert!(!panics(|| permits.into_iter().for_each(Permit::dropped)), "the call that closes the window is well");
        assert_eq!((limit.limit(), limit.in_flight()), (expected, 0));
        round(&limit, ms(10)).await;
        assert!(told.asked.load(SeqCst) >= 3, "it is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_gives_its_place_back_and_teaches_nothing() {
    for polls in 0..4 {
        let limit = Handle::new("x", quick(Config::aimd()));
        let service = service_fn(|_: u32| async {
            tokio::time::sleep(ms(5)).await;
            tokio::time::sleep(ms(5)).await;
            Answer::Ok(0)
        });
        let mut call = task::spawn(ConcurrencyLayer::new(limit.clone()).layer(service).oneshot(1));
        let mut queued = task::spawn(ConcurrencyLayer::new(limit.clone()).queued().layer(service).oneshot(1));
        let mut run = task::spawn(limit.run(async {
            tokio::time::sleep(ms(20)).await;
            Ok::<_, Boom>(())
        }));
        for _ in 0..polls {
            let _ = (call.poll(), queued.poll(), run.poll());
            advance(ms(4)).await;
        }
        assert_eq!(limit.in_flight(), if polls == 0 { 0 } else { 3 });
        drop((call, queued, run));
        let snapshot = limit.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.latency, snapshot.limit), (0, None, 20), "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_place_back_and_goes_on() {
    let limit = Handle::new("x", quick(Config::aimd()).drops(Drops::Every));
    let mut service = ConcurrencyLayer::new(limit.clone())
        .layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    advance(ms(5)).await;
    assert!(panics(|| service.call(1)));
    let run = tokio::spawn({
        let limit = limit.clone();
        async move { limit.run(async { panic!("in the future") as Result<(), Boom> }).await }
    });
    assert!(run.await.unwrap_err().is_panic());
    let held = limit.try_acquire().unwrap();
    assert!(panics(move || {
        let _held = held;
        panic!("beside a permit");
    }));
    assert_eq!((limit.in_flight(), limit.snapshot().dropped), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_turns_away_tells_it_and_keeps_the_error() {
    let limit = Handle::new("x", Config::new().initial(1).floor(1));
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    limit.observe(move |event: &Event<'_>| {
        assert_eq!(event.policy(), "x");
        count.fetch_add(1, SeqCst);
    });
    let layer = ConcurrencyLayer::new(limit.clone());
    let hangs = layer.layer(service_fn(|_: u32| pending::<Answer>()));
    let mut first = task::spawn(hangs.clone().oneshot(1));
    assert_pending!(first.poll());
    let Err(Error::Rejected(rejection)) = hangs.clone().oneshot(1).await else { panic!("one too many") };
    assert_eq!((rejection.reason(), rejection.to_string().as_str()), (Reason::Overloaded, "\"x\" is overloaded"));
    let queued = layer.clone().queued().layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert!(queued.clone().oneshot(5).await.unwrap_err().is_rejection(), "it queues nobody");
    drop(first);
    assert_eq!(queued.oneshot(5).await, Ok(5));
    let failing = layer.layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
    assert_eq!(failing.oneshot(1).await, Err(Error::Inner(Boom)));
    assert_eq!(limit.run(async { Err::<(), _>(Boom) }).await, Err(Error::Inner(Boom)));
    assert_eq!((told.load(SeqCst), limit.snapshot().rejected, limit.in_flight()), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_no_place() {
    let limit = Handle::new("x", Config::new().initial(1).floor(1));
    let layer = ConcurrencyLayer::new(limit.clone());
    let make = || tower_test::mock::Spawn::new(layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))));
    let (mut a, mut b) = (make(), make());
    assert_ready_ok!(a.poll_ready());
    assert_ready_ok!(b.poll_ready());
    assert_eq!(limit.in_flight(), 0);
    assert_eq!(b.call(2).await, Ok(2));
}

#[test]
fn on_many_threads_no_more_run_than_may_and_none_is_lost() {
    let limit = Handle::new("x", quick(Config::aimd()).initial(10).ceiling(10));
    let (running, most, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (limit, running, most, done) = (&limit, &running, &most, &done);
            scope.spawn(move || {
                for call in 0..20_000 {
                    let Ok(permit) = limit.try_acquire() else { continue };
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    running.fetch_sub(1, SeqCst);
                    match (thread + call) % 4 {
                        0 => permit.dropped(),
                        1 => drop(permit),
                        _ => permit.success(),
                    }
                    done.fetch_add(1, SeqCst);
                    if thread == 0 && call % 100 == 0 {
                        limit.reconfigure(quick(Config::aimd()).initial(5).ceiling(5 + call % 6)).unwrap();
                    }
                }
            });
        }
    });
    let snapshot = limit.snapshot();
    assert!(most.load(SeqCst) <= 10, "{most:?}");
    assert_eq!(done.load(SeqCst) as u64 + snapshot.rejected, 160_000);
    assert_eq!(snapshot.in_flight, 0);
    assert!((5..=10).contains(&snapshot.limit));
}

#[test]
fn a_call_with_a_free_place_allocates_nothing() {
    let mut service = ConcurrencyLayer::new(Handle::new("x", Config::new().window(Duration::from_secs(60))))
        .layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut call = || assert!(poll_once(&mut service.call(1)).is_ready());
    (0..3).for_each(|_| call());
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total, 0);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let new = Config::new;
    let aimd = |aimd| Config::new().algorithm(aimd);
    let vegas = |vegas| Config::new().algorithm(vegas);
    let gradient = |gradient| Config::new().algorithm(gradient);
    for (config, field, value, why) in [
        (new().floor(0), "floor", "0", "must be in 1..=1000000"),
        (new().ceiling(0), "ceiling", "0", "must be in 1..=1000000"),
        (new().ceiling(u32::MAX), "ceiling", "4294967295", "must be in 1..=1000000"),
        (new().floor(30).ceiling(25), "floor", "30", "must be at most the ceiling, 25"),
        (new().initial(4), "initial", "4", "must be in 5..=1000, from the floor to the ceiling"),
        (new().initial(1_001), "initial", "1001", "must be in 5..=1000, from the floor to the ceiling"),
        (new().window(ms(0)), "window", "0s", "must be at least 1ms"),
        (new().min_calls(0), "min_calls", "0", "must be in 1..=10000"),
        (new().percentile(0.0), "percentile", "0", "must be in (0, 1]"),
        (new().percentile(99.0), "percentile", "99", "must be in (0, 1]; did you mean 0.99? (percent given)"),
        (new().percentile(f64::NAN), "percentile", "NaN", "must be a finite number in (0, 1]"),
        (new().tolerated_drops(-0.1), "tolerated_drops", "-0.1", "must be a finite number in [0, 1]"),
        (aimd(Aimd::new().increase(0)), "increase", "0", "must be in 1..=1000"),
        (aimd(Aimd::new().max_latency(ms(0))), "max_latency", "0s", "must be at least 1ms"),
        (vegas(Vegas::new().queue(0, 5)), "alpha", "0", "must be in 1..=1000"),
        (vegas(Vegas::new().queue(7, 6)), "alpha", "7", "must be at most beta, 6"),
        (vegas(Vegas::new().relearn_every(ms(0))), "relearn_every", "0s", "must be at least 1ms"),
        (vegas(Vegas::new().backoff(0.1)), "backoff", "0.1", "must be a number in [0.5, 1)"),
        (gradient(Gradient::new().tolerance(0.9)), "tolerance", "0.9", "must be in 1..=10"),
        (gradient(Gradient::new().tolerance(f64::NAN)), "tolerance", "NaN", "must be in 1..=10"),
        (gradient(Gradient::new().smoothing(0.0)), "smoothing", "0", "must be in (0, 1]"),
        (gradient(Gradient::new().headroom(0)), "headroom", "0", "must be in 1..=1000"),
        (gradient(Gradient::new().history(9)), "history", "9", "must be in 10..=100000"),
        (gradient(Gradient::new().remeasure_every(ms(0))), "remeasure_every", "0s", "must be at least 1ms"),
        (gradient(Gradient::new().remeasure_calls(0)), "remeasure_calls", "0", "must be in 1..=10000"),
        (gradient(Gradient::new().remeasure_jitter(2.0)), "remeasure_jitter", "2", "must be a finite number in [0, 1]"),
    ] {
        let error = Handle::try_new("x", config.clone()).unwrap_err();
        assert_eq!((error.field(), error.value(), error.why()), (field, value, why));
        assert!(panics(|| Handle::new("x", config)));
    }
    let error = Handle::try_new("a b", new().floor(0).window(ms(0))).unwrap_err();
    assert_eq!(error.problems().map(mainstay::ConfigError::field).collect::<Vec<_>>(), ["name", "floor", "window"]);
}

#[test]
fn files_say_which_algorithm_and_have_only_its_parameters() {
    for (toml, expected) in [
        ("kind = 'pid'", "unknown variant `pid`, expected one of `aimd`, `vegas`, `gradient`, `custom`"),
        ("kind = 'custom'", "kind = custom: code cannot be read from a file; one of aimd, vegas, gradient"),
        ("kind = 'aimd'\ntolerance = 1.5", "tolerance = 1.5: only a gradient has it"),
        ("kind = 'vegas'\nmax_latency = '5s'", "max_latency = 5s: only an aimd has it"),
        ("alpha = 3", "alpha = 3: only a vegas has it"),
        ("limit = 5", "unknown field `limit`"),
        ("window = 100", "window = 100: missing unit, write \"100s\" or \"100ms\""),
        ("floor = -1", "expected u32"),
        ("floor = 0\nbackoff = 0.3", "backoff = 0.3: must be a number in [0.5, 1); floor = 0: must be in"),
        ("drops = 'some'", "unknown variant `some`, expected `late` or `every`"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    let file = "kind = 'vegas'\ninitial = 30\nalpha = 2\nbeta = 8\nrelearn_every = '1m'\ndrops = 'every'";
    let vegas = Vegas::new().queue(2, 8).relearn_every(Duration::from_secs(60));
    assert_eq!(toml::from_str::<Config>(file).unwrap(), Config::new().algorithm(vegas).initial(30).drops(Drops::Every));
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::new());
    let measure = Gradient::new().remeasure_every(ms(5_000)).remeasure_calls(9).remeasure_jitter(0.5).history(70);
    let aimd = Aimd::new().increase(3).backoff(0.7).max_latency(ms(70));
    for config in [Config::aimd(), Config::vegas(), Config::new(), Config::measured()]
        .into_iter()
        .chain([Config::new().algorithm(measure), Config::new().algorithm(aimd).floor(2).percentile(0.9)])
    {
        assert!(config.check().is_ok());
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
    assert_ready!(task::spawn(ready(())).poll());
}
