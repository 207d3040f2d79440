//! Calls that end early, services that go, and panics.

use mainstay::{
    Reason, bulkhead,
    contract::Invocation,
    fallback::Fallback,
    isolation::{Config, Level},
    rate_limit, retry,
};
use tokio_test::{assert_pending, task};
use tower::{Service, ServiceExt};

use super::*;

fn guest() -> Fallbacks {
    Fallbacks::new(Fallback::value("guest".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_finish_after_their_service_is_unregistered() {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails).takes(100));
    let gone = lab.gone();
    let config = Config::new().retry(retry::Config::custom(|_| ms(10)));
    let mut service = manager.register_with("x", lab, config, guest()).unwrap();
    let mut by_name = task::spawn(manager.execute("x", get(), 1));
    let mut by_handle = task::spawn(service.call(Invocation::new(get(), 2)));
    assert_pending!(by_name.poll());
    assert_pending!(by_handle.poll());
    manager.unregister("x").unwrap();
    assert!(!service.is_registered() && !manager.contains("x"));
    assert_eq!(reason(manager.execute("x", get(), 3).await), Reason::UnknownService);
    assert_eq!(reason(service.ready().await.unwrap().call(Invocation::new(get(), 3)).await), Reason::UnknownService);
    assert_eq!(manager.stats().in_flight, 2);
    assert_eq!(by_name.await, Ok("guest".into()), "tried three times, then answered elsewhere");
    assert_eq!((gone.load(SeqCst), manager.stats().in_flight), (0, 1), "it is dropped with the last call");
    assert_eq!(by_handle.await, Ok("guest".into()));
    assert_eq!((gone.load(SeqCst), manager.stats().in_flight), (1, 0), "although its handle is still there");
    let stats = manager.stats();
    assert_eq!((stats.calls, stats.answered, stats.fallbacks_used, stats.unknown), (2, 2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_handle_does_not_move_on_to_a_later_service_of_the_same_name() {
    let (manager, first) = (Manager::new(), Lab::new("first"));
    let gone = first.gone();
    let mut old = manager.register("x", first, Level::Full, guest()).unwrap();
    manager.unregister("x").unwrap();
    assert_eq!(gone.load(SeqCst), 1, "an idle handle keeps nothing");
    let mut new = manager.register("x", Lab::new("second"), Level::Full, none()).unwrap();
    for _ in 0..2 {
        assert_eq!(reason(old.call(Invocation::new(get(), 1)).await), Reason::UnknownService);
        assert_eq!(reason(old.clone().call(Invocation::new(get(), 1)).await), Reason::UnknownService);
        assert_eq!(new.call(Invocation::new(get(), 1)).await, Ok("second:get:1".into()));
    }
    assert_eq!(manager.execute("x", get(), 2).await, Ok("second:get:2".into()));
    assert_eq!(manager.info("x").unwrap().calls, 3);
    drop(manager);
    assert_eq!(new.call(Invocation::new(get(), 3)).await, Ok("second:get:3".into()), "a handle keeps the manager");
}

/// A call that waits for its turn, then for a place, then fails, waits, hangs and is cut off, and then is answered by a
/// slow fallback.
async fn long_call() -> (Manager, Lab, bulkhead::Permit) {
    let (manager, lab) = (Manager::new(), Lab::that("x", Mode::Fails).takes(10));
    let config = Config::new()
        .timeout(ms(1_000))
        .attempt_timeout(ms(50))
        .retry(retry::Config::custom(|_| ms(20)))
        .breaker(consecutive(100))
        .bulkhead(bulkhead::Config::new(1).max_queue(1).max_wait(ms(500)))
        .rate_limit(rate_limit::Config::new(1, ms(30)).max_wait(ms(30)));
    let slow = Fallback::run(|_: &Error<Boom>| async {
        tokio::time::sleep(ms(15)).await;
        Ok("slow guest".to_owned())
    });
    manager.register_with("x", lab.clone(), config, Fallbacks::new(slow)).unwrap();
    manager.rate_limit("x").unwrap().try_acquire().unwrap();
    let held = manager.bulkhead("x").unwrap().try_acquire().unwrap();
    (manager, lab, held)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_point_gives_everything_back() {
    let mut ended = false;
    for steps in 0..60 {
        let (manager, lab, held) = long_call().await;
        let mut held = Some(held);
        let mut call = task::spawn(manager.execute("x", get(), 1));
        let mut answer = None;
        for step in 0..steps {
            if let Poll::Ready(ready) = call.poll() {
                answer = Some(ready);
                break;
            }
            if step == 8 {
                held = None;
            }
            if step == 12 {
                lab.set(Mode::Hangs);
            }
            advance(ms(5)).await;
        }
        let was_answered = answer.is_some();
        if let Some(answer) = answer {
            assert_eq!(answer, Ok("slow guest".into()));
        }
        drop((call, held));
        let info = manager.info("x").unwrap();
        assert_eq!((info.calls, info.in_flight, info.failed), (1, 0, 0));
        assert_eq!((info.answered, info.dropped), (u64::from(was_answered), u64::from(!was_answered)));
        assert_eq!(info.fallbacks_used, u64::from(was_answered));
        assert_eq!((manager.bulkhead("x").unwrap().running(), lab.running()), (0, 0), "after {steps} steps");
        assert_eq!(info.policies.bulkhead.unwrap().waiting, 0);
        assert_eq!(info.policies.load_shed.unwrap().in_flight, 0);
        let gone = lab.gone();
        drop((manager, lab));
        assert_eq!(gone.load(SeqCst), 1);
        ended |= was_answered;
    }
    assert!(ended, "the last ones see the whole of it");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_goes_to_its_caller_and_leaves_everything_right() {
    for level in Level::ALL {
        for mode in [Mode::Panics, Mode::PanicsAtOnce] {
            let (manager, lab) = (Manager::new(), Lab::that("x", mode));
            let config = Config::new().level(level).bulkhead(bulkhead::Config::new(1)).breaker(consecutive(3));
            manager.register_with("x", lab.clone(), config, guest()).unwrap();
            for _ in 0..2 {
                assert!(panics(|| poll_once(&mut manager.execute("x", get(), 1))));
            }
            let info = manager.info("x").unwrap();
            assert_eq!((info.calls, info.dropped, info.in_flight, info.fallbacks_used), (2, 2, 0, 0));
            assert_eq!((lab.running(), manager.bulkhead("x").unwrap().running()), (0, 0));
            lab.set(Mode::Answers);
            assert_eq!(manager.execute("x", get(), 1).await, Ok("x:get:1".into()), "{level} {mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_strategy_may_call_the_manager_and_change_it() {
    let manager = Manager::new();
    let inside = manager.clone();
    let fallback = Fallbacks::new(Fallback::run(move |_: &Error<Boom>| {
        inside.set_level("x", Level::Full).unwrap();
        inside.update_fallback("x", none()).unwrap();
        let inside = inside.clone();
        async move { inside.execute("y", get(), 2).await }
    }));
    manager.register("x", Lab::that("x", Mode::Fails), Level::Basic, fallback.max_retries(0)).unwrap();
    manager.register("y", Lab::new("y"), Level::Basic, none()).unwrap();
    assert_eq!(manager.execute("x", get(), 1).await, Ok("y:get:2".into()));
    assert_eq!(manager.level("x"), Ok(Level::Full));
    assert!(!manager.fallback("x").unwrap().is_enabled());
}

#[tokio::test(start_paused = true)]
async fn what_is_replaced_is_dropped_outside_of_every_lock() {
    /// Asks the manager when it ends, as the end of a connection pool might.
    struct Asks(Manager, Arc<AtomicU32>);

    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.set_level("y", Level::None).unwrap();
            self.1.fetch_add(1, SeqCst);
        }
    }

    let (manager, asked) = (Manager::new(), Arc::new(AtomicU32::new(0)));
    manager.register("y", Lab::new("y"), Level::Basic, none()).unwrap();
    let asks = |manager: &Manager| {
        let asks = Asks(manager.clone(), Arc::clone(&asked));
        Fallbacks::new(Fallback::with(move |_: &Error<Boom>| format!("{}", asks.0.len())))
    };
    manager.register("x", Lab::new("x"), Level::Basic, asks(&manager)).unwrap();
    drop(manager.update_fallback("x", asks(&manager)).unwrap());
    assert_eq!(asked.load(SeqCst), 1);
    manager.unregister("x").unwrap();
    assert_eq!(asked.load(SeqCst), 2);
    manager.register("y", Lab::new("y"), Level::Basic, asks(&manager)).unwrap_err();
    assert_eq!(asked.load(SeqCst), 3);
}
