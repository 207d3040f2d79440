//! Hedges inside a stack: copies pass the same policies as the first attempt, under the same budget as retries.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use mainstay::{
    Error, Reason, Stack, breaker, bulkhead, hedge,
    retry::{self, BudgetConfig},
    time::Tick,
};

use super::{reason, three};
use crate::support::*;

type Attempt = Pin<Box<dyn Future<Output = Answer>>>;

/// A second copy after 50 ms, a third after 100.
fn three_copies() -> hedge::Config {
    hedge::Config::new().attempts(3).delay(ms(50)).no_budget()
}

/// An operation whose attempts do what `script` says, in the order in which they begin: wait so long, then fail or not.
fn operation(script: &'static [(u64, bool)]) -> (Arc<AtomicU32>, impl Fn() -> Attempt) {
    let begun = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&begun);
    let operation = move || {
        let n = count.fetch_add(1, SeqCst);
        let attempt: Attempt = Box::pin(async move {
            match script.get(n as usize) {
                None => pending().await,
                Some((wait, fails)) => {
                    tokio::time::sleep(ms(*wait)).await;
                    if *fails { Err(Error::Inner(Boom)) } else { Ok(n) }
                }
            }
        });
        attempt
    };
    (begun, operation)
}

#[tokio::test(start_paused = true)]
async fn the_first_good_copy_wins_and_the_others_give_everything_back() {
    let stack = Stack::builder("x")
        .hedge(three_copies())
        .breaker(breaker::Config::new())
        .bulkhead(bulkhead::Config::new(3))
        .timeout(ms(1_000))
        .build();
    let start = Tick::now();
    let (begun, slow) = operation(&[(900, false), (70, false), (900, false)]);
    let mut running = Box::pin(stack.run_carrying(slow));
    assert!(poll_once(&mut running).is_pending());
    advance(ms(100)).await;
    assert!(poll_once(&mut running).is_pending());
    advance(ms(1)).await;
    assert!(poll_once(&mut running).is_pending());
    assert_eq!(stack.bulkhead().unwrap().running(), begun.load(SeqCst));
    assert_eq!(running.await, Ok(1));
    assert!(Tick::now().since(start) < ms(200));
    let snapshot = stack.snapshot();
    assert_eq!(snapshot.bulkhead.unwrap().running, 0);
    let totals = snapshot.breaker.unwrap().totals;
    assert_eq!((totals.calls.calls(), totals.cancelled), (1, u64::from(begun.load(SeqCst)) - 1));
    let hedge = snapshot.hedge.unwrap();
    assert_eq!((hedge.hedges, hedge.won), (u64::from(begun.load(SeqCst)) - 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_sends_the_next_copy_at_once_and_a_retry_follows_when_all_have_failed() {
    let retry = retry::Config::new().attempts(2).backoff(retry::Backoff::fixed(ms(500))).jitter(retry::Jitter::None);
    let stack = Stack::builder("x").hedge(three_copies()).retry(retry).build();
    let start = Tick::now();
    let (begun, fails) = operation(&[(10, true), (10, true), (10, true), (10, false)]);
    assert_eq!(stack.run_carrying(fails).await, Ok(3));
    assert_eq!(Tick::now().since(start), ms(10 + 10 + 10 + 500 + 10));
    assert_eq!(begun.load(SeqCst), 4);
    let snapshot = stack.snapshot();
    assert_eq!((snapshot.hedge.unwrap().hedges, snapshot.retry.unwrap().retries), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn retry_and_hedge_draw_on_one_budget() {
    let budget = BudgetConfig::new().ratio(1.0).min_per_second(0).cap(10);
    let hedge = hedge::Config::new().attempts(3).delay(ms(50));
    let stack = Stack::builder("x").hedge(hedge).retry(three().budget(budget)).build();
    let (begun, fails) = operation(&[(10, true), (10, true), (10, true), (10, true)]);
    assert_eq!(stack.run_carrying(fails).await, Err(Error::Inner(Boom)));
    assert_eq!(begun.load(SeqCst), 2, "one call has paid for one copy more");
    let retry = stack.retry().unwrap().snapshot();
    assert_eq!((retry.retries, retry.budget_available, retry.budget_refused), (0, Some(0), 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_turns_away_is_not_sent_again_and_the_first_goes_on() {
    let full = Stack::builder("x").hedge(three_copies()).bulkhead(bulkhead::Config::new(1)).build();
    let (begun, slow) = operation(&[(120, false)]);
    assert_eq!(full.run_carrying(slow).await, Ok(0), "its copy found no place");
    assert_eq!(begun.load(SeqCst), 1);
    assert_eq!(full.bulkhead().unwrap().snapshot().rejected, 1);

    let open = Stack::builder("x").hedge(three_copies()).breaker(consecutive(1)).build();
    open.breaker().unwrap().force_open();
    let (begun, never) = operation(&[]);
    assert_eq!(reason(open.run_carrying(never).await), Reason::CircuitOpen);
    assert_eq!((begun.load(SeqCst), open.hedge().unwrap().snapshot().hedges), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_copy_has_the_limit_of_an_attempt() {
    let stack = Stack::builder("x").hedge(three_copies().attempts(2)).attempt_timeout(ms(80)).build();
    let start = Tick::now();
    let (begun, hangs) = operation(&[]);
    assert_eq!(reason(stack.run_carrying(hangs).await), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(50 + 80), "the first at 80, its copy at 130");
    assert_eq!((begun.load(SeqCst), stack.attempt_timeout().unwrap().snapshot().timed_out), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_time_copies_give_back_places_and_budget() {
    for polls in 0..40 {
        let budget = BudgetConfig::new().ratio(1.0).min_per_second(0).cap(10);
        let hedge = hedge::Config::new().attempts(3).delay(ms(20));
        let stack = Stack::builder("x")
            .hedge(hedge)
            .retry(three().budget(budget))
            .bulkhead(bulkhead::Config::new(2).max_queue(2))
            .breaker(breaker::Config::new())
            .timeout(ms(150))
            .build();
        let (begun, script) = operation(&[(30, true), (90, true), (10, true)]);
        let mut call = Box::pin(stack.run_carrying(script));
        for _ in 0..polls {
            if poll_once(&mut call).is_ready() {
                break;
            }
            advance(ms(5)).await;
        }
        drop(call);
        let snapshot = stack.snapshot();
        let (bulkhead, retry) = (snapshot.bulkhead.unwrap(), snapshot.retry.unwrap());
        assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0), "after {polls} polls");
        let sent = retry.retries + snapshot.hedge.unwrap().hedges;
        assert_eq!(retry.budget_available, Some(retry.calls - sent), "after {polls} polls");
        assert!(u64::from(begun.load(SeqCst)) <= 1 + sent);
    }
}
