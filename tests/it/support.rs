//! What the tests share.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{
    Error,
    breaker::{Config, Handle, State},
    observe::Event,
};

/// The error of a service in these tests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("boom")]
pub(crate) struct Boom;

pub(crate) type Answer = Result<u32, Error<Boom>>;

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) async fn advance(duration: Duration) {
    tokio::time::advance(duration).await;
}

/// A breaker that opens after so many failures in a row, for ten seconds, with one probe.
pub(crate) fn consecutive(failures: u64) -> Config {
    Config::new().no_failure_rate().consecutive_failures(failures).open_for(ms(10_000)).probes(1)
}

pub(crate) fn fail(breaker: &Handle, times: usize) {
    (0..times).for_each(|_| breaker.acquire().expect("let in").failure());
}

pub(crate) fn succeed(breaker: &Handle, times: usize) {
    (0..times).for_each(|_| breaker.acquire().expect("let in").success());
}

/// A half-open breaker with one probe.
pub(crate) async fn half_open() -> Handle {
    let breaker = Handle::new("x", consecutive(1));
    fail(&breaker, 1);
    advance(ms(10_000)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

/// Every change of state, as "from>to:cause".
pub(crate) fn transitions(breaker: &Handle) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    breaker.observe(move |event: &Event<'_>| {
        if let Event::Transition(change) = event {
            log.lock().unwrap().push(format!("{}>{}:{}", change.from, change.to, change.cause));
        }
    });
    seen
}

/// Polls once, with nobody to wake.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A service whose answers are scripted: each call takes the next future.
#[derive(Clone)]
pub(crate) struct Scripted<F> {
    answers: Rc<RefCell<Vec<F>>>,
    pub(crate) calls: Rc<RefCell<usize>>,
}

impl<F> Scripted<F> {
    pub(crate) fn new(answers: impl IntoIterator<Item = F>) -> Self {
        let mut answers: Vec<F> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: Rc::new(RefCell::new(answers)), calls: Rc::default() }
    }
}

impl<F, T, E> tower::Service<u32> for Scripted<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> F {
        *self.calls.borrow_mut() += 1;
        self.answers.borrow_mut().pop().expect("an answer for every call")
    }
}

/// Runs something that panics, without the noise.
pub(crate) fn panics<R>(run: impl FnOnce() -> R) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(run));
    std::panic::set_hook(hook);
    result.is_err()
}

pub(crate) fn infallible<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}

/// While it is held nothing of this thread goes to the log that tests read: a flood would fill it.
pub(crate) fn quiet() -> tracing::dispatcher::DefaultGuard {
    tracing::dispatcher::set_default(&tracing::Dispatch::none())
}

/// Runs something, and tells what it panics with.
pub(crate) fn panics_with<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(run));
    std::panic::set_hook(hook);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("something that is no text").to_owned()
    })
}
