//! What the documentation promises of memory, allocations and callbacks, tried where it is hardest.

use std::{
    future::pending,
    sync::{Arc, OnceLock},
};

use allocation_counter::measure;
use mainstay::{
    BoxError, Error, Outcome,
    breaker::{CircuitBreakerLayer, Config, Handle, Saved, State},
    classify_fn,
    observe::Event,
};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use crate::support::*;

fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[tokio::test(start_paused = true)]
async fn pending_cancelled_ignored_and_probing_calls_allocate_nothing() {
    let breaker = Handle::new("x", consecutive(1_000).slow_calls(ms(1), 1.0).minimum_calls(1 << 30));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: u32| pending::<Answer>()));
    (0..3).for_each(|_| drop(service.call(1)));
    fail(&breaker, 1);
    let mut call = None;
    assert_eq!(allocations(|| call = Some(service.call(1))), 0);
    let mut call = call.unwrap();
    assert_eq!(allocations(|| assert!(poll_once(&mut call).is_pending())), 0);
    advance(ms(5)).await;
    assert_eq!(allocations(|| drop(call)), 0, "counted as a slow failure");
    assert_eq!(allocations(|| breaker.acquire().unwrap().record(Outcome::Ignored)), 0);

    let probing = Handle::new("x", Config::new().probes(3).close_after(100).open_for(ms(1)));
    probing.open_for(ms(1));
    advance(ms(1)).await;
    succeed(&probing, 1);
    assert_eq!(allocations(|| succeed(&probing, 50)), 0);
    assert_eq!(allocations(|| drop(probing.acquire())), 0);
    let full: Vec<_> = (0..3).map(|_| probing.acquire().unwrap()).collect();
    assert_eq!(allocations(|| drop(probing.acquire())), 0, "all probes taken");
    drop(full);
    assert_eq!(probing.state(), State::HalfOpen);
}

#[test]
fn a_rejection_allocates_only_the_box_the_error_type_asks_for() {
    let breaker = Handle::new(&"a-name-of-64-characters-".repeat(3)[..64], Config::new());
    breaker.force_open();
    assert!(breaker.acquire().is_err());
    assert_eq!(allocations(|| drop(breaker.acquire())), 0);
    let mut boxed = CircuitBreakerLayer::new(breaker).layer(service_fn(async |n: u32| Ok::<u32, BoxError>(n)));
    let mut call = || assert!(matches!(poll_once(&mut Box::pin(boxed.call(1))), std::task::Poll::Ready(Err(_))));
    (0..3).for_each(|_| call());
    assert_eq!(allocations(call), 2, "the pin of this test and the box of the error");
}

#[test]
fn memory_is_what_it_says() {
    for config in [Config::new(), Config::new().count_window(100), Config::new().count_window(1_000_000)] {
        let mut made = None;
        let new = measure(|| made = Some(Handle::new("x", config.clone())));
        let breaker = made.unwrap();
        let told = breaker.memory() as u64;
        assert_eq!(new.bytes_current as u64, told, "before the first call, {config:?}");
        let first = measure(|| fail(&breaker, 1));
        assert_eq!(first.bytes_current as u64 + told, breaker.memory() as u64, "after it, {config:?}");
    }
}

/// Every public method of a handle.
fn everything(breaker: &Handle) {
    let _ = (breaker.name(), breaker.state(), breaker.snapshot(), breaker.config(), breaker.memory());
    breaker.observe(());
    breaker.restore(&breaker.save());
    breaker.reconfigure(breaker.config()).unwrap();
    breaker.only_measure();
    breaker.disable();
    breaker.force_open();
    drop(breaker.acquire());
    breaker.open_for(ms(1));
    let _ = breaker.transition_to(State::HalfOpen);
    let _ = breaker.acquire().map(mainstay::breaker::Permit::failure);
    breaker.reset();
    succeed(breaker, 1);
}

#[test]
fn every_method_may_be_called_from_every_callback() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let me: Arc<OnceLock<Handle>> = Arc::default();
        let deep = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (handle, depth) = (Arc::clone(&me), Arc::clone(&deep));
        let enter = move || {
            // Once at a time: each of these calls the callbacks again.
            if depth.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                handle.get().into_iter().for_each(everything);
            }
            depth.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        };
        let (in_predicate, in_observer, in_classifier, in_drop) = (enter.clone(), enter.clone(), enter.clone(), enter);
        struct OnDrop<F: Fn()>(F);
        impl<F: Fn()> Drop for OnDrop<F> {
            fn drop(&mut self) {
                self.0();
            }
        }
        let held = OnDrop(in_drop);
        let config = consecutive(1).open_when(move |_| {
            let _ = &held;
            in_predicate();
            false
        });
        let breaker = me.get_or_init(|| Handle::new("x", config.clone())).clone();
        breaker.observe(move |_: &Event<'_>| in_observer());
        fail(&breaker, 1);
        breaker.reset();
        let classify = classify_fn(move |_: Result<&u32, &Error<Boom>>| {
            in_classifier();
            Outcome::Failure
        });
        let mut call = Box::pin(breaker.run_with(classify, std::future::ready(Ok(1))));
        assert!(poll_once(&mut call).is_ready());
        drop(config);
        breaker.reconfigure(Config::new()).unwrap();
        done.send(()).unwrap();
    });
    assert!(finished.recv_timeout(ms(10_000)).is_ok(), "no callback runs under a lock");
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0..100_u64, Just(u64::from(u32::MAX)), Just(1 << 40), Just(u64::MAX), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_saved_can_be_gone_on_with(
        state in 0..6_usize,
        numbers in proptest::collection::vec(number(), 14),
        calls in proptest::option::of(1..50_usize),
    ) {
        let state = ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"][state];
        let counts = |n: &[u64]| {
            serde_json::json!({ "success": n[0], "failure": n[1], "slow_success": n[2], "slow_failure": n[3] })
        };
        let saved: Saved = serde_json::from_value(serde_json::json!({
            "state": state, "open_remaining_ms": numbers[0], "failed_probings": numbers[1] as u32,
            "consecutive_failures": numbers[2], "window": counts(&numbers[3..7]),
            "totals": { "calls": counts(&numbers[7..11]), "stale": numbers[11], "rejected": numbers[12] },
        })).unwrap();
        let config = calls.into_iter().fold(Config::operation().minimum_calls(1), Config::count_window);
        let breaker = Handle::new("x", config.consecutive_failures(3));
        for _ in 0..2 {
            breaker.restore(&saved);
            for _ in 0..3 {
                let _ = breaker.acquire().map(mainstay::breaker::Permit::success);
                let _ = breaker.acquire().map(mainstay::breaker::Permit::failure);
            }
            prop_assert!(serde_json::to_string(&breaker.snapshot()).is_ok());
            let _ = breaker.transition_to(State::HalfOpen);
            let _ = breaker.acquire().map(mainstay::breaker::Permit::failure);
            let again: Saved = serde_json::from_str(&serde_json::to_string(&breaker.save()).unwrap()).unwrap();
            breaker.restore(&again);
        }
    }
}
