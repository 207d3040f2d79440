//! The hedge as a Tower service and around closures: when another copy is sent, which answer wins, what is measured.
//!
//! Of HG-02 the token throttle of gRPC is left out, whose tokens failures take and successes give: the budget here is
//! earned by calls. What it is for holds all the same: a copy that is not paid for is not sent. It is asked for when
//! the copy is due, as the text of gRPC has it, and not when it is scheduled.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, ready},
    rc::Rc,
    time::Duration,
};

use mainstay::{
    BoxError, Classify, Error, Name, OnError, Outcome, Reason, Rejection, classify_fn,
    hedge::{Budget, BudgetConfig, Config, Handle, Hedge, HedgeLayer, Replay},
    observe::Event,
    retry,
    time::Tick,
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::*;

fn boom() -> Answer {
    Err(Error::Inner(Boom))
}

fn rejected(reason: Reason) -> Answer {
    Err(Error::Rejected(Rejection::new(reason, Name::new("below").unwrap())))
}

/// Every call pays for ten copies.
fn generous() -> BudgetConfig {
    BudgetConfig::new().ratio(10.0).min_per_second(0)
}

/// A copy every 100 ms, so many in all.
fn steady(attempts: u32) -> Handle {
    Handle::new("x", Config::new().attempts(attempts).delay(ms(100)).budget(generous()))
}

/// What the copies of one call do: the first waits so long and answers this, and so on.
#[derive(Clone, Default)]
struct Copies {
    script: Rc<RefCell<Vec<(u64, Answer)>>>,
    began: Rc<RefCell<Vec<u64>>>,
    running: Rc<Cell<u32>>,
    start: Option<Tick>,
}

struct Running(Rc<Cell<u32>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Copies {
    fn new(script: impl IntoIterator<Item = (u64, Answer)>) -> Self {
        let script = Rc::new(RefCell::new(script.into_iter().collect()));
        Self { script, start: Some(Tick::now()), ..Self::default() }
    }

    fn copy(&self) -> impl Future<Output = Answer> + use<> {
        self.began.borrow_mut().push(self.took());
        self.running.set(self.running.get() + 1);
        let (wait, answer) = self.script.borrow_mut().remove(0);
        let running = Running(Rc::clone(&self.running));
        async move {
            let _running = running;
            if wait > 0 {
                tokio::time::sleep(ms(wait)).await;
            }
            answer
        }
    }

    fn took(&self) -> u64 {
        Tick::now().since(self.start.unwrap()).as_millis() as u64
    }
}

/// What a call comes to, how long it took, and when its copies began; the same through the layer and around a closure.
async fn run(hedge: impl Fn() -> Handle, script: &[(u64, Answer)]) -> (Answer, u64, Vec<u64>) {
    let (plain, copies) = (hedge(), Copies::new(script.iter().cloned()));
    let answer = plain.run(|_| copies.copy()).await;
    let outcome = (answer, copies.took(), copies.began.take());
    assert_eq!(copies.running.get(), 0, "what lost is gone when the answer is there");

    let (layered, copies) = (hedge(), Copies::new(script.iter().cloned()));
    let below = copies.clone();
    let mut service = HedgeLayer::new(layered.clone()).layer(service_fn(move |_: u32| below.copy()));
    let mut call = Box::pin(service.ready().await.unwrap().call(1));
    let answer = call.as_mut().await;
    assert_eq!(copies.running.get(), 0, "what lost is gone when the answer is there, and not when the call is dropped");
    assert_eq!((answer, copies.took(), copies.began.take()), outcome, "both ways are one");
    assert_eq!(layered.snapshot(), plain.snapshot());
    outcome
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_in_time_has_one_copy() {
    for wait in [0, 1, 99] {
        assert_eq!(run(|| steady(2), &[(wait, Ok(1))]).await, (Ok(1), wait, vec![0]));
    }
    // An answer that comes together with the delay wins.
    assert_eq!(run(|| steady(2), &[(100, Ok(1)), (0, Ok(2))]).await.2, [0]);
    assert_eq!(run(|| steady(1), &[(500, Ok(1))]).await, (Ok(1), 500, vec![0]), "nobody wants another");
}

#[tokio::test(start_paused = true)]
async fn the_first_good_answer_wins_whichever_copy_it_is_of() {
    assert_eq!(run(|| steady(2), &[(500, Ok(1)), (50, Ok(2))]).await, (Ok(2), 150, vec![0, 100]));
    assert_eq!(run(|| steady(2), &[(120, Ok(1)), (50, Ok(2))]).await, (Ok(1), 120, vec![0, 100]));
    let three = [(900, Ok(1)), (900, Ok(2)), (10, Ok(3))];
    assert_eq!(run(|| steady(3), &three).await, (Ok(3), 210, vec![0, 100, 200]));
    let hedge = steady(3);
    let copies = Copies::new(three);
    assert_eq!(hedge.run(|_| copies.copy()).await, Ok(3));
    let snapshot = hedge.snapshot();
    assert_eq!((snapshot.calls, snapshot.hedges, snapshot.won, snapshot.cancelled), (1, 2, 1, 2));
    assert_eq!(hedge.run(|n| ready(Answer::Ok(n))).await, Ok(1));
    assert_eq!((hedge.snapshot().calls, hedge.snapshot().hedges), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failed_copy_starts_the_next_at_once_and_does_not_beat_one_that_runs() {
    assert_eq!(run(|| steady(2), &[(30, boom()), (5, Ok(2))]).await, (Ok(2), 35, vec![0, 30]));
    assert_eq!(run(|| steady(2), &[(0, boom()), (5, Ok(2))]).await, (Ok(2), 5, vec![0, 0]));
    // The second fails first, the first is good.
    assert_eq!(run(|| steady(2), &[(300, Ok(1)), (10, boom())]).await, (Ok(1), 300, vec![0, 100]));
    assert_eq!(run(|| steady(2), &[(150, boom()), (100, Ok(2))]).await, (Ok(2), 200, vec![0, 100]));
    // The delay of the third runs from the second, which came early.
    let early = [(30, boom()), (900, Ok(2)), (10, Ok(3))];
    assert_eq!(run(|| steady(3), &early).await, (Ok(3), 140, vec![0, 30, 130]));
    let all = [(0, boom()), (0, boom()), (0, boom())];
    assert_eq!(run(|| steady(3), &all).await, (boom(), 0, vec![0, 0, 0]));
    assert_eq!(run(|| steady(2), &[(150, boom()), (100, boom())]).await, (boom(), 200, vec![0, 100]));
}

#[tokio::test(start_paused = true)]
async fn no_delay_sends_all_copies_at_once() {
    let at_once = || Handle::new("x", Config::new().attempts(3).delay(ms(0)).budget(generous()));
    let script = [(30, Ok(1)), (20, Ok(2)), (25, Ok(3))];
    assert_eq!(run(at_once, &script).await, (Ok(2), 20, vec![0, 0, 0]));
    assert_eq!(run(at_once, &[(0, Ok(1))]).await, (Ok(1), 0, vec![0]), "but not when there is an answer already");
}

#[tokio::test(start_paused = true)]
async fn hg_02_copies_go_out_one_delay_after_another_until_one_ends_the_call() {
    let hedge = || Handle::new("x", Config::new().attempts(4).delay(ms(500)).budget(generous()));
    // Outstanding: 1 at 1 ms, 2 at 501, 3 at 1001, 4 at 1501, and no more.
    let copies = Copies::new((0..4).map(|n| (100_000, Ok(n))));
    let handle = hedge();
    let mut call = task::spawn(handle.run(|_| copies.copy()));
    assert_pending!(call.poll());
    advance(ms(1)).await;
    for outstanding in [1, 2, 3, 4, 4, 4] {
        if call.is_woken() {
            assert_pending!(call.poll());
        }
        assert_eq!(copies.running.get(), outstanding);
        advance(ms(500)).await;
    }
    drop(call);
    assert_eq!(copies.running.get(), 0);
    // A failure that is not fatal: the next at once.
    let failing = [(100, boom()), (100, boom()), (900, Ok(3)), (900, Ok(4))];
    assert_eq!(run(hedge, &failing).await, (Ok(3), 1_100, vec![0, 100, 200, 700]));
    // A fatal one: all are cancelled.
    let fatal = || {
        classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        })
    };
    let (handle, copies) = (hedge(), Copies::new([(9_000, Ok(1)), (100, boom())]));
    assert_eq!(handle.run_with(fatal(), |_| copies.copy()).await, boom());
    assert_eq!((copies.took(), copies.running.get(), handle.snapshot().cancelled), (600, 0, 1));
    assert_eq!(handle.snapshot().won, 0);
    // Push-back: no more copies, and those that run go on.
    struct Pushback;
    impl Classify<u32, Error<Boom>> for Pushback {
        fn classify(&self, result: Result<&u32, &Error<Boom>>) -> Outcome {
            OnError.classify(result)
        }
        fn retry_after(&self, _: Result<&u32, &Error<Boom>>) -> Option<Duration> {
            Some(ms(1))
        }
    }
    let (handle, copies) = (hedge(), Copies::new([(5_000, Ok(1)), (100, boom()), (0, Ok(3))]));
    assert_eq!(handle.run_with(Pushback, |_| copies.copy()).await, Ok(1));
    assert_eq!((copies.took(), copies.began.take()), (5_000, vec![0, 500]));
    // Two run, both fail, and the third is not paid for: the call ends with the error.
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0));
    budget.deposit();
    let handle = hedge().with_budget(&budget);
    let copies = Copies::new([(600, boom()), (200, boom()), (0, Ok(3))]);
    assert_eq!(handle.run(|_| copies.copy()).await, boom());
    assert_eq!((copies.took(), copies.began.take(), handle.snapshot().over_budget), (700, vec![0, 500], 1));
    // A copy that is due is asked for then: what another call spent meanwhile is gone.
    budget.deposit();
    let copies = Copies::new([(2_000, Ok(1)), (0, Ok(2))]);
    let mut call = task::spawn(handle.run(|_| copies.copy()));
    assert_pending!(call.poll());
    assert!(budget.withdraw());
    assert_eq!(call.await, Ok(1));
    assert_eq!((copies.took(), handle.snapshot().over_budget), (2_000, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_turned_away_starts_no_copy_and_hides_no_failure() {
    for reason in [Reason::CircuitOpen, Reason::BulkheadFull, Reason::RateLimited, Reason::DeadlinePassed] {
        // At once: the caller hears it, and nothing else is sent.
        assert_eq!(run(|| steady(3), &[(0, rejected(reason))]).await, (rejected(reason), 0, vec![0]));
        // The second copy: the first goes on, and no third is sent.
        let second = [(900, Ok(1)), (0, rejected(reason))];
        assert_eq!(run(|| steady(3), &second).await, (Ok(1), 900, vec![0, 100]));
        let worse = [(900, boom()), (0, rejected(reason))];
        assert_eq!(run(|| steady(3), &worse).await, (boom(), 900, vec![0, 100]));
        // After a failure: that is what the caller hears.
        let after = [(0, boom()), (0, rejected(reason))];
        assert_eq!(run(|| steady(3), &after).await, (boom(), 0, vec![0, 0]));
    }
    // A time-out is the service's failure.
    let timed_out = [(50, rejected(Reason::TimedOut)), (5, Ok(2))];
    assert_eq!(run(|| steady(2), &timed_out).await, (Ok(2), 55, vec![0, 50]));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_counts_as_a_failure_is_dropped_while_others_run() {
    let odd_fails = || {
        classify_fn(|result: Result<&Rc<u32>, &BoxError>| match result {
            Ok(n) if **n % 2 == 1 => Outcome::Failure,
            _ => Outcome::Success,
        })
    };
    let hedge = steady(2);
    let mut answers = vec![Rc::new(2), Rc::new(1)];
    let held = Rc::downgrade(&answers[1]);
    let mut call = task::spawn(hedge.run_with(odd_fails(), |attempt| {
        let answer = answers.pop().unwrap();
        async move {
            if attempt == 2 {
                tokio::time::sleep(ms(10)).await;
            }
            Ok::<_, BoxError>(answer)
        }
    }));
    assert_pending!(call.poll());
    assert!(held.upgrade().is_none(), "it may hold a connection");
    assert_eq!(*call.await.unwrap(), 2);
    // The last failed response is the answer.
    let last = hedge.run_with(odd_fails(), |attempt| ready(Ok::<_, BoxError>(Rc::new(attempt * 2 + 1)))).await;
    assert_eq!(*last.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_copy_over_the_budget_is_silently_not_sent_and_the_first_still_answers() {
    let none = || Handle::new("x", steady(3).config().budget(BudgetConfig::new().ratio(0.0).min_per_second(0)));
    assert_eq!(run(none, &[(900, Ok(1))]).await, (Ok(1), 900, vec![0]));
    assert_eq!(run(none, &[(10, boom())]).await, (boom(), 10, vec![0]));
    let hedge = none();
    assert_eq!(hedge.run(|_| ready(boom())).await, boom());
    let snapshot = hedge.snapshot();
    assert_eq!((snapshot.calls, snapshot.over_budget, snapshot.hedges), (1, 1, 0), "counted once a call");
    // A fifth of the calls.
    let fifth = Handle::new("x", steady(2).config().budget(BudgetConfig::new().ratio(0.2).min_per_second(0)));
    for _ in 0..100 {
        let copies = Copies::new([(200, Ok(1)), (900, Ok(2))]);
        assert_eq!(fifth.run(|_| copies.copy()).await, Ok(1));
    }
    let snapshot = fifth.snapshot();
    assert_eq!((snapshot.calls, snapshot.hedges, snapshot.over_budget), (100, 20, 80));
    assert_eq!(snapshot.budget_available, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_budget_shared_with_a_retry_is_filled_by_the_retry_and_spent_by_both() {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0));
    let retry = retry::Handle::new("x", retry::Config::new().attempts(2)).with_budget(&budget);
    let hedge = steady(2).with_budget(&budget);
    // Both copies of the first attempt fail; the budget has no more than the one call's share.
    let answer = retry.run(|| hedge.run(|_| ready(boom())));
    assert_eq!(answer.await, boom());
    assert_eq!((hedge.snapshot().hedges, retry.snapshot().budget_refused, budget.available()), (1, 1, 0));
    assert_eq!((hedge.snapshot().calls, retry.snapshot().calls), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_may_be_sent_twice_are() {
    for (request, began, not_replayed) in [(1, 1, 1), (2, 2, 0)] {
        let hedge = steady(2);
        let copies = Copies::new([(500, Ok(1)), (0, Ok(2))]);
        let below = copies.clone();
        let layer = HedgeLayer::new(hedge.clone()).replay(|n: &u32| (n % 2 == 0).then_some(*n));
        assert!(layer.layer(service_fn(move |_: u32| below.copy())).oneshot(request).await.is_ok());
        assert_eq!((copies.began.borrow().len(), hedge.snapshot().not_replayed), (began, not_replayed));
    }
    /// Numbers the copies, has one to give, and stops waiting after 250 ms.
    struct Numbered;
    impl Replay<u32> for Numbered {
        type Kept = u32;
        fn keep(&self, request: &mut u32) -> Option<u32> {
            *request += 1;
            Some(*request)
        }
        fn again(&self, kept: &u32, attempt: u32) -> Option<u32> {
            (attempt < *kept).then_some(attempt)
        }
        fn deadline(&self, _: &u32) -> Option<Tick> {
            Some(Tick::now() + ms(250))
        }
    }
    for (request, expected, not_replayed) in [(1, vec![2], 1), (2, vec![3, 2], 1), (90, vec![91, 2, 3], 0)] {
        let hedge = steady(5);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        let service = HedgeLayer::new(hedge.clone()).replay(Numbered).layer(service_fn(move |n: u32| {
            log.borrow_mut().push(n);
            async {
                tokio::time::sleep(ms(900)).await;
                Answer::Ok(1)
            }
        }));
        assert_eq!(service.oneshot(request).await, Ok(1));
        assert_eq!((seen.take(), hedge.snapshot().not_replayed), (expected, not_replayed));
    }
}

type Mock = mock::Spawn<Hedge<mock::Mock<u32, u32>>>;

fn mocked(hedge: &Handle) -> (Mock, mock::Handle<u32, u32>) {
    mock::spawn_layer(HedgeLayer::new(hedge.clone()))
}

#[tokio::test(start_paused = true)]
async fn another_copy_goes_to_a_clone_that_is_made_ready_and_every_wake_up_comes() {
    let hedge = steady(2);
    let (mut service, mut calls) = mocked(&hedge);
    calls.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (request, first) = calls.next_request().await.unwrap();
    assert_eq!(request, 7);
    advance(ms(99)).await;
    assert!(!call.is_woken());
    advance(ms(1)).await;
    assert!(call.is_woken(), "by the timer");
    assert_pending!(call.poll());
    assert_eq!(hedge.snapshot().hedges, 0, "the clone is not ready: nothing is sent");
    assert_eq!(hedge.snapshot().budget_available, Some(9), "but set aside");
    calls.allow(1);
    assert!(call.is_woken(), "by the clone");
    assert_pending!(call.poll());
    let (request, second) = calls.next_request().await.unwrap();
    assert_eq!((request, hedge.snapshot().hedges), (7, 1));
    second.send_error("down");
    assert!(call.is_woken(), "by the second copy");
    assert_pending!(call.poll());
    first.send_response(70);
    assert!(call.is_woken(), "by the first copy");
    assert_eq!(assert_ready_ok!(call.poll()), 70);
    assert_eq!((hedge.snapshot().won, hedge.snapshot().cancelled), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_not_sent_goes_back_into_the_budget() {
    let hedge = steady(2);
    let (mut service, mut calls) = mocked(&hedge);
    calls.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (_, first) = calls.next_request().await.unwrap();
    advance(ms(100)).await;
    assert_pending!(call.poll());
    assert_eq!(hedge.snapshot().budget_available, Some(9));
    first.send_response(70);
    assert_eq!(assert_ready_ok!(call.poll()), 70);
    assert_eq!((hedge.snapshot().budget_available, hedge.snapshot().hedges), (Some(10), 0));
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_cannot_become_ready_is_a_failed_copy() {
    let hedge = steady(2);
    let (mut service, mut calls) = mocked(&hedge);
    calls.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (_, first) = calls.next_request().await.unwrap();
    calls.send_error("gone");
    advance(ms(100)).await;
    assert_pending!(call.poll());
    first.send_response(70);
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), 70);
    assert_eq!((hedge.snapshot().budget_available, hedge.snapshot().hedges), (Some(10), 0));
}

/// So many calls that take so long.
async fn calls_of(hedge: &Handle, calls: u32, wait: u64) {
    for _ in 0..calls {
        let copies = Copies::new([(wait, Ok(1)), (900, Ok(2)), (900, Ok(3))]);
        assert_eq!(hedge.run(|_| copies.copy()).await, Ok(1));
    }
}

fn near(delay: Duration, wait: u64) -> bool {
    delay.abs_diff(ms(wait)) <= ms(wait) / 16
}

#[tokio::test(start_paused = true)]
async fn the_delay_follows_the_latency_of_the_calls() {
    let hedge = Handle::new("x", Config::new().initial_delay(ms(300)));
    assert_eq!(hedge.delay(), ms(300));
    calls_of(&hedge, 19, 20).await;
    assert_eq!(hedge.delay(), ms(300), "one call is missing");
    calls_of(&hedge, 1, 20).await;
    advance(ms(100)).await;
    assert!(near(hedge.delay(), 20), "{:?}", hedge.delay());
    // Answers that are there at once, and failures, say nothing.
    for n in 0..500 {
        let _ = hedge.run(|_| ready(if n % 2 == 0 { Answer::Ok(1) } else { boom() })).await;
    }
    let copies = Copies::new([(5, boom()), (5, boom())]);
    assert_eq!(hedge.run(|_| copies.copy()).await, boom());
    let latency = hedge.snapshot().latency.unwrap();
    assert_eq!(latency.calls, 20);
    advance(ms(100)).await;
    assert!(near(hedge.delay(), 20));
    // A slow call is hedged on time.
    let copies = Copies::new([(900, Ok(1)), (1, Ok(2))]);
    assert_eq!(hedge.run(|_| copies.copy()).await, Ok(2));
    let began = copies.began.take()[1];
    assert!((19..=22).contains(&began), "{began}");
    assert_eq!(hedge.snapshot().latency.unwrap().calls, 21, "the one that was beaten counts too");
    assert!(hedge.snapshot().latency.unwrap().p99 > ms(20));
}

#[tokio::test(start_paused = true)]
async fn beaten_calls_keep_the_delay_from_shrinking() {
    let config = Config::new().percentile(90.0).initial_delay(ms(300)).no_budget();
    let hedge = Handle::new("x", config);
    // Every fifth call hangs, and is beaten.
    for round in 0..40 {
        for n in 0..50 {
            let wait = if n % 5 == 0 { 60_000 } else { 10 };
            let copies = Copies::new([(wait, Ok(1)), (10, Ok(2))]);
            assert!(hedge.run(|_| copies.copy()).await.is_ok());
        }
        assert!(round < 2 || hedge.delay() >= ms(10), "{:?} in round {round}", hedge.delay());
    }
    assert_eq!(hedge.snapshot().hedges, hedge.snapshot().won, "only calls that hang were hedged");
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_traffic() {
    let hedge = steady(2);
    let copies = Copies::new([(900, Ok(1)), (900, Ok(2)), (10, Ok(3))]);
    let mut call = task::spawn(hedge.run(|_| copies.copy()));
    assert_pending!(call.poll());
    let config = hedge.config();
    hedge.reconfigure(config.attempts(3).delay(ms(20))).unwrap();
    assert_eq!(call.await, Ok(3));
    assert_eq!(copies.began.take(), [0, 100, 120], "the first wait had begun");
    assert_eq!(hedge.reconfigure(config.attempts(0)).unwrap_err().field(), "attempts");
    let error = hedge.reconfigure(config.no_budget()).unwrap_err();
    assert_eq!(error.to_string(), "budget = off: cannot be changed while it is in use");
    assert_eq!(hedge.config(), config.attempts(3).delay(ms(20)));
    hedge.reconfigure(hedge.config().attempts(1)).unwrap();
    let copies = Copies::new([(900, Ok(1))]);
    assert_eq!(hedge.run(|_| copies.copy()).await, Ok(1));
    let measured = Handle::new("x", Config::new());
    calls_of(&measured, 50, 20).await;
    measured.reconfigure(Config::new().delay(ms(5))).unwrap();
    assert_eq!(measured.delay(), ms(5));
    measured.reconfigure(Config::new()).unwrap();
    assert!(near(measured.delay(), 20), "what was measured is kept");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_uses_up_the_cooperative_budget_is_hedged_all_the_same() {
    let hedge = steady(2);
    let answer = hedge.run(|attempt| async move {
        if attempt == 1 {
            loop {
                tokio::task::coop::consume_budget().await;
                tokio::time::advance(ms(1)).await;
            }
        }
        Answer::Ok(attempt)
    });
    assert_eq!(tokio::time::timeout(ms(10_000), answer).await, Ok(Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn errors_of_any_type_will_do_where_every_error_is_a_failure() {
    let hedge = steady(3);
    assert_eq!(hedge.run_any(async |attempt| if attempt < 3 { Err("no") } else { Ok(attempt) }).await, Ok(3));
    assert_eq!(hedge.run_any(async |attempt| Err::<(), _>(attempt)).await, Err(3), "the last error");
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_every_copy_and_a_snapshot_is_plain_json() {
    let hedge = Handle::new("payments", Config::new().attempts(3).delay(ms(100)).budget(generous()));
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&seen);
    hedge.observe(move |event: &Event<'_>| {
        if let Event::Hedged { policy, attempt, delay } = event {
            log.lock().unwrap().push(format!("{policy} copy {attempt} after {delay:?}"));
        }
    });
    let copies = Copies::new([(250, boom()), (900, Ok(2)), (900, Ok(3))]);
    assert_eq!(hedge.run(|_| copies.copy()).await, Ok(2));
    assert_eq!(hedge.run(|attempt| ready(if attempt == 1 { boom() } else { Ok(9) })).await, Ok(9));
    let expected = ["payments copy 2 after 100ms", "payments copy 3 after 200ms", "payments copy 2 after 0ns"];
    assert_eq!(*seen.lock().unwrap(), expected);
    let json = serde_json::to_value(hedge.snapshot()).unwrap();
    let expected = serde_json::json!({
        "policy": "payments", "kind": "hedge", "calls": 2, "hedges": 3, "won": 2, "cancelled": 1, "over_budget": 0,
        "not_replayed": 0, "delay_ms": 100.0, "latency": null, "budget_available": 17,
    });
    assert_eq!(json, expected);
    assert!(Handle::new("x", Config::new()).memory() < 1_024);
    assert!(hedge.memory() < 1_024 + 256 * 2, "this thread, and the lane that all others share");
    let measures = Handle::new("x", Config::new());
    calls_of(&measures, 1, 5).await;
    assert!(measures.memory() < 1_024 + 1_536, "{}", measures.memory());
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let new = Config::new;
    let long = Duration::MAX;
    for (config, field, value, why) in [
        (new().attempts(0), "attempts", "0", "must be in 1..=10"),
        (new().attempts(11), "attempts", "11", "must be in 1..=10"),
        (new().delay(long), "delay", "ns", "must be at most 365d"),
        (new().percentile(0.0), "percentile", "0", "must be in 1..=99.9"),
        (new().percentile(0.95), "percentile", "0.95", "did you mean 95? (share given)"),
        (new().percentile(100.0), "percentile", "100", "must be in 1..=99.9"),
        (new().percentile(-5.0), "percentile", "-5", "must be in 1..=99.9"),
        (new().percentile(f64::NAN), "percentile", "NaN", "must be in 1..=99.9"),
        (new().min_samples(0), "min_samples", "0", "must be in 1..=1000000"),
        (new().min_delay(ms(0)), "min_delay", "0s", "must be at least 1ms"),
        (new().max_delay(long), "max_delay", "ns", "must be at most 365d"),
        (new().min_delay(ms(6_000)), "max_delay", "5s", "must be at least min_delay, 6s"),
        (new().initial_delay(ms(5_001)), "initial_delay", "5001ms", "must be from min_delay, 1ms, to max_delay, 5s"),
        (new().initial_delay(ms(0)), "initial_delay", "0s", "must be from min_delay"),
        (new().budget(BudgetConfig::new().ratio(20.0)), "budget.ratio", "20", "did you mean 0.2?"),
    ] {
        let error = config.check().unwrap_err();
        assert_eq!((error.field(), error.problems().count()), (field, 1), "{error}");
        assert!(error.value().contains(value) && error.why().contains(why), "{error}");
        assert_eq!(Handle::try_new("x", config).unwrap_err(), error);
        assert!(panics(|| Handle::new("x", config)));
    }
    let both = Handle::try_new("a b", new().attempts(0)).unwrap_err();
    assert_eq!(both.problems().map(mainstay::ConfigError::field).collect::<Vec<_>>(), ["name", "attempts"]);
    for (toml, expected) in [
        ("attempts = 0", "attempts = 0: must be in 1..=10"),
        ("delay = \"soon\"", "delay = \"soon\": expected a number and a unit"),
        ("delay = \"10ms\"\npercentile = 95", "delay = 10ms: goes without percentile, min_samples"),
        ("delay = \"10ms\"\nmax_delay = \"1s\"", "delay = 10ms: goes without percentile"),
        ("percentile = nan", "percentile = NaN: must be in 1..=99.9"),
        ("budget = \"on\"", "or \"off\""),
        ("attempt = 2", "unknown field `attempt`"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn settings_come_back_from_a_file_as_they_were() {
    for config in [
        Config::new(),
        Config::new().attempts(5).delay(ms(0)).no_budget(),
        Config::new().percentile(99.9).min_samples(7).initial_delay(ms(40)).min_delay(ms(30)).max_delay(ms(50)),
        Config::new().budget(BudgetConfig::new().ratio(0.1).cap(3)),
    ] {
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config, "{json}");
        assert_eq!(toml::from_str::<Config>(&toml_of(&json)).unwrap(), config);
        assert!(Handle::try_new("x", config).is_ok());
    }
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::new());
    assert_eq!(toml::from_str::<Config>("budget = \"off\"").unwrap(), Config::new().no_budget());
}

/// A flat JSON object as TOML.
fn toml_of(json: &str) -> String {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    let line = |(name, value): (&String, &serde_json::Value)| match value.as_object() {
        Some(inner) => {
            let inner: Vec<_> = inner.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            format!("{name} = {{ {} }}", inner.join(", "))
        }
        None => format!("{name} = {value}"),
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn layers_and_services_are_what_hosts_ask_for() {
    fn assert_layer<L: Clone + std::fmt::Debug + Send + Sync + Unpin + 'static>(_: &L) {}
    fn assert_future<F: Send + Unpin>(_: &F) {}
    let layer = HedgeLayer::new(steady(2)).replay(|n: &u32| Some(*n));
    assert_layer(&layer);
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert_layer(&service.clone());
    assert_future(&service.call(1));
    // Nothing needs a runtime until there is a wait.
    assert_eq!(poll_once(&mut service.call(5)), std::task::Poll::Ready(Ok(5)));
    let once = Handle::new("x", Config::new().attempts(1));
    assert!(poll_once(&mut Box::pin(once.run(|_| pending::<Answer>()))).is_pending());
}
