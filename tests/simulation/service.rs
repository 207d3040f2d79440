//! The service that is called: it does with each attempt what the plan says, and writes down what happened.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{Error, breaker, time::Tick};
use tower::Service;

use crate::{ms, random::Random};

/// What a panic of the plan carries; any other panic is a fault.
pub struct Injected;

/// Panics as user code does, without a word.
pub fn inject() -> ! {
    std::panic::resume_unwind(Box::new(Injected))
}

/// The error of the service: whose call failed, and in which of its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("call {call} failed in attempt {attempt}")]
pub struct Failure {
    pub call: u32,
    pub attempt: u32,
}

/// The answer to a call, and the attempt that gave it: none for the fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub call: u32,
    pub attempt: Option<u32>,
}

pub type Answer = Result<Response, Error<Failure>>;
pub type Answering = Pin<Box<dyn Future<Output = Answer>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Answers,
    Fails,
    Panics,
    PanicsAtOnce,
    Hangs,
}

/// What the service does with one attempt: it takes so many polls and so many milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    pub yields: u32,
    pub takes: u64,
    pub end: End,
}

impl Behaviour {
    pub const WELL: Self = Self { yields: 0, takes: 0, end: End::Answers };

    /// Of a service that is well, slow, or fails, as the weather of the plan is.
    pub fn drawn(random: &mut Random, weather: Weather) -> Self {
        let ends: &[(u64, End)] = match weather {
            Weather::Fair => &[(90, End::Answers), (8, End::Fails), (1, End::Panics), (1, End::Hangs)],
            Weather::Slow => &[(70, End::Answers), (20, End::Fails), (10, End::Hangs)],
            Weather::Foul => {
                &[(20, End::Answers), (55, End::Fails), (5, End::Panics), (5, End::PanicsAtOnce), (15, End::Hangs)]
            }
        };
        let takes = match weather {
            Weather::Fair if random.percent(60) => 0,
            Weather::Slow => random.within(1..400),
            _ => random.within(0..40),
        };
        Self { yields: random.weighted(&[(7, 0), (2, 1), (1, 3)]), takes, end: random.weighted(ends) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fair,
    Slow,
    Foul,
}

/// What a call asks for: what its attempts meet, one after the other, and then again.
#[derive(Debug)]
pub struct Request {
    pub call: u32,
    pub script: Rc<[Behaviour]>,
    pub clones: bool,
}

impl Clone for Request {
    fn clone(&self) -> Self {
        if !self.clones {
            inject();
        }
        Self { script: Rc::clone(&self.script), ..*self }
    }
}

/// How an attempt ended, as the service saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Answered,
    Failed,
    Panicked,
    Dropped,
}

#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub call: u32,
    pub number: u32,
    pub begun: Tick,
    pub generation: u64,
    pub is_probe: bool,
    pub ended: Option<How>,
}

/// What the service knows: the truth, which the policies' own numbers are compared with.
#[derive(Default)]
pub struct Ground {
    pub attempts: RefCell<Vec<Attempt>>,
    pub live: Cell<u32>,
    pub most_live: Cell<u32>,
    pub ready: Cell<bool>,
    pub waiting: RefCell<Vec<Waker>>,
    /// Ended attempts by how they ended: those whose circuit had not moved on, those for which it had, and probes whose
    /// place may have been taken back.
    pub counted: [Cell<u64>; 4],
    pub stale: [Cell<u64>; 4],
    pub overdue: [Cell<u64>; 4],
    /// Whose call is being polled, and what the service saw that ought not to be.
    pub polling: Cell<u32>,
    pub wrong: RefCell<Option<String>>,
    pub breaker: RefCell<Option<breaker::Handle>>,
    /// Whether a call begins as soon as it is let in.
    pub at_once: Cell<bool>,
    pub probes: Cell<u32>,
    pub half_open_for: Cell<Duration>,
}

impl Ground {
    pub fn complain(&self, what: impl FnOnce() -> String) {
        self.wrong.borrow_mut().get_or_insert_with(what);
    }

    pub fn count(&self, how: How, attempt: &Attempt) {
        let is_overdue = attempt.is_probe && Tick::now().since(attempt.begun) >= self.half_open_for.get();
        let counts = match (is_overdue, self.generation() == attempt.generation) {
            (true, _) => &self.overdue,
            (_, true) => &self.counted,
            (_, false) => &self.stale,
        };
        counts[how as usize].set(counts[how as usize].get() + 1);
    }

    /// What begins now.
    pub fn beginning(&self, call: u32) -> Attempt {
        let breaker = self.breaker.borrow();
        let state = breaker.as_ref().map(breaker::Handle::state);
        let is_probe = state == Some(breaker::State::HalfOpen);
        let number = self.of_call(call).len() as u32;
        Attempt { call, number, begun: Tick::now(), generation: self.generation(), is_probe, ended: None }
    }

    fn generation(&self) -> u64 {
        self.breaker.borrow().as_ref().map_or(0, |breaker| breaker.snapshot().generation)
    }

    pub fn of_call(&self, call: u32) -> Vec<Attempt> {
        self.attempts.borrow().iter().filter(|attempt| attempt.call == call).copied().collect()
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
        if ready {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Writes down an attempt that begins, and looks whether it may.
    fn begin(self: &Rc<Self>, call: u32) -> Running {
        let attempt = self.beginning(call);
        if let Some(breaker) = &*self.breaker.borrow() {
            self.may_begin(breaker, attempt.generation);
        }
        self.live.set(self.live.get() + 1);
        self.most_live.set(self.most_live.get().max(self.live.get()));
        let mut attempts = self.attempts.borrow_mut();
        attempts.push(attempt);
        Running { ground: Rc::clone(self), index: attempts.len() - 1, how: How::Dropped }
    }

    fn may_begin(&self, breaker: &breaker::Handle, generation: u64) {
        if !self.at_once.get() {
            return;
        }
        match breaker.state() {
            breaker::State::Open | breaker::State::ForcedOpen => {
                self.complain(|| format!("an attempt begins while the circuit is {:?}", breaker.state()));
            }
            breaker::State::HalfOpen => {
                let attempts = self.attempts.borrow();
                // The place of one that takes too long is taken back.
                let overdue = |a: &Attempt| Tick::now().since(a.begun) >= self.half_open_for.get();
                let running = |a: &&Attempt| a.ended.is_none() && a.generation == generation && !overdue(a);
                let running = attempts.iter().filter(running).count() as u32;
                if running >= self.probes.get() {
                    self.complain(|| format!("{running} probes run, and one more begins"));
                }
            }
            _ => {}
        }
    }
}

/// An attempt that runs.
struct Running {
    ground: Rc<Ground>,
    index: usize,
    how: How,
}

impl Drop for Running {
    fn drop(&mut self) {
        let ground = &self.ground;
        ground.live.set(ground.live.get() - 1);
        let attempt = ground.attempts.borrow()[self.index];
        ground.attempts.borrow_mut()[self.index].ended = Some(self.how);
        ground.count(self.how, &attempt);
    }
}

/// The service. A clone is not ready until it was asked.
pub struct Scripted {
    pub ground: Rc<Ground>,
    is_ready: bool,
}

impl Scripted {
    pub fn new(ground: &Rc<Ground>) -> Self {
        Self { ground: Rc::clone(ground), is_ready: false }
    }
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        Self::new(&self.ground)
    }
}

impl Service<Request> for Scripted {
    type Response = Response;
    type Error = Error<Failure>;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Failure>>> {
        if !self.ground.ready.get() {
            self.ground.waiting.borrow_mut().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        if !std::mem::take(&mut self.is_ready) {
            self.ground.complain(|| "called without being ready".to_owned());
        }
        attempt(&self.ground, request.call, &request.script)
    }
}

/// One attempt of a call.
pub fn attempt(ground: &Rc<Ground>, call: u32, script: &[Behaviour]) -> Answering {
    let mut running = ground.begin(call);
    let number = ground.of_call(call).len() as u32 - 1;
    let behaviour = script[number as usize % script.len()];
    if behaviour.end == End::PanicsAtOnce {
        running.how = How::Panicked;
        inject();
    }
    let answering = async move {
        // All of it, and not the one field that is written.
        let mut running = running;
        for _ in 0..behaviour.yields {
            yields().await;
        }
        if behaviour.takes > 0 {
            tokio::time::sleep(ms(behaviour.takes)).await;
        }
        let (how, answer) = match behaviour.end {
            End::Answers => (How::Answered, Ok(Response { call, attempt: Some(number) })),
            End::Fails => (How::Failed, Err(Error::Inner(Failure { call, attempt: number }))),
            End::Panics => {
                running.how = How::Panicked;
                inject()
            }
            End::PanicsAtOnce | End::Hangs => std::future::pending().await,
        };
        running.how = how;
        answer
    };
    Box::pin(Once { future: Some(Box::pin(answering)), ground: Rc::clone(ground) })
}

/// Pending once. Wakes at once, where tokio's own waits for the next turn of the runtime.
pub fn yields() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Complains when it is polled after its answer.
struct Once {
    future: Option<Answering>,
    ground: Rc<Ground>,
}

impl Future for Once {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(future) = self.future.as_mut() else {
            self.ground.complain(|| "polled after its answer".to_owned());
            return Poll::Pending;
        };
        let poll = future.as_mut().poll(cx);
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

/// What the fallback does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Falling {
    Answers,
    Fails,
    Waits(Duration),
    Panics,
    PanicsLater,
    Hangs,
}
