//! Of several copies: which failure is told, how long the call had waited, what numbers and deadlines they have, and
//! what is measured. The same for a hedge alone and in a stack.

use std::{
    cell::{Cell, RefCell},
    future::{Ready, pending, ready},
    rc::Rc,
    sync::{Arc, Mutex},
};

use mainstay::{
    Error, Name, Reason, Rejection, Stack,
    hedge::{Config, Handle, HedgeLayer, Replay},
    observe::Event,
    time::Tick,
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn at_once(attempts: u32) -> Config {
    Config::new().attempts(attempts).delay(ms(100)).no_budget()
}

#[tokio::test(start_paused = true)]
async fn of_several_failures_the_last_of_the_services_own_is_told() {
    let script = |copy: u32| match copy {
        1 | 2 => ready(Err::<u32, _>(Error::Inner(copy))),
        _ => ready(Err(Error::Rejected(Rejection::new(Reason::BulkheadFull, Name::new("below").unwrap())))),
    };
    assert_eq!(Handle::new("x", at_once(3)).run(script).await, Err(Error::Inner(2)));
    let (stack, copies) = (Stack::builder("x").hedge(at_once(3)).build(), Cell::new(0));
    let service = stack.service(service_fn(|_: u32| {
        copies.set(copies.get() + 1);
        script(copies.get())
    }));
    assert_eq!(service.oneshot(7).await, Err(Error::Inner(2)));
    assert_eq!(copies.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_told_with_all_the_time_that_the_call_had_waited() {
    let hedge = Handle::new("x", at_once(2));
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    hedge.observe(move |event: &Event<'_>| {
        if let Event::Hedged { attempt, delay, .. } = event {
            log.lock().unwrap().push((*attempt, *delay));
        }
    });
    let stack = Stack::builder("x").hedge(hedge.clone()).build();
    let mut in_stack = stack.service(service_fn(|_: u32| pending::<Answer>()));
    let mut alone = HedgeLayer::new(hedge).layer(service_fn(|_: u32| pending::<Answer>()));
    let (mut first, mut second) = (task::spawn(in_stack.call(1)), task::spawn(alone.call(1)));
    for step in [0, 60, 40] {
        advance(ms(step)).await;
        assert_pending!(first.poll());
        assert_pending!(second.poll());
    }
    assert_eq!(*told.lock().unwrap(), [(2, ms(100)), (2, ms(100))]);
}

/// Sends the copy's number, times a hundred, and until a time.
#[derive(Clone, Copy)]
struct Numbered(Option<Tick>);

impl Replay<u32> for Numbered {
    type Kept = ();

    fn keep(&self, _: &mut u32) -> Option<()> {
        Some(())
    }

    fn again(&self, (): &(), attempt: u32) -> Option<u32> {
        Some(attempt * 100)
    }

    fn deadline(&self, _: &u32) -> Option<Tick> {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn copies_have_their_numbers_and_none_begins_at_the_deadline() {
    let now = Tick::now();
    for (deadline, sent) in [(None, vec![7, 200, 300]), (Some(now + ms(1)), vec![7, 200, 300]), (Some(now), vec![7])] {
        let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
        let inner = || {
            let seen = Rc::clone(&seen);
            service_fn(move |request: u32| -> Ready<Answer> {
                seen.borrow_mut().push(request);
                ready(Err(Error::Inner(Boom)))
            })
        };
        let stack = Stack::builder("x").hedge(at_once(3)).replay(Numbered(deadline)).build();
        assert!(stack.service(inner()).oneshot(7).await.is_err());
        assert_eq!(seen.take(), sent, "in a stack");
        let layer = HedgeLayer::new(Handle::new("x", at_once(3))).replay(Numbered(deadline));
        assert!(layer.layer(inner()).oneshot(7).await.is_err());
        assert_eq!(seen.take(), sent, "alone");
    }
}

/// Sends nothing again.
#[derive(Clone, Copy)]
struct Never;

impl Replay<u32> for Never {
    type Kept = ();

    fn keep(&self, _: &mut u32) -> Option<()> {
        None
    }

    fn again(&self, (): &(), _: u32) -> Option<u32> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn good_answers_are_measured_of_calls_without_copies_too_and_failures_never_are() {
    for (answer, took, delay) in [(Ok(1), 50, 45..56), (Err(Error::Inner(Boom)), 5, 500..501)] {
        let config = Config::new().percentile(50.0).min_samples(5).initial_delay(ms(500)).max_delay(ms(900));
        let hedge = Handle::new("x", config.min_delay(ms(1)));
        let service = HedgeLayer::new(hedge.clone()).replay(Never).layer(service_fn(move |_: u32| {
            let answer: Answer = answer.clone();
            async move {
                tokio::time::sleep(ms(took)).await;
                answer
            }
        }));
        for _ in 0..20 {
            let _ = service.clone().oneshot(1).await;
        }
        advance(ms(200)).await;
        let is = hedge.delay();
        assert!((ms(delay.start)..ms(delay.end)).contains(&is), "{is:?} is not in {delay:?}");
    }
}
