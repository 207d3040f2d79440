//! Conformance: the circuit breaker. One file for each part of its life; the means they share are here.
//!
//! Two things differ from most of the systems that the scenarios come from, in every test. While a circuit is open its
//! snapshot goes on showing what the window held when it opened, so "the counts stay at zero" there is "the counts stay
//! as they are" here. And there is no count of successes in a row, so that column is left aside.

mod closed;
mod concurrency;
mod half_open;
mod life;
mod manual;
mod open;
mod outcomes;
mod rates;

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay::{
    Classify, Error, Name, Outcome, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    observe::{Cause, Event},
    time::Tick,
};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

/// Scenarios that need what mainstay does not have.
pub(crate) const LEFT_OUT: &[(&str, &str)] =
    &[("CB-56", "a breaker that is partly open, steered by a PID controller; a circuit here is open or it is not")];

fn ns(n: u64) -> Duration {
    Duration::from_nanos(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hours(n: u64) -> Duration {
    secs(n * 60 * 60)
}

fn new(config: Config) -> Handle {
    Handle::new("conformance", config)
}

/// Calls that end at once, one after the other: `S` succeeds, `F` fails, `X` is ignored.
#[track_caller]
fn play(breaker: &Handle, calls: &str) {
    for call in calls.chars() {
        let permit = breaker.acquire().expect("the circuit lets the call in");
        permit.record(match call {
            'S' => Outcome::Success,
            'F' => Outcome::Failure,
            'X' => Outcome::Ignored,
            other => panic!("there is no call {other:?}"),
        });
    }
}

/// One call that takes this long and then succeeds or fails.
async fn play_for(breaker: &Handle, took: Duration, call: Outcome) {
    let permit = breaker.acquire().expect("the circuit lets the call in");
    advance(took).await;
    permit.record(call);
}

/// A call that is turned away.
#[track_caller]
fn denied(breaker: &Handle) -> Rejection {
    breaker.acquire().expect_err("the circuit turns the call away")
}

/// So many calls are let in now; all are given up at once.
fn lets_in(breaker: &Handle, calls: usize) -> bool {
    (0..calls).all(|_| breaker.acquire().is_ok())
}

#[track_caller]
fn go(breaker: &Handle, to: State) {
    breaker.transition_to(to).expect("there is such a transition");
}

/// Opens by hand and goes on to half-open.
#[track_caller]
fn half_open(breaker: &Handle) {
    go(breaker, State::Open);
    go(breaker, State::HalfOpen);
}

/// Successes and failures in the window.
fn window(breaker: &Handle) -> (u64, u64) {
    let counts = breaker.snapshot().window;
    (counts.successes(), counts.failures())
}

/// Failure rate (none below the minimum), successes, calls, failures, and how many were turned away in all.
fn metrics(breaker: &Handle) -> (Option<f64>, u64, u64, u64, u64) {
    let snapshot = breaker.snapshot();
    let counts = snapshot.window;
    (snapshot.failure_rate, counts.successes(), counts.calls(), counts.failures(), snapshot.totals.rejected)
}

/// Goes on to the next moment at which a bucket of this length begins.
async fn bucket_begins(length: Duration) {
    let length = length.as_nanos() as u64;
    let into = Tick::now().as_nanos() % length;
    advance(Duration::from_nanos(length - into)).await;
}

/// Lets tasks that are due run.
async fn tasks_run() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// What an observer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Went(State, State, Cause),
    WouldOpen(Cause),
    Rejected(Reason),
    Stale,
    Other,
}

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Told>>>);

impl Diary {
    /// Everything told since the last question.
    fn read(&self) -> Vec<Told> {
        mem::take(&mut *self.0.lock().expect("no observer panicked"))
    }

    /// The transitions among what was told since the last question.
    fn transitions(&self) -> Vec<(State, State)> {
        let moves = self.read().into_iter();
        moves.filter_map(|told| if let Told::Went(from, to, _) = told { Some((from, to)) } else { None }).collect()
    }
}

/// Listens from now on.
fn listen(breaker: &Handle) -> Diary {
    let diary = Diary::default();
    let pages = diary.clone();
    breaker.observe(move |event: &Event<'_>| {
        let told = match event {
            Event::Transition(change) => Told::Went(change.from, change.to, change.cause),
            Event::WouldOpen { cause, .. } => Told::WouldOpen(*cause),
            Event::Rejected(rejection) => Told::Rejected(rejection.reason()),
            Event::Stale { .. } => Told::Stale,
            _ => Told::Other,
        };
        pages.0.lock().expect("no observer panicked").push(told);
    });
    diary
}

#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// A service that succeeds (`S`), fails (`F`), or hangs until its time-out (`T`).
async fn serve(call: char) -> Result<(), Error<Broken>> {
    match call {
        'S' => Ok(()),
        'F' => Err(Error::Inner(Broken)),
        _ => {
            let name = Name::new("time-out").expect("the name is fine");
            let late = Error::Rejected(Rejection::new(Reason::TimedOut, name));
            tokio::time::timeout(ms(10), std::future::pending()).await.unwrap_or(Err(late))
        }
    }
}

/// One call of that service through a layer.
async fn call<C>(layer: &CircuitBreakerLayer<C>, call: char) -> Result<(), Error<Broken>>
where
    C: Classify<(), Error<Broken>>,
{
    layer.layer(service_fn(serve)).oneshot(call).await
}

/// Calls of that service through a layer, which lets them all in.
async fn call_all<C>(layer: &CircuitBreakerLayer<C>, calls: &str)
where
    C: Classify<(), Error<Broken>>,
{
    for one in calls.chars() {
        let result = call(layer, one).await;
        let reached = match &result {
            Ok(()) => 'S',
            Err(Error::Inner(Broken)) => 'F',
            Err(Error::Rejected(rejection)) if rejection.reason() == Reason::TimedOut => 'T',
            Err(Error::Rejected(rejection)) => panic!("turned away: {rejection}"),
        };
        assert_eq!(reached, one);
    }
}
