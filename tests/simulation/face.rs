//! The ways into a stack, whatever its type.

use std::{
    any::Any,
    cell::Cell,
    future::{Future, poll_fn},
    rc::Rc,
    task::Context,
};

use mainstay::{
    Error, OnError, Stack, breaker, bulkhead, concurrency,
    fallback::{Fallback, Strategy},
    load_shed,
    observe::Event,
    rate_limit,
    retry::Classified,
    stack::{Snapshot, StackService},
    timeout,
};
use tower::Service;

use crate::{
    service::{Answer, Answering, Behaviour, Failure, Falling, Ground, Request, Response, Scripted, attempt, inject},
    setup::Setup,
};

pub trait Face {
    /// A call of a clone of the service, which is dropped once it was called if it is only `passing`.
    fn call(&self, request: Request, passing: bool) -> Answering;
    fn run(&self, call: u32, script: Rc<[Behaviour]>) -> Answering;
    /// A clone that was asked whether it is ready, and is not called.
    fn asked(&self, cx: &mut Context<'_>) -> Box<dyn Any>;
    fn handles(&self) -> Handles;
    fn snapshot(&self) -> Snapshot;
    fn observe(&self, observer: fn(&Event<'_>));
}

/// The policies of a stack, to be looked at and switched.
pub struct Handles {
    pub load_shed: Option<load_shed::Handle>,
    pub rate_limit: Option<rate_limit::Handle>,
    pub timeout: Option<timeout::Handle>,
    pub breaker: Option<breaker::Handle>,
    pub concurrency: Option<concurrency::Handle>,
    pub bulkhead: Option<bulkhead::Handle>,
    pub attempt_timeout: Option<timeout::Handle>,
}

struct Of<F> {
    stack: Stack<Classified<OnError>, F>,
    service: StackService<Scripted, Classified<OnError>, F>,
}

impl<F> Face for Of<F>
where
    F: Strategy<Request, Response, Error<Failure>> + Strategy<(), Response, Error<Failure>> + 'static,
{
    fn call(&self, request: Request, passing: bool) -> Answering {
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let answer = service.call(request);
            let _service = if passing {
                drop(service);
                None
            } else {
                Some(service)
            };
            answer.await
        })
    }

    fn run(&self, call: u32, script: Rc<[Behaviour]>) -> Answering {
        let (stack, ground) = (self.stack.clone(), Rc::clone(&self.service.get_ref().ground));
        Box::pin(async move { stack.run_carrying(|| attempt(&ground, call, &script)).await })
    }

    fn asked(&self, cx: &mut Context<'_>) -> Box<dyn Any> {
        let mut service = self.service.clone();
        for _ in 0..3 {
            let _ = service.poll_ready(cx);
        }
        Box::new(service)
    }

    fn handles(&self) -> Handles {
        Handles {
            load_shed: self.stack.load_shed().cloned(),
            rate_limit: self.stack.rate_limit().cloned(),
            timeout: self.stack.timeout().cloned(),
            breaker: self.stack.breaker().cloned(),
            concurrency: self.stack.concurrency().cloned(),
            bulkhead: self.stack.bulkhead().cloned(),
            attempt_timeout: self.stack.attempt_timeout().cloned(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.stack.snapshot()
    }

    fn observe(&self, observer: fn(&Event<'_>)) {
        self.stack.observe(observer);
    }
}

/// What the fallback does, how often it was asked, and for how many calls it hangs.
pub struct Fall {
    pub how: Cell<Falling>,
    pub answered: Cell<u64>,
    pub running: Cell<u32>,
}

/// A stack of these policies around the service.
pub fn open(setup: &Setup, ground: &Rc<Ground>, fall: &Rc<Fall>) -> Box<dyn Face> {
    let builder = setup.policies.clone().builder("sim");
    if setup.falls_back {
        let (fall, ground) = (Rc::clone(fall), Rc::clone(ground));
        let known = Rc::clone(&ground);
        let strategy = Fallback::run(move |_: &Error<Failure>| fallen(Rc::clone(&fall), known.polling.get()));
        of(builder.fallback(strategy).build(), &ground)
    } else {
        of(builder.build(), ground)
    }
}

fn of<F>(stack: Stack<Classified<OnError>, F>, ground: &Rc<Ground>) -> Box<dyn Face>
where
    F: Strategy<Request, Response, Error<Failure>> + Strategy<(), Response, Error<Failure>> + 'static,
{
    let service = stack.service(Scripted::new(ground));
    Box::new(Of { stack, service })
}

/// Counts a fallback that runs.
struct Running(Rc<Fall>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

fn fallen(fall: Rc<Fall>, call: u32) -> impl Future<Output = Answer> {
    let how = fall.how.get();
    if how == Falling::Panics {
        inject();
    }
    fall.running.set(fall.running.get() + 1);
    let running = Running(fall);
    async move {
        match how {
            Falling::Fails => return Err(Error::Inner(Failure { call, attempt: u32::MAX })),
            Falling::Waits(time) => tokio::time::sleep(time).await,
            Falling::PanicsLater | Falling::Panics => inject(),
            Falling::Hangs => std::future::pending().await,
            Falling::Answers => {}
        }
        running.0.answered.set(running.0.answered.get() + 1);
        Ok(Response { call, attempt: None })
    }
}
