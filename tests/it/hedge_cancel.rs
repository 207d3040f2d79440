//! Cancellation and panics: what is left of a hedged call when it does not come to its end.

use std::{
    any::Any,
    cell::Cell,
    future::{Future, pending, poll_fn, ready},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use mainstay::{
    Error, Outcome, classify_fn,
    hedge::{Budget, BudgetConfig, Config, Handle, HedgeLayer, Replay},
    observe::Event,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn boom() -> Answer {
    Err(Error::Inner(Boom))
}

/// Three copies, one every 100 ms. A hundred to begin with, and one more for every call, which its owner adds.
fn with(config: Config) -> Handle {
    let budget = Budget::new(BudgetConfig::new().ratio(1.0).min_per_second(0).cap(1_000));
    (0..100).for_each(|_| budget.deposit());
    Handle::new("x", config).with_budget(&budget)
}

fn steady() -> Handle {
    with(Config::new().attempts(3).delay(ms(100)))
}

/// The copies that were counted are paid for, and nothing else is.
fn assert_paid(hedge: &Handle) {
    let snapshot = hedge.snapshot();
    assert_eq!(snapshot.budget_available, Some(100 - snapshot.hedges), "{snapshot:?}");
}

/// A service whose first copy hangs. Clones are ready at the second question only; each copy that runs is counted.
#[derive(Default)]
struct Slow {
    asked: bool,
    running: Rc<Cell<u32>>,
    answers: Option<u32>,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self { asked: false, running: Rc::clone(&self.running), answers: self.answers }
    }
}

struct Running(Rc<Cell<u32>>);

impl Running {
    fn new(running: &Rc<Cell<u32>>) -> Self {
        running.set(running.get() + 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Service<u32> for Slow {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        if std::mem::replace(&mut self.asked, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.asked), "called without being ready");
        let running = Running::new(&self.running);
        let answer = self.answers.filter(|answer| *answer == request);
        Box::pin(async move {
            let _running = running;
            match answer {
                Some(answer) => Ok(answer),
                None => pending().await,
            }
        })
    }
}

/// Numbers the copies.
struct Numbered;

impl Replay<u32> for Numbered {
    type Kept = ();

    fn keep(&self, _: &mut u32) -> Option<()> {
        Some(())
    }

    fn again(&self, (): &(), attempt: u32) -> Option<u32> {
        Some(attempt)
    }
}

/// Polls so often, and lets a delay pass after every second poll. True if it ended.
async fn poll_times<F: Future>(call: &mut Pin<Box<F>>, polls: usize) -> bool {
    for poll in 0..polls {
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        if poll % 2 == 0 {
            advance(ms(100)).await;
        }
    }
    false
}

/// What runs and what was sent after so many polls: the first copy waits, the second asks whether its clone is ready,
/// is sent, and so on.
const SENT: [(u32, u64); 8] = [(1, 0), (1, 0), (1, 0), (2, 1), (2, 1), (3, 2), (3, 2), (3, 2)];

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_call_pays_for_what_was_sent_and_no_more() {
    for (polls, (running, sent)) in SENT.into_iter().enumerate() {
        let hedge = steady();
        let below = Slow::default();
        let count = Rc::clone(&below.running);
        let mut service = HedgeLayer::new(hedge.clone()).replay(Numbered).layer(below);
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        assert!(!poll_times(&mut call, polls).await);
        assert_eq!((count.get(), hedge.snapshot().hedges), (running, sent), "after {polls} polls");
        drop(call);
        assert_eq!(count.get(), 0);
        assert_paid(&hedge);
        let snapshot = hedge.snapshot();
        assert_eq!((snapshot.calls, snapshot.won, snapshot.cancelled), (1, 0, 0), "nobody won, nobody lost");
    }
}

#[tokio::test(start_paused = true)]
async fn the_winner_drops_what_else_runs_at_once_and_what_was_not_sent_is_not_paid_for() {
    for (winner, polls, sent) in [(2, 4, 1), (3, 6, 2)] {
        let hedge = steady();
        let below = Slow { answers: Some(winner), ..Slow::default() };
        let count = Rc::clone(&below.running);
        let mut service = HedgeLayer::new(hedge.clone()).replay(Numbered).layer(below);
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        assert!(!poll_times(&mut call, polls - 2).await);
        assert!(poll_times(&mut call, 2).await);
        assert_eq!(count.get(), 0, "the call is still held, its copies are gone");
        let snapshot = hedge.snapshot();
        assert_eq!((snapshot.hedges, snapshot.won, snapshot.cancelled), (sent, 1, sent));
        assert_paid(&hedge);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_drops_its_copies_and_one_that_is_not_polled_counts_nothing() {
    for (polls, calls, sent) in [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 1, 2), (4, 1, 2)] {
        let (hedge, count) = (steady(), Rc::new(Cell::new(0)));
        let mut run = Box::pin(hedge.run(|_| {
            let running = Running::new(&count);
            async move {
                let _running = running;
                pending::<Answer>().await
            }
        }));
        for _ in 0..polls {
            assert!(poll_once(&mut run).is_pending());
            advance(ms(100)).await;
        }
        let snapshot = hedge.snapshot();
        assert_eq!((snapshot.calls, snapshot.hedges, count.get()), (calls, sent, calls as u32 + sent as u32));
        drop(run);
        assert_eq!(count.get(), 0);
        assert_paid(&hedge);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_copy_goes_on_and_nothing_is_left_behind() {
    for bad in 1..=3 {
        let (hedge, count) = (steady(), Rc::new(Cell::new(0)));
        let mut run = Box::pin(hedge.run(|attempt| {
            let running = Running::new(&count);
            async move {
                let _running = running;
                assert_ne!(attempt, bad, "in copy {bad}");
                pending::<Answer>().await
            }
        }));
        let mut panicked = false;
        for _ in 0..3 {
            panicked |= !panicked && panics(|| poll_once(&mut run));
            advance(ms(100)).await;
            if panicked {
                break;
            }
        }
        assert!(panicked);
        drop(run);
        assert_eq!((count.get(), hedge.snapshot().cancelled), (0, 0));
        assert_paid(&hedge);
    }
    // When the operation itself panics, no copy has begun.
    let hedge = steady();
    let mut run = Box::pin(hedge.run(|attempt| {
        assert_eq!(attempt, 1, "there is no second");
        ready(boom())
    }));
    assert!(panics(|| poll_once(&mut run)));
    drop(run);
    assert_eq!(hedge.snapshot().hedges, 0);
    assert_paid(&hedge);
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
async fn a_hook_that_panics_means_that_there_is_no_other_copy() {
    for (hook, hedges) in [("keep", 0), ("again", 0), ("deadline", 0), ("none", 2)] {
        let hedge = steady();
        let layer = HedgeLayer::new(hedge.clone()).replay(Panicking(hook));
        let mut service = layer.layer(service_fn(|_: u32| ready(boom())));
        let mut answer = None;
        assert!(!panics(|| answer = Some(poll_once(&mut service.call(1)))), "{hook}");
        assert_eq!(answer, Some(Poll::Ready(boom())), "{hook}");
        let snapshot = hedge.snapshot();
        assert_eq!((snapshot.hedges, snapshot.not_replayed), (hedges, u64::from(hedges == 0)), "{hook}");
        assert_paid(&hedge);
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_or_an_observer_that_panics_changes_nothing() {
    let hedge = steady();
    let bad = classify_fn(|_: Result<&u32, &Error<Boom>>| -> Outcome { panic!("in the classifier") });
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut Box::pin(hedge.run_with(bad, |_| ready(boom())))))));
    assert_eq!((answer, hedge.snapshot().hedges), (Some(Poll::Ready(boom())), 0), "it decides nothing");
    let hedge = steady();
    hedge.observe(|_: &Event<'_>| panic!("in the observer"));
    let mut answer = None;
    assert!(!panics(|| answer = Some(poll_once(&mut Box::pin(hedge.run(|_| ready(boom())))))));
    assert_eq!((answer, hedge.snapshot().hedges), (Some(Poll::Ready(boom())), 2));
    assert_paid(&hedge);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_call_everything_back() {
    let hedge = steady();
    let inner = hedge.clone();
    hedge.observe(move |event: &Event<'_>| {
        assert_eq!(event.policy(), "x");
        inner.observe(());
        inner.reconfigure(inner.config()).unwrap();
        let _ = (inner.snapshot(), inner.delay(), inner.memory(), inner.name());
        let _ = poll_once(&mut Box::pin(inner.run(|_| ready(Answer::Ok(1)))));
    });
    let _ = poll_once(&mut Box::pin(hedge.run(|_| ready(boom()))));
    assert_eq!((hedge.snapshot().calls, hedge.snapshot().hedges), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn everything_may_be_dropped_in_any_order_while_copies_run() {
    for order in 0..8 {
        let hedge = steady();
        let layer = HedgeLayer::new(hedge.clone());
        let mut service = layer.layer(service_fn(|_: u32| pending::<Answer>()));
        let mut call = service.call(1);
        assert!(poll_once(&mut call).is_pending());
        advance(ms(100)).await;
        assert!(poll_once(&mut call).is_pending());
        assert_eq!(hedge.snapshot().hedges, 1);
        let mut parts: Vec<Box<dyn Any>> = vec![Box::new(hedge), Box::new(layer), Box::new(service), Box::new(call)];
        parts.rotate_left(order % 4);
        if order > 3 {
            parts.reverse();
        }
        parts.into_iter().for_each(drop);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_all_else_is_dropped() {
    let calls = Cell::new(0);
    let below = service_fn(|_: u32| {
        calls.set(calls.get() + 1);
        let answer = (calls.get() == 2).then_some(Answer::Ok(5));
        poll_fn(move |_| answer.clone().map_or(Poll::Pending, Poll::Ready))
    });
    let call = HedgeLayer::new(steady()).layer(below).call(1);
    assert_eq!(call.await, Ok(5));
}
