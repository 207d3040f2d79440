//! The stack: its order, its doors, and that it does what the layers do one by one.

mod cancel;
mod hedging;
mod layers;
mod review;

use std::{
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use mainstay::{
    Error, Outcome, Reason, Stack, breaker, bulkhead, classify_fn, concurrency,
    ext::ServiceBuilderExt,
    fallback::{self, Fallback},
    hedge, load_shed,
    observe::Event,
    rate_limit, retry,
    stack::Config,
    time::Tick,
    timeout,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// Three attempts with waits of 100 and 200 ms, and no budget.
fn three() -> retry::Config {
    retry::Config::new().jitter(retry::Jitter::None).no_budget()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error<Boom>>) -> Reason {
    match answer {
        Err(Error::Rejected(rejection)) => rejection.reason(),
        other => panic!("not turned away: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_order_is_the_same_whatever_the_order_of_the_lines() {
    let stacks = [
        Stack::builder("x")
            .timeout(ms(1_000))
            .retry(three())
            .breaker(consecutive(2))
            .bulkhead(bulkhead::Config::new(1))
            .attempt_timeout(ms(50))
            .build(),
        Stack::builder("x")
            .attempt_timeout(ms(50))
            .bulkhead(bulkhead::Config::new(1))
            .breaker(consecutive(2))
            .retry(three())
            .timeout(ms(1_000))
            .build(),
    ];
    for stack in stacks {
        let start = Tick::now();
        let answer = stack.run(pending::<Result<(), Boom>>).await;
        // Two attempts are cut off, which opens the circuit; it refuses the third, and that is not tried again.
        assert_eq!(reason(answer), Reason::CircuitOpen);
        assert_eq!(Tick::now().since(start), ms(50 + 100 + 50 + 200));
        let snapshot = stack.snapshot();
        assert_eq!(snapshot.attempt_timeout.unwrap().timed_out, 2);
        assert_eq!(snapshot.timeout.unwrap().timed_out, 0);
        assert_eq!(snapshot.bulkhead.unwrap().running, 0);
        assert_eq!(snapshot.breaker.unwrap().totals.rejected, 1);
        assert_eq!(snapshot.retry.unwrap().retries, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_call_holds_over_all_attempts_and_waits() {
    let stack = Stack::builder("x").timeout(ms(220)).retry(three()).attempt_timeout(ms(50)).build();
    let start = Tick::now();
    let answer = stack.run(pending::<Result<(), Boom>>).await;
    assert_eq!(reason(answer), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(220), "in the wait before the third attempt");
    assert_eq!(stack.attempt_timeout().unwrap().snapshot().timed_out, 2);
    assert_eq!(stack.timeout().unwrap().snapshot().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_and_a_closure_share_what_the_stack_knows() {
    let stack = Stack::builder("x").breaker(consecutive(2)).build();
    let mut service = stack.service(service_fn(async |n: u32| if n == 0 { Err(Error::Inner(Boom)) } else { Ok(n) }));
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(7));
    assert_eq!(service.ready().await.unwrap().call(0).await, Err(Error::Inner(Boom)));
    assert_eq!(stack.run(|| ready(Err::<(), _>(Boom))).await, Err(Error::Inner(Boom)));
    assert_eq!(reason(service.ready().await.unwrap().call(7).await), Reason::CircuitOpen);
    assert_eq!(reason(stack.run(|| ready(Ok::<_, Boom>(()))).await), Reason::CircuitOpen);
    assert_eq!(stack.breaker().unwrap().state(), breaker::State::Open);
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_in_the_queue_of_the_bulkhead_and_calls_for_their_turn() {
    let queue = bulkhead::Config::new(1).max_queue(1).max_wait(ms(100));
    let turns = rate_limit::Config::new(1, ms(1_000)).burst(3).max_wait(ms(1_500));
    let stack = Stack::builder("x").bulkhead(queue).rate_limit(turns).build();
    let call = || task::spawn(stack.run(pending::<Result<(), Boom>>));
    let mut first = call();
    assert_pending!(first.poll());
    let mut second = call();
    assert_pending!(second.poll());
    assert_eq!(stack.bulkhead().unwrap().snapshot().waiting, 1);
    assert_eq!(reason(assert_ready!(call().poll())), Reason::BulkheadFull);
    let mut fourth = call();
    assert_pending!(fourth.poll());
    assert_eq!(reason(assert_ready!(call().poll())), Reason::RateLimited);
    drop(first);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!(stack.bulkhead().unwrap().running(), 1);
    advance(ms(1_000)).await;
    assert!(fourth.is_woken());
    assert_pending!(fourth.poll());
    assert_eq!(stack.bulkhead().unwrap().snapshot().waiting, 1);
    drop((second, fourth));
    let bulkhead = stack.bulkhead().unwrap().snapshot();
    assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_counts_for_breaker_and_retry_and_a_rule_for_the_retry_alone() {
    let bad = || {
        classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
            Ok(0) => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        })
    };
    let stack = Stack::builder("x").retry(three()).breaker(consecutive(3)).classify(bad()).build();
    assert_eq!(stack.run(|| ready(Ok(0))).await, Ok(0));
    assert_eq!(stack.breaker().unwrap().state(), breaker::State::Open);
    assert_eq!(stack.retry().unwrap().snapshot().retries, 2);

    let never = retry::Classified(classify_fn(|_: Result<&u32, &Error<Boom>>| Outcome::Success));
    for stack in [
        Stack::builder("x").retry(three()).breaker(consecutive(3)).classify(bad()).retry_rule(never).build(),
        Stack::builder("x").retry_rule(never).retry(three()).classify(bad()).breaker(consecutive(3)).build(),
    ] {
        assert_eq!(stack.run(|| ready(Ok(0))).await, Ok(0));
        assert_eq!(stack.breaker().unwrap().snapshot().totals.calls.failures(), 1);
        assert_eq!(stack.retry().unwrap().snapshot().retries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_fallback_answers_whatever_went_wrong_further_in() {
    let why = Fallback::with(|error: &Error<Boom>| match error {
        Error::Rejected(rejection) => rejection.reason().as_str(),
        Error::Inner(Boom) => "boom",
    });
    let stack = Stack::builder("x")
        .fallback(why)
        .rate_limit(rate_limit::Config::new(1, ms(1_000)).burst(4))
        .timeout(ms(50))
        .breaker(consecutive(1))
        .build();
    assert_eq!(stack.run(|| ready(Ok("well"))).await, Ok("well"));
    assert_eq!(stack.run(pending::<Result<&str, Boom>>).await, Ok("timed_out"));
    assert_eq!(stack.run(|| ready(Err(Boom))).await, Ok("boom"));
    assert_eq!(stack.run(|| ready(Ok("well"))).await, Ok("circuit_open"));
    assert_eq!(stack.run(|| ready(Ok("well"))).await, Ok("rate_limited"));
    assert_eq!(stack.snapshot().fallback.used, 4);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_fails_too_leaves_the_first_error_and_sees_the_request() {
    let spare = service_fn(|n: u32| ready(if n == 1 { Ok(10) } else { Err(Error::Inner(Boom)) }));
    let stack = Stack::builder("x").fallback(Fallback::service(spare)).breaker(consecutive(1)).build();
    let service = stack.service(service_fn(|_: u32| ready(Err::<u32, _>(Error::Inner(Boom)))));
    assert_eq!(service.clone().oneshot(1).await, Ok(10));
    assert_eq!(reason(service.oneshot(2).await), Reason::CircuitOpen);
    let snapshot = stack.fallback().snapshot();
    assert_eq!((snapshot.used, snapshot.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_need_not_be_clone_where_none_is_sent_twice() {
    struct Letter(u32);
    let echo = service_fn(async |letter: Letter| Ok::<_, Error<Boom>>(letter.0));
    let plain = Stack::builder("x").timeout(ms(100)).bulkhead(bulkhead::Config::new(1)).build();
    assert_eq!(plain.service(echo).oneshot(Letter(7)).await, Ok(7));
    let once = Stack::builder("x").once().retry(three()).build();
    assert_eq!(once.layer().layer(echo).oneshot(Letter(7)).await, Ok(7));
    let copied = Config::standard().builder("x").replay(|letter: &Letter| Some(Letter(letter.0 + 1))).build();
    let calls = AtomicU32::new(0);
    let fails = service_fn(|letter: Letter| {
        let first = calls.fetch_add(1, SeqCst) == 0;
        ready(if first { Err(Error::Inner(Boom)) } else { Ok(letter.0) })
    });
    assert_eq!(copied.service(fails).oneshot(Letter(7)).await, Ok(9), "copied to be kept, and to be sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_has_passed_is_not_sent_and_one_near_it_is_cut_off() {
    struct WithDeadline;
    impl retry::Replay<Option<mainstay::Deadline>> for WithDeadline {
        type Kept = ();
        fn keep(&self, _: &mut Option<mainstay::Deadline>) -> Option<()> {
            None
        }
        fn again(&self, (): &(), _: u32) -> Option<Option<mainstay::Deadline>> {
            None
        }
        fn deadline(&self, request: &Option<mainstay::Deadline>) -> Option<Tick> {
            request.map(mainstay::Deadline::tick)
        }
    }
    let stack = Stack::builder("x").replay(WithDeadline).timeout(ms(1_000)).build();
    let hangs = service_fn(|_| pending::<Result<(), Error<Boom>>>());
    let service = || stack.service(hangs);
    let start = Tick::now();
    let near = mainstay::Deadline::within(ms(30));
    assert_eq!(reason(service().oneshot(Some(near)).await), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(30));
    assert_eq!(reason(service().oneshot(Some(near)).await), Reason::DeadlinePassed);
    assert_eq!(reason(service().oneshot(None).await), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(1_030));
    let snapshot = stack.timeout().unwrap().snapshot();
    assert_eq!((snapshot.timed_out, snapshot.deadline_passed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_makes_the_stack_ready_though_the_service_is_not() {
    let stack = Stack::builder("x").breaker(consecutive(1)).build();
    let (mock, mut handle) = tower_test::mock::pair::<u32, u32>();
    handle.allow(0);
    let mut service = task::spawn(stack.service(mock));
    assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)).map_err(|_| ()));
    stack.breaker().unwrap().force_open();
    assert!(service.is_woken());
    assert!(assert_ready!(service.enter(|cx, mut service| service.poll_ready(cx))).is_ok());
    let rejected = service.enter(|_, mut service| service.call(1)).await.unwrap_err();
    assert!(rejected.to_string().contains("open"), "{rejected}");
}

#[tokio::test(start_paused = true)]
async fn an_unready_breaker_holds_calls_back_until_a_probe_is_due() {
    let stack = Stack::builder("x").breaker(consecutive(1).readiness(breaker::Readiness::Unready)).build();
    assert!(stack.run(|| ready(Err::<(), _>(Boom))).await.is_err());
    let mut service = stack.service(service_fn(async |n: u32| Ok::<_, Error<Boom>>(n)));
    let start = Tick::now();
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
    assert_eq!(Tick::now().since(start), ms(10_000));
    stack.breaker().unwrap().force_open();
    let mut run = task::spawn(stack.run(|| ready(Ok::<_, Boom>(1))));
    assert_pending!(run.poll());
    stack.breaker().unwrap().reset();
    assert!(run.is_woken());
    assert_eq!(assert_ready!(run.poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn handles_may_be_given_and_one_observer_hears_all() {
    let shared = breaker::Handle::new("everywhere", consecutive(1));
    let short = timeout::Handle::new("short", ms(10));
    let stack = Stack::builder("x").breaker(shared.clone()).timeout(short).retry(three().attempts(2)).build();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    stack.observe(move |event: &Event<'_>| log.lock().unwrap().push(event.policy().to_owned()));
    assert_eq!(reason(stack.run(pending::<Result<(), Boom>>).await), Reason::TimedOut);
    assert!(stack.run(|| ready(Err::<(), _>(Boom))).await.is_err());
    assert_eq!(shared.state(), breaker::State::Open);
    assert_eq!(*heard.lock().unwrap(), ["short", "everywhere", "x", "short"]);
}

#[tokio::test(start_paused = true)]
async fn it_stands_in_a_service_builder_and_keeps_the_type_of_the_error() {
    let stack = Stack::standard("users");
    let service = ServiceBuilder::new()
        .layer(stack.layer())
        .layer(stack.layer())
        .map_err(Error::Inner)
        .service(service_fn(async |n: u32| if n == 0 { Err(Boom) } else { Ok(n) }));
    assert_eq!(service.clone().oneshot(7).await, Ok(7));
    assert_eq!(service.oneshot(0).await, Err(Error::Inner(Boom)));
    let json = serde_json::to_value(stack.snapshot()).unwrap();
    assert_eq!(json["stack"], "users");
    assert_eq!(json["bulkhead"]["limit"], 256);
    assert!(json["rate_limit"].is_null());
    assert!(format!("{stack:?} {:?}", stack.layer()).contains("users"));
}

#[tokio::test(start_paused = true)]
async fn what_a_stack_runs_can_be_spawned_and_may_borrow() {
    let stack = Stack::standard("x");
    let names = Arc::new(["Ada".to_owned(), "Grace".to_owned()]);
    let task = {
        let (stack, names) = (stack.clone(), Arc::clone(&names));
        tokio::spawn(async move { stack.run(|| async { names.first().cloned().ok_or(Boom) }).await })
    };
    assert_eq!(task.await.unwrap(), Ok("Ada".to_owned()));
    let last = stack.run(async || names.last().ok_or(Boom)).await;
    assert_eq!(last, Ok(&"Grace".to_owned()));
}

/// Every policy as a layer by hand, around a service whose clones are alike.
#[tokio::test(start_paused = true)]
async fn every_layer_can_be_named_in_a_service_builder() {
    let name = "users";
    let (retry, budget) = (retry::Handle::new(name, three()), retry::Budget::new(retry::BudgetConfig::new()));
    let service = ServiceBuilder::new()
        .with_fallback(fallback::Handle::new(name), Fallback::value(0))
        .with_load_shed(load_shed::Handle::new(name, load_shed::Config::server(10)))
        .with_rate_limit(rate_limit::Handle::new(name, rate_limit::Config::per_second(10)))
        .with_timeout(timeout::Handle::new(name, ms(1_000)))
        .with_retry(retry.with_budget(&budget))
        .with_hedge(hedge::Handle::new(name, hedge::Config::new()))
        .with_breaker(breaker::Handle::new(name, consecutive(2)))
        .with_concurrency(concurrency::Handle::new(name, concurrency::Config::new()))
        .with_bulkhead(bulkhead::Handle::new(name, bulkhead::Config::new(4)))
        .with_stack(&Stack::cache(name))
        .map_err(Error::Inner)
        .service(service_fn(async |n: u32| if n == 0 { Err(Boom) } else { Ok(n) }));
    assert_eq!(service.clone().oneshot(7).await, Ok(7));
    assert_eq!(service.oneshot(0).await, Ok(0), "from the fallback");
}

#[test]
fn settings_survive_a_file_and_presets_can_be_begun_with() {
    for config in [Config::new(), Config::standard(), Config::http_client(), Config::database(), Config::cache()] {
        assert!(config.check().is_ok());
        let text = serde_json::to_string(&config).unwrap();
        let read: Config = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
    let config: Config = toml::from_str("preset = 'database'\nattempt_timeout = '1s'\n[bulkhead]\nlimit = 3").unwrap();
    assert_eq!(config.bulkhead, Some(bulkhead::Config::new(3)));
    assert_eq!((config.timeout, config.attempt_timeout), (Some(ms(5_000)), Some(ms(1_000))));
    assert!(config.retry.is_some());
}

#[test]
fn impossible_settings_are_told_all_at_once_with_section_field_value_and_reason() {
    let text = "
        timeout = '1s'
        attempt_timeout = '2s'
        [retry]
        attempts = 0
        backoff = { kind = 'fixed', initial = 'soon' }
        [breaker]
        failure_rate = 50
        minimum_calls = 0
        [bulkhead]
        limit = 0
        [rate_limit]
        calls = 0
        per = '1s'";
    let error = toml::from_str::<Config>(text).unwrap_err();
    for told in [
        "attempt_timeout = 2s: must be at most timeout, 1s",
        "retry.attempts = 0: must be in 1..=100",
        "retry.backoff.initial = \"soon\": ",
        "breaker.failure_rate = 50: must be in (0, 1]; did you mean 0.5? (percent given)",
        "breaker.minimum_calls = 0: ",
        "bulkhead.limit = 0: must be in 1..=1000000",
        "rate_limit.calls = 0: ",
    ] {
        assert!(error.message().contains(told), "{told} is not in {error}");
    }
    for (text, told) in [
        ("retries = 3", "unknown field `retries`"),
        ("[breaker]\nfailure_treshold = 1", "unknown field `failure_treshold`"),
        ("preset = 'best'", "unknown variant `best`"),
        ("timeout = 3", "timeout = 3: missing unit, write \"3s\" or \"3ms\""),
        ("timeout = '99999999999999999d'", "timeout"),
        ("bulkhead = {}", "missing field `limit`"),
        ("timeout = ['1s']", "invalid type"),
        ("breaker = []", "expected a section with the settings of the policy"),
        ("retry = 3", "expected a section with the settings of the policy"),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err();
        assert!(error.to_string().contains(told), "{told} is not in {error}");
    }
    let error = Stack::builder("no name").timeout(ms(0)).bulkhead(bulkhead::Config::new(0)).try_build().unwrap_err();
    let fields: Vec<&str> = error.problems().map(mainstay::ConfigError::field).collect();
    assert_eq!(fields, ["name", "timeout", "bulkhead.limit"]);
    assert!(panics(|| Stack::builder("x").timeout(ms(0)).build()));
    assert!(panics(|| Stack::standard("")));
}

#[test]
fn a_panic_in_the_service_gives_everything_back_and_is_one_failure() {
    let config = consecutive(2);
    let stack = Stack::builder("x").breaker(config).bulkhead(bulkhead::Config::new(1)).build();
    let mut at_once = stack.service(service_fn(|_: u32| -> std::future::Ready<Answer> { panic!("in call") }));
    assert!(panics(|| drop(at_once.call(1))));
    assert_eq!(stack.bulkhead().unwrap().running(), 0);
    let mut later = stack.service(service_fn(async |_: u32| -> Answer { panic!("in poll") }));
    let mut call = task::spawn(later.call(1));
    assert!(panics(|| call.poll().is_ready()));
    assert_eq!(stack.bulkhead().unwrap().running(), 0, "before the future is dropped");
    assert_eq!(stack.breaker().unwrap().state(), breaker::State::Open);
    drop(call);
    assert_eq!(stack.breaker().unwrap().snapshot().totals.calls.failures(), 2);
}
