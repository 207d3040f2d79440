//! Of several copies: which failure is told, how long the call had waited, what numbers and deadlines they have, and
//! what is measured. The same for a hedge alone and in a stack.

use std::{
    cell::{Cell, RefCell},
    future::{Future, Ready, pending, ready},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    Error, Name, Outcome, Reason, Rejection, Stack, classify_fn,
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

/// The delay after twenty calls through `layer`, each of which took so long to give the answer.
async fn delay_after<C, Q>(layer: HedgeLayer<C, Q>, took: u64, answer: Answer) -> Duration
where
    HedgeLayer<C, Q>: Layer<Sleeper, Service: Service<u32, Response = u32, Error = Error<Boom>> + Clone>,
{
    let hedge = layer.handle().clone();
    let service = layer.layer(Sleeper(took, answer));
    for _ in 0..20 {
        let _ = service.clone().oneshot(1).await;
    }
    advance(ms(200)).await;
    hedge.delay()
}

#[derive(Clone)]
struct Sleeper(u64, Answer);

impl Service<u32> for Sleeper {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        let Self(took, answer) = self.clone();
        Box::pin(async move {
            tokio::time::sleep(ms(took)).await;
            answer
        })
    }
}

#[tokio::test(start_paused = true)]
async fn good_answers_are_measured_of_calls_without_copies_too_and_others_never_are() {
    let layer = || {
        let config = Config::new().percentile(50.0).min_samples(5).initial_delay(ms(500)).max_delay(ms(900));
        HedgeLayer::new(Handle::new("x", config.min_delay(ms(1))))
    };
    let good = delay_after(layer().replay(Never), 50, Ok(1)).await;
    assert!((ms(45)..ms(56)).contains(&good), "{good:?}");
    let boom = || Err(Error::Inner(Boom));
    assert_eq!(delay_after(layer().replay(Never), 5, boom()).await, ms(500));
    let ignores = classify_fn(|_: Result<&u32, &Error<Boom>>| Outcome::Ignored);
    assert_eq!(delay_after(layer().classify(ignores), 5, boom()).await, ms(500), "it ends the call, and is not good");
}
