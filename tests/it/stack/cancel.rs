//! Cancellation: whatever a dropped call held is given back.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mainstay::{
    Error, OnError, Stack, breaker, bulkhead, concurrency,
    fallback::{Fallback, Strategy},
    hedge, load_shed, rate_limit,
    retry::{self, Budget, BudgetConfig, Classified},
};
use tower::{Service, service_fn};

use crate::support::*;

type Answers = Pin<Box<dyn Future<Output = Answer>>>;

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Answers after so many milliseconds, and so many polls in between: 0 fails, 1 never answers.
async fn answer(n: u32) -> Answer {
    for _ in 0..n % 3 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(ms(u64::from(n % 40))).await;
    match n % 5 {
        0 => Err(Error::Inner(Boom)),
        1 => std::future::pending().await,
        _ => Ok(n),
    }
}

/// Every policy there is, each tight enough to be in the way.
fn tight(
    budget: &Budget,
) -> Stack<Classified<OnError>, impl Strategy<u32, u32, Error<Boom>> + Strategy<(), u32, Error<Boom>> + use<>> {
    let retry = retry::Config::new().attempts(4).backoff(retry::Backoff::linear(ms(15)));
    Stack::builder("x")
        .fallback(Fallback::run(|_: &Error<Boom>| async {
            tokio::time::sleep(ms(10)).await;
            Err::<u32, _>(Error::Inner(Boom))
        }))
        .load_shed(load_shed::Config::new().in_flight(24).queue_delay(load_shed::QueueDelay::new().max_queue(8)))
        .rate_limit(rate_limit::Config::new(1, ms(4)).burst(20).max_wait(ms(25)))
        .timeout(ms(120))
        .retry(retry::Handle::new("x", retry).with_budget(budget))
        .hedge(hedge::Config::new().attempts(3).delay(ms(9)))
        .concurrency(concurrency::Config::aimd().initial(16).floor(12).ceiling(16))
        .breaker(breaker::Config::new().minimum_calls(30).failure_rate(0.9).open_for(ms(40)).probes(2))
        .bulkhead(bulkhead::Config::new(6).max_queue(6).max_wait(ms(30)))
        .attempt_timeout(ms(35))
        .build()
}

/// Nothing is held, and what was counted happened.
fn assert_nothing_is_held<F>(stack: &Stack<Classified<OnError>, F>, budget: &Budget) {
    let snapshot = stack.snapshot();
    let bulkhead = snapshot.bulkhead.unwrap();
    assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0));
    assert_eq!(snapshot.breaker.unwrap().probes_running, 0);
    assert_eq!(snapshot.concurrency.unwrap().in_flight, 0);
    let shed = snapshot.load_shed.unwrap();
    assert_eq!((shed.in_flight, shed.waiting), (0, 0));
    let (retry, hedge) = (snapshot.retry.unwrap(), snapshot.hedge.unwrap());
    let sent = retry.retries + hedge.hedges;
    assert_eq!(budget.available(), retry.calls - sent, "what was sent is paid for, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_dropped_anywhere_leave_nothing_behind() {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000_000));
    let stack = tight(&budget);
    let mut service = stack.service(service_fn(answer));
    let mut random = Random(0x5eed);
    let mut running: Vec<Answers> = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut begun, mut dropped, mut answered) = (0, 0, 0);
    while begun < 10_000 {
        match random.below(10) {
            0..3 if running.len() < 40 => {
                assert!(service.poll_ready(&mut cx).is_ready());
                let n = random.below(1 << 20) as u32;
                running.push(if random.below(3) == 0 {
                    let stack = stack.clone();
                    Box::pin(async move { stack.run_carrying(|| answer(n)).await })
                } else {
                    Box::pin(service.call(n))
                });
                begun += 1;
            }
            3..7 if !running.is_empty() => {
                let at = random.below(running.len() as u64) as usize;
                if running[at].as_mut().poll(&mut cx).is_ready() {
                    drop(running.swap_remove(at));
                    answered += 1;
                }
            }
            7 if !running.is_empty() => {
                let at = random.below(running.len() as u64) as usize;
                drop(running.swap_remove(at));
                dropped += 1;
            }
            _ => advance(ms(random.below(8))).await,
        }
        assert!(stack.bulkhead().unwrap().running() <= 6);
        if running.is_empty() {
            assert_nothing_is_held(&stack, &budget);
        }
    }
    dropped += running.len();
    running.clear();
    assert_nothing_is_held(&stack, &budget);
    assert!(dropped > 2_000 && answered > 2_000, "{dropped} dropped, {answered} answered");
    let seen = stack.snapshot();
    let queued = (seen.bulkhead.unwrap().queued, seen.load_shed.unwrap().queued, seen.rate_limit.unwrap().waited);
    let sent = (seen.hedge.unwrap().hedges, seen.retry.unwrap().retries);
    assert!(queued.0 > 100 && queued.1 > 100 && queued.2 > 30 && sent.0 > 100 && sent.1 > 30, "{queued:?} {sent:?}");
    // Turns that were given back: after the time they are worth, all of them are there.
    advance(ms(100)).await;
    assert_eq!(stack.rate_limit().unwrap().snapshot().available, 20);
    stack.breaker().unwrap().reset();
    assert_eq!(stack.run(async || Ok::<u32, Boom>(1)).await, Ok(1));
}

/// Runs a call to its end, or drops it after so many polls; how many there were.
async fn polled(mut call: Answers, polls: usize) -> Option<usize> {
    for n in 0..polls {
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Some(n);
        }
        advance(ms(5)).await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_gives_everything_back() {
    // Fails at once, after a while, answers, never answers; with the places taken and free.
    for n in [15, 20, 27, 31] {
        for held in [false, true] {
            for polls in 0.. {
                let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000));
                let stack = tight(&budget);
                let places: Vec<_> = if held {
                    (0..6).map(|_| stack.bulkhead().unwrap().try_acquire().unwrap()).collect()
                } else {
                    vec![]
                };
                let turns = stack.rate_limit().unwrap();
                (0..20).for_each(|_| turns.try_acquire().unwrap());
                let call = Box::pin(stack.service(service_fn(answer)).call(n));
                let done = polled(call, polls).await;
                drop(places);
                assert_nothing_is_held(&stack, &budget);
                if polls == 0 {
                    assert_eq!(turns.acquire().await, Ok(()));
                    advance(ms(80)).await;
                    assert_eq!(turns.snapshot().available, 20, "the turn of a call that waited is given back");
                }
                if done.is_some() {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_over_holds_nothing_though_it_is_not_dropped() {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000));
    let stack = tight(&budget);
    for n in [2, 15, 31] {
        let mut call = Box::pin(stack.service(service_fn(answer)).call(n));
        let answer = std::future::poll_fn(|cx| call.as_mut().poll(cx)).await;
        assert_nothing_is_held(&stack, &budget);
        drop((answer, call));
        assert_nothing_is_held(&stack, &budget);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_panics_gives_the_permits_back() {
    struct Spiteful;
    impl Drop for Spiteful {
        fn drop(&mut self) {
            panic!("on drop");
        }
    }
    impl Future for Spiteful {
        type Output = Answer;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
            Poll::Pending
        }
    }
    let stack = Stack::builder("x").bulkhead(bulkhead::Config::new(1)).timeout(ms(10)).build();
    let mut call = Box::pin(stack.service(service_fn(|_: u32| Spiteful)).call(1));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(stack.bulkhead().unwrap().running(), 1);
    assert!(panics(|| drop(call)));
    assert_eq!(stack.bulkhead().unwrap().running(), 0);
    let mut call = Box::pin(stack.service(service_fn(|_: u32| Spiteful)).call(1));
    assert!(poll_once(&mut call).is_pending());
    advance(ms(20)).await;
    assert!(panics(|| poll_once(&mut call).is_ready()), "cut off, the call is dropped");
    assert_eq!(stack.bulkhead().unwrap().running(), 0);
    std::mem::forget(call);
}
