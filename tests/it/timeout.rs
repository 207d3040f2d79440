//! Timeouts: what is cut off, when, and what it costs.

use std::{
    future::{Future, pending, poll_fn, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{
    CarryRejection, Deadline, DeadlineOf, Error, NoDeadline, Reason, Rejection, deadline_fn,
    observe::Event,
    time::Tick,
    timeout::{Handle, TimeoutLayer},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn reason<T: std::fmt::Debug>(result: Result<T, Error<Boom>>) -> Reason {
    result.unwrap_err().rejection().expect("a rejection").reason()
}

/// A service that answers after the time it is asked to wait.
fn sleepy() -> impl Service<Duration, Response = &'static str, Error = Error<Boom>, Future: Future> + Clone {
    service_fn(|wait| async move {
        tokio::time::sleep(wait).await;
        Ok("done")
    })
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_passes_and_one_that_is_late_is_cut_off_on_time() {
    let limit = Handle::new("user-db", ms(250));
    let layer = TimeoutLayer::with(limit.clone());
    assert_eq!(layer.layer(sleepy()).oneshot(ms(249)).await, Ok("done"));
    let began = Tick::now();
    let error = layer.layer(sleepy()).oneshot(ms(60_000)).await.unwrap_err();
    assert_eq!(Tick::now().since(began), ms(250));
    assert_eq!(error.to_string(), "\"user-db\" timed out");
    assert_eq!(limit.snapshot().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_together_with_the_limit_wins() {
    let layer = TimeoutLayer::new(ms(100));
    let mut call = task::spawn(layer.layer(sleepy()).oneshot(ms(100)));
    assert_pending!(call.poll());
    advance(ms(100)).await;
    assert_ready_ok!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_at_once_makes_no_timer() {
    let layer = TimeoutLayer::new(ms(1));
    let mut service = layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))));
    let mut answer = None;
    let counted = allocation_counter::measure(|| answer = Some(poll_once(&mut service.call(3))));
    assert_eq!(answer, Some(Poll::Ready(Ok(3))));
    assert_eq!(counted.count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_eats_its_budget_is_cut_off_all_the_same() {
    let service = service_fn(|_: ()| async {
        loop {
            // Always ready, and always at the cost of the task's budget.
            tokio::task::consume_budget().await;
            tokio::time::advance(ms(1)).await;
        }
        #[allow(unreachable_code, reason = "the type of a call that never ends")]
        Ok::<(), Error<Boom>>(())
    });
    let service = TimeoutLayer::new(ms(500)).layer(service);
    assert_eq!(reason(service.oneshot(()).await), Reason::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn the_nearer_of_limit_and_deadline_counts() {
    for (limit, deadline, cut) in [(500, Some(200), 200), (200, Some(500), 200), (300, None, 300)] {
        let layer = TimeoutLayer::new(ms(limit)).deadline(deadline_fn(|d: &Option<Deadline>| *d));
        let service = service_fn(|_: Option<Deadline>| pending::<Answer>());
        let began = Tick::now();
        let deadline = deadline.map(|left| Deadline::within(ms(left)));
        assert_eq!(reason(layer.layer(service).oneshot(deadline).await), Reason::TimedOut);
        assert_eq!(Tick::now().since(began), ms(cut));
    }
}

/// Which of several it is may be known only once the program runs.
struct Chosen(Box<dyn DeadlineOf<()> + Send + Sync>);

impl DeadlineOf<()> for Chosen {
    fn deadline(&self, (): &()) -> Option<Deadline> {
        self.0.deadline(&())
    }
}

#[tokio::test(start_paused = true)]
async fn what_knows_the_deadline_may_be_a_trait_object() {
    let soon = deadline_fn(|(): &()| Some(Deadline::within(ms(5))));
    for (chosen, limit) in [(Chosen(Box::new(soon)), 5), (Chosen(Box::new(NoDeadline)), 20)] {
        let began = Tick::now();
        let layer = TimeoutLayer::new(ms(20)).deadline(chosen);
        let service = service_fn(|()| pending::<Answer>());
        assert_eq!(reason(layer.layer(service).oneshot(()).await), Reason::TimedOut);
        assert_eq!(Tick::now().since(began), ms(limit));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_not_made_and_does_not_blame_the_service() {
    let limit = Handle::new("search", ms(100));
    let breaker = mainstay::breaker::Handle::new("search", consecutive(1));
    let layer = TimeoutLayer::with(limit.clone()).deadline(deadline_fn(|d: &Deadline| Some(*d)));
    let service = service_fn(|_: Deadline| -> std::future::Ready<Answer> { panic!("not to be called") });
    let service = mainstay::breaker::CircuitBreakerLayer::new(breaker.clone()).layer(layer.layer(service));
    let passed = Deadline::within(ms(5));
    advance(ms(5)).await;
    let error = service.oneshot(passed).await.unwrap_err();
    assert_eq!(error.to_string(), "the deadline had passed before \"search\" began");
    assert_eq!((limit.snapshot().deadline_passed, limit.snapshot().timed_out), (1, 0));
    assert_eq!(breaker.snapshot().totals.ignored, 1);
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_a_failure_to_a_breaker_outside() {
    let breaker = mainstay::breaker::Handle::new("x", consecutive(1));
    let layer = TimeoutLayer::new(ms(10));
    let service = layer.layer(service_fn(|_: u32| pending::<Answer>()));
    let service = mainstay::breaker::CircuitBreakerLayer::new(breaker.clone()).layer(service);
    assert_eq!(reason(service.oneshot(1).await), Reason::TimedOut);
    assert_eq!(breaker.state(), mainstay::breaker::State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_dropped_and_dropping_the_answer_drops_the_call() {
    let alive = Arc::new(());
    let service = |alive: &Arc<()>| {
        let alive = Arc::clone(alive);
        service_fn(move |_: u32| {
            let held = Arc::clone(&alive);
            async move {
                pending::<()>().await;
                drop(held);
                Answer::Ok(0)
            }
        })
    };
    let _ = TimeoutLayer::new(ms(10)).layer(service(&alive)).oneshot(1).await;
    assert_eq!(Arc::strong_count(&alive), 1);
    for polls in 0..3 {
        let mut call = Box::pin(TimeoutLayer::new(ms(10)).layer(service(&alive)).oneshot(1));
        for _ in 0..polls {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(call);
        assert_eq!(Arc::strong_count(&alive), 1, "dropped after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_limits_futures_counts_tells_and_changes() {
    let limit = Handle::new("x", ms(100));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    limit.observe(move |event: &Event<'_>| {
        if let Event::Rejected(rejection) = event {
            log.lock().unwrap().push(rejection.reason());
        }
    });
    assert_eq!(limit.run(async { Err::<(), _>(Boom) }).await, Err(Error::Inner(Boom)));
    assert_eq!(reason(limit.run(pending::<Result<(), Boom>>()).await), Reason::TimedOut);
    limit.set_limit(ms(5_000)).unwrap();
    let began = Tick::now();
    let inner = Handle::new("inner", ms(60_000));
    let error = limit.run_carrying(inner.run(pending::<Result<(), Boom>>())).await.unwrap_err();
    assert_eq!(Tick::now().since(began), ms(5_000));
    assert!(matches!(error, Error::Rejected(rejection) if rejection.policy() == "x"));
    assert_eq!(*seen.lock().unwrap(), [Reason::TimedOut; 2]);
    let json = serde_json::to_value(limit.snapshot()).unwrap();
    assert_eq!((&json["kind"], &json["limit_ms"], &json["timed_out"]), (&"timeout".into(), &5_000.into(), &2.into()));
}

#[tokio::test(start_paused = true)]
async fn a_woken_call_is_polled_and_the_timer_does_not_wake_it_again() {
    let mut polls = 0;
    let service = service_fn(move |_: u32| {
        poll_fn(move |_| {
            polls += 1;
            if polls > 1 { Poll::Ready(Answer::Ok(polls)) } else { Poll::Pending }
        })
    });
    let mut call = task::spawn(TimeoutLayer::new(ms(100)).layer(service).oneshot(1));
    assert_pending!(call.poll());
    assert!(!call.is_woken(), "it does not wake itself");
    advance(ms(99)).await;
    assert!(!call.is_woken());
    assert_eq!(assert_ready!(call.poll()), Ok(2));
}

#[test]
fn impossible_limits_are_refused() {
    for (limit, value, why) in [
        (Duration::ZERO, "0s", "must be at least 1ms"),
        (Duration::from_micros(999), "999us", "must be at least 1ms"),
        (Duration::from_secs(366 * 86_400), "366d", "must be at most 365d"),
        (Duration::MAX, "ns", "must be at most 365d"),
    ] {
        let error = Handle::try_new("x", limit).unwrap_err();
        assert_eq!((error.field(), error.why()), ("timeout", why));
        assert!(error.value().contains(value), "{error}");
        assert_eq!(Handle::new("x", ms(5)).set_limit(limit), Err(error));
        assert!(panics(|| TimeoutLayer::new(limit)));
    }
    assert_eq!(Handle::try_new("a b", ms(1)).unwrap_err().field(), "name");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_request_and_futures_are_unpin() {
    fn assert_unpin<T: Unpin>(_: &T) {}
    struct Odd(std::rc::Rc<u32>);
    let service = service_fn(|request: Odd| ready(Ok::<Odd, Error<Boom>>(request)));
    let mut service = TimeoutLayer::new(ms(1)).layer(service);
    let call = service.call(Odd(7.into()));
    assert_unpin(&call);
    assert_eq!(*call.await.unwrap().0, 7);
    let boxed = service_fn(|_: u32| pending::<Result<(), mainstay::BoxError>>());
    let error = TimeoutLayer::new(ms(1)).layer(boxed).oneshot(1).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Rejection>().unwrap().policy(), "timeout");
}
