//! Whatever can be dropped is dropped at every point, and then looked at: nothing is held, nobody waits, nothing was
//! counted that did not happen, and the next call goes through at once.
//!
//! What there is to drop stands in one list, which `tests/architecture.rs` compares with the public face of the crate:
//! a future, a service or a body that is added and not listed fails there.

mod again;
mod client;
mod discovery;
mod fleet;
#[cfg(feature = "discover")]
mod flows;
#[cfg(feature = "http")]
mod http;
mod lab;
mod list;
mod rooms;
mod services;

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mainstay::Error;

pub(crate) use lab::{Lab, WORKS, Work};

use crate::support::*;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// How a call was left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) work: Work,
    #[allow(dead_code, reason = "it is shown when something is wrong")]
    pub(crate) polls: usize,
    /// It had answered.
    pub(crate) done: bool,
    /// Calls that the service inside had begun, and those of them that had ended.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl End {
    /// Calls that ran when they were dropped.
    pub(crate) fn cut(self) -> u64 {
        self.begun - self.ended
    }

    /// Calls of the service that succeeded, and that failed.
    pub(crate) fn counted(self) -> (u64, u64) {
        if self.work == Work::Fails { (0, self.ended) } else { (self.ended, 0) }
    }
}

type Gauge = (&'static str, Box<dyn Fn() -> u64>);

/// A call that is about to begin, and what is known of it.
pub(crate) struct Case {
    lab: Lab,
    call: Task,
    again: Box<dyn Fn() -> Task>,
    // What stands in the way of the call. It goes with the third poll.
    holder: Option<Box<dyn Any>>,
    gauges: Vec<Gauge>,
    check: Box<dyn Fn(End)>,
}

impl Case {
    /// A call made by `call`, and another one like it when that is over.
    pub(crate) fn new<R>(lab: &Lab, call: impl Fn() -> R + 'static) -> Self
    where
        R: Future<Output: Verdict> + 'static,
    {
        let first = call();
        let again = move || -> Task {
            let call = call();
            Box::pin(async move { assert!(call.await.is_good(), "the next call goes through") })
        };
        Self {
            lab: lab.clone(),
            call: Box::pin(async move { drop(first.await) }),
            again: Box::new(again),
            holder: None,
            gauges: Vec::new(),
            check: Box::new(|_| {}),
        }
    }

    pub(crate) fn holding(mut self, holder: impl Any) -> Self {
        self.holder = Some(Box::new(holder));
        self
    }

    /// What is zero when nothing is held.
    pub(crate) fn gauge<N: Into<u64>>(mut self, name: &'static str, gauge: impl Fn() -> N + 'static) -> Self {
        self.gauges.push((name, Box::new(move || gauge().into())));
        self
    }

    /// The next call has to wait, as it should.
    pub(crate) fn not_again(mut self) -> Self {
        self.again = Box::new(|| Box::pin(async {}));
        self
    }

    /// What has to be counted.
    pub(crate) fn check(mut self, check: impl Fn(End) + 'static) -> Self {
        let before = std::mem::replace(&mut self.check, Box::new(|_| {}));
        self.check = Box::new(move |end| {
            before(end);
            check(end);
        });
        self
    }
}

/// Whether a call went well.
pub(crate) trait Verdict {
    fn is_good(&self) -> bool;
}

impl<T, E> Verdict for Result<T, E> {
    fn is_good(&self) -> bool {
        self.is_ok()
    }
}

impl<T> Verdict for Option<T> {
    fn is_good(&self) -> bool {
        self.is_some()
    }
}

fn polled(task: &mut Task) -> bool {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Lets tasks run as far as they get.
pub(crate) async fn settle() {
    for _ in 0..12 {
        tokio::task::yield_now().await;
    }
}

fn at_rest(case: &[Gauge], lab: &Lab, end: End, when: &str) {
    assert_eq!(lab.running(), 0, "{end:?} {when}: a call runs on");
    for (name, gauge) in case {
        assert_eq!(gauge(), 0, "{end:?} {when}: {name}");
    }
}

const MOST_POLLS: usize = 60;
const ENOUGH_OF_A_HANG: usize = 8;

/// Drops the call after no poll, after one, and so on up to its end, and looks each time.
pub(crate) async fn sweep(work: Work, make: impl AsyncFn(Work) -> Case) {
    for polls in 0..MOST_POLLS {
        let Case { lab, mut call, again, mut holder, gauges, check } = make(work).await;
        let mut done = false;
        for poll in 0..polls {
            if poll == 2 {
                holder = None;
            }
            done = polled(&mut call);
            if done {
                break;
            }
            advance(ms(1)).await;
        }
        let (begun, ended) = lab.counts();
        let end = End { work, polls, done, begun, ended };
        if done {
            holder = None;
            settle().await;
            at_rest(&gauges, &lab, end, "over, and not dropped");
        }
        drop(call);
        drop(holder);
        settle().await;
        at_rest(&gauges, &lab, end, "dropped");
        check(end);
        lab.set(Work::Ok);
        let mut next = again();
        let at_once = async {
            for _ in 0..6 {
                if polled(&mut next) {
                    return true;
                }
                tokio::task::yield_now().await;
            }
            false
        };
        assert!(at_once.await, "{end:?}: the next call waits");
        drop(next);
        settle().await;
        at_rest(&gauges, &lab, end, "after the next call");
        if done {
            return;
        }
        if work == Work::Hangs && polls == ENOUGH_OF_A_HANG {
            return;
        }
    }
    panic!("{work:?}: it does not end");
}

/// Sweeps over whatever the service may do.
pub(crate) async fn sweep_all(make: impl AsyncFn(Work) -> Case) {
    for work in WORKS {
        sweep(work, &make).await;
    }
}

/// Runs one entry of the list.
fn run(path: &str, entry: fn() -> Task) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(entry())));
    assert!(ran.is_ok(), "{path}");
}

pub(crate) type Failure = Error<Boom>;

/// What it is that is dropped, and who drops it.
pub(crate) type Entry = (&'static str, fn() -> Task);

/// What is wrong with a list of entries is told with all their names.
fn run_all(list: &[Entry]) {
    let wrong: Vec<&str> = list
        .iter()
        .filter(|(path, entry)| std::panic::catch_unwind(|| run(path, *entry)).is_err())
        .map(|(path, _)| *path)
        .collect();
    assert!(wrong.is_empty(), "wrong: {wrong:#?}");
}

#[test]
fn every_future_is_dropped_after_every_poll() {
    run_all(list::FUTURES);
}

/// What is made of several of these.
#[test]
fn so_are_calls_through_several_at_a_time() {
    run_all(&[
        ("a pair of keyed limits", || Box::pin(rooms::keyed_pair())),
        ("the limits of a stack", || Box::pin(again::stack_limits())),
    ]);
}

#[test]
fn every_service_is_dropped_while_it_is_ready_and_not_called() {
    run_all(list::SERVICES);
}

#[test]
fn every_body_and_stream_is_dropped_after_every_piece() {
    run_all(list::FLOWS);
}

#[test]
#[should_panic(expected = "polled again after its end")]
fn a_call_that_is_polled_after_its_end_is_found() {
    let mut call = Lab::new(Work::Ok).work_on();
    let mut poll = || Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_ready());
    let _ = poll();
}

#[test]
#[should_panic(expected = "wrong: [\n    \"leaks\"")]
fn a_call_that_leaves_something_behind_is_found() {
    async fn leaks() {
        sweep_all(async |work| {
            let lab = Lab::new(work);
            let running = std::rc::Rc::new(std::cell::Cell::new(0_u64));
            let (there, service) = (std::rc::Rc::clone(&running), lab.clone());
            let call = move || {
                let (running, service) = (std::rc::Rc::clone(&running), service.clone());
                async move {
                    running.set(running.get() + 1);
                    let answer = tower::ServiceExt::oneshot(service, ()).await;
                    running.set(running.get() - 1);
                    answer
                }
            };
            Case::new(&lab, call).gauge("running", move || there.get())
        })
        .await;
    }
    run_all(&[("leaks", || Box::pin(leaks()))]);
}

/// Asks once whether it is ready.
pub(crate) fn poll_ready<S: tower::Service<Req>, Req>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}
