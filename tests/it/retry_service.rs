//! The retry as a Tower service and around closures: what is tried again, when, and with what.

use std::{
    cell::Cell,
    future::{Ready, pending, ready},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    BoxError, CarryRejection, Classify, Error, Name, OnError, Outcome, Reason, Rejection, classify_fn,
    retry::{
        AnyError, Backoff, Config, Exhausted, ExhaustedError, GiveUp, Handle, Jitter, Judgement, Replay, Retry,
        RetryLayer, Rule, by_kind,
    },
    time::Tick,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::*;

/// Three attempts with waits of 100 and 200 ms.
fn steady() -> Config {
    Config::new().jitter(Jitter::None)
}

fn boom() -> Answer {
    Err(Error::Inner(Boom))
}

fn rejected(reason: Reason, retry_after: Option<Duration>) -> Answer {
    let rejection = Rejection::new(reason, Name::new("below").unwrap());
    Err(Error::Rejected(match retry_after {
        Some(wait) => rejection.with_retry_after(wait),
        None => rejection,
    }))
}

fn scripted(answers: impl IntoIterator<Item = Answer>) -> Scripted<Ready<Answer>> {
    Scripted::new(answers.into_iter().map(ready))
}

async fn elapsed<F: Future>(future: F) -> (F::Output, u128) {
    let start = Tick::now();
    let output = future.await;
    (output, Tick::now().since(start).as_millis())
}

type Mock = mock::Spawn<Retry<mock::Mock<u32, u32>>>;

fn mocked(retry: &Handle) -> (Mock, mock::Handle<u32, u32>) {
    mock::spawn_layer(RetryLayer::new(retry.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_made_again_after_its_wait_until_it_succeeds() {
    let retry = Handle::new("x", steady());
    let below = scripted([boom(), boom(), Ok(7)]);
    let (answer, took) = elapsed(RetryLayer::new(retry.clone()).layer(below.clone()).oneshot(1)).await;
    assert_eq!((answer, took, *below.calls.borrow()), (Ok(7), 300, 3));
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries, snapshot.recovered, snapshot.exhausted), (1, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_call_is_an_attempt_and_the_last_error_comes_back_untouched() {
    for attempts in [1, 2, 3, 7, 100] {
        let retry = Handle::new("x", steady().attempts(attempts).no_budget());
        let calls = Cell::new(0);
        let answer = retry.run_with(OnError, |attempt| {
            calls.set(calls.get() + 1);
            assert_eq!(attempt, calls.get());
            ready(Err::<(), _>(Error::Inner(io::Error::other(attempt.to_string()))))
        });
        let Err(Error::Inner(error)) = answer.await else { panic!("the service's own error") };
        assert_eq!((error.to_string(), calls.get()), (attempts.to_string(), attempts));
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.retries, snapshot.exhausted, snapshot.recovered), (u64::from(attempts) - 1, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_waits_for_readiness_and_nothing_wakes_itself() {
    let retry = Handle::new("x", steady());
    let (mut service, mut upstream) = mocked(&retry);
    upstream.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    let (_, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    assert_pending!(call.poll());
    respond.send_error("down");
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert!(!call.is_woken(), "a wait does not wake itself");
    advance(ms(99)).await;
    assert!(!call.is_woken());
    advance(ms(1)).await;
    assert!(call.is_woken(), "on time");
    assert_pending!(call.poll());
    assert!(!call.is_woken());
    assert_pending!(task::spawn(upstream.next_request()).poll(), "not called before it is ready");
    assert_eq!(retry.snapshot().retries, 0);
    upstream.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap();
    assert_eq!((request, retry.snapshot().retries), (7, 1));
    respond.send_response(8);
    assert_eq!(assert_ready_ok!(call.poll()), 8);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_before_a_retry_is_final() {
    let retry = Handle::new("x", steady());
    let (mut service, mut upstream) = mocked(&retry);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    assert_ready!(task::spawn(upstream.next_request()).poll()).unwrap().1.send_error("down");
    assert_pending!(call.poll());
    upstream.send_error("gone");
    advance(ms(100)).await;
    let available = retry.snapshot().budget_available;
    assert_eq!(assert_ready_err!(call.poll()).to_string(), "gone");
    assert_eq!(retry.snapshot().retries, 0, "it never began");
    assert_eq!(retry.snapshot().budget_available, available.map(|n| n + 1), "and is not paid for");
}

/// Says how many clones are ready and not called yet, now and at most. A clone is not ready, whatever the original is.
#[derive(Default)]
struct Reserving {
    ready: bool,
    now: Rc<Cell<u32>>,
    most: Rc<Cell<u32>>,
}

impl Clone for Reserving {
    fn clone(&self) -> Self {
        Self { ready: false, now: Rc::clone(&self.now), most: Rc::clone(&self.most) }
    }
}

impl Service<u32> for Reserving {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        if !std::mem::replace(&mut self.ready, true) {
            self.now.set(self.now.get() + 1);
            self.most.set(self.most.get().max(self.now.get()));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Ready<Answer> {
        assert!(std::mem::take(&mut self.ready), "only what is ready is called");
        self.now.set(self.now.get() - 1);
        ready(boom())
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_became_ready_is_called_and_a_spare_reserves_nothing() {
    let below = Reserving::default();
    let mut service = RetryLayer::new(Handle::new("x", steady().no_budget())).layer(below.clone());
    for _ in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(1).await, boom());
        assert_eq!((below.now.get(), below.most.get()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn rejections_are_not_tried_again_except_those_that_the_settings_name() {
    let all = [
        Reason::BulkheadFull,
        Reason::CircuitOpen,
        Reason::CircuitProbing,
        Reason::NoInstance,
        Reason::Overloaded,
        Reason::RateLimited,
        Reason::TimedOut,
    ];
    for reason in all {
        for (config, expected) in [
            (steady(), if reason == Reason::TimedOut { 3 } else { 1 }),
            (steady().retry_on([]), 1),
            (steady().retry_on([reason]), 3),
            (steady().retry_on(all.into_iter().filter(|other| *other != reason)), 1),
        ] {
            let below = scripted((0..3).map(|_| rejected(reason, None)));
            let answer = RetryLayer::new(Handle::new("x", config)).layer(below.clone()).oneshot(1).await;
            assert_eq!((answer, *below.calls.borrow()), (rejected(reason, None), expected), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_further_in_is_left_alone() {
    let breaker = mainstay::breaker::Handle::new("below", consecutive(2));
    let retry = Handle::new("x", steady().attempts(7).no_budget());
    let calls = Cell::new(0);
    let answer = retry.run(|| {
        breaker.run(async {
            calls.set(calls.get() + 1);
            Err::<(), _>(Boom)
        })
    });
    assert_eq!(answer.await.unwrap_err().rejection().map(Rejection::reason), Some(Reason::CircuitOpen));
    assert_eq!((calls.get(), retry.snapshot().retries), (2, 2));
    // The same in a boxed error, through its sources.
    let boxed = retry.run(|| ready(Err::<(), BoxError>(rejected(Reason::CircuitOpen, None).unwrap_err().into())));
    assert!(boxed.await.is_err());
    assert_eq!(retry.snapshot().retries, 2);
}

#[tokio::test(start_paused = true)]
async fn classifiers_see_results_as_well_as_errors_and_ignored_is_final() {
    let classify = || {
        classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
            Ok(0) => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        })
    };
    for (answers, answer, calls) in
        [(vec![Ok(0), Ok(0), Ok(5)], Ok(5), 3), (vec![Ok(0), boom()], boom(), 2), (vec![Ok(0); 3], Ok(0), 3)]
    {
        let below = scripted(answers);
        let layer = RetryLayer::new(Handle::new("x", steady())).classify(classify());
        assert_eq!((layer.layer(below.clone()).oneshot(1).await, *below.calls.borrow()), (answer, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn lists_of_kinds_say_what_is_tried_again() {
    use io::ErrorKind::{ConnectionReset, NotFound, Other, TimedOut};
    let kind_of = |error: &Error<io::Error>| match error {
        Error::Inner(error) => Some(error.kind()),
        Error::Rejected(_) => None,
    };
    let attempts = async |classify, kind| {
        let retry = Handle::new("x", steady());
        let _ = retry.run_with(classify, |_| ready(Err::<(), _>(Error::Inner(io::Error::from(kind))))).await;
        retry.snapshot().retries + 1
    };
    for (kind, no_list, listed, never, both) in
        [(ConnectionReset, 3, 3, 3, 3), (TimedOut, 3, 3, 3, 1), (NotFound, 3, 1, 1, 1), (Other, 3, 1, 3, 1)]
    {
        let list = || by_kind(kind_of).retryable([ConnectionReset]).retryable([TimedOut]);
        assert_eq!(attempts(by_kind(kind_of), kind).await, no_list, "{kind}");
        assert_eq!(attempts(list(), kind).await, listed, "{kind}");
        assert_eq!(attempts(by_kind(kind_of).never([NotFound]), kind).await, never, "{kind}");
        assert_eq!(attempts(list().never([TimedOut, NotFound]), kind).await, both, "{kind}");
    }
}

/// Asks to be left alone for so long.
struct Asks(Duration);

impl<T, E> Classify<T, E> for Asks {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, _: Result<&T, &E>) -> Option<Duration> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_and_one_that_is_too_long_ends_the_retries() {
    for (asked, calls, took) in
        [(0, 2, 100), (99, 2, 100), (123, 2, 123), (5_000, 2, 5_000), (5_001, 1, 0), (u64::MAX, 1, 0)]
    {
        let config = || steady().attempts(2).max_retry_after(ms(5_000));
        let retry = Handle::new("x", config());
        let below = scripted([boom(), boom()]);
        let service = RetryLayer::new(retry.clone()).classify(Asks(ms(asked))).layer(below.clone());
        let (answer, waited) = elapsed(service.oneshot(1)).await;
        assert_eq!((answer, *below.calls.borrow(), waited), (boom(), calls, took), "{asked}");
        assert_eq!(retry.snapshot().asked_too_long, 2 - calls as u64);
        // A rejection that says when to come back is one that asks.
        let retry = Handle::new("x", config().retry_on([Reason::RateLimited]));
        let limited = || rejected(Reason::RateLimited, Some(ms(asked.min(1 << 40))));
        let below = scripted([limited(), limited()]);
        let (answer, waited) = elapsed(RetryLayer::new(retry).layer(below.clone()).oneshot(1)).await;
        assert_eq!((answer, *below.calls.borrow(), waited), (limited(), calls, took), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_would_pass_the_deadline() {
    for (deadline, calls, took) in [(50, 1, 0), (100, 1, 0), (101, 2, 100), (300, 2, 100), (301, 3, 300)] {
        let retry = Handle::new("x", steady().deadline(ms(deadline)));
        let below = scripted([boom(), boom(), boom()]);
        let (answer, waited) = elapsed(RetryLayer::new(retry.clone()).layer(below.clone()).oneshot(1)).await;
        assert_eq!((answer, *below.calls.borrow(), waited), (boom(), calls, took), "{deadline}");
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.past_deadline, snapshot.exhausted), if calls < 3 { (1, 0) } else { (0, 1) });
        let retry = Handle::new("x", steady().deadline(ms(deadline)));
        assert!(retry.run(|| ready(boom())).await.is_err());
        assert_eq!(retry.snapshot().retries + 1, calls as u64);
    }
}

/// A request with a deadline of its own.
#[derive(Clone)]
struct Due(Tick);

struct ByRequest;

impl Replay<Due> for ByRequest {
    type Kept = Due;

    fn keep(&self, request: &mut Due) -> Option<Due> {
        Some(request.clone())
    }

    fn again(&self, kept: &Due, _: u32) -> Option<Due> {
        Some(kept.clone())
    }

    fn deadline(&self, request: &Due) -> Option<Tick> {
        Some(request.0)
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_may_bring_a_deadline_and_the_earlier_one_counts() {
    for (by_request, by_config, calls) in [(50, 1_000, 1), (150, 1_000, 2), (1_000, 150, 2), (1_000, 1_000, 3)] {
        let calls_made = Cell::new(0);
        let below = service_fn(|_: Due| {
            calls_made.set(calls_made.get() + 1);
            ready(boom())
        });
        let layer = RetryLayer::new(Handle::new("x", steady().deadline(ms(by_config)))).replay(ByRequest);
        let request = Due(Tick::now() + ms(by_request));
        assert_eq!(layer.layer(below).oneshot(request).await, boom());
        assert_eq!(calls_made.get(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_again_is_sent_once() {
    let retry = Handle::new("x", steady());
    let even = |request: &u32| (request % 2 == 0).then_some(*request);
    let layer = RetryLayer::new(retry.clone()).replay(even);
    for (request, calls) in [(2, 3), (3, 1)] {
        let below = scripted([boom(), boom(), boom()]);
        assert_eq!(layer.layer(below.clone()).oneshot(request).await, boom());
        assert_eq!(*below.calls.borrow(), calls);
    }
    assert_eq!((retry.snapshot().not_replayed, retry.snapshot().exhausted), (1, 1));
    // A request that is no Clone needs no more than a hook.
    struct Once(Rc<()>);
    let below = service_fn(|request: Once| {
        drop(request.0);
        ready(boom())
    });
    let layer = RetryLayer::new(retry.clone()).replay(|_: &Once| None);
    assert_eq!(layer.layer(below).oneshot(Once(Rc::default())).await, boom());
    assert_eq!(retry.snapshot().not_replayed, 2);
}

#[tokio::test(start_paused = true)]
async fn the_failed_answer_and_its_future_are_gone_before_the_wait() {
    #[derive(Debug)]
    struct Held(#[allow(dead_code, reason = "held")] Rc<()>);

    impl std::fmt::Display for Held {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("held")
        }
    }

    let (connection, permit) = (Rc::new(()), Rc::new(()));
    let below = service_fn(|_: u32| {
        let (connection, permit) = (Rc::clone(&connection), Rc::clone(&permit));
        async move {
            let _permit = permit;
            Err::<(), _>(Error::Inner(Held(connection)))
        }
    });
    let mut call = task::spawn(RetryLayer::new(Handle::new("x", steady())).layer(below).oneshot(1));
    assert_pending!(call.poll());
    assert_eq!((Rc::strong_count(&connection), Rc::strong_count(&permit)), (1, 1));
    let retry = Handle::new("x", steady());
    let mut run = task::spawn(retry.run(|| {
        let held = Held(Rc::clone(&connection));
        ready(Err::<(), _>(Error::Inner(held)))
    }));
    assert_pending!(run.poll());
    assert_eq!(Rc::strong_count(&connection), 1);
}

#[tokio::test(start_paused = true)]
async fn exhausted_is_opt_in_and_keeps_the_type() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    enum UserError {
        #[error("boom")]
        Boom,
        #[error("gave up after {0}: {1:?}")]
        GaveUp(u32, GiveUp),
    }
    impl CarryRejection for UserError {
        fn from_rejection(_: Rejection) -> Self {
            unreachable!("a retry rejects nothing")
        }
        fn rejection(&self) -> Option<&Rejection> {
            None
        }
    }
    let below = || service_fn(|_: u32| ready(Err::<(), _>(UserError::Boom)));
    let told = |_: UserError, how: Exhausted| UserError::GaveUp(how.attempts, how.why);
    for (config, error) in [
        (steady(), UserError::GaveUp(3, GiveUp::Attempts)),
        (steady().deadline(ms(150)), UserError::GaveUp(2, GiveUp::Deadline)),
    ] {
        let layer = RetryLayer::new(Handle::new("x", config)).exhausted(told);
        assert_eq!(layer.layer(below()).oneshot(1).await, Err(error));
    }
    // What is not worth another attempt is not exhausted.
    let layer = RetryLayer::new(Handle::new("x", steady()))
        .classify(classify_fn(|_: Result<&(), &UserError>| Outcome::Ignored))
        .exhausted(told);
    assert_eq!(layer.layer(below()).oneshot(1).await, Err(UserError::Boom));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_error_in_a_box_keeps_its_source_and_the_rejection_in_it() {
    let layer = RetryLayer::new(Handle::new("x", steady()))
        .exhausted(|error: BoxError, how: Exhausted| how.with_source(error).into());
    let below = service_fn(|_: u32| ready(Err::<(), BoxError>(rejected(Reason::TimedOut, None).unwrap_err().into())));
    let error = layer.layer(below).oneshot(1).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 3 attempts, the most there are: \"below\" timed out");
    assert_eq!(error.rejection().map(Rejection::reason), Some(Reason::TimedOut));
    let exhausted = error.downcast::<ExhaustedError>().unwrap();
    assert_eq!((exhausted.how().attempts, exhausted.how().why), (3, GiveUp::Attempts));
    assert!(exhausted.into_source().downcast_ref::<Error<Boom>>().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_needs_no_bound_on_the_error() {
    struct Plain;
    struct Always;
    impl<T> Rule<T, Plain> for Always {
        fn judge(&self, result: Result<&T, &Plain>) -> Judgement {
            if result.is_ok() { Judgement::Final } else { Judgement::Failed { retry_after: None } }
        }
    }
    let retry = Handle::new("x", steady());
    let layer = RetryLayer::new(retry.clone()).rule(Always);
    assert!(layer.layer(service_fn(|_: u32| ready(Err::<(), _>(Plain)))).oneshot(1).await.is_err());
    assert!(retry.run_by(Always, |_| ready(Err::<(), _>(Plain))).await.is_err());
    assert!(retry.run_any(|| ready("x".parse::<u32>())).await.is_err());
    assert!(retry.run_by(AnyError, |_| ready("x".parse::<u32>())).await.is_err());
    assert_eq!(retry.snapshot().retries, 8);
}

#[tokio::test(start_paused = true)]
async fn a_retry_without_a_wait_needs_no_timer() {
    let retry = Handle::new("x", Config::new().backoff(Backoff::fixed(Duration::ZERO)));
    let below = scripted([boom(), boom(), Ok(1)]);
    let mut call = RetryLayer::new(retry).layer(below).oneshot(1);
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_all_their_clones_are_one_retry() {
    let retry = Handle::new("x", steady());
    let layer = RetryLayer::new(retry.clone());
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let below = service_fn(move |_: u32| ready(if seen.fetch_add(1, SeqCst) % 2 == 0 { boom() } else { Ok(1) }));
    let mut used = layer.layer(below.clone());
    for _ in 0..3 {
        // As axum does: a new service by the same layer for every request.
        assert_eq!(layer.clone().layer(below.clone()).oneshot(1).await, Ok(1));
        assert_eq!(used.ready().await.unwrap().call(1).await, Ok(1));
        assert_eq!(used.clone().oneshot(1).await, Ok(1));
    }
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries, snapshot.recovered), (9, 9, 9));
    assert!(used.handle().is_same(&retry) && layer.handle().is_same(&retry));
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_callers_that_failed_together() {
    let retry = Handle::new("x", Config::new().attempts(2).no_budget());
    let mut waits = Vec::new();
    for _ in 0..200 {
        let (_, took) = elapsed(retry.run(|| ready(boom()))).await;
        assert!(took <= 101, "{took}");
        waits.push(took);
    }
    waits.sort_unstable();
    assert!(waits[20] < 40 && waits[180] > 60, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn futures_and_services_are_what_the_service_inside_allows() {
    fn assert_unpin<T: Unpin>(_: &T) {}
    fn assert_send_sync<T: Send + Sync>(_: &T) {}
    fn assert_send<T: Send>(_: &T) {}
    let retry = Handle::new("x", Config::new());
    let layer = RetryLayer::new(retry.clone());
    assert_send_sync(&layer);
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert_send_sync(&service);
    assert_unpin(&service);
    let call = service.call(1);
    assert_unpin(&call);
    assert_send_sync(&call);
    assert_send(&retry.run(pending::<Answer>));
    assert!(!format!("{layer:?} {call:?} {retry:?}").is_empty());
    // Nor 'static: request, answer and service borrow from this stack frame.
    let local = String::from("local");
    let below = service_fn(|n: usize| ready(Ok::<&str, Error<Boom>>(&local[n..])));
    assert_eq!(layer.layer(below).oneshot(2).await.unwrap(), "cal");
    assert_eq!(retry.run(|| ready(Ok::<&str, Error<Boom>>(&local))).await.unwrap(), "local");
}
