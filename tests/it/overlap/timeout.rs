//! Timeout: limits that run from the first wait on, deadlines, and a limit that changes.

use std::{collections::BTreeMap, task::Poll};

use mainstay::{
    Deadline, Reason, Stack, deadline_fn,
    time::Tick,
    timeout::{Handle, TimeoutLayer},
};
use tower::Layer;

use super::{Bell, Call, End, Room, Said, called, desk, flat, plans, state};
use crate::support::ms;

#[derive(Debug, Clone, Copy)]
enum State {
    TooLate,
    /// It has not waited yet. Until the deadline, if there is one.
    New(Option<u64>),
    Waits(u64),
}

struct Timeout {
    handle: Handle,
    began: Tick,
    limit: u64,
    now: u64,
    timed_out: u64,
    deadline_passed: u64,
    calls: BTreeMap<usize, State>,
}

fn limit(setting: u8) -> u64 {
    u64::from(setting % 40) + 1
}

impl Timeout {
    fn new(setting: u8) -> Self {
        let limit = limit(setting);
        let (handle, began) = (Handle::new("x", ms(limit)), Tick::now());
        Self { handle, began, limit, now: 0, timed_out: 0, deadline_passed: 0, calls: BTreeMap::new() }
    }
}

impl Room for Timeout {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let (handle, bell) = (self.handle.clone(), bell.clone());
        let mut state = State::New(None);
        let call: Call = match way {
            0 => Box::pin(async move { flat(handle.run(bell).await) }),
            1 => Box::pin(async move { handle.run_carrying(bell).await }),
            2 => called(TimeoutLayer::with(handle).layer(desk()), bell),
            3 => called(Stack::builder("y").timeout(handle).build().service(desk()), bell),
            4 => called(Stack::builder("y").attempt_timeout(handle).build().service(desk()), bell),
            _ => {
                // One that has passed already, and others.
                let until = (self.now + 5 * u64::from(key)).saturating_sub(5);
                let deadline = Deadline::at(self.began + ms(until));
                state = State::New(Some(until));
                if until <= self.now {
                    self.deadline_passed += 1;
                    state = State::TooLate;
                }
                let layer = TimeoutLayer::with(handle).deadline(deadline_fn(move |_: &Bell| Some(deadline)));
                called(layer.layer(desk()), bell)
            }
        };
        self.calls.insert(id, state);
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let mut now = state(&mut self.calls, id);
        let said = match (now, end) {
            (State::TooLate, _) => Said::Rejected(Reason::DeadlinePassed),
            (_, Some(End::Ok)) => Said::Ok,
            (_, Some(End::Fail)) => Said::Failed,
            (_, Some(End::Panic)) => Said::Panicked,
            (_, None) => {
                if let State::New(deadline) = now {
                    let own = self.now + self.limit;
                    now = State::Waits(deadline.map_or(own, |deadline| own.min(deadline)));
                }
                if !matches!(now, State::Waits(until) if until <= self.now) {
                    self.calls.insert(id, now);
                    return Poll::Pending;
                }
                self.timed_out += 1;
                Said::Rejected(Reason::TimedOut)
            }
        };
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        self.calls.remove(&id);
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    fn set(&mut self, setting: u8) {
        self.limit = limit(setting);
        self.handle.set_limit(ms(self.limit)).unwrap();
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        end.is_some() || matches!(self.calls[&id], State::Waits(until) if until <= self.now)
    }

    fn check(&self) {
        let known = self.handle.snapshot();
        let seen = (known.limit_ms, known.timed_out, known.deadline_passed);
        assert_eq!(seen, (self.limit, self.timed_out, self.deadline_passed));
    }
}

#[test]
fn a_timeout_does_what_the_model_does() {
    plans(6, 6, Timeout::new);
}
