//! What a second pair of eyes tried: panics where a call changes hands, tasks that change between polls, times that end
//! together.

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn, ready},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use mainstay::{
    Error, Reason, Stack, breaker, bulkhead, hedge, load_shed, rate_limit,
    retry::{BudgetConfig, Replay},
    stack::Config,
    time::Tick,
};
use tower::{Service, service_fn};

use super::{reason, three};
use crate::support::*;

type Attempt = Pin<Box<dyn Future<Output = Answer>>>;

/// A task that remembers whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Polls in one task and then in another; it has to be the second that is woken.
fn moved(call: &mut (impl Future + Unpin)) -> Arc<Flag> {
    let (first, second) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    for flag in [&first, &second] {
        let waker = Waker::from(Arc::clone(flag));
        assert!(Pin::new(&mut *call).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    second
}

fn is_woken(flag: &Flag) -> bool {
    flag.0.load(SeqCst)
}

/// A service whose clones, readiness and calls do what they are told.
struct Brittle {
    clone_panics: Rc<Cell<bool>>,
    readiness: Rc<Cell<Poll<Result<(), ()>>>>,
    calls: Rc<Cell<u32>>,
}

impl Brittle {
    fn new() -> Self {
        Self { clone_panics: Rc::default(), readiness: Rc::new(Cell::new(Poll::Ready(Ok(())))), calls: Rc::default() }
    }
}

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert!(!self.clone_panics.get(), "on clone");
        Self {
            clone_panics: Rc::clone(&self.clone_panics),
            readiness: Rc::clone(&self.readiness),
            calls: Rc::clone(&self.calls),
        }
    }
}

impl Service<u32> for Brittle {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Attempt;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        self.readiness.get().map_err(|()| Error::Inner(Boom))
    }

    /// 0 fails, 1 hangs, 2 panics in the call and 3 when it is polled.
    fn call(&mut self, n: u32) -> Attempt {
        self.calls.set(self.calls.get() + 1);
        assert!(n != 2, "on call");
        Box::pin(async move {
            match n {
                0 => Err(Error::Inner(Boom)),
                1 => pending().await,
                3 => panic!("on poll"),
                n => Ok(n),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_panics_while_its_call_is_queued_leaves_the_queue() {
    let queue = load_shed::QueueDelay::new().max_queue(4);
    let stack = Stack::builder("x").load_shed(load_shed::Config::new().in_flight(1).queue_delay(queue)).build();
    let brittle = Brittle::new();
    let mut service = stack.service(brittle.clone());
    let first = service.call(1);
    brittle.clone_panics.set(true);
    assert!(panics(|| drop(service.call(7))));
    let shed = stack.load_shed().unwrap().snapshot();
    assert_eq!((shed.in_flight, shed.waiting), (1, 0));
    drop(first);
    assert_eq!(stack.load_shed().unwrap().snapshot().in_flight, 0);

    let turns = rate_limit::Config::new(1, ms(1_000)).max_wait(ms(5_000));
    let stack = Stack::builder("x").rate_limit(turns).build();
    let mut service = stack.service(service_fn(async |n: u32| Ok::<_, Error<Boom>>(n)));
    assert_eq!(service.call(7).await, Ok(7));
    let brittle = Brittle::new();
    let mut service = stack.service(brittle.clone());
    brittle.clone_panics.set(true);
    assert!(panics(|| drop(service.call(7))));
    advance(ms(1_000)).await;
    assert_eq!(stack.rate_limit().unwrap().snapshot().available, 1, "its turn went back");

    let stack = Stack::builder("x").bulkhead(bulkhead::Config::new(1).max_queue(1).max_wait(ms(100))).build();
    let brittle = Brittle::new();
    let mut service = stack.service(brittle.clone());
    let first = service.call(1);
    brittle.clone_panics.set(true);
    assert!(panics(|| drop(service.call(7))));
    drop(first);
    let bulkhead = stack.bulkhead().unwrap().snapshot();
    assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_service_cannot_become_ready_gives_the_budget_back_at_once() {
    let budget = BudgetConfig::new().ratio(1.0).min_per_second(0).cap(10);
    let stack = Stack::builder("x").retry(three().budget(budget)).build();
    let brittle = Brittle::new();
    let mut service = stack.service(brittle.clone());
    let mut call = service.call(0);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(stack.retry().unwrap().snapshot().budget_available, Some(0));
    brittle.readiness.set(Poll::Ready(Err(())));
    assert_eq!(poll_fn(|cx| Pin::new(&mut call).poll(cx)).await, Err(Error::Inner(Boom)));
    let retry = stack.retry().unwrap().snapshot();
    assert_eq!((retry.budget_available, retry.retries), (Some(1), 0));
    drop(call);
    assert_eq!(stack.retry().unwrap().snapshot().budget_available, Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_task_that_polled_last_is_woken() {
    // The alarm.
    let stack = Stack::builder("x").timeout(ms(100)).retry(three()).attempt_timeout(ms(50)).build();
    let mut service = stack.service(Brittle::new());
    let mut call = service.call(1);
    for wait in [50, 50] {
        let task = moved(&mut call);
        advance(ms(wait)).await;
        assert!(is_woken(&task));
    }
    assert_eq!(reason(call.await), Reason::TimedOut);

    // A place in the queue of the bulkhead, and a turn.
    let turns = rate_limit::Config::new(1, ms(1_000)).max_wait(ms(5_000)).burst(2);
    let queue = bulkhead::Config::new(1).max_queue(1).max_wait(ms(10_000));
    let stack = Stack::builder("x").rate_limit(turns).bulkhead(queue).build();
    let mut service = stack.service(Brittle::new());
    let (first, mut second, mut third) = (service.call(1), service.call(7), service.call(8));
    let (in_queue, in_turn) = (moved(&mut second), moved(&mut third));
    drop(first);
    assert!(is_woken(&in_queue) && !is_woken(&in_turn));
    assert_eq!(second.await, Ok(7));
    advance(ms(1_000)).await;
    assert!(is_woken(&in_turn));
    assert_eq!(third.await, Ok(8));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_an_unready_breaker_as_long_as_the_call_may_take() {
    let unready = || consecutive(1).readiness(breaker::Readiness::Unready);
    let budget = || BudgetConfig::new().ratio(1.0).min_per_second(0).cap(10);
    for (limit, calls, took) in [(1_000, 1_u32, 1_000), (60_000, 2, 10_000)] {
        let stack =
            Stack::builder("x").timeout(ms(limit)).retry(three().attempts(2).budget(budget())).breaker(unready());
        let stack = stack.build();
        let (start, begun) = (Tick::now(), Cell::new(0));
        let fails = || {
            begun.set(begun.get() + 1);
            ready(Err::<u32, _>(Boom))
        };
        let mut call = Box::pin(stack.run(fails));
        assert!(poll_once(&mut call).is_pending());
        advance(ms(100)).await;
        let task = moved(&mut call);
        advance(ms(took - 100)).await;
        assert!(is_woken(&task));
        assert!(call.as_mut().await.is_err());
        assert_eq!((begun.get(), Tick::now().since(start)), (calls, ms(took)));
        let retry = stack.retry().unwrap().snapshot();
        assert_eq!(retry.budget_available, Some(2 - u64::from(calls)));
        drop(call);
        assert_eq!(stack.breaker().unwrap().snapshot().probes_running, 0);
    }
}

/// Requests with a deadline, which are cloned.
#[derive(Clone)]
struct Until(Tick);

impl Replay<u32> for Until {
    type Kept = u32;
    fn keep(&self, request: &mut u32) -> Option<u32> {
        Some(*request)
    }
    fn again(&self, kept: &u32, _: u32) -> Option<u32> {
        Some(*kept)
    }
    fn deadline(&self, _: &u32) -> Option<Tick> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_sent_when_nobody_waits_for_it_any_more() {
    let hedge = || hedge::Config::new().attempts(3).delay(ms(50)).no_budget();
    // One that is due after the deadline, and one for a failure after it.
    for (deadline, fails) in [(60, false), (50, false), (60, true)] {
        let until = Until(Tick::now() + ms(deadline));
        let stack = Stack::builder("x").replay(until).hedge(hedge()).build();
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let mut service = stack.service(service_fn(move |_: u32| {
            count.set(count.get() + 1);
            let wait = if fails && count.get() == 2 { 20 } else { 500 };
            async move {
                tokio::time::sleep(ms(wait)).await;
                if wait == 20 { Err::<u32, _>(Error::Inner(Boom)) } else { Ok(7) }
            }
        }));
        assert_eq!(service.call(1).await, Ok(7));
        let copies = u32::from(deadline > 50);
        assert_eq!((calls.get(), stack.hedge().unwrap().snapshot().hedges), (1 + copies, copies.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn panics_in_copies_and_in_the_hand_over_leave_nothing_behind() {
    let places = bulkhead::Config::new(2).max_queue(2).max_wait(ms(1_000));
    for bad in [2, 3] {
        let stack = Stack::builder("x")
            .load_shed(load_shed::Config::new().in_flight(9))
            .replay(move |n: &u32| Some(if *n == 1 { 10 + bad } else { n - 10 }))
            .hedge(hedge::Config::new().delay(ms(50)).no_budget())
            .breaker(breaker::Config::new())
            .bulkhead(places.clone())
            .build();
        let mut service = stack.service(Brittle::new());
        let mut call = service.call(1);
        assert!(poll_once(&mut call).is_pending());
        advance(ms(50)).await;
        assert!(panics(|| poll_once(&mut call).is_ready()));
        drop(call);
        let seen = stack.snapshot();
        let totals = seen.breaker.unwrap().totals;
        assert_eq!((totals.calls.failures(), totals.cancelled), (1, 1));
        assert_eq!((seen.bulkhead.unwrap().running, seen.load_shed.unwrap().in_flight), (0, 0));

        let stack = Stack::builder("x").bulkhead(places.clone()).build();
        let mut service = stack.service(Brittle::new());
        let (one, two, mut third) = (service.call(1), service.call(1), service.call(bad));
        assert!(poll_once(&mut third).is_pending());
        drop(one);
        assert!(panics(|| poll_once(&mut third).is_ready()));
        assert_eq!(stack.bulkhead().unwrap().running(), 1, "settled where it happened");
        drop((two, third));
        let bulkhead = stack.bulkhead().unwrap().snapshot();
        assert_eq!((bulkhead.running, bulkhead.waiting), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn times_that_end_together_or_at_once_end_in_order() {
    // No delay at all: all copies at once, and no more than there may be.
    let stack = Stack::builder("x").hedge(hedge::Config::new().attempts(3).delay(ms(0)).no_budget()).timeout(ms(50));
    let stack = stack.build();
    let (brittle, start) = (Brittle::new(), Tick::now());
    assert_eq!(reason(stack.service(brittle.clone()).call(1).await), Reason::TimedOut);
    assert_eq!((brittle.calls.get(), Tick::now().since(start)), (3, ms(50)));

    // All limits in the same millisecond: the innermost tells, and then the call is over.
    let stack = Stack::builder("x")
        .timeout(ms(50))
        .attempt_timeout(ms(50))
        .retry(three())
        .hedge(hedge::Config::new().delay(ms(50)).no_budget())
        .bulkhead(bulkhead::Config::new(4))
        .build();
    let (brittle, start) = (Brittle::new(), Tick::now());
    assert_eq!(reason(stack.service(brittle.clone()).call(1).await), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(50));
    let seen = stack.snapshot();
    assert_eq!(seen.bulkhead.unwrap().running, 0);
    assert_eq!((seen.timeout.unwrap().timed_out, seen.retry.unwrap().retries), (1, 0));
    // A limit that is changed while calls wait holds for those that come.
    let mut service = stack.service(brittle);
    let mut call = service.call(1);
    assert!(poll_once(&mut call).is_pending());
    stack.timeout().unwrap().set_limit(ms(500)).unwrap();
    stack.attempt_timeout().unwrap().set_limit(ms(500)).unwrap();
    let start = Tick::now();
    assert_eq!(reason(call.await), Reason::TimedOut);
    assert_eq!(Tick::now().since(start), ms(50));
}

#[tokio::test(start_paused = true)]
async fn stacks_stand_in_stacks_and_operations_in_operations() {
    let outer = Stack::builder("outer").retry(three()).timeout(ms(5_000)).bulkhead(bulkhead::Config::new(1)).build();
    let inner = Stack::builder("inner").retry(three()).hedge(hedge::Config::new().delay(ms(5))).build();
    let calls = Cell::new(0);
    let answer = outer
        .run_carrying(async || {
            inner
                .run_carrying(async || {
                    calls.set(calls.get() + 1);
                    if calls.get() < 6 { Err(Error::Inner(Boom)) } else { Ok::<u32, Error<Boom>>(calls.get()) }
                })
                .await
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(6), 6));
    assert_eq!(outer.bulkhead().unwrap().running(), 0);

    let buffered = tower::buffer::Buffer::new(inner.service(service_fn(async |n: u32| Ok::<_, Error<Boom>>(n))), 1);
    let carried = tower::util::MapErr::new(buffered, |_: tower::BoxError| Error::Inner(Boom));
    let mut service = outer.service(carried);
    for n in 0..4 {
        assert_eq!(tower::ServiceExt::ready(&mut service).await.unwrap().call(n).await, Ok(n));
    }
}

#[test]
fn odd_files_are_read_or_refused_in_words() {
    let read = |text: &str| toml::from_str::<Config>(text).map_err(|error| error.message().to_owned());
    let empty = read("[retry]\n[breaker]\n[hedge]\n[load_shed]\n[concurrency]").unwrap();
    assert!(empty.retry.is_some() && empty.bulkhead.is_none() && empty.load_shed.is_some());
    for text in [
        "[bulkhead]",
        "[rate_limit]",
        "[retry]\nattempts = 2\n[retry]\nattempts = 3",
        "timeout = '1s'\ntimeout = '2s'",
        "timeout = 99999999999999999999",
        "timeout = '99999999999999999999999s'",
        "[bulkhead]\nlimit = 99999999999",
        "[retry.budget.budget]\nratio = 1",
        "preset = 'standrad'",
        "preset = 'standard'\ntimeout = '1s'",
        "[retry]\nattempts = -1",
        "[breaker]\nfailure_rate = nan",
        "[breaker]\nfailure_rate = 1e999",
    ] {
        let refused = read(text).expect_err(text);
        assert!(!refused.is_empty(), "{text}");
    }
    let deep = format!("{}1{}", "{\"retry\":".repeat(10_000), "}".repeat(10_000));
    assert!(serde_json::from_str::<Config>(&deep).is_err());
    assert!(serde_json::from_str::<Config>(r#"{"retry":null,"timeout":null,"preset":null}"#).unwrap().retry.is_none());
    assert!(serde_json::from_str::<Config>(r#"{"retry":{},"retry":{}}"#).is_err());
}
