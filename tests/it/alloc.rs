//! No allocation on the way of a call, counted by the allocator of this binary.

use std::{future::ready, hash::Hash, hint::black_box, task::Poll};

use allocation_counter::measure;
use mainstay::{
    Classify, Error, Stack, balance,
    breaker::{CircuitBreakerLayer, Config, Handle},
    contract::Instance,
    fallback::{self, Fallback},
    hedge, rate_limit, retry, stack,
};
use tower::{Layer, Service, service_fn};

use crate::support::*;

/// Allocations of a hundred calls, after the first few.
fn allocations(breaker: &Handle, answer: fn(u32) -> Answer) -> u64 {
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(move |n: u32| ready(answer(n))));
    let mut call = || {
        let _ = tokio_test::task::spawn(()).enter(|cx, _| service.poll_ready(cx));
        let _ = black_box(poll_once(&mut service.call(1)));
    };
    // A thread's lanes and a clone's own reference count are made at the first calls.
    (0..3).for_each(|_| call());
    let polling = measure(|| {
        tokio_test::task::spawn(()).enter(|_, _| ());
    });
    measure(|| (0..100).for_each(|_| call())).count_total - 100 * polling.count_total
}

#[test]
fn a_call_allocates_nothing_whatever_it_comes_to() {
    let never = || Config::new().minimum_calls(1 << 40);
    let fails: fn(u32) -> Answer = |_| Err(Error::Inner(Boom));
    let succeeds: fn(u32) -> Answer = Ok;
    for config in
        [never(), never().slow_calls(ms(1), 1.0), Config::new().count_window(100).minimum_calls(100).failure_rate(1.0)]
    {
        assert_eq!(allocations(&Handle::new("x", config.clone()), succeeds), 0);
        let breaker = Handle::new("x", config);
        succeed(&breaker, 1);
        assert_eq!(allocations(&breaker, if breaker.config().check().is_ok() { succeeds } else { fails }), 0);
    }
    assert_eq!(allocations(&Handle::new("x", never()), fails), 0);
    let open = Handle::new("a-name-of-twenty-chars", Config::new());
    open.force_open();
    assert_eq!(allocations(&open, succeeds), 0);
}

#[test]
fn acquire_and_run_allocate_nothing_either() {
    let breaker = Handle::new("x", Config::new());
    succeed(&breaker, 1);
    assert_eq!(measure(|| succeed(&breaker, 10)).count_total, 0);
    let run = || {
        let mut run = std::pin::pin!(breaker.run(ready(Ok::<u32, Boom>(1))));
        assert!(poll_once(&mut run).is_ready());
    };
    assert_eq!(measure(run).count_total, 0);
}

/// Allocations of a hundred calls through a retry, after the first few.
fn retried(retry: &retry::Handle, answer: fn(u32) -> Answer) -> u64 {
    let mut service = retry::RetryLayer::new(retry.clone()).layer(service_fn(move |n: u32| ready(answer(n))));
    let mut call = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(Service::<u32>::poll_ready(&mut service, &mut cx).is_ready());
        assert!(black_box(poll_once(&mut service.call(1))).is_ready());
        let mut run = std::pin::pin!(retry.run(|| ready(answer(1))));
        assert!(poll_once(&mut run).is_ready());
    };
    (0..3).for_each(|_| call());
    measure(|| (0..100).for_each(|_| call())).count_total
}

#[test]
fn a_call_with_nothing_to_retry_allocates_nothing_nor_one_that_is_given_up() {
    let at_once = || retry::Config::new().backoff(retry::Backoff::fixed(ms(0)));
    let fails: fn(u32) -> Answer = |_| Err(Error::Inner(Boom));
    for config in [retry::Config::new(), retry::Config::new().no_budget(), retry::Config::new().deadline(ms(100))] {
        assert_eq!(retried(&retry::Handle::new("x", config), Ok), 0);
    }
    assert_eq!(retried(&retry::Handle::new("x", retry::Config::new().attempts(1)), fails), 0);
    let used_up = at_once().budget(retry::BudgetConfig::new().ratio(0.0).min_per_second(0));
    assert_eq!(retried(&retry::Handle::new("x", used_up), fails), 0);
}

/// Allocations of a hundred calls through a fallback, after the first few.
fn fallen_back(strategy: impl fallback::Strategy<u32, u32, Error<Boom>>, answer: fn(u32) -> Answer) -> u64 {
    let layer = fallback::FallbackLayer::new(fallback::Handle::new("x"), strategy);
    let mut service = layer.layer(service_fn(move |n: u32| ready(answer(n))));
    let mut call = || assert!(black_box(poll_once(&mut std::pin::pin!(service.call(1)))).is_ready());
    (0..3).for_each(|_| call());
    measure(|| (0..100).for_each(|_| call())).count_total
}

#[test]
fn a_call_through_a_fallback_allocates_nothing_whether_it_falls_back_or_not() {
    let fails: fn(u32) -> Answer = |_| Err(Error::Inner(Boom));
    let other = || Fallback::service(service_fn(|n: u32| ready(Answer::Ok(n))));
    let cached = || Fallback::cached(fallback::CacheConfig::new(), |n: &u32| Some(*n));
    for answer in [Ok, fails] {
        assert_eq!(fallen_back(fallback::NoFallback, answer), 0);
        assert_eq!(fallen_back(Fallback::value(1), answer), 0);
        assert_eq!(fallen_back(Fallback::run(|_: &Error<Boom>| ready(Answer::Ok(1))), answer), 0);
        assert_eq!(fallen_back(other(), answer), 0);
        assert_eq!(fallen_back(cached().or(other()).on([]).or(Fallback::value(1)), answer), 0);
    }
}

#[test]
fn a_call_through_a_balancer_allocates_nothing() {
    fn allocations(picker: impl balance::Pick<u32>) -> u64 {
        let config = balance::Config::new().breaker(Config::new());
        let handle = balance::Handle::new("x", config);
        for n in 1..=10 {
            let instance = Instance::new("x", &format!("x-{n}"), "10.0.0.7", n).unwrap();
            handle.insert(instance.into(), service_fn(|n: u32| ready(Answer::Ok(n))));
        }
        let mut service = balance::Balance::new(&handle, picker);
        let mut request = 0;
        let mut call = || {
            request += 1;
            assert!(black_box(poll_once(&mut service.call(request))).is_ready());
        };
        // The lanes of ten breakers are made at their first calls.
        (0..1_000).for_each(|_| call());
        measure(|| (0..100).for_each(|_| call())).count_total
    }

    assert_eq!(allocations(balance::RoundRobin::new()), 0);
    assert_eq!(allocations(balance::Random), 0);
    assert_eq!(allocations(balance::Weighted::new()), 0);
    assert_eq!(allocations(balance::LeastLoaded), 0);
    assert_eq!(allocations(balance::PeakEwma), 0);
    let by_key = |request: &u32, key: &mut balance::KeyHasher| request.hash(key);
    assert_eq!(allocations(balance::ConsistentHash::new([0; 16], by_key)), 0);
}

/// A stack around a service that answers at the first poll or, when `waits`, at the second.
fn stacked<C, F, R>(stack: &Stack<C, F, R>, waits: bool) -> u64
where
    C: Classify<u32, Error<Boom>> + retry::Rule<u32, Error<Boom>>,
    F: fallback::Strategy<u32, u32, Error<Boom>> + fallback::Strategy<(), u32, Error<Boom>>,
    R: retry::Replay<u32>,
{
    let answer = move |n| {
        let mut waited = !waits;
        std::future::poll_fn(move |_| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(Answer::Ok(n)),
            false => Poll::Pending,
        })
    };
    let mut service = stack.service(service_fn(answer));
    let mut call = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(Service::<u32>::poll_ready(&mut service, &mut cx).is_ready());
        let mut call = std::pin::pin!(service.call(1));
        assert!(!waits || poll_once(&mut call).is_pending());
        assert!(black_box(poll_once(&mut call)).is_ready());
        let mut run = std::pin::pin!(stack.run_carrying(|| answer(1)));
        assert!(!waits || poll_once(&mut run).is_pending());
        assert!(black_box(poll_once(&mut run)).is_ready());
    };
    (0..3).for_each(|_| call());
    measure(|| (0..100).for_each(|_| call())).count_total
}

#[tokio::test(start_paused = true)]
async fn a_stack_allocates_nothing_over_a_ready_service_and_one_timer_over_one_that_waits() {
    let with_all = stack::Config::standard()
        .builder("a-name-of-twenty-chars")
        .rate_limit(rate_limit::Config::per_second(1_000_000))
        .fallback(Fallback::value(1))
        .build();
    for stack in [Stack::standard("x"), Stack::database("x"), Stack::cache("x")] {
        assert_eq!(stacked(&stack, false), 0);
        assert_eq!(stacked(&stack, true), 200, "one for each call and each run, though there are two limits");
    }
    assert_eq!(stacked(&with_all, false), 0);
    assert_eq!(stacked(&with_all, true), 200);
    assert_eq!(stacked(&Stack::builder("x").retry(retry::Config::new()).build(), true), 0, "there is nothing to time");
}

#[test]
fn a_call_through_a_hedge_that_is_answered_at_once_allocates_nothing() {
    for config in [hedge::Config::new(), hedge::Config::new().delay(ms(50)).no_budget()] {
        let handle = hedge::Handle::new("x", config);
        let mut service = hedge::HedgeLayer::new(handle.clone()).layer(service_fn(|n: u32| ready(Answer::Ok(n))));
        let mut call = || {
            assert!(black_box(poll_once(&mut service.call(1))).is_ready());
            let mut run = std::pin::pin!(handle.run(|n| ready(Answer::Ok(n))));
            assert!(poll_once(&mut run).is_ready());
        };
        (0..3).for_each(|_| call());
        assert_eq!(measure(|| (0..100).for_each(|_| call())).count_total, 0);
    }
}
