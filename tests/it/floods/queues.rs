//! Callers that wait and go: whoever leaves leaves nothing, and leaves at once however many wait.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mainstay::{
    breaker::{self, CircuitBreakerLayer, Readiness},
    bulkhead, hedge, load_shed, rate_limit,
};
use tower::{Layer, Service, service_fn};

use super::*;

/// Joins a queue so many at a time, and gives up in an order that is not that of arrival.
fn waiters<F: Future>(rounds: u32, at_a_time: usize, mut join: impl FnMut() -> F) {
    let mut waiting: Vec<Pin<Box<F>>> = Vec::with_capacity(at_a_time);
    for _ in 0..rounds {
        for _ in 0..at_a_time {
            let mut future = Box::pin(join());
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            waiting.push(future);
        }
        while !waiting.is_empty() {
            drop(waiting.swap_remove(waiting.len() * 7 / 11));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_bulkhead_that_give_up_leave_nothing() {
    let bulkhead = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(1_000));
    let held = bulkhead.try_acquire().unwrap();
    holds_at_most(2 * MIB, "a flood of waiters of a bulkhead, a thousand at a time", || {
        waiters(FLOOD / 1_000, 1_000, || bulkhead.acquire());
    });
    assert_eq!((bulkhead.snapshot().running, bulkhead.snapshot().waiting), (1, 0));
    drop(held);
    assert!(bulkhead.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_than_the_queue_holds_are_turned_away_at_once() {
    let bulkhead = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(1_000));
    let _held = bulkhead.try_acquire().unwrap();
    let mut waiting: Vec<_> = (0..1_000).map(|_| Box::pin(bulkhead.acquire())).collect();
    waiting.iter_mut().for_each(|it| assert!(poll_once(it).is_pending()));
    holds_at_most(KIB, "a flood of calls over a full queue", || {
        for _ in 0..FLOOD {
            assert!(matches!(poll_once(&mut std::pin::pin!(bulkhead.acquire())), Poll::Ready(Err(_))));
        }
    });
    assert_eq!(bulkhead.snapshot().waiting, 1_000);
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_rate_limit_that_give_up_have_taken_nothing() {
    let limit = rate_limit::Handle::new("x", rate_limit::Config::per_second(1).max_wait(ms(3_600_000)));
    limit.try_acquire().unwrap();
    let wait = limit.try_acquire().unwrap_err().retry_after();
    holds_at_most(2 * MIB, "a flood of waiters of a rate limit, a thousand at a time", || {
        waiters(FLOOD / 1_000, 1_000, || limit.acquire());
    });
    assert_eq!(limit.try_acquire().unwrap_err().retry_after(), wait, "every turn was given back");
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_shedder_that_give_up_leave_nothing() {
    let config = load_shed::Config::new()
        .in_flight(1)
        .shares(1.0, 1.0)
        .queue_delay(load_shed::QueueDelay::new().target(ms(10_000)).interval(ms(60_000)).max_queue(1_000));
    let shed = load_shed::Handle::new("x", config);
    let held = shed.try_acquire().unwrap();
    holds_at_most(2 * MIB, "a flood of waiters of a load shedder, a thousand at a time", || {
        waiters(FLOOD / 4_000, 1_000, || shed.acquire());
    });
    assert_eq!(shed.snapshot().waiting, 0);
    drop(held);
    assert!(shed.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn any_number_that_waits_for_a_circuit_leaves_it_without_looking_through_each_other() {
    let config = consecutive(1).readiness(Readiness::Unready);
    let breaker = breaker::Handle::new("x", config);
    breaker.acquire().unwrap().failure();
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> = (0..FLOOD / 4).map(|_| layer.layer(service_fn(|n: u32| ready(Answer::Ok(n))))).collect();
    // Twice: whoever waits is polled again when anything else of its task is woken.
    for _ in 0..2 {
        waiting.iter_mut().for_each(|service| assert!(service.poll_ready(&mut cx).is_pending()));
    }
    while !waiting.is_empty() {
        drop(waiting.swap_remove(waiting.len() * 7 / 11));
    }
    advance(ms(10_000)).await;
    assert!(breaker.acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_hedged_calls_that_hang_and_are_given_up_cost_a_share_and_leave_nothing() {
    let handle = hedge::Handle::new("x", hedge::Config::new().attempts(3).delay(ms(0)));
    let sent = AtomicU64::new(0);
    holds_at_most(2 * MIB, "100 000 hedged calls that hang, a thousand at a time", || {
        waiters(100, 1_000, || {
            handle.run(|_| {
                sent.fetch_add(1, Relaxed);
                std::future::pending::<Answer>()
            })
        });
    });
    let sent = sent.load(Relaxed);
    println!("100000 calls were sent {sent} times");
    assert!((100_000..=120_000 + 110).contains(&sent), "{sent} were sent");
}
