//! Calls that overlap, room by room: they start, are polled, end, panic and are dropped in any order while the clock
//! runs and the settings change, and after each step a room does and knows what a model in plain words does and knows.
//!
//! A model says what a poll must answer, who must have been woken, and what the gauges and counters must be. It knows
//! no atomics, no wakers and no queues of tickets.
//! `MODEL_SEED=2 MODEL_CASES=20000 cargo test --release --all-features --test it overlap` runs other plans, and more.

mod bulkhead;
mod concurrency;
mod keyed;
mod levels;
mod load_shed;
mod places;
mod rate_limit;
mod retry;
mod timeout;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use mainstay::{Error, Reason};
use proptest::{prelude::*, test_runner::RngSeed};
use tokio_test::task::{self, Spawn};

use crate::support::*;

/// How the work of a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Fail,
    Panic,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Ok,
    Failed,
    Rejected(Reason),
    Panicked,
}

/// Tells the work of a call to end. Each attempt that is made for the call takes one end.
#[derive(Clone, Default)]
pub(crate) struct Bell(Rc<RefCell<Rung>>);

#[derive(Default)]
struct Rung {
    end: Option<End>,
    waker: Option<Waker>,
}

/// The payload of a panic that is part of a plan: no hook is told of it.
struct Planned;

impl Bell {
    fn ring(&self, end: End) {
        let waker = {
            let mut rung = self.0.borrow_mut();
            rung.end = Some(end);
            rung.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.0.borrow().end
    }
}

impl Future for Bell {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut rung = self.0.borrow_mut();
        match rung.end.take() {
            None => {
                rung.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Ok) => Poll::Ready(Ok(1)),
            Some(End::Fail) => Poll::Ready(Err(Error::Inner(Boom))),
            Some(End::Panic) => {
                drop(rung);
                resume_unwind(Box::new(Planned))
            }
        }
    }
}

/// The service of all rooms: a call is what its bell says.
pub(crate) fn desk() -> impl tower::Service<Bell, Response = u32, Error = Error<Boom>, Future = Bell> + Clone {
    tower::service_fn(|bell: Bell| bell)
}

/// A call for real.
pub(crate) type Call = Pin<Box<dyn Future<Output = Answer>>>;

/// Asks a service whether it is ready, and calls it.
pub(crate) fn called<S>(mut service: S, bell: Bell) -> Call
where
    S: tower::Service<Bell, Response = u32, Error = Error<Boom>, Future: 'static>,
{
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    Box::pin(service.call(bell))
}

/// Errors as those that can carry rejections.
pub(crate) fn flat(answer: Result<u32, Error<Error<Boom>>>) -> Answer {
    answer.map_err(Error::flatten)
}

/// One room for real, and its model.
pub(crate) trait Room {
    /// Begins a call, in one of several ways. The key is whatever tells calls of the room apart.
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call;

    /// What a poll of a call must answer. Its work, when it is polled, finds this end.
    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said>;

    /// A call is dropped that has not answered.
    fn drop(&mut self, id: usize);

    /// The clock was set to so many milliseconds.
    fn pass(&mut self, now: u64);

    /// New settings, for real and for the model.
    fn set(&mut self, setting: u8);

    /// Whether a call that waits, and was polled since it began to, must have been woken.
    fn is_due(&self, id: usize, end: Option<End>) -> bool;

    /// Compares what the room knows with what the model knows.
    fn check(&self);
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Start(u8, u8),
    Poll(usize),
    End(usize, End),
    Drop(usize),
    DropOver,
    Pass(u64),
    Set(u8),
}

struct Running {
    task: Spawn<Call>,
    bell: Bell,
    polled: bool,
}

struct Driver<R> {
    room: R,
    calls: BTreeMap<usize, Running>,
    /// Those that have answered and are not dropped yet.
    over: Vec<Spawn<Call>>,
    next: usize,
    now: u64,
}

impl<R: Room> Driver<R> {
    fn which(&self, which: usize) -> Option<usize> {
        self.calls.keys().nth(which % self.calls.len().max(1)).copied()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Start(way, key) => {
                let (id, bell) = (self.next, Bell::default());
                self.next += 1;
                let task = task::spawn(self.room.start(id, way, key, &bell));
                self.calls.insert(id, Running { task, bell, polled: false });
            }
            Step::Poll(which) => self.which(which).into_iter().for_each(|id| self.poll(id)),
            Step::End(which, end) => {
                self.which(which).into_iter().for_each(|id| self.calls[&id].bell.ring(end));
            }
            Step::Drop(which) => self.which(which).into_iter().for_each(|id| self.drop(id)),
            Step::DropOver => self.over.clear(),
            Step::Pass(time) => {
                self.now += time;
                advance(ms(time)).await;
                self.room.pass(self.now);
            }
            Step::Set(setting) => self.room.set(setting),
        }
    }

    fn poll(&mut self, id: usize) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let must = self.room.poll(id, call.bell.end());
        let polled = catch_unwind(AssertUnwindSafe(|| call.task.poll()));
        call.polled = true;
        let said = match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(_))) => Poll::Ready(Said::Ok),
            Ok(Poll::Ready(Err(Error::Rejected(rejection)))) => Poll::Ready(Said::Rejected(rejection.reason())),
            Ok(Poll::Ready(Err(_))) => Poll::Ready(Said::Failed),
            Err(payload) if payload.is::<Planned>() => Poll::Ready(Said::Panicked),
            Err(payload) => resume_unwind(payload),
        };
        assert_eq!(said, must, "call {id}");
        if said.is_ready() {
            self.over.extend(self.calls.remove(&id).map(|call| call.task));
        }
    }

    fn drop(&mut self, id: usize) {
        self.room.drop(id);
        self.calls.remove(&id);
    }

    fn check(&self) {
        self.room.check();
        for (id, call) in self.calls.iter().filter(|(_, call)| call.polled) {
            let due = self.room.is_due(*id, call.bell.end());
            assert!(!due || call.task.is_woken(), "call {id} can go on and was not woken");
        }
    }
}

/// Runs a plan. At its end all calls are dropped, and nothing is left.
pub(crate) fn run<R: Room>(make: impl FnOnce() -> R, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut driver = Driver { room: make(), calls: BTreeMap::new(), over: Vec::new(), next: 0, now: 0 };
        driver.check();
        for (at, step) in steps.iter().enumerate() {
            let of_step = Told(at, *step);
            driver.step(*step).await;
            driver.check();
            std::mem::forget(of_step);
        }
        while let Some(id) = driver.which(0) {
            driver.drop(id);
            driver.check();
        }
    });
}

/// Says at which step it went wrong.
struct Told(usize, Step);

impl Drop for Told {
    fn drop(&mut self) {
        STEP.with(|step| *step.borrow_mut() = format!("at step {}, {:?}", self.0, self.1));
    }
}

thread_local! {
    static STEP: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs plans over all settings of a room, as many as are wanted.
pub(crate) fn plans<R: Room>(ways: u8, keys: u8, make: impl Fn(u8) -> R) {
    let config = ProptestConfig {
        cases: number("MODEL_CASES", 300) as u32,
        rng_seed: RngSeed::Fixed(number("MODEL_SEED", 1)),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let step = prop_oneof![
        30 => (0..ways, 0..keys).prop_map(|(way, key)| Step::Start(way, key)),
        40 => any::<usize>().prop_map(Step::Poll),
        25 => (any::<usize>(), prop_oneof![3 => Just(End::Ok), 3 => Just(End::Fail), 1 => Just(End::Panic)])
            .prop_map(|(which, end)| Step::End(which, end)),
        10 => any::<usize>().prop_map(Step::Drop),
        3 => Just(Step::DropOver),
        12 => (1..15_u64).prop_map(Step::Pass),
        1 => (15..2_000_u64).prop_map(Step::Pass),
        3 => any::<u8>().prop_map(Step::Set),
    ];
    let plan = (any::<u8>(), proptest::collection::vec(step, 1..200));
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&plan, |(setting, steps)| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(|| make(setting), &steps)));
        ran.map_err(|payload| {
            let what = payload.downcast_ref::<String>().cloned();
            let what = what.or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()));
            TestCaseError::fail(format!("{}: {}", STEP.take(), what.unwrap_or_default()))
        })
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// A state that a call of a model is in, taken and put back.
pub(crate) fn state<S: fmt::Debug>(calls: &mut BTreeMap<usize, S>, id: usize) -> S {
    calls.remove(&id).expect("a call that runs has a state")
}
