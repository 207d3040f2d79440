//! What a second look at the rooms found: load shedding, adaptive concurrency, hedge, fallback.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use mainstay::{
    Error, Priority,
    concurrency::{self, Algorithm, Sample, Vegas},
    fallback::{CacheConfig, Fallback, Strategy},
    hedge,
    load_shed::{self, QueueDelay},
    time::Tick,
};
use tokio_test::{assert_pending, assert_ready_ok, task};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_limit_at_its_floor_grows_again_however_slow_the_service_is() {
    let config = concurrency::Config::aimd().floor(1).initial(1);
    let limit = concurrency::Handle::new("x", config);
    for _ in 0..40 {
        let permit = limit.try_acquire().unwrap();
        assert!(limit.limit() > 1 || limit.try_acquire().is_err(), "another one waits for a place all the time");
        advance(ms(2_000)).await;
        permit.success();
    }
    assert!(limit.limit() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_few_calls_that_nobody_waited_for_move_no_limit() {
    let limit = concurrency::Handle::new("x", concurrency::Config::aimd().floor(1).initial(1));
    for _ in 0..40 {
        let permit = limit.try_acquire().unwrap();
        advance(ms(2_000)).await;
        permit.success();
    }
    assert_eq!(limit.limit(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_of_low_priority_that_wait_do_not_have_higher_ones_shed() {
    let config = load_shed::Config::new()
        .in_flight(1)
        .shares(1.0, 1.0)
        .queue_delay(QueueDelay::new().target(ms(5)).interval(ms(100)).max_queue(100));
    let shedder = load_shed::Handle::new("x", config);
    let (high, low) = (shedder.with_priority(Priority::High), shedder.with_priority(Priority::Low));
    let mut running = Some(high.try_acquire().unwrap());
    let mut lows = Vec::new();
    // High calls wait for 2 ms at most; low ones come all the time, and none of them is ever served.
    for n in 0.. {
        assert!(n < 60, "the queue of the low ones stands after an interval");
        if n % 5 == 0 {
            lows.push(task::spawn(low.acquire()));
        }
        lows.retain_mut(|low| low.poll().is_pending());
        advance(ms(2)).await;
        let mut next = task::spawn(high.acquire());
        assert_pending!(next.poll());
        advance(ms(2)).await;
        drop(running.take());
        running = Some(assert_ready_ok!(next.poll()));
        if shedder.snapshot().standing {
            break;
        }
    }
    let mut burst: Vec<_> = (0..3).map(|_| task::spawn(high.acquire())).collect();
    burst.iter_mut().for_each(|call| assert_pending!(call.poll()));
    advance(ms(20)).await;
    burst.iter_mut().for_each(|call| assert_pending!(call.poll(), "a burst may wait for an interval"));
    drop(running);
    let first = assert_ready_ok!(burst[0].poll());
    drop(first);
    let _ = assert_ready_ok!(burst[1].poll());
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_a_hedge_forgets_the_calls_of_threads_that_make_no_more() {
    let hedge = hedge::Handle::new("x", hedge::Config::new().no_budget());
    let call = |took: u64| {
        let hedge = hedge.clone();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                for _ in 0..1_000 {
                    let answer = hedge.run_any(async |_| {
                        tokio::time::sleep(ms(took)).await;
                        Ok::<_, Boom>(())
                    });
                    answer.await.unwrap();
                }
            });
        }
    };
    std::thread::scope(|scope| scope.spawn(call(300)).join().unwrap());
    assert!(hedge.delay() >= ms(250), "{:?}", hedge.delay());
    // Longer than those calls, which were made on a clock of their own.
    advance(ms(3_600_000)).await;
    assert_eq!(hedge.snapshot().latency, None);
    for _ in 0..50 {
        let answer = hedge.run_any(async |_| {
            tokio::time::sleep(ms(10)).await;
            Ok::<_, Boom>(())
        });
        answer.await.unwrap();
    }
    advance(ms(200)).await;
    assert!(hedge.delay() <= ms(20), "{:?}", hedge.delay());
}

async fn answer<S: Strategy<u32, u32, Error<Boom>>>(strategy: S) -> Answer {
    let handle = mainstay::fallback::Handle::new("x");
    handle.run_for(&strategy, 1, async |_| Err(Error::Inner(Boom))).await
}

#[tokio::test]
async fn a_part_of_a_fallback_that_panics_does_not_cost_the_others() {
    let panics = |_: &u32| -> Option<u32> { panic!("no key") };
    assert_eq!(answer(Fallback::cached(CacheConfig::new(), panics).or(Fallback::value(2))).await.ok(), Some(2));
    assert_eq!(answer(Fallback::value(2).or(Fallback::cached(CacheConfig::new(), panics))).await.ok(), Some(2));
    let unsure = |_: &Error<Boom>| -> bool { panic!("no idea") };
    assert_eq!(answer(Fallback::value(1).when(unsure).or(Fallback::value(2))).await.ok(), Some(2));
    assert!(answer(Fallback::value(1).when(unsure)).await.is_err());
}

/// A key that cannot be hashed at first.
#[derive(Clone, PartialEq, Eq)]
struct Fussy;

static HASHED: AtomicU32 = AtomicU32::new(0);

impl std::hash::Hash for Fussy {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
        assert!(HASHED.fetch_add(1, SeqCst) > 0, "not yet");
    }
}

#[tokio::test]
async fn a_store_that_panics_while_it_learns_does_not_keep_the_next_from_learning() {
    let first = Fallback::cached(CacheConfig::new(), |_: &u32| Some(Fussy));
    let second = Fallback::cached(CacheConfig::new(), |id: &u32| Some(*id));
    let (both, handle) = (first.or(second), mainstay::fallback::Handle::new("x"));
    handle.run_for(&both, 1, async |_| Ok::<_, Error<Boom>>(7)).await.unwrap();
    assert_eq!(handle.run_for(&both, 1, async |_| Err(Error::Inner(Boom))).await.ok(), Some(7));
}

#[test]
fn impossible_numbers_are_refused_by_name_from_code_and_from_files() {
    for nan in ["nan", "inf", "-inf", "-1.0", "1e300"] {
        for field in ["normal_share", "low_share", "throttle.k", "throttle.cap"] {
            let error = toml::from_str::<load_shed::Config>(&format!("{field} = {nan}")).unwrap_err().to_string();
            assert!(error.contains(field), "{field} = {nan}: {error}");
        }
        for field in ["percentile", "tolerated_drops"] {
            let error = toml::from_str::<concurrency::Config>(&format!("{field} = {nan}")).unwrap_err().to_string();
            assert!(error.contains(field), "{field} = {nan}: {error}");
        }
        for field in ["percentile", "budget.ratio"] {
            let error = toml::from_str::<hedge::Config>(&format!("{field} = {nan}")).unwrap_err().to_string();
            assert!(error.contains(field), "{field} = {nan}: {error}");
        }
        let number: f64 = nan.parse().unwrap();
        let gradient = concurrency::Gradient::new().tolerance(number).smoothing(number).remeasure_jitter(number);
        let error = concurrency::Config::new().algorithm(gradient).check().unwrap_err().to_string();
        assert!(["tolerance", "smoothing", "remeasure_jitter"].iter().all(|field| error.contains(field)), "{error}");
    }
    for n in [0, u32::MAX] {
        assert!(load_shed::Config::server(n).check().is_err());
        assert!(load_shed::Config::server(1).queue_delay(QueueDelay::new().max_queue(n)).check().is_err());
        let concurrency = concurrency::Config::new;
        for config in [concurrency().floor(n), concurrency().ceiling(n), concurrency().initial(n)] {
            assert!(config.check().is_err());
        }
        assert!(concurrency().min_calls(n).check().is_err());
        assert!(concurrency().algorithm(Vegas::new().queue(n, n)).check().is_err());
        assert!(hedge::Config::new().attempts(n).check().is_err());
        assert!(hedge::Config::new().min_samples(n).check().is_err());
        assert!(CacheConfig::new().max_entries(n).check().is_err());
    }
    // The smallest share there is still leaves a place.
    let tiny = load_shed::Config::new().in_flight(2).shares(f64::MIN_POSITIVE, f64::MIN_POSITIVE);
    assert!(load_shed::Handle::new("x", tiny).try_acquire().is_ok());
}

#[test]
fn vegas_does_not_take_its_own_queue_for_the_base_latency() {
    let (mut vegas, mut limit, mut now) = (Vegas::new(), 20.0_f64, Tick::from_nanos(0));
    // Ten calls at a time take 10 ms; there is always one more that wants to come in, for an hour.
    for n in 0..36_000 {
        now = now + ms(100);
        let latency = ms(10).mul_f64((limit.floor() / 10.0).max(1.0));
        limit = vegas.next_limit(limit, &Sample::new(latency, limit as u32).at(now)).clamp(5.0, 1_000.0);
        assert!(limit < 40.0, "{limit} after {n} windows");
    }
}
