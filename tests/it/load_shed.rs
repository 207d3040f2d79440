//! Load shedding: the three triggers, priorities, what is not ready, and what is left after cancellation.

use std::{
    future::{Future, pending, poll_fn, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{
    BoxError, Error, OnOverload, Outcome, Priority, Reason,
    admission::AdmissionLayer,
    classify_fn,
    load_shed::{Config, Handle, LoadShedLayer, Permit, QueueDelay, Shed, ShedUnreadyLayer, Throttle},
    observe::Event,
    priority_fn,
    time::Tick,
};
use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

use crate::support::*;

/// Scenarios for shedding and adaptive limits that speak of something we have not.
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[(
    "AD-10",
    "a budget of how many expired calls are turned away; here the timeout turns each of them away, for nobody waits",
)];

/// All priorities may take all places.
fn places(limit: u32) -> Config {
    Config::new().in_flight(limit).shares(1.0, 1.0)
}

fn queue(target: u64, interval: u64, max_queue: u32) -> QueueDelay {
    QueueDelay::new().target(ms(target)).interval(ms(interval)).max_queue(max_queue)
}

fn fill(shedder: &Handle) -> Vec<Permit> {
    std::iter::from_fn(|| shedder.try_acquire().ok()).collect()
}

/// Running and waiting.
fn load(shedder: &Handle) -> (u32, u32) {
    let snapshot = shedder.snapshot();
    (snapshot.in_flight, snapshot.waiting)
}

/// How many calls were shed, as (in flight, queue delay, throttle, not ready).
fn shed(shedder: &Handle) -> (u64, u64, u64, u64) {
    let Shed { in_flight, queue_delay, throttle, not_ready, .. } = shedder.snapshot().shed;
    (in_flight, queue_delay, throttle, not_ready)
}

#[test]
fn places_are_taken_up_to_the_limit_and_given_back() {
    let shedder = Handle::new("x", places(2));
    let permits = fill(&shedder);
    assert_eq!((permits.len(), load(&shedder), shed(&shedder)), (2, (2, 0), (1, 0, 0, 0)));
    let rejection = shedder.try_acquire().unwrap_err();
    assert_eq!((rejection.reason(), rejection.policy()), (Reason::Overloaded, "x"));
    drop(permits);
    assert_eq!(load(&shedder), (0, 0));
    let json = serde_json::to_value(shedder.snapshot()).unwrap();
    assert_eq!(
        (&json["kind"], &json["shed"]["in_flight"], &json["limit"]),
        (&"load_shed".into(), &2.into(), &2.into())
    );
    let open = Handle::new("x", Config::new());
    let permits: Vec<_> = (0..10_000).map(|_| open.try_acquire().unwrap()).collect();
    assert_eq!((load(&open), open.snapshot().limit), ((0, 0), None), "nothing is switched on");
    drop(permits);
}

#[test]
fn bh_07_lower_priorities_are_shed_first_and_all_when_it_is_full() {
    let shedder = Handle::new("x", Config::new().in_flight(10));
    let [low, high] = [Priority::Low, Priority::High].map(|priority| shedder.with_priority(priority));
    let mut permits = fill(&low);
    assert_eq!(permits.len(), 7);
    permits.extend(fill(&shedder));
    assert_eq!(permits.len(), 9);
    permits.extend(fill(&high));
    assert_eq!((permits.len(), shed(&shedder)), (10, (3, 0, 0, 0)));
    permits.truncate(8);
    assert!(low.try_acquire().is_err() && shedder.try_acquire().is_ok());
    permits.truncate(6);
    assert!(low.try_acquire().is_ok());
}

/// Jobs of so many milliseconds, that come at these times. Those that are done, in the order of their beginning.
async fn jobs(shedder: &Handle, jobs: &[(u64, u64)]) -> Vec<usize> {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let start = Tick::now();
    let tasks: Vec<_> = (jobs.iter().copied().enumerate())
        .map(|(number, (at, took))| {
            let (shedder, begun) = (shedder.clone(), Arc::clone(&begun));
            tokio::spawn(async move {
                sleep(ms(at)).await;
                let job = async {
                    begun.lock().unwrap().push(number);
                    sleep(ms(took)).await;
                    Ok::<(), Boom>(())
                };
                shedder.run(job).await.map_or(None, |()| Some(number))
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        done.extend(task.await.unwrap());
    }
    assert!(Tick::now() > start);
    let begun = begun.lock().unwrap().clone();
    assert_eq!(
        {
            let mut all = begun.clone();
            all.sort_unstable();
            all
        },
        done,
        "what has begun is done"
    );
    begun
}

#[tokio::test(start_paused = true)]
async fn bh_08_first_come_first_served_while_calm_and_the_newest_first_while_the_queue_stands() {
    let new = || Handle::new("x", places(1).queue_delay(queue(10, 50, 100)));
    let calm: Vec<(u64, u64)> = (0..10).map(|n| (2 * n, 1)).collect();
    assert_eq!(jobs(&new(), &calm).await, (0..10).collect::<Vec<_>>());
    let burst: Vec<(u64, u64)> = (0..10).map(|_| (0, 5)).collect();
    assert_eq!(jobs(&new(), &burst).await, (0..10).collect::<Vec<_>>(), "a burst is over within an interval");

    // A millisecond later each than in the source, so that no job ends in the moment in which another has waited too
    // long.
    let shedder = new();
    let slow = (0..10).map(|n| (if n == 0 { 0 } else { 10 * n + 1 }, 100));
    let quick = (0..5).map(|n| (291 + 2 * n, 1));
    let done = jobs(&shedder, &slow.chain(quick).collect::<Vec<_>>()).await;
    assert_eq!(done, [0, 9, 10, 11, 12, 13, 14]);
    assert_eq!((shed(&shedder), load(&shedder)), ((0, 8, 0, 0), (0, 0)));
    assert_eq!(shedder.snapshot().queued, 9);
}

#[tokio::test(start_paused = true)]
async fn bh_03_a_queue_that_stands_serves_the_last_first() {
    let new = || Handle::new("x", places(4).queue_delay(queue(100, 1_000, 10)));
    let shedder = new();
    let mut held = fill(&shedder);
    let began = Tick::now();
    assert!(shedder.acquire().await.is_err());
    assert_eq!((Tick::now().since(began), shed(&shedder)), (ms(1_000), (1, 1, 0, 0)));
    let mut waits = task::spawn(shedder.acquire());
    assert_pending!(waits.poll());
    advance(ms(250)).await;
    held.pop();
    assert!(waits.is_woken());
    held.push(assert_ready_ok!(waits.poll()));

    let mut waiting: Vec<_> = (0..10).map(|_| task::spawn(shedder.acquire())).collect();
    waiting.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    assert_ready_err!(task::spawn(shedder.acquire()).poll());
    assert_eq!(shed(&shedder), (2, 1, 0, 0));
    drop(waiting);
    assert_eq!((load(&shedder), shedder.snapshot().left), ((4, 0), 10));

    // One waits from the start, another from the middle of the interval on: the queue stands, and is not empty.
    let mut oldest = [task::spawn(shedder.acquire()), task::spawn(shedder.acquire())];
    for wait in &mut oldest {
        assert_pending!(wait.poll());
        advance(ms(500)).await;
    }
    assert!(!shedder.snapshot().standing);
    advance(ms(100)).await;
    assert_ready_err!(oldest[0].poll());
    assert!(shedder.snapshot().standing);
    let mut waiting: Vec<_> = (0..5).map(|_| task::spawn(shedder.acquire())).collect();
    waiting.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    for served in [4, 3, 2, 1, 0] {
        advance(ms(10)).await;
        held.pop();
        assert_eq!((0..5).filter(|i| waiting[*i].is_woken()).collect::<Vec<_>>(), [served]);
        held.push(assert_ready_ok!(waiting[served].poll()));
    }
    assert!(shedder.snapshot().standing && !oldest[1].is_woken());
    held.pop();
    assert!(oldest[1].is_woken() && !shedder.snapshot().standing);
    drop((oldest, held));

    // The place comes in the moment in which all have waited too long: none is lost.
    for _ in 0..10 {
        let shedder = Handle::new("x", places(4).queue_delay(queue(10, 10, 10)));
        let mut held = fill(&shedder);
        let mut waiting: Vec<_> = (0..10).map(|_| task::spawn(shedder.acquire())).collect();
        waiting.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
        advance(ms(10)).await;
        held.pop();
        let served: Vec<_> = waiting.iter_mut().filter_map(|wait| assert_ready!(wait.poll()).ok()).collect();
        assert_eq!((served.len(), load(&shedder)), (1, (4, 0)));
        drop(served);
        assert_eq!(load(&shedder), (3, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_queue_stands_nobody_waits_for_long_and_an_empty_one_is_calm_again() {
    let shedder = Handle::new("x", places(1).queue_delay(queue(5, 100, 100)));
    let held = shedder.try_acquire().unwrap();
    let wait = async |shedder: &Handle| {
        let began = Tick::now();
        assert!(shedder.acquire().await.is_err());
        Tick::now().since(began)
    };
    let others = tokio::spawn({
        let shedder = shedder.clone();
        async move {
            let waits = (0..20).map(|n| {
                let shedder = shedder.clone();
                tokio::spawn(async move {
                    sleep(ms(20 * n)).await;
                    let _ = shedder.acquire().await;
                })
            });
            for wait in waits.collect::<Vec<_>>() {
                wait.await.unwrap();
            }
        }
    });
    sleep(ms(1)).await;
    assert_eq!(wait(&shedder).await, ms(100), "calm");
    sleep(ms(20)).await;
    assert_eq!(wait(&shedder).await, ms(5), "it stands");
    others.await.unwrap();
    assert_eq!(wait(&shedder).await, ms(100), "it has been empty");
    drop(held);
    assert_eq!(load(&shedder), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_whose_oldest_has_just_come_is_calm_whoever_left_it() {
    let shedder = Handle::new("x", places(1).queue_delay(queue(10, 50, 100)));
    let held = shedder.try_acquire().unwrap();
    let mut first = task::spawn(shedder.acquire());
    assert_pending!(first.poll());
    advance(ms(29)).await;
    let mut second = task::spawn(shedder.acquire());
    assert_pending!(second.poll());
    advance(ms(1)).await;
    drop(first);
    advance(ms(40)).await;
    assert!(!shedder.snapshot().standing, "the second has waited too long for 31 ms");
    drop(held);
    assert!(second.is_woken());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_by_priority_and_nobody_overtakes() {
    let shedder = Handle::new("x", places(1).queue_delay(queue(5, 100, 10)));
    let mut held = Some(shedder.try_acquire().unwrap());
    let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal, Priority::High];
    let mut waits: Vec<_> = order.iter().map(|p| task::spawn(shedder.with_priority(*p).acquire())).collect();
    waits.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    for served in [2, 4, 1, 3, 0] {
        drop(held.take());
        assert!(shedder.try_acquire().is_err(), "the place is granted to one who waits");
        let woken: Vec<usize> = (0..5).filter(|i| waits[*i].is_woken()).collect();
        assert_eq!(woken, [served]);
        held = Some(assert_ready_ok!(waits[served].poll()));
    }
    // One of low priority waits for a place of its share, and one of high priority need not.
    let shedder = Handle::new("x", Config::new().in_flight(10).queue_delay(queue(5, 100, 10)));
    let (low, high) = (shedder.with_priority(Priority::Low), shedder.with_priority(Priority::High));
    let mut permits = fill(&low);
    let mut waits = task::spawn(low.acquire());
    assert_pending!(waits.poll());
    permits.push(high.try_acquire().expect("past a lower one that may not have this place"));
    let mut others = task::spawn(shedder.acquire());
    permits.push(assert_ready_ok!(others.poll()));
    permits.truncate(7);
    assert!(!waits.is_woken(), "its share is taken");
    permits.truncate(6);
    assert!(waits.is_woken() && assert_ready!(waits.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_granted_place_that_is_not_fetched_goes_on_and_one_that_comes_together_with_the_limit_wins() {
    let shedder = Handle::new("x", places(1).queue_delay(queue(5, 50, 10)));
    let held = shedder.try_acquire().unwrap();
    let (mut first, mut second) = (task::spawn(shedder.acquire()), task::spawn(shedder.acquire()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(held);
    assert!(first.is_woken());
    drop(first);
    assert!(second.is_woken(), "who leaves with a granted place passes it on");
    let held = assert_ready_ok!(second.poll());
    let mut waits = task::spawn(shedder.acquire());
    assert_pending!(waits.poll());
    advance(ms(50)).await;
    drop(held);
    assert!(assert_ready!(waits.poll()).is_ok());
    assert_eq!(load(&shedder), (0, 0));
}

fn throttle() -> Throttle {
    Throttle::new()
}

/// So many calls that end like this; how many of them were let in.
fn play(shedder: &Handle, calls: usize, outcome: Outcome) -> usize {
    (0..calls).filter(|_| shedder.try_acquire().map(|permit| permit.record(outcome)).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn cb_58_sre_breaker_with_a_floor() {
    let settings = throttle().k(2.0).min_requests(100).cap(1.0).window(ms(1_000), 10);
    let new = || Handle::new("x", Config::new().throttle(settings));
    assert_eq!(play(&new(), 99, Outcome::Failure), 99);
    assert_eq!(settings.share(99, 0, Priority::Normal), 0.0);
    for requests in [1, 100, 101, 10_000, 1_000_000_000] {
        assert_eq!(settings.share(requests, requests.div_ceil(2), Priority::Normal), 0.0);
    }
    let shedder = new();
    assert_eq!((play(&shedder, 5_000, Outcome::Success), play(&shedder, 5_000, Outcome::Failure)), (5_000, 5_000));
    assert_eq!(shedder.snapshot().throttled, 0.0);

    assert!(settings.share(10_000_100, 100, Priority::Normal) > 0.999);
    let shedder = new();
    assert_eq!(play(&shedder, 100, Outcome::Success), 100);
    assert!(play(&shedder, 200_000, Outcome::Failure) < 2_000);
    assert!(shedder.snapshot().throttled > 0.998);
    assert!(play(&shedder, 1_000, Outcome::Success) < 100);
    advance(ms(2_000)).await;
    assert_eq!(play(&shedder, 99, Outcome::Failure), 99, "the window is empty");
}

#[test]
fn ad_08_the_formula_of_an_admission_filter() {
    // Theirs divides the successes by a threshold, ours multiplies by its inverse. What is a success (a status below
    // 500, a code of gRPC) is for the classifier to say.
    let settings = throttle().k(1.0 / 0.95).min_requests(1).cap(0.8).window(Duration::from_secs(30), 30);
    assert!(Config::new().throttle(settings).check().is_ok());
    for (requests, ok) in [(100_u64, 96_u64), (100, 95), (100, 90), (100, 50), (1_000, 300), (1_000, 0), (1, 0), (0, 0)]
    {
        let (n, s) = (requests as f64, ok as f64);
        let expected = ((n - s / 0.95) / (n + 1.0)).clamp(0.0, 0.8);
        let share = settings.share(requests, ok, Priority::Normal);
        assert!((share - expected).abs() < 1e-12, "{requests} {ok}: {share} for {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn ad_08_what_is_accepted_is_for_the_classifier_to_say() {
    // The codes of gRPC that count: 10 is ABORTED, 4 DEADLINE_EXCEEDED, 13 INTERNAL, 8 RESOURCE_EXHAUSTED, 14
    // UNAVAILABLE, 15 DATA_LOSS.
    let by_code = classify_fn(|answer: Result<&u32, &Error<Boom>>| match answer {
        Ok(4 | 8 | 10 | 13 | 14 | 15) | Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    });
    let shedder = Handle::new("x", Config::new().throttle(throttle()));
    let layer = LoadShedLayer::new(shedder.clone()).classify(by_code);
    for code in 0..17 {
        assert_eq!(layer.layer(service_fn(|code: u32| ready(Answer::Ok(code)))).oneshot(code).await, Ok(code));
    }
    assert_eq!((shedder.snapshot().requests, shedder.snapshot().accepts), (17, 11));
}

#[tokio::test(start_paused = true)]
async fn ad_09_calls_that_are_not_accepted_make_it_turn_calls_away() {
    // Theirs is a moving average with a threshold of one half; so is k = 2, over a window. With a random number of 0 a
    // call is turned away as soon as there is any share, with one of 1 never.
    let settings = throttle().min_requests(15).cap(0.75).window(ms(3_000), 30);
    assert_eq!(settings.share(100, 50, Priority::Normal), 0.0);
    assert!(settings.share(100, 49, Priority::Normal) > 0.0);
    let shedder = Handle::new("x", Config::new().throttle(settings));
    assert_eq!(play(&shedder, 1, Outcome::Failure), 1);
    assert_eq!(
        (shedder.snapshot().accepts, shedder.snapshot().throttled),
        (0, 0.0),
        "after the first refusal it lives"
    );
    // Below five a second nothing is turned away, whatever becomes of the calls.
    for _ in 0..100 {
        advance(ms(250)).await;
        assert_eq!(play(&shedder, 1, Outcome::Failure), 1);
    }
    // Errors that are no refusals do not count against the service.
    let layer = LoadShedLayer::new(shedder.clone()).classify(OnOverload);
    for _ in 0..100 {
        let answer = layer.layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom))))).oneshot(1).await;
        assert_eq!(answer, Err(Error::Inner(Boom)));
    }
    assert_eq!(shed(&shedder), (0, 0, 0, 0));
    // The cap: with next to nothing accepted three of four are turned away.
    play(&shedder, 10_000, Outcome::Failure);
    let passed = play(&shedder, 1_000, Outcome::Failure);
    assert!((150..350).contains(&passed), "{passed} of 1000");
    // It recovers when calls are accepted again.
    for _ in 0..60 {
        advance(ms(100)).await;
        play(&shedder, 100, Outcome::Success);
    }
    assert_eq!((play(&shedder, 1_000, Outcome::Success), shedder.snapshot().throttled), (1_000, 0.0));
}

#[tokio::test(start_paused = true)]
async fn ad_11_a_few_failures_are_let_pass_many_are_not_and_a_panic_is_one() {
    let new = || Handle::new("x", Config::new().throttle(throttle().k(1.5).min_requests(5).window(ms(10_000), 40)));
    assert_eq!(play(&new(), 4, Outcome::Failure), 4);
    let shedder = new();
    play(&shedder, 10, Outcome::Success);
    let passed = play(&shedder, 100_000, Outcome::Failure);
    assert!(passed < 15_000, "{passed}");
    assert!(shedder.try_acquire().is_ok() || play(&shedder, 100, Outcome::Success) > 0, "some always pass");

    let shedder = new();
    let mut service = LoadShedLayer::new(shedder.clone())
        .layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| service.call(1)));
    let run = tokio::spawn({
        let shedder = shedder.clone();
        async move { shedder.run(async { panic!("in the future") as Result<(), Boom> }).await }
    });
    assert!(run.await.unwrap_err().is_panic());
    let held = shedder.try_acquire().unwrap();
    assert!(panics(move || {
        let _held = held;
        panic!("beside a permit");
    }));
    assert_eq!((shedder.snapshot().requests, shedder.snapshot().accepts), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn of_calls_that_are_throttled_those_that_matter_less_go_first() {
    let shedder = Handle::new("x", Config::new().throttle(throttle()));
    // Six of ten are accepted: too few for low priority, enough for the others.
    for _ in 0..100 {
        play(&shedder.with_priority(Priority::High), 6, Outcome::Success);
        play(&shedder.with_priority(Priority::High), 4, Outcome::Failure);
    }
    let low = shedder.with_priority(Priority::Low);
    assert_eq!(shedder.snapshot().throttled, 0.0);
    assert!(throttle().share(1_000, 600, Priority::Low) > 0.09);
    let passed = play(&low, 1_000, Outcome::Ignored);
    assert!((700..990).contains(&passed), "{passed}");
    let before = shedder.snapshot();
    assert_eq!((before.shed.throttle, before.requests), (1_000 - passed as u64, 2_000 - passed as u64));
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_service_is_no_request() {
    let shedder = Handle::new("x", Config::client());
    play(&shedder, 50, Outcome::Ignored);
    (0..50).for_each(|_| drop(shedder.try_acquire().unwrap()));
    let breaker = mainstay::breaker::Handle::new("b", consecutive(1));
    breaker.force_open();
    let layer = AdmissionLayer::new((shedder.clone(), breaker.clone()));
    for _ in 0..50 {
        let answer = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n)))).oneshot(1).await;
        assert!(answer.unwrap_err().is_rejection());
        let answer = shedder.run_carrying(breaker.run(async { Ok::<u32, Boom>(1) })).await;
        assert!(answer.unwrap_err().is_rejection());
    }
    assert_eq!((shedder.snapshot().requests, shed(&shedder)), (0, (0, 0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_priority_comes_from_the_request_and_from_the_handle_where_it_has_none() {
    let shedder = Handle::new("x", Config::new().in_flight(10).queue_delay(queue(5, 100, 10)));
    let layer = LoadShedLayer::new(shedder.with_priority(Priority::Low));
    let of = || priority_fn(|request: &u32| (*request > 0).then_some(Priority::High));
    let hangs = layer.clone().priority_of(of()).layer(service_fn(|_: u32| pending::<Answer>()));
    let call = |request| {
        let mut call = task::spawn(hangs.clone().oneshot(request));
        call.poll().is_pending().then_some(call)
    };
    let mut calls: Vec<_> = std::iter::from_fn(|| call(0)).collect();
    assert_eq!(calls.len(), 7);
    calls.extend(std::iter::from_fn(|| call(1)));
    assert_eq!((calls.len(), shed(&shedder)), (10, (2, 0, 0, 0)));

    let quick = layer.queued().priority_of(of()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut waits = [0, 1].map(|request| task::spawn(quick.clone().oneshot(request)));
    waits.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    calls.truncate(9);
    assert!(waits[1].is_woken() && !waits[0].is_woken());
    assert_eq!(assert_ready!(waits[1].poll()), Ok(1));
    calls.truncate(6);
    assert_eq!(assert_ready!(waits[0].poll()), Ok(0));
    drop(calls);
    assert_eq!(load(&shedder), (0, 0));

    let panicking = LoadShedLayer::new(shedder.clone())
        .priority_of(priority_fn(|_: &u32| -> Option<Priority> { panic!("told to") }))
        .layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    // As a key function that panics: the call is made, with the handle's own priority.
    assert_eq!(panicking.oneshot(1).await, Ok(1));
    assert_eq!(load(&shedder), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_sheds_tells_it_and_keeps_the_error() {
    let shedder = Handle::new("api", places(1).queue_delay(queue(5, 50, 1)));
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    shedder.observe(move |event: &Event<'_>| {
        assert!(matches!(event, Event::Rejected(rejection) if rejection.reason() == Reason::Overloaded));
        count.fetch_add(1, SeqCst);
    });
    let layer = LoadShedLayer::new(shedder.clone());
    let hangs = layer.layer(service_fn(|_: u32| pending::<Answer>()));
    let mut first = task::spawn(hangs.clone().oneshot(1));
    assert_pending!(first.poll());
    assert_eq!(hangs.oneshot(1).await.unwrap_err().to_string(), "\"api\" is overloaded");
    let quick = layer.clone().queued().layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut waits = task::spawn(quick.clone().oneshot(5));
    assert_pending!(waits.poll());
    assert!(quick.clone().oneshot(6).await.unwrap_err().is_rejection(), "the queue is full");
    advance(ms(50)).await;
    assert!(assert_ready!(waits.poll()).unwrap_err().is_rejection(), "it has waited too long");
    drop(first);
    assert_eq!(quick.oneshot(7).await, Ok(7));
    assert_eq!(shedder.run(async { Err::<(), _>(Boom) }).await, Err(Error::Inner(Boom)));
    assert_eq!((told.load(SeqCst), shed(&shedder), load(&shedder)), (3, (2, 1, 0, 0), (0, 0)));
    assert_eq!(shedder.snapshot().shed.total(), 3);
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_leaves_nothing() {
    let service = service_fn(|_: u32| async {
        tokio::task::yield_now().await;
        Answer::Ok(0)
    });
    for polls in 0..6 {
        let shedder = Handle::new("x", places(3).queue_delay(queue(5, 50, 10)).throttle(throttle()));
        let mut held = fill(&shedder);
        let layer = LoadShedLayer::new(shedder.clone()).queued();
        let mut plain = task::spawn(layer.layer(service).oneshot(1));
        let by = layer.clone().priority_of(priority_fn(|_: &u32| Some(Priority::High)));
        let mut prioritized = task::spawn(by.layer(service).oneshot(1));
        let mut run = task::spawn(shedder.run(async {
            tokio::task::yield_now().await;
            Ok::<_, Boom>(())
        }));
        for poll in 0..polls {
            if poll == 2 {
                held.clear();
            }
            let _ = (poll < 4).then(|| (plain.poll().is_ready(), prioritized.poll().is_ready(), run.poll().is_ready()));
        }
        drop((plain, prioritized, run));
        drop(held);
        let snapshot = shedder.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0), "dropped after {polls} polls");
        let done = if polls > 3 { 3 } else { 0 };
        assert_eq!((snapshot.requests, snapshot.accepts), (done, done), "after {polls} polls");
        assert_eq!(fill(&shedder).len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_traffic_without_losing_a_place() {
    let shedder = Handle::new("x", places(4).queue_delay(queue(5, 1_000, 10)));
    let mut held = fill(&shedder);
    shedder.reconfigure(places(1).queue_delay(queue(5, 1_000, 10))).unwrap();
    let mut waits = task::spawn(shedder.acquire());
    assert_pending!(waits.poll());
    for left in [3, 2, 1] {
        held.pop();
        assert_eq!((load(&shedder), waits.is_woken()), ((left, 1), false));
    }
    held.pop();
    held.push(assert_ready_ok!(waits.poll()));
    let mut more: Vec<_> = (0..3).map(|_| task::spawn(shedder.acquire())).collect();
    more.iter_mut().for_each(|wait| assert_pending!(wait.poll()));
    shedder.reconfigure(places(3).queue_delay(queue(5, 1_000, 10))).unwrap();
    assert_eq!(more.iter().filter(|wait| wait.is_woken()).count(), 2, "two more places, two are served");
    // Without a limit nobody waits any more, and what was counted is given back.
    shedder.reconfigure(Config::new()).unwrap();
    assert!(more.iter().all(task::Spawn::is_woken));
    held.extend(more.iter_mut().map(|wait| assert_ready_ok!(wait.poll())));
    let uncounted = shedder.try_acquire().unwrap();
    assert_eq!(load(&shedder), (4, 0));
    shedder.reconfigure(places(1)).unwrap();
    assert!(shedder.try_acquire().is_err());
    held.clear();
    assert_eq!(load(&shedder), (0, 0));
    drop(uncounted);
    assert_eq!((load(&shedder), fill(&shedder).len()), ((0, 0), 1));
    assert_eq!(shedder.reconfigure(Config::new().in_flight(0)).unwrap_err().field(), "in_flight");
    assert_eq!(shedder.config(), places(1));

    let window = |length| Config::new().throttle(throttle().window(ms(length), 10));
    shedder.reconfigure(window(1_000)).unwrap();
    play(&shedder, 30, Outcome::Failure);
    shedder.reconfigure(Config::new()).unwrap();
    assert_eq!((shedder.snapshot().throttled, play(&shedder, 100, Outcome::Failure)), (0.0, 100));
    let error = shedder.reconfigure(window(2_000).in_flight(5)).unwrap_err();
    assert_eq!((error.field(), error.value()), ("throttle.window", "2s"));
    assert_eq!(error.why(), "cannot change while in use, it is 1s in 10 buckets; make a new shedder");
    assert_eq!(shedder.config(), Config::new());
    shedder.reconfigure(window(1_000)).unwrap();
    assert!(shedder.snapshot().throttled > 0.8);
    assert!(play(&shedder, 100, Outcome::Failure) < 100);
}

#[test]
fn waiting_on_many_threads_everybody_is_served_or_shed_and_no_place_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let hour = Duration::from_secs(3_600);
    let queue = QueueDelay::new().target(ms(1)).interval(hour).max_queue(1_000);
    let shedder = Handle::new("x", Config::new().in_flight(3).queue_delay(queue));
    let (running, most, done) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime.block_on(async {
        let calls: Vec<_> = (0..400)
            .map(|n| {
                let shedder = shedder.with_priority([Priority::Low, Priority::Normal, Priority::High][n % 3]);
                let (running, most, done) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&done));
                tokio::spawn(async move {
                    let permit = shedder.acquire().await.unwrap();
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, SeqCst);
                    drop(permit);
                    done.fetch_add(1, SeqCst);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        // Some give up half-way.
        let calls: Vec<_> = (0..400)
            .map(|n| {
                let shedder = shedder.with_priority([Priority::Low, Priority::High][n % 2]);
                tokio::spawn(async move {
                    let _permit = shedder.acquire().await;
                    tokio::task::yield_now().await;
                })
            })
            .collect();
        calls.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
        for call in calls {
            let _ = call.await;
        }
    });
    assert!(most.load(SeqCst) <= 3, "{most:?}");
    assert_eq!((done.load(SeqCst), load(&shedder)), (400, (0, 0)));
}

/// A service that is not ready for more than one call at a time, as tower has it.
fn limited(shedder: &Handle) -> impl Service<u64, Response = u64, Error = BoxError> + Clone {
    ServiceBuilder::new().layer(ShedUnreadyLayer::new(shedder.clone())).layer(ConcurrencyLimitLayer::new(1)).service(
        service_fn(async |wait: u64| {
            sleep(ms(wait)).await;
            Ok::<_, BoxError>(wait)
        }),
    )
}

fn is_shed(error: &BoxError) -> bool {
    mainstay::CarryRejection::rejection(error).is_some_and(|rejection| rejection.reason() == Reason::Overloaded)
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_the_service_is_not_ready_is_shed_and_no_clone_is_left_in_its_queue() {
    let shedder = Handle::new("x", Config::new());
    let mut service = limited(&shedder);
    let (mut second, mut third) = (service.clone(), service.clone());
    let first = service.ready().await.unwrap().call(10);
    assert!(is_shed(&second.ready().await.unwrap().call(1).await.unwrap_err()));
    // Asked, found not ready, and never called.
    third.ready().await.unwrap();
    assert_eq!(first.await.unwrap(), 10);
    // Neither of the two that were turned away was handed the place.
    let mut fresh = service.clone();
    assert_eq!(fresh.ready().await.unwrap().call(1).await.unwrap(), 1);
    assert_eq!(second.ready().await.unwrap().call(2).await.unwrap(), 2);
    // The place that was not free when it was asked for is free now.
    assert_eq!(third.call(3).await.unwrap(), 3);
    assert_eq!(shed(&shedder), (0, 0, 0, 1));
    for call in 1..=100_u64 {
        let mut clones: Vec<_> = (0..3).map(|_| service.clone()).collect();
        let running = clones[0].ready().await.unwrap().call(1);
        for clone in &mut clones[1..] {
            assert!(is_shed(&clone.ready().await.unwrap().call(1).await.unwrap_err()));
        }
        assert_eq!(running.await.unwrap(), 1, "call {call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_cooperative_budget_is_no_overload() {
    /// Takes part in tokio's cooperative scheduling, as everything does that waits for something of tokio.
    #[derive(Clone)]
    struct Cooperative(Arc<tokio::sync::Semaphore>);

    impl Service<u32> for Cooperative {
        type Response = u32;
        type Error = Error<Boom>;
        type Future = std::future::Ready<Answer>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
            std::pin::pin!(self.0.acquire()).poll(cx).map(|_| Ok(()))
        }

        fn call(&mut self, n: u32) -> Self::Future {
            ready(Ok(n))
        }
    }

    let shedder = Handle::new("x", Config::new());
    let inner = Cooperative(Arc::new(tokio::sync::Semaphore::new(10)));
    let mut service = ShedUnreadyLayer::new(shedder.clone()).layer(inner.clone());
    let mut bare = inner;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    (0..1_000).for_each(|n| tell.send(n).unwrap());
    // In one and the same poll: all of the budget is spent, and then the service is called.
    let call = poll_fn(|cx| {
        while told.poll_recv(cx).is_ready() {}
        assert!(told.len() > 500, "the budget ended the reading");
        assert!(bare.poll_ready(cx).is_pending(), "by itself it seems not to be ready");
        assert!(Service::<u32>::poll_ready(&mut service, cx).is_ready());
        Poll::Ready(service.call(1))
    });
    let call = call.await;
    assert_eq!((call.await, shed(&shedder)), (Ok(1), (0, 0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn errors_of_readiness_are_passed_on_and_dropping_a_call_drops_it() {
    #[derive(Clone)]
    struct Broken;

    impl Service<u32> for Broken {
        type Response = u32;
        type Error = Error<Boom>;
        type Future = std::future::Ready<Answer>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
            Poll::Ready(Err(Error::Inner(Boom)))
        }

        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let shedder = Handle::new("x", Config::new());
    let mut service = ShedUnreadyLayer::new(shedder.clone()).layer(Broken);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(Service::<u32>::poll_ready(&mut service, &mut cx), Poll::Ready(Err(Error::Inner(Boom))));
    assert_eq!(service.call(1).await, Err(Error::Inner(Boom)));
    assert_eq!(shed(&shedder), (0, 0, 0, 0));

    let service = limited(&shedder);
    for polls in 0..3 {
        let mut call = task::spawn(service.clone().oneshot(10));
        (0..polls).for_each(|_| assert_pending!(call.poll()));
        drop(call);
        assert_eq!(service.clone().oneshot(1).await.unwrap(), 1, "after {polls} polls the place is free");
    }
}

#[test]
fn a_call_that_is_let_in_allocates_nothing() {
    for config in [Config::new(), Config::server(8), Config::client(), Config::server(8).throttle(throttle())] {
        let shedder = Handle::new("x", config);
        let layer = LoadShedLayer::new(shedder);
        let mut plain = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
        let mut queued = layer.clone().queued().layer(service_fn(|n: u32| ready(Answer::Ok(n))));
        let by = layer.priority_of(priority_fn(|_: &u32| Some(Priority::High)));
        let mut prioritized = by.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
        let mut calls = || {
            assert!(poll_once(&mut plain.call(1)).is_ready());
            assert!(poll_once(&mut prioritized.call(1)).is_ready());
            let mut queued = std::pin::pin!(queued.call(1));
            assert!(poll_once(&mut queued).is_ready());
        };
        (0..3).for_each(|_| calls());
        assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| calls())).count_total, 0);
    }
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let new = Config::new;
    let delay = |queue: QueueDelay| Config::new().in_flight(5).queue_delay(queue);
    let throttled = |throttle: Throttle| Config::new().throttle(throttle);
    for (config, field, value, why) in [
        (new().in_flight(0), "in_flight", "0", "must be in 1..=1000000"),
        (new().in_flight(u32::MAX), "in_flight", "4294967295", "must be in 1..=1000000"),
        (new().shares(0.0, 0.0), "normal_share", "0", "must be in (0, 1]"),
        (new().shares(0.9, f64::NAN), "low_share", "NaN", "must be a finite number in (0, 1]"),
        (new().shares(90.0, 0.7), "normal_share", "90", "must be in (0, 1]; did you mean 0.9? (percent given)"),
        (new().shares(0.5, 0.7), "low_share", "0.7", "must be at most normal_share, 0.5"),
        (
            new().queue_delay(QueueDelay::new()),
            "queue_delay",
            "on",
            "needs in_flight: a queue is of calls over a limit",
        ),
        (delay(queue(0, 5, 5)), "queue_delay.target", "0s", "must be at least 1ms"),
        (delay(queue(6, 5, 5)), "queue_delay.target", "6ms", "must be at most queue_delay.interval, 5ms"),
        (delay(queue(1, 5, 0)), "queue_delay.max_queue", "0", "must be in 1..=1000000"),
        (throttled(throttle().k(0.9)), "throttle.k", "0.9", "must be a number in [1, 100]"),
        (throttled(throttle().k(f64::NAN)), "throttle.k", "NaN", "must be a number in [1, 100]"),
        (throttled(throttle().min_requests(0)), "throttle.min_requests", "0", "must be in 1..=1000000000000"),
        (throttled(throttle().cap(0.0)), "throttle.cap", "0", "must be in (0, 1]"),
        (throttled(throttle().window(ms(0), 5)), "throttle.window", "0s", "must be at least 1ms"),
        (throttled(throttle().window(ms(5), 0)), "throttle.buckets", "0", "must be in 1..=3600"),
    ] {
        let error = Handle::try_new("x", config).unwrap_err();
        assert_eq!((error.field(), error.value(), error.why()), (field, value, why));
        assert!(panics(|| Handle::new("x", config)));
    }
    for (toml, expected) in [
        ("in_flight = 0\nthrottle = { k = 0.0 }", "in_flight = 0: must be in 1..=1000000; throttle.k = 0: must be"),
        ("limit = 5", "unknown field `limit`"),
        ("queue_delay = { target = 5 }", "queue_delay.target = 5: missing unit, write \"5s\" or \"5ms\""),
        ("throttle = { window = '-1s' }", "throttle.window = \"-1s\": a duration must not be negative"),
        ("throttle = { kk = 1 }", "unknown field `kk`"),
        ("in_flight = -1", "expected u32"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::new());
    assert_eq!(toml::from_str::<Config>("throttle = {}").unwrap(), Config::client());
    assert_eq!(toml::from_str::<Config>("in_flight = 9\nqueue_delay = {}").unwrap(), Config::server(9));
    for config in [new(), Config::client(), Config::server(5).shares(0.5, 0.25), throttled(throttle().k(1.5).cap(0.5))]
    {
        assert!(config.check().is_ok());
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}
