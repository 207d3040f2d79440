//! Cancellation and panics: what is left of a retried call when it does not come to its end.

use std::{
    any::Any,
    future::{Future, poll_fn, ready},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mainstay::{
    Error, OnError, Outcome, classify_fn,
    observe::Event,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, Jitter, Replay, RetryLayer},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

/// Three attempts, waits of 100 and 200 ms.
fn config() -> Config {
    Config::new().jitter(Jitter::None)
}

/// A hundred retries to begin with, and one more for every call.
fn with(config: Config) -> Handle {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000));
    (0..100).for_each(|_| budget.deposit());
    Handle::new("x", config).with_budget(&budget)
}

/// The retries that were counted are paid for, and nothing else is.
fn assert_paid(retry: &Handle) {
    let snapshot = retry.snapshot();
    assert_eq!(snapshot.budget_available, Some(100 + snapshot.calls - snapshot.retries), "{snapshot:?}");
}

/// A service that becomes ready at the second question and fails at the second poll. Its clones are not ready.
#[derive(Default)]
struct Slow {
    asked: bool,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self::default()
    }
}

type Failing = Pin<Box<dyn Future<Output = Answer>>>;

impl Service<u32> for Slow {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Failing;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        if std::mem::replace(&mut self.asked, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: u32) -> Failing {
        assert!(std::mem::take(&mut self.asked));
        let mut polled = false;
        Box::pin(poll_fn(move |cx| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(Err(Error::Inner(Boom)));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

/// Polls so often, and lets time pass in between, a wait at a time. True if it ended.
async fn poll_times<F: Future>(call: &mut Pin<Box<F>>, polls: usize) -> bool {
    for _ in 0..polls {
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        advance(ms(200)).await;
    }
    false
}

/// Retries that had begun after so many polls of a call through `Slow`: it takes a poll to fail, one to see that the
/// wait is over and the service is not ready, and one to call it, at which it is polled for the first time.
const BEGUN: [u64; 8] = [0, 0, 0, 0, 1, 1, 1, 2];

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_counts_and_pays_for_what_began_and_no_more() {
    for (polls, begun) in BEGUN.into_iter().enumerate() {
        let retry = with(config());
        let mut service = RetryLayer::new(retry.clone()).layer(Slow::default());
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        assert!(!poll_times(&mut call, polls).await, "ended within {polls} polls");
        drop(call);
        let snapshot = retry.snapshot();
        assert_eq!(snapshot.retries, begun, "dropped after {polls} polls");
        assert_paid(&retry);
        assert_eq!((snapshot.calls, snapshot.exhausted, snapshot.recovered), (1, 0, 0));
    }
    let retry = with(config());
    let mut call = Box::pin(RetryLayer::new(retry.clone()).layer(Slow { asked: true }).call(1));
    assert!(poll_times(&mut call, BEGUN.len() + 1).await);
    drop(call);
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.exhausted), (2, 1));
    assert_paid(&retry);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_pays_for_what_began_and_one_that_is_not_polled_counts_nothing() {
    for (polls, calls, begun) in [(0, 0, 0), (1, 1, 0), (2, 1, 0), (3, 1, 1), (4, 1, 1), (5, 1, 2)] {
        let retry = with(config());
        // Fails at the second poll.
        let mut run = Box::pin(retry.run(|| Slow { asked: true }.call(1)));
        assert!(!poll_times(&mut run, polls).await);
        drop(run);
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries), (calls, begun), "dropped after {polls} polls");
        assert_paid(&retry);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_cut_off_by_a_timeout_in_its_wait_leaves_the_budget_whole() {
    let retry = with(config());
    let service = RetryLayer::new(retry.clone()).layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
    for _ in 0..10 {
        assert!(tokio::time::timeout(ms(50), service.clone().oneshot(1)).await.is_err());
    }
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (10, 0));
    assert_paid(&retry);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_service_goes_on_and_what_had_not_begun_is_not_paid_for() {
    let retry = with(config());
    let layer = RetryLayer::new(retry.clone());
    let mut in_call = layer.layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| in_call.call(1)));
    let mut in_future = layer.layer(service_fn(|_: u32| poll_fn(|_| -> Poll<Answer> { panic!("in poll") })));
    let mut call = in_future.call(1);
    assert!(panics(|| poll_once(&mut call)));
    drop(call);
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (2, 0));
    assert_paid(&retry);
}

/// Panics in one of its methods.
struct Panicking(&'static str);

impl Replay<u32> for Panicking {
    type Kept = u32;

    fn keep(&self, request: &mut u32) -> Option<u32> {
        assert_ne!(self.0, "keep");
        Some(*request)
    }

    fn again(&self, kept: &u32, _: u32) -> Option<u32> {
        assert_ne!(self.0, "again");
        Some(*kept)
    }

    fn deadline(&self, _: &u32) -> Option<mainstay::time::Tick> {
        assert_ne!(self.0, "deadline");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_ends_the_retries_and_the_caller_gets_the_result() {
    for (hook, retries) in [("keep", 0), ("again", 0), ("deadline", 2), ("none", 2)] {
        let config = config().backoff(Backoff::fixed(ms(0)));
        let retry = with(config);
        let layer = RetryLayer::new(retry.clone()).replay(Panicking(hook));
        let mut service = layer.layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
        let mut answer = None;
        assert!(!panics(|| answer = Some(poll_once(&mut service.call(1)))), "{hook}");
        assert_eq!(answer, Some(Poll::Ready(Err(Error::Inner(Boom)))), "{hook}");
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.retries, snapshot.not_replayed), (retries, u64::from(retries == 0)), "{hook}");
        assert_paid(&retry);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_clone_panics_is_sent_once() {
    struct Bad;
    #[allow(clippy::non_canonical_clone_impl, reason = "a clone that panics is what is tested")]
    impl Clone for Bad {
        fn clone(&self) -> Self {
            panic!("in clone")
        }
    }
    let retry = with(config());
    let mut service = RetryLayer::new(retry.clone()).layer(service_fn(|_: Bad| ready(Answer::Err(Error::Inner(Boom)))));
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut service.call(Bad)))));
    assert_eq!(answer, Some(Poll::Ready(Err(Error::Inner(Boom)))));
    assert_eq!(retry.snapshot().not_replayed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_or_a_backoff_that_panics_ends_the_retries_and_the_caller_gets_the_result() {
    let fails = || service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom))));
    let retry = with(config());
    let layer = RetryLayer::new(retry.clone())
        .classify(classify_fn(|_: Result<&u32, &Error<Boom>>| -> Outcome { panic!("in the classifier") }));
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut layer.layer(fails()).call(1)))));
    assert_eq!(answer, Some(Poll::Ready(Err(Error::Inner(Boom)))));
    let custom = with(config().backoff(Backoff::custom(|_| panic!("in the backoff"))));
    assert!(!panics(|| answer = Some(poll_once(&mut RetryLayer::new(custom.clone()).layer(fails()).call(1)))));
    assert_eq!(answer, Some(Poll::Ready(Err(Error::Inner(Boom)))));
    for retry in [retry, custom] {
        let snapshot = retry.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries), (1, 0));
        assert_paid(&retry);
    }
}

/// An error whose text panics.
#[derive(Debug, PartialEq)]
struct Untold;

impl std::fmt::Display for Untold {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in the error's text")
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_or_an_errors_text_that_panics_changes_nothing() {
    let retry = with(config().backoff(Backoff::fixed(ms(0))));
    retry.observe(|_: &Event<'_>| panic!("in the observer"));
    // Reads the text, whether anybody listens to `tracing` or not.
    retry.observe(|event: &Event<'_>| {
        if let Event::Retry(retry) = event {
            let _ = retry.error.to_string();
        }
    });
    let mut answer = None;
    assert!(!panics(
        || answer = Some(poll_once(&mut Box::pin(retry.run(|| ready(Err::<(), _>(Error::Inner(Untold)))))))
    ));
    assert_eq!(answer, Some(Poll::Ready(Err(Error::Inner(Untold)))));
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.exhausted), (2, 1));
    assert_paid(&retry);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_call_everything_back() {
    let retry = with(config().backoff(Backoff::fixed(ms(0))));
    let inner = retry.clone();
    retry.observe(move |event: &Event<'_>| {
        assert_eq!(event.policy(), "x");
        inner.observe(());
        let _ = (inner.snapshot(), inner.config(), inner.memory(), inner.name());
        let _ = poll_once(&mut Box::pin(inner.run(|| ready(Answer::Ok(1)))));
    });
    let _ = poll_once(&mut Box::pin(retry.run(|| ready(Answer::Err(Error::Inner(Boom))))));
    assert_eq!((retry.snapshot().calls, retry.snapshot().retries), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn everything_may_be_dropped_in_any_order_while_a_call_waits() {
    for order in 0..8 {
        let retry = with(config());
        let layer = RetryLayer::new(retry.clone());
        let mut service = layer.layer(service_fn(|_: u32| ready(Answer::Err(Error::Inner(Boom)))));
        let mut call = service.call(1);
        assert!(poll_once(&mut call).is_pending());
        let mut parts: Vec<Box<dyn Any>> = vec![Box::new(retry), Box::new(layer), Box::new(service), Box::new(call)];
        parts.rotate_left(order % 4);
        if order > 3 {
            parts.reverse();
        }
        parts.into_iter().for_each(drop);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_all_else_is_dropped() {
    let below = Scripted::new([Err(Error::Inner(Boom)), Ok(5)].map(ready::<Answer>));
    let call = RetryLayer::new(with(config())).layer(below).call(1);
    assert_eq!(call.await, Ok(5));
}

#[test]
fn nothing_needs_a_runtime_until_there_is_a_wait() {
    let retry = with(config());
    let mut service = RetryLayer::new(retry.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert_eq!(poll_once(&mut service.call(5)), Poll::Ready(Ok(5)));
    assert!(poll_once(&mut Box::pin(retry.run_with(OnError, |n| ready(Answer::Ok(n))))).is_ready());
    assert_eq!(retry.snapshot().calls, 2);
}
