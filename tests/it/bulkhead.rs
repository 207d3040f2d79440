//! Bulkhead: places, the queue, priorities, and what is left after cancellation.

use std::{
    future::{pending, ready},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use mainstay::{
    Error, Priority, Reason,
    admission::AdmissionLayer,
    bulkhead::{BulkheadLayer, Config, Handle, Readiness},
    time::Tick,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

/// Scenarios for bulkheads and queues that speak of something this bulkhead has not.
pub(crate) const LEFT_OUT: &[(&str, &str)] =
    &[("BH-06", "a share of calls rejected at random as the queue fills; here a queue is full or not")];

/// One place, so many in the queue, without an end to the wait.
fn one_place(max_queue: u32) -> Handle {
    Handle::new("x", Config::new(1).max_queue(max_queue))
}

/// Running and waiting.
fn load(bulkhead: &Handle) -> (u32, u32) {
    let snapshot = bulkhead.snapshot();
    (snapshot.running, snapshot.waiting)
}

#[test]
fn bh_01_places_are_taken_and_given_back() {
    let bulkhead = Handle::new("x", Config::new(2));
    let (first, second) = (bulkhead.try_acquire().unwrap(), bulkhead.try_acquire().unwrap());
    let rejection = bulkhead.try_acquire().unwrap_err();
    assert_eq!((rejection.reason(), rejection.policy()), (Reason::BulkheadFull, "x"));
    drop(first);
    assert_eq!(bulkhead.running(), 1);
    drop(second);
    assert_eq!(bulkhead.running(), 0);
    assert!(bulkhead.try_acquire().is_ok());
    assert_eq!(bulkhead.snapshot().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn bh_01_a_wait_ends_on_time_and_a_cancelled_one_at_once() {
    let bulkhead = Handle::new("x", Config::new(1).max_queue(10).max_wait(ms(50)));
    let held = bulkhead.try_acquire().unwrap();
    let began = Tick::now();
    assert_eq!(bulkhead.acquire().await.unwrap_err().reason(), Reason::BulkheadFull);
    assert_eq!(Tick::now().since(began), ms(50));
    assert_eq!((load(&bulkhead), bulkhead.snapshot().waited_too_long), ((1, 0), 1));
    let mut waits = task::spawn(bulkhead.acquire());
    assert_pending!(waits.poll());
    assert_eq!(load(&bulkhead), (1, 1));
    drop(waits);
    assert_eq!((load(&bulkhead), bulkhead.snapshot().left), ((1, 0), 1));
    drop(held);
    assert_eq!(load(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_together_with_the_limit_wins() {
    let bulkhead = Handle::new("x", Config::new(1).max_queue(1).max_wait(ms(50)));
    let held = bulkhead.try_acquire().unwrap();
    let mut waits = task::spawn(bulkhead.acquire());
    assert_pending!(waits.poll());
    advance(ms(50)).await;
    drop(held);
    assert!(assert_ready!(waits.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_by_priority_and_arrival_and_woken_once() {
    let bulkhead = one_place(10);
    let mut held = Some(bulkhead.try_acquire().unwrap());
    let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal, Priority::High];
    let mut waits: Vec<_> = order.iter().map(|p| task::spawn(bulkhead.with_priority(*p).acquire())).collect();
    waits.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    for served in [2, 4, 1, 3, 0] {
        drop(held.take());
        let woken: Vec<usize> = (0..5).filter(|i| waits[*i].is_woken()).collect();
        assert_eq!(woken, [served]);
        held = Some(assert_ready_ok!(waits[served].poll()));
    }
    assert_eq!(load(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_and_a_granted_place_that_is_not_fetched_goes_on() {
    let bulkhead = one_place(10);
    let held = bulkhead.try_acquire().unwrap();
    let mut first = task::spawn(bulkhead.acquire());
    let mut second = task::spawn(bulkhead.acquire());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(held);
    assert!(bulkhead.try_acquire().is_err(), "the place is granted to the first who waits");
    drop(first);
    assert!(second.is_woken(), "who leaves with a granted place passes it on");
    let permit = assert_ready_ok!(second.poll());
    assert_eq!(load(&bulkhead), (1, 0));
    drop(permit);
    assert_eq!(load(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bh_07_the_reserve_is_for_high_priority_only() {
    let bulkhead = Handle::new("x", Config::new(3).reserve(1).max_queue(5));
    let high = bulkhead.with_priority(Priority::High);
    let _two = (bulkhead.try_acquire().unwrap(), bulkhead.try_acquire().unwrap());
    assert!(bulkhead.try_acquire().is_err());
    let mut waits = task::spawn(bulkhead.acquire());
    assert_pending!(waits.poll());
    let third = high.try_acquire().expect("past a lower one that may not have this place");
    assert!(high.try_acquire().is_err());
    drop(third);
    assert!(!waits.is_woken(), "the reserve is free again, and still not for it");
    assert_eq!(load(&bulkhead), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_turns_away_at_once() {
    let bulkhead = one_place(2);
    let _held = bulkhead.try_acquire().unwrap();
    let mut waits = [task::spawn(bulkhead.acquire()), task::spawn(bulkhead.acquire())];
    waits.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    assert!(assert_ready!(task::spawn(bulkhead.acquire()).poll()).is_err());
    assert_eq!(bulkhead.snapshot().queued, 2);
}

#[tokio::test(start_paused = true)]
async fn limits_change_under_traffic_without_losing_a_place() {
    let bulkhead = Handle::new("x", Config::new(4).max_queue(10));
    let mut held: Vec<_> = (0..4).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.reconfigure(Config::new(1).max_queue(10)).unwrap();
    let mut waits = task::spawn(bulkhead.acquire());
    assert_pending!(waits.poll());
    for left in [3, 2, 1] {
        drop(held.pop());
        assert_eq!((bulkhead.running(), waits.is_woken()), (left, false));
    }
    drop(held.pop());
    assert!(waits.is_woken());
    let _permit = assert_ready_ok!(waits.poll());
    let mut more: Vec<_> = (0..3).map(|_| task::spawn(bulkhead.acquire())).collect();
    more.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    bulkhead.reconfigure(Config::new(3).max_queue(10)).unwrap();
    assert_eq!(more.iter().filter(|wait| wait.is_woken()).count(), 2, "two more places, two are served");
    assert_eq!(load(&bulkhead), (3, 1));
    assert_eq!(bulkhead.reconfigure(Config::new(0)).unwrap_err().field(), "limit");
    assert_eq!(bulkhead.snapshot().limit, 3);
}

#[test]
fn bh_05_no_more_run_than_may_and_nobody_is_lost() {
    let bulkhead = Handle::new("x", Config::new(10));
    let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let (done, rejected) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let Ok(permit) = bulkhead.try_acquire() else {
                        rejected.fetch_add(1, SeqCst);
                        continue;
                    };
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    running.fetch_sub(1, SeqCst);
                    drop(permit);
                    done.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 10);
    assert_eq!(done.load(SeqCst) + rejected.load(SeqCst), 100_000);
    assert_eq!(load(&bulkhead), (0, 0));
}

/// Numbers that look random and are the same every time.
fn next(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as u32
}

/// How many are in use by our own count, and the most there were.
#[derive(Default)]
struct InUse {
    now: AtomicU32,
    most: AtomicU32,
}

impl InUse {
    fn more(&self) {
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn less(&self, places: usize) {
        self.now.fetch_sub(places as u32, SeqCst);
    }
}

/// One thread that takes and gives back at random, and holds up to `most` places; how often it was turned away.
fn take_and_give(bulkhead: &Handle, in_use: &InUse, (mut seed, most): (u64, usize), steps: u32) -> u32 {
    let mut held = Vec::new();
    let mut turned_away = 0;
    for _ in 0..steps {
        let bulkhead = bulkhead.with_priority([Priority::Normal, Priority::High][next(&mut seed) as usize % 2]);
        match next(&mut seed) % 16 {
            0..9 if held.len() < most => match bulkhead.try_acquire() {
                Ok(permit) => {
                    in_use.more();
                    held.push(permit);
                }
                Err(_) => turned_away += 1,
            },
            // Through the queue: with nothing held, so that no two threads wait for each other; or given up at once.
            9 => {
                in_use.less(held.len());
                held.clear();
                if let Ok(permit) = tokio_test::block_on(bulkhead.acquire()) {
                    in_use.more();
                    held.push(permit);
                }
            }
            10 => drop(task::spawn(bulkhead.acquire()).poll()),
            _ if !held.is_empty() => {
                in_use.less(1);
                let any = next(&mut seed) as usize % held.len();
                drop(held.swap_remove(any));
            }
            _ => {}
        }
    }
    in_use.less(held.len());
    turned_away
}

/// Eight threads at it, and what else is to happen meanwhile.
fn crowd(bulkhead: &Handle, in_use: &InUse, most: usize, meanwhile: impl FnOnce()) -> u32 {
    std::thread::scope(|scope| {
        let threads = (1..=8).map(|seed| {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let _entered = runtime.enter();
                take_and_give(bulkhead, in_use, (seed, most), 3_000)
            })
        });
        let threads: Vec<_> = threads.collect();
        meanwhile();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Nothing runs and nobody waits; all places can be taken, on any thread, and no more.
fn assert_whole(bulkhead: &Handle, limit: usize) {
    assert_eq!(load(bulkhead), (0, 0));
    let high = bulkhead.with_priority(Priority::High);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| (0..limit / 2).map(|_| high.try_acquire().unwrap()).collect::<Vec<_>>());
        let mut taken = taken.join().unwrap();
        taken.extend((limit / 2..limit).map(|_| high.try_acquire().unwrap()));
        assert!(high.try_acquire().is_err());
    });
    assert_eq!(load(bulkhead), (0, 0));
}

#[test]
fn a_crowd_gets_every_place_and_none_twice() {
    for limit in [1, 8, 16, 40, 64, 200] {
        let bulkhead = Handle::new("x", Config::new(limit).max_queue(8));
        let in_use = InUse::default();
        let enough = limit as usize / 8;
        // A call that goes through the queue and is given up holds one more.
        let turned_away = crowd(&bulkhead, &in_use, enough.saturating_sub(1), || ());
        assert_eq!(turned_away, 0, "all of them together ask for no more than {limit}");
        crowd(&bulkhead, &in_use, 2 * enough + 2, || ());
        assert!(in_use.most.load(SeqCst) <= limit, "{} of {limit}", in_use.most.load(SeqCst));
        assert_whole(&bulkhead, limit as usize);
    }
}

#[test]
fn a_crowd_loses_no_place_while_the_limits_change() {
    let config = |limit: u32| Config::new(limit).max_queue(8);
    let bulkhead = Handle::new("x", config(200));
    let in_use = InUse::default();
    crowd(&bulkhead, &in_use, 30, || {
        let mut seed = 9;
        for _ in 0..300 {
            let limit = next(&mut seed) % 200 + 1;
            let reserve = next(&mut seed) % limit;
            let readiness = [Readiness::Reject, Readiness::Reject, Readiness::Unready][next(&mut seed) as usize % 3];
            bulkhead.reconfigure(config(limit).reserve(reserve).readiness(readiness)).unwrap();
            std::thread::yield_now();
        }
    });
    assert!(in_use.most.load(SeqCst) <= 200);
    for limit in [1, 20, 200] {
        bulkhead.reconfigure(config(limit)).unwrap();
        assert_whole(&bulkhead, limit as usize);
    }
}

#[test]
fn waiting_on_many_threads_everybody_is_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let bulkhead = Handle::new("x", Config::new(3).max_queue(1_000));
    runtime.block_on(async {
        let calls: Vec<_> = (0..400)
            .map(|n| {
                let bulkhead = bulkhead.with_priority([Priority::Low, Priority::Normal, Priority::High][n % 3]);
                tokio::spawn(async move {
                    let permit = bulkhead.acquire().await.unwrap();
                    tokio::task::yield_now().await;
                    drop(permit);
                })
            })
            .collect();
        // Some give up half-way.
        calls.iter().step_by(7).for_each(tokio::task::JoinHandle::abort);
        for call in calls {
            let _ = call.await;
        }
    });
    assert_eq!(load(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bh_09_an_idle_ready_service_holds_no_place() {
    let bulkhead = one_place(0);
    let layer = BulkheadLayer::new(bulkhead.clone());
    let make = || tower_test::mock::Spawn::new(layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))));
    let (mut a, mut b) = (make(), make());
    assert_ready_ok!(a.poll_ready());
    assert_ready_ok!(b.poll_ready());
    assert_eq!(bulkhead.running(), 0);
    assert_eq!(b.call(2).await, Ok(2));
    assert_eq!(bulkhead.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_turns_away_and_with_a_queue_it_waits() {
    let bulkhead = one_place(1);
    let layer = BulkheadLayer::new(bulkhead.clone());
    let hangs = layer.layer(service_fn(|_: u32| pending::<Answer>()));
    let mut first = task::spawn(hangs.clone().oneshot(1));
    assert_pending!(first.poll());
    let error = hangs.oneshot(1).await.unwrap_err();
    assert_eq!(error.to_string(), "bulkhead \"x\" is full");
    let quick = layer.clone().queued().layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut waits = task::spawn(quick.clone().oneshot(5));
    assert_pending!(waits.poll());
    assert!(quick.oneshot(6).await.unwrap_err().is_rejection(), "the queue is full");
    drop(first);
    assert!(waits.is_woken());
    assert_eq!(assert_ready!(waits.poll()), Ok(5));
    assert_eq!(load(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_goes_to_the_clone_that_was_made_ready() {
    let bulkhead = one_place(1);
    let (mock, mut upstream) = tower_test::mock::pair::<u32, u32>();
    let mut service = BulkheadLayer::new(bulkhead.clone()).queued().layer(mock);
    upstream.allow(1);
    let held = bulkhead.try_acquire().unwrap();
    let mut ready = task::spawn(());
    assert_ready_ok!(ready.enter(|cx, _| service.poll_ready(cx)));
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    drop(held);
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    assert_eq!(request, 7);
    respond.send_response(8);
    assert_eq!(assert_ready!(call.poll()).unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_queued_call_leaves_nothing() {
    for polls in 0..5 {
        let bulkhead = one_place(1);
        let held = bulkhead.try_acquire().unwrap();
        let service = service_fn(|_: u32| async {
            tokio::task::yield_now().await;
            Answer::Ok(0)
        });
        let mut call = task::spawn(BulkheadLayer::new(bulkhead.clone()).queued().layer(service).oneshot(1));
        let mut held = Some(held);
        for poll in 0..polls {
            if poll == 2 {
                held = None;
            }
            let _ = call.poll();
        }
        drop(call);
        drop(held);
        assert_eq!(load(&bulkhead), (0, 0), "dropped after {polls} polls");
        assert!(bulkhead.try_acquire().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_place_back() {
    let bulkhead = one_place(0);
    let layer = BulkheadLayer::new(bulkhead.clone());
    let mut service = layer.layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| service.call(1)));
    assert_eq!(bulkhead.running(), 0);
    let run = tokio::spawn({
        let bulkhead = bulkhead.clone();
        async move { bulkhead.run(async { panic!("in the future") as Result<(), Boom> }).await }
    });
    assert!(run.await.unwrap_err().is_panic());
    assert_eq!(bulkhead.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn behind_a_breaker_a_full_bulkhead_is_not_the_services_failure_and_the_probe_comes_back() {
    let (breaker, bulkhead) = (mainstay::breaker::Handle::new("b", consecutive(1)), one_place(1));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    let held = bulkhead.try_acquire().unwrap();
    let layer = AdmissionLayer::new((breaker.clone(), bulkhead.clone()));
    let service = service_fn(|n: u32| ready(Answer::Ok(n)));
    assert!(layer.layer(service).oneshot(1).await.unwrap_err().is_rejection());
    assert_eq!((breaker.snapshot().probes_running, breaker.snapshot().totals.calls.failures()), (0, 1));
    let mut waits = task::spawn(layer.queued().layer(service).oneshot(2));
    assert_pending!(waits.poll());
    assert_eq!((breaker.snapshot().probes_running, load(&bulkhead)), (1, (1, 1)));
    drop(waits);
    assert_eq!((breaker.snapshot().probes_running, load(&bulkhead)), (0, (1, 0)));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn unready_mode_waits_in_poll_ready_and_still_takes_nothing() {
    let bulkhead = Handle::new("x", Config::new(1).readiness(Readiness::Unready));
    let layer = BulkheadLayer::new(bulkhead.clone());
    let mut service = tower_test::mock::Spawn::new(layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))));
    let held = bulkhead.try_acquire().unwrap();
    assert_pending!(service.poll_ready());
    drop(held);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(bulkhead.running(), 0);
    assert_eq!(service.call(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn run_waits_for_a_place_and_keeps_the_error() {
    let bulkhead = one_place(1);
    let held = bulkhead.try_acquire().unwrap();
    let mut run = task::spawn(bulkhead.run(async { Err::<(), _>(Boom) }));
    assert_pending!(run.poll());
    drop(held);
    assert_eq!(assert_ready!(run.poll()), Err(Error::Inner(Boom)));
}

#[test]
fn a_call_with_a_free_place_allocates_nothing() {
    let mut service =
        BulkheadLayer::new(Handle::new("x", Config::new(8))).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut call = || assert!(poll_once(&mut service.call(1)).is_ready());
    (0..3).for_each(|_| call());
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total, 0);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    for (config, field, value, why) in [
        (Config::new(0), "limit", "0", "must be in 1..=1000000"),
        (Config::new(u32::MAX), "limit", "4294967295", "must be in 1..=1000000"),
        (Config::new(1).max_queue(1_000_001), "max_queue", "1000001", "must be in 0..=1000000"),
        (Config::new(1).max_wait(ms(0)), "max_wait", "0s", "must be at least 1ms"),
        (Config::new(5).reserve(5), "reserve", "5", "must be less than the limit, 5"),
    ] {
        let error = Handle::try_new("x", config.clone()).unwrap_err();
        assert_eq!((error.field(), error.value(), error.why()), (field, value, why));
        assert!(panics(|| Handle::new("x", config)));
    }
    for (toml, expected) in [
        ("limit = 0", "limit = 0: must be in 1..=1000000"),
        ("", "missing field `limit`"),
        ("limit = 5\nmax_wait = 10", "max_wait = 10: missing unit, write \"10s\" or \"10ms\""),
        ("limit = -1", "expected u32"),
        ("limit = 5\nqueue = 1", "unknown field `queue`"),
        ("limit = 2\nreserve = 2\nmax_queue = 2000000", "max_queue = 2000000"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    for preset in [Config::basic(), Config::tenant(), Config::operation(), Config::priority()] {
        assert!(preset.check().is_ok());
        let json = serde_json::to_string(&preset).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), preset);
    }
}
