//! The fallback as a Tower service and around closures: what is covered, where the answer comes from, what the caller
//! gets when all fails.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, ready},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use mainstay::{
    BoxError, Error, Name, Outcome, Reason, Rejection, classify_fn,
    fallback::{
        CacheConfig, Fallback, FallbackLayer, FallbackService, Handle, LastGood, NoFallback, Snapshot, Store, Strategy,
    },
    observe::Event,
};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use crate::{log, support::*};

fn boom() -> Answer {
    Err(Error::Inner(Boom))
}

fn rejection(reason: Reason) -> Error<Boom> {
    Error::Rejected(Rejection::new(reason, Name::new("below").unwrap()))
}

/// Used, failed, nothing, not covered.
fn counts(fallback: &Handle) -> [u64; 4] {
    let Snapshot { used, failed, nothing, not_covered, .. } = fallback.snapshot();
    [used, failed, nothing, not_covered]
}

/// Everything told, in words.
fn told(fallback: &Handle) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    fallback.observe(move |event: &Event<'_>| {
        log.lock().unwrap().push(match event {
            Event::Fallback { policy, error } => format!("{policy} answered for: {error}"),
            Event::FallbackFailed { policy, error, second } => format!("{policy} failed for: {error}: {second}"),
            other => format!("{other:?}"),
        });
    });
    seen
}

/// What a call through a fallback comes to, and what was counted.
async fn answer<F>(strategy: F, result: Answer) -> (Answer, [u64; 4])
where
    F: Strategy<u32, u32, Error<Boom>>,
{
    let fallback = Handle::new("x");
    let service = FallbackLayer::new(fallback.clone(), strategy).layer(service_fn(move |_| ready(result.clone())));
    (service.oneshot(1).await, counts(&fallback))
}

#[tokio::test]
async fn an_answer_is_the_answer_and_counts_nothing() {
    assert_eq!(answer(Fallback::value(9), Ok(1)).await, (Ok(1), [0; 4]));
    assert_eq!(answer(NoFallback, Ok(1)).await, (Ok(1), [0; 4]));
    assert_eq!(answer(NoFallback, boom()).await, (boom(), [0; 4]));
}

#[tokio::test]
async fn each_strategy_answers_for_an_error() {
    assert_eq!(answer(Fallback::value(9), boom()).await, (Ok(9), [1, 0, 0, 0]));
    let length = Fallback::with(|error: &Error<Boom>| error.to_string().len() as u32);
    assert_eq!(answer(length, boom()).await, (Ok(4), [1, 0, 0, 0]));
    let either = |failed: Result<&u32, &Error<Boom>>| failed.map_or(5, |n| *n);
    assert_eq!(answer(Fallback::with_result(either), boom()).await, (Ok(5), [1, 0, 0, 0]));
    let later = Fallback::run(|_: &Error<Boom>| async {
        tokio::task::yield_now().await;
        Ok(6)
    });
    assert_eq!(answer(later, boom()).await, (Ok(6), [1, 0, 0, 0]));
    let plus = Fallback::request(|n: &u32| *n, |n, _: Result<&u32, &Error<Boom>>| ready(Ok(n + 10)));
    assert_eq!(answer(plus, boom()).await, (Ok(11), [1, 0, 0, 0]));
    let other = Fallback::service(service_fn(|n: u32| ready(Answer::Ok(n + 20))));
    assert_eq!(answer(other, boom()).await, (Ok(21), [1, 0, 0, 0]));
}

#[tokio::test]
async fn rejections_are_covered_whatever_the_reason() {
    for reason in [Reason::CircuitOpen, Reason::BulkheadFull, Reason::RateLimited, Reason::TimedOut] {
        assert_eq!(answer(Fallback::value(9), Err(rejection(reason))).await, (Ok(9), [1, 0, 0, 0]));
    }
}

#[tokio::test]
async fn a_part_may_be_for_some_failures_only() {
    let open = || Fallback::value(9).on([Reason::CircuitOpen, Reason::CircuitProbing]);
    assert_eq!(answer(open(), Err(rejection(Reason::CircuitOpen))).await, (Ok(9), [1, 0, 0, 0]));
    let full = Err(rejection(Reason::BulkheadFull));
    assert_eq!(answer(open(), full.clone()).await, (full.clone(), [0, 0, 0, 1]));
    assert_eq!(answer(open(), boom()).await, (boom(), [0, 0, 0, 1]));
    let inner = || Fallback::value(8).when(|error: &Error<Boom>| !error.is_rejection());
    assert_eq!(answer(inner(), boom()).await, (Ok(8), [1, 0, 0, 0]));
    assert_eq!(answer(inner(), full.clone()).await, (full.clone(), [0, 0, 0, 1]));
    let chain = || open().or(inner());
    assert_eq!(answer(chain(), Err(rejection(Reason::CircuitOpen))).await, (Ok(9), [1, 0, 0, 0]));
    assert_eq!(answer(chain(), boom()).await, (Ok(8), [1, 0, 0, 0]));
    assert_eq!(answer(chain(), full.clone()).await, (full.clone(), [0, 0, 0, 1]));
    // A restriction of the whole chain restricts all of it.
    let none = chain().on([Reason::NoInstance]);
    assert_eq!(answer(none, Err(rejection(Reason::CircuitOpen))).await.1, [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_classifier_says_which_errors_and_which_responses_are_failures() {
    // 5xx fails, 4xx is the caller's fault.
    let by_status = || {
        classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
            Ok(500..) => Outcome::Failure,
            Ok(400..) => Outcome::Ignored,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        })
    };
    for (result, expected, counted) in [
        (Ok(200), Ok(200), [0; 4]),
        (Ok(404), Ok(404), [0; 4]),
        (Ok(503), Ok(1_503), [1, 0, 0, 0]),
        (boom(), boom(), [0, 0, 0, 1]),
        (Err(rejection(Reason::CircuitOpen)), Ok(0), [1, 0, 0, 0]),
    ] {
        let fallback = Handle::new("x");
        let made =
            Fallback::with_result(|failed: Result<&u32, &Error<Boom>>| failed.map_or(0, |status| status + 1_000));
        let layer = FallbackLayer::new(fallback.clone(), made).classify(by_status());
        let service = layer.layer(service_fn(|_: u32| ready(result.clone())));
        assert_eq!(service.oneshot(1).await, expected);
        assert_eq!(counts(&fallback), counted, "{result:?}");
    }
    // What is made from an error only is not for a response.
    let fallback = Handle::new("x");
    let below = || service_fn(|_: u32| ready(Answer::Ok(503)));
    let from_error = || Fallback::with(|_: &Error<Boom>| 7);
    let service = FallbackLayer::new(fallback.clone(), from_error()).classify(by_status()).layer(below());
    assert_eq!((service.oneshot(1).await, counts(&fallback)), (Ok(503), [0, 0, 0, 1]));
    // If the fallback fails, the response is the answer.
    let seen = told(&fallback);
    let fails = Fallback::request(|_: &u32| (), |(), _: Result<&u32, &Error<Boom>>| ready(boom()));
    let service = FallbackLayer::new(fallback.clone(), from_error().or(fails)).classify(by_status()).layer(below());
    assert_eq!((service.oneshot(1).await, counts(&fallback)), (Ok(503), [0, 1, 0, 1]));
    assert_eq!(*seen.lock().unwrap(), ["x failed for: a result that counts as a failure: boom"]);
}

/// Fails with this text.
fn fails<Req>(second: &'static str) -> impl Strategy<Req, u32, BoxError> {
    Fallback::run(move |_: &BoxError| ready(Err::<u32, BoxError>(second.into())))
}

#[tokio::test]
async fn the_original_error_is_kept_through_the_whole_chain_and_the_others_are_told() {
    let fallback = Handle::new("x");
    let seen = told(&fallback);
    let all_fail = Fallback::by(fails("one")).or(fails("two")).or(Fallback::by(fails("three")).or(fails("four")));
    let error = fallback.run(&all_fail, async { Err("original".into()) }).await.unwrap_err();
    assert_eq!(error.to_string(), "original");
    let failed = |second| format!("x failed for: original: {second}");
    assert_eq!(*seen.lock().unwrap(), ["one", "two", "three", "four"].map(failed));
    assert_eq!(counts(&fallback), [0, 1, 0, 0]);

    seen.lock().unwrap().clear();
    let third = Fallback::by(fails("one")).or(fails("two")).or(Fallback::value(3)).or(fails("never asked"));
    assert_eq!(fallback.run(&third, async { Err("original".into()) }).await.unwrap(), 3);
    assert_eq!(*seen.lock().unwrap(), [failed("one"), failed("two"), "x answered for: original".into()]);
    assert_eq!(counts(&fallback), [1, 1, 0, 0]);
}

#[tokio::test]
async fn the_next_is_asked_where_the_first_has_nothing() {
    let empty = || Fallback::cached(CacheConfig::new(), |n: &u32| Some(*n));
    assert_eq!(answer(empty(), boom()).await, (boom(), [0, 0, 1, 0]));
    assert_eq!(answer(empty().or(Fallback::value(9)), boom()).await, (Ok(9), [1, 0, 0, 0]));
    assert_eq!(answer(empty().or(empty()), boom()).await, (boom(), [0, 0, 1, 0]));
    // A failure is told even if nothing comes after it.
    let failing = || Fallback::run(|_: &Error<Boom>| ready(boom()));
    assert_eq!(answer(failing().or(empty()), boom()).await, (boom(), [0, 1, 0, 0]));
    assert_eq!(answer(empty().or(failing()), boom()).await, (boom(), [0, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_given_until_it_is_too_old() {
    let fallback = Handle::new("x");
    let cache = CacheConfig::new().max_age(ms(10_000)).refresh(ms(1_000));
    let last_good = Fallback::cached(cache, |n: &u32| (*n < 100).then_some(*n));
    let store = last_good.store().clone();
    let next = Rc::new(Cell::new(Answer::Ok(1)));
    let below = {
        let next = Rc::clone(&next);
        service_fn(move |_: u32| {
            let answer = next.replace(boom());
            ready(answer)
        })
    };
    let mut service = FallbackLayer::new(fallback.clone(), last_good).layer(below);
    let mut ask = async |key, answer: Answer| {
        next.set(answer);
        service.ready().await.unwrap().call(key).await
    };
    assert_eq!(ask(1, boom()).await, boom(), "nothing is known yet");
    assert_eq!(ask(1, Ok(10)).await, Ok(10));
    assert_eq!(ask(1, boom()).await, Ok(10));
    assert_eq!(ask(2, boom()).await, boom(), "the answer to another question");
    advance(ms(999)).await;
    assert_eq!(ask(1, Ok(11)).await, Ok(11));
    assert_eq!(ask(1, boom()).await, Ok(10), "the one before is new enough not to be replaced");
    advance(ms(1)).await;
    assert_eq!(ask(1, Ok(12)).await, Ok(12));
    assert_eq!(ask(1, boom()).await, Ok(12));
    advance(ms(10_000)).await;
    assert_eq!(ask(1, boom()).await, Ok(12));
    advance(ms(1)).await;
    assert_eq!(ask(1, boom()).await, boom(), "too old");
    assert_eq!(ask(100, Ok(5)).await, Ok(5));
    assert_eq!(ask(100, boom()).await, boom(), "a request without a key");
    assert_eq!((store.len(), counts(&fallback)), (1, [4, 0, 4, 0]));
}

#[test]
fn a_response_that_is_a_failure_is_not_learnt() {
    let fallback = Handle::new("x");
    let last_good = Fallback::cached(CacheConfig::new(), |n: &u32| Some(*n));
    let store = last_good.store().clone();
    let bad = classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
        Ok(500..) => Outcome::Failure,
        Ok(400..) => Outcome::Ignored,
        _ => Outcome::Success,
    });
    let mut service = FallbackLayer::new(fallback, last_good).classify(bad).layer(service_fn(|n| ready(Answer::Ok(n))));
    for n in [503, 404, 200] {
        assert_eq!(poll_once(&mut service.call(n)), Poll::Ready(Ok(n)));
    }
    assert_eq!((store.len(), store.get(&200)), (1, Some(200)));
}

#[test]
fn a_flood_of_keys_takes_no_more_memory_than_was_said() {
    for (most, floor) in [(1, 1), (7, 7), (255, 255), (256, 256), (1_000, 992)] {
        let answers = LastGood::new(CacheConfig::new().max_entries(most));
        (0..20_000_u32).for_each(|key| answers.put(&key, &key));
        let len = answers.len();
        assert!(len <= most as usize && len >= floor, "{len} of {most}");
        assert_eq!(answers.get(&19_999), Some(19_999), "the newest is there");
        assert_eq!(answers.get(&0), None);
        answers.forget(&19_999);
        assert_eq!(answers.len(), len - 1);
        answers.clear();
        assert!(answers.is_empty());
    }
}

#[test]
fn a_key_or_an_answer_whose_code_looks_at_the_store_or_panics_does_no_harm() {
    thread_local! {
        static STORE: RefCell<Option<LastGood<Nosy, Nosy>>> = const { RefCell::new(None) };
        static BAD: Cell<&'static str> = const { Cell::new("") };
    }
    #[derive(Debug)]
    struct Nosy(u32);
    impl Nosy {
        /// Would wait for ever under a lock.
        fn look(&self, what: &str) {
            assert!(STORE.with_borrow(|store| store.as_ref().map_or(0, LastGood::len)) < 100);
            assert_ne!(BAD.get(), what, "panics in {what}");
        }
    }
    impl std::hash::Hash for Nosy {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.look("hash");
            self.0.hash(state);
        }
    }
    impl PartialEq for Nosy {
        fn eq(&self, other: &Self) -> bool {
            self.look("eq");
            self.0 == other.0
        }
    }
    impl Eq for Nosy {}
    impl Clone for Nosy {
        fn clone(&self) -> Self {
            self.look("clone");
            Self(self.0)
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            let _ = STORE.try_with(|store| store.try_borrow().map(|store| store.as_ref().map(LastGood::len)));
        }
    }
    let store = LastGood::new(CacheConfig::new().max_entries(2).refresh(ms(0)));
    STORE.set(Some(store.clone()));
    for n in 0..5 {
        store.put(&Nosy(n), &Nosy(n));
    }
    assert_eq!(store.get(&Nosy(4)).map(|found| found.0), Some(4));
    for what in ["hash", "eq", "clone"] {
        BAD.set(what);
        assert_eq!(panics(|| store.put(&Nosy(9), &Nosy(9))), what != "eq", "{what}");
        assert!(panics(|| store.get(&Nosy(4))), "{what}");
        BAD.set("");
        assert_eq!(store.len(), 2, "{what}");
        store.put(&Nosy(4), &Nosy(4));
        assert_eq!(store.get(&Nosy(4)).map(|found| found.0), Some(4));
    }
    STORE.set(None);
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let new = CacheConfig::new;
    for (config, field, value, why) in [
        (new().max_entries(0), "max_entries", "0", "must be in 1..=1000000"),
        (new().max_entries(1_000_001), "max_entries", "1000001", "must be in 1..=1000000"),
        (new().max_age(ms(0)).refresh(ms(0)), "max_age", "0s", "must be at least 1ms"),
        (new().max_age(std::time::Duration::MAX), "max_age", "ns", "must be at most 365d"),
        (new().refresh(ms(300_001)), "refresh", "300001ms", "must be at most max_age, 5m"),
        (new().refresh(std::time::Duration::MAX), "refresh", "ns", "must be at most 365d"),
    ] {
        let error = config.check().unwrap_err();
        assert_eq!((error.field(), error.problems().count()), (field, 1), "{error}");
        assert!(error.value().contains(value) && error.why().contains(why), "{error}");
        assert_eq!(Fallback::try_cached::<u32, u32, u32, _>(config, |n| Some(*n)).unwrap_err(), error);
        assert!(panics(|| LastGood::<u32, u32>::new(config)));
    }
    for (toml, expected) in [
        ("max_entries = 0", "max_entries = 0: must be in 1..=1000000"),
        ("max_age = \"-1s\"", "max_age = \"-1s\": a duration must not be negative"),
        ("max_age = 5", "max_age = 5: missing unit"),
        ("refresh = \"1h\"", "refresh = 1h: must be at most max_age, 5m"),
        ("age = \"1h\"", "unknown field `age`"),
        ("max_entries = 0\nmax_age = \"\"", "max_age = \"\": a duration must not be empty"),
    ] {
        let error = toml::from_str::<CacheConfig>(toml).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
    let config = new().max_entries(5).max_age(ms(500)).refresh(ms(0));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"max_entries":5,"max_age":"500ms","refresh":"0s"}"#);
    assert_eq!(serde_json::from_str::<CacheConfig>(&json).unwrap(), config);
    assert_eq!(toml::from_str::<CacheConfig>("").unwrap(), new());
    assert_eq!(toml::from_str::<CacheConfig>("max_age = '10ms'").unwrap(), new().max_age(ms(10)).refresh(ms(10)));
    assert_eq!(Handle::try_new("a b").unwrap_err().field(), "name");
    assert!(panics(|| Handle::new("")));
}

type Mock =
    mock::Spawn<FallbackService<mock::Mock<u32, u32>, Fallback<mainstay::fallback::Alternative<mock::Mock<u32, u32>>>>>;

fn mocked(fallback: &Handle) -> (Mock, mock::Handle<u32, u32>, mock::Handle<u32, u32>) {
    let (alternative, alternatives) = mock::pair();
    let (service, calls) = mock::spawn_layer(FallbackLayer::new(fallback.clone(), Fallback::service(alternative)));
    (service, calls, alternatives)
}

#[tokio::test(start_paused = true)]
async fn another_service_is_made_ready_and_called_with_the_same_request() {
    let fallback = Handle::new("x");
    let (mut service, mut calls, mut alternatives) = mocked(&fallback);
    alternatives.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (request, respond) = calls.next_request().await.unwrap();
    assert_eq!(request, 7);
    respond.send_error("down");
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(counts(&fallback), [0; 4], "the other one is not ready yet");
    alternatives.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, respond) = alternatives.next_request().await.unwrap();
    assert_eq!(request, 7);
    respond.send_response(70);
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), 70);
    assert_eq!(counts(&fallback), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn another_service_that_cannot_become_ready_has_failed() {
    let fallback = Handle::new("x");
    let seen = told(&fallback);
    let (mut service, mut calls, mut alternatives) = mocked(&fallback);
    alternatives.send_error("gone");
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    calls.next_request().await.unwrap().1.send_error("down");
    assert_eq!(assert_ready_err!(call.poll()).to_string(), "down");
    assert_eq!(counts(&fallback), [0, 1, 0, 0]);
    assert_eq!(*seen.lock().unwrap(), ["x failed for: down: gone"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_is_final_and_goes_to_the_caller() {
    let fallback = Handle::new("x");
    let (mut service, mut calls, _alternatives) = mocked(&fallback);
    calls.send_error("closed");
    assert_eq!(assert_ready_err!(service.poll_ready()).to_string(), "closed");
    // Around `oneshot` it is a failure like any other.
    let (below, mut calls) = mock::pair::<u32, u32>();
    calls.send_error("closed");
    let answer = fallback.run_for(&Fallback::value(5), 1, |request| below.oneshot(request)).await;
    assert_eq!((answer.unwrap(), counts(&fallback)), (5, [1, 0, 0, 0]));
}

#[tokio::test]
async fn a_hook_decides_which_requests_go_to_another_service() {
    let even = |n: &u32| (n % 2 == 0).then_some(*n);
    for (request, expected, counted) in [(2, Ok(2), [1, 0, 0, 0]), (3, boom(), [0, 0, 1, 0])] {
        let fallback = Handle::new("x");
        let other = Fallback::service(service_fn(|n: u32| ready(Answer::Ok(n)))).replay(even);
        let service = FallbackLayer::new(fallback.clone(), other).layer(service_fn(|_: u32| ready(boom())));
        assert_eq!(service.oneshot(request).await, expected);
        assert_eq!(counts(&fallback), counted);
    }
}

#[tokio::test]
async fn the_services_future_is_gone_before_the_fallback_begins() {
    struct Permit(Rc<Cell<u32>>);
    impl Drop for Permit {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let running = Rc::new(Cell::new(0));
    let call = || {
        running.set(running.get() + 1);
        let permit = Permit(Rc::clone(&running));
        async move {
            let _permit = permit;
            boom()
        }
    };
    let fallback = Handle::new("x");
    let look = || {
        let running = Rc::clone(&running);
        Fallback::run(move |_: &Error<Boom>| {
            let running = Rc::clone(&running);
            async move { Ok(running.get()) }
        })
    };
    assert_eq!(fallback.run(&look(), call()).await, Ok(0));
    let service = FallbackLayer::new(fallback, look()).layer(service_fn(|_: u32| call()));
    assert_eq!(service.oneshot(1).await, Ok(0));
}

/// Pending so many times, and wakes itself, then answers.
fn after(polls: u32, answer: Answer) -> impl Future<Output = Answer> + Clone + Unpin {
    #[derive(Clone)]
    struct After(u32, Answer);
    impl Future for After {
        type Output = Answer;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
            if self.0 == 0 {
                return Poll::Ready(self.1.clone());
            }
            self.0 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    After(polls, answer)
}

#[test]
fn dropped_after_any_number_of_polls_a_call_counts_nothing() {
    for polls in 0..5 {
        let fallback = Handle::new("x");
        let seen = told(&fallback);
        let strategy = || {
            let slow = Fallback::run(|_: &Error<Boom>| after(2, boom()));
            slow.or(Fallback::run(|_: &Error<Boom>| after(1, Ok(5))))
        };
        let mut service = FallbackLayer::new(fallback.clone(), strategy()).layer(service_fn(|_: u32| after(2, boom())));
        let mut call = service.call(1);
        let strategy = strategy();
        let mut run = Box::pin(fallback.run(&strategy, after(2, boom())));
        for _ in 0..polls {
            assert!(poll_once(&mut call).is_pending());
            assert!(poll_once(&mut run).is_pending());
        }
        drop((call, run));
        // The first fallback fails at the fifth poll, and the second begins.
        assert_eq!((counts(&fallback), seen.lock().unwrap().len()), ([0; 4], if polls < 5 { 0 } else { 2 }));
    }
    let fallback = Handle::new("x");
    let slow = Fallback::run(|_: &Error<Boom>| after(2, boom())).or(Fallback::run(|_: &Error<Boom>| after(1, Ok(5))));
    let mut service = FallbackLayer::new(fallback.clone(), slow).layer(service_fn(|_: u32| after(2, boom())));
    let mut call = service.call(1);
    let polls = (1..).find(|_| poll_once(&mut call).is_ready());
    assert_eq!((polls, counts(&fallback)), (Some(6), [1, 0, 0, 0]));
}

/// Panics in one of its methods, or in its answer.
struct Panicking(&'static str);

impl Strategy<u32, u32, Error<Boom>> for Panicking {
    type Kept = ();
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn keep(&self, _: &mut u32) {
        assert_ne!(self.0, "keep");
    }

    fn covers(&self, _: Result<&u32, &Error<Boom>>) -> bool {
        assert_ne!(self.0, "covers");
        true
    }

    fn succeeded(&self, (): &(), _: &u32) {
        assert_ne!(self.0, "succeeded");
    }

    fn fall_back(&self, (): &mut (), _: Result<&u32, &Error<Boom>>) -> Option<Self::Future> {
        assert_ne!(self.0, "fall_back");
        let in_future = self.0 == "future";
        Some(Box::pin(async move {
            assert!(!in_future);
            Ok(9)
        }))
    }
}

#[test]
fn a_strategy_that_panics_has_nothing_and_the_caller_gets_what_there_is() {
    // What is counted, and what the caller gets where another strategy comes after it.
    for (method, counted, chained) in [
        ("keep", [0, 0, 1, 0], Ok(8)),
        ("covers", [0, 0, 0, 1], Ok(8)),
        ("succeeded", [1, 0, 0, 0], Ok(9)),
        ("fall_back", [0, 1, 0, 0], Ok(8)),
        ("future", [0, 1, 0, 0], Ok(8)),
    ] {
        let fallback = Handle::new("x");
        let seen = told(&fallback);
        let layer = FallbackLayer::new(fallback.clone(), Panicking(method));
        let mut service = layer.layer(service_fn(|n: u32| ready(if n == 0 { boom() } else { Ok(n) })));
        let mut answers = Vec::new();
        assert!(!panics(|| answers = [0, 1].map(|n| poll_once(&mut service.call(n))).into()), "{method}");
        let failed = if counted[0] == 1 { Ok(9) } else { boom() };
        assert_eq!(answers, [Poll::Ready(failed), Poll::Ready(Ok(1))], "{method}");
        assert_eq!(counts(&fallback), counted, "{method}");
        let panicked = seen.lock().unwrap().iter().any(|told| told == "x failed for: boom: it panicked");
        assert_eq!(panicked, counted[1] == 1, "{method}");
        // What comes after it is asked.
        let chain = Fallback::by(Panicking(method)).or(Fallback::value(8));
        let mut service = FallbackLayer::new(fallback.clone(), chain).layer(service_fn(|_: u32| ready(boom())));
        let mut answer = None;
        assert!(!panics(|| answer = Some(poll_once(&mut service.call(0)))));
        assert_eq!(answer, Some(Poll::Ready(chained)), "{method}");
    }
}

#[test]
fn a_classifier_an_observer_or_an_errors_text_that_panics_changes_nothing() {
    #[derive(Debug, PartialEq)]
    struct Untold;
    impl std::fmt::Display for Untold {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("in the error's text")
        }
    }
    let fallback = Handle::new("x");
    fallback.observe(|_: &Event<'_>| panic!("in the observer"));
    fallback.observe(|event: &Event<'_>| {
        if let Event::Fallback { error, .. } = event {
            let _ = error.to_string();
        }
    });
    let mut answer = None;
    let value = Fallback::value(5);
    assert!(!panics(|| answer = Some(poll_once(&mut Box::pin(fallback.run(&value, ready(Err(Untold))))))));
    assert_eq!((answer, counts(&fallback)), (Some(Poll::Ready(Ok(5))), [1, 0, 0, 0]));
    let bad = classify_fn(|_: Result<&u32, &Error<Boom>>| -> Outcome { panic!("in the classifier") });
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut Box::pin(fallback.run_with(bad, &value, ready(boom())))))));
    assert_eq!((answer, counts(&fallback)), (Some(Poll::Ready(boom())), [1, 0, 0, 1]));
}

#[test]
fn a_panic_in_the_service_goes_on() {
    let fallback = Handle::new("x");
    let layer = FallbackLayer::new(fallback.clone(), Fallback::value(5));
    let mut in_call = layer.layer(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| drop(in_call.call(1))));
    let mut in_future =
        layer.layer(service_fn(|_: u32| std::future::poll_fn(|_| -> Poll<Answer> { panic!("in poll") })));
    let mut call = in_future.call(1);
    assert!(panics(|| poll_once(&mut call)));
    drop(call);
    assert_eq!(counts(&fallback), [0; 4]);
}

#[test]
fn an_observer_may_call_everything_back_and_all_may_be_dropped_while_a_fallback_runs() {
    let fallback = Handle::new("x");
    let inner = fallback.clone();
    fallback.observe(move |event: &Event<'_>| {
        assert_eq!(event.policy(), "x");
        inner.observe(());
        let _ = (inner.snapshot(), inner.memory(), inner.name());
    });
    let value = Fallback::value(5);
    assert!(poll_once(&mut Box::pin(fallback.run(&value, ready(boom())))).is_ready());
    let layer = FallbackLayer::new(fallback.clone(), Fallback::run(|_: &Error<Boom>| after(1, Ok(6))));
    let mut service = layer.layer(service_fn(|_: u32| ready(boom())));
    let mut call = service.call(1);
    assert!(poll_once(&mut call).is_pending());
    drop((service, layer, fallback));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(6)));
}

#[tokio::test]
async fn what_a_fallback_did_goes_to_tracing_and_into_a_snapshot_of_plain_json() {
    log::listen();
    let fallback = Handle::new("logged-fallback");
    let chain = Fallback::run(|_: &Error<Boom>| ready(Err(rejection(Reason::NoInstance)))).or(Fallback::value(5));
    assert_eq!(fallback.run(&chain, ready(boom())).await, Ok(5));
    let lines = log::lines("operation", "logged-fallback");
    assert!(lines.iter().all(|(level, fields)| *level == tracing::Level::INFO && fields["error"] == "boom"));
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].1["second"], "\"below\" has no instance to call");
    let json = serde_json::to_value(fallback.snapshot()).unwrap();
    let expected = serde_json::json!({
        "policy": "logged-fallback", "kind": "fallback", "used": 1, "failed": 0, "nothing": 0, "not_covered": 0,
    });
    assert_eq!(json, expected);
    assert!(Handle::new("x").memory() < 1_024 && fallback.memory() < 1_024 + 128);
}

#[test]
fn layers_and_services_are_what_hosts_ask_for() {
    fn assert_layer<L: Clone + std::fmt::Debug + Send + Sync + Unpin + 'static>(_: &L) {}
    fn assert_future<F: Send + Unpin>(_: &F) {}
    let last_good = Fallback::cached(CacheConfig::new(), |n: &u32| Some(*n));
    let chain = last_good.or(Fallback::service(service_fn(|n: u32| ready(Answer::Ok(n)))));
    let layer = FallbackLayer::new(Handle::new("x"), chain).classify(mainstay::OnError);
    assert_layer(&layer);
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    assert_layer(&service.clone());
    assert_future(&service.call(1));
    // Neither the error nor the request of a fallback has to be able to do anything but be shown.
    struct NotClone;
    let mut plain =
        FallbackLayer::new(Handle::new("x"), Fallback::value(5)).layer(service_fn(|_: NotClone| ready(Err("no"))));
    assert_eq!(poll_once(&mut plain.call(NotClone)), Poll::Ready(Ok(5)));
    assert_eq!(size_of::<NoFallback>(), 0);
    type Future = <NoFallback as Strategy<u32, [u8; 64], Error<Boom>>>::Future;
    assert_eq!(size_of::<Option<Future>>(), 0, "it is never there");
    let mut forever = FallbackLayer::new(Handle::new("x"), NoFallback).layer(service_fn(|_: u32| pending::<Answer>()));
    assert!(poll_once(&mut forever.call(1)).is_pending());
}
