//! Retry: attempts, waits, and a budget that several retries share, which is exact however calls end.

use std::{collections::BTreeMap, task::Poll};

use mainstay::{
    Stack,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, Jitter, RetryLayer},
};
use tower::Layer;

use super::{Bell, Call, End, Room, Said, called, desk, flat, plans, state};
use crate::support::ms;

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    Runs {
        attempt: u32,
    },
    /// A retry is reserved, and begins then.
    Waits {
        attempt: u32,
        until: u64,
    },
}

struct Retry {
    handles: [Handle; 2],
    budget: Budget,
    attempts: u32,
    wait: u64,
    /// Units: a call earns `part`, a retry costs `whole`.
    part: u64,
    per_second: u64,
    cap: u64,
    spent: i64,
    begun: u64,
    calls_of: [u64; 2],
    retries: [u64; 2],
    recovered: [u64; 2],
    exhausted: [u64; 2],
    refused: [u64; 2],
    calls: BTreeMap<usize, (usize, State)>,
    now: u64,
}

/// Quarters of a retry.
const WHOLE: u64 = 4;

impl Retry {
    fn new(setting: u8) -> Self {
        let attempts = u32::from(setting % 4) + 1;
        let wait = [0, 1, 10][usize::from(setting / 4) % 3];
        let part = [0, 1, 3, 8][usize::from(setting / 12) % 4];
        let per_second = [0, 1, 100][usize::from(setting / 48) % 3];
        let cap = [2, 5][usize::from(setting / 144) % 2];
        let budget = BudgetConfig::new().ratio(part as f64 / 4.0).min_per_second(per_second).cap(cap);
        let budget = Budget::new(budget);
        let config = Config::new().attempts(attempts).backoff(Backoff::fixed(ms(wait))).jitter(Jitter::None);
        let handle = |name| Handle::new(name, config.clone()).with_budget(&budget);
        Self {
            handles: [handle("x"), handle("y")],
            budget,
            attempts,
            wait,
            part,
            per_second: per_second.into(),
            // And what is on its way to one more.
            cap: (u64::from(cap) + 1) * WHOLE - 1,
            spent: 0,
            begun: 0,
            calls_of: [0; 2],
            retries: [0; 2],
            recovered: [0; 2],
            exhausted: [0; 2],
            refused: [0; 2],
            calls: BTreeMap::new(),
            now: 0,
        }
    }

    fn earned(&self) -> i64 {
        // A budget begins with the floor of one second. Shares of a unit are not earned yet. The units of the crate
        // are cut down as far as the ratio allows, ours are not.
        let whole = if self.part == 0 || self.part == 8 { 1 } else { 4 };
        let floor = (self.now + 1_000) * self.per_second * whole / 1_000 * (WHOLE / whole);
        (self.begun * self.part + floor) as i64
    }

    fn available(&self) -> i64 {
        let whole = if self.part == 0 || self.part == 8 { 1 } else { 4 };
        // What lies beyond the cap, and what is on its way to one more, is in the crate's units.
        let cap = ((self.cap + 1) / WHOLE * whole - 1) * (WHOLE / whole);
        (self.earned() - self.spent).min(cap as i64)
    }

    fn begin(&mut self, of: usize) -> State {
        self.begun += 1;
        self.calls_of[of] += 1;
        State::Runs { attempt: 1 }
    }
}

impl Room for Retry {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let of = usize::from(key);
        let (handle, bell) = (self.handles[of].clone(), bell.clone());
        let (state, call): (State, Call) = match way {
            0 => (State::New, Box::pin(async move { handle.run(|| bell.clone()).await })),
            1 => (State::New, Box::pin(async move { handle.run_any(|| bell.clone()).await })),
            2 => (self.begin(of), called(RetryLayer::new(handle).layer(desk()), bell)),
            3 => (self.begin(of), called(Stack::builder("z").retry(handle).build().service(desk()), bell)),
            _ => {
                let stack = Stack::builder("z").retry(handle).build();
                (State::New, Box::pin(async move { flat(stack.run(|| bell.clone()).await) }))
            }
        };
        self.calls.insert(id, (of, state));
        call
    }

    fn poll(&mut self, id: usize, mut end: Option<End>) -> Poll<Said> {
        let (of, mut now) = state(&mut self.calls, id);
        if let State::New = now {
            now = self.begin(of);
        }
        loop {
            match now {
                State::Waits { attempt, until } if until <= self.now => {
                    self.retries[of] += 1;
                    now = State::Runs { attempt };
                }
                State::Runs { attempt } if end.is_some() => match end.take().unwrap() {
                    End::Panic => return Poll::Ready(Said::Panicked),
                    End::Ok => {
                        self.recovered[of] += u64::from(attempt > 1);
                        return Poll::Ready(Said::Ok);
                    }
                    End::Fail if attempt == self.attempts => {
                        self.exhausted[of] += 1;
                        return Poll::Ready(Said::Failed);
                    }
                    End::Fail if self.available() < WHOLE as i64 => {
                        self.refused[of] += 1;
                        return Poll::Ready(Said::Failed);
                    }
                    End::Fail => {
                        // What is above the cap is forgotten.
                        self.spent = self.earned() - self.available() + WHOLE as i64;
                        now = State::Waits { attempt: attempt + 1, until: self.now + self.wait };
                    }
                },
                _ => {
                    self.calls.insert(id, (of, now));
                    return Poll::Pending;
                }
            }
        }
    }

    /// A retry that has not begun goes back.
    fn drop(&mut self, id: usize) {
        if matches!(state(&mut self.calls, id).1, State::Waits { .. }) {
            self.spent -= WHOLE as i64;
        }
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    fn set(&mut self, _: u8) {}

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        match self.calls[&id].1 {
            State::New => false,
            State::Runs { .. } => end.is_some(),
            State::Waits { until, .. } => until <= self.now,
        }
    }

    fn check(&self) {
        for (of, handle) in self.handles.iter().enumerate() {
            let known = handle.snapshot();
            assert_eq!((known.calls, known.retries), (self.calls_of[of], self.retries[of]));
            assert_eq!((known.recovered, known.exhausted), (self.recovered[of], self.exhausted[of]));
            assert_eq!((known.budget_refused, known.not_replayed), (self.refused[of], 0));
        }
        assert_eq!(self.budget.available() as i64, self.available().max(0) / WHOLE as i64);
    }
}

#[test]
fn a_retry_and_its_budget_do_what_the_model_does() {
    plans(5, 2, Retry::new);
}
