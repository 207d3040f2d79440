//! Adaptive concurrency: places, windows and samples under an algorithm that says what it is told, or panics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::Poll,
};

use mainstay::{
    Error, Reason, Stack,
    concurrency::{Algorithm, ConcurrencyLayer, Config, Drops, Handle, Sample},
};
use tower::Layer;

use super::{Bell, Call, End, Planned, Room, Said, called, desk, flat, plans, state};
use crate::support::ms;

/// What a window has shown: calls, dropped, the most that ran.
type Seen = (u32, u32, u32);

/// Answers from a list, over and over, and keeps what it was shown.
#[derive(Clone)]
struct Script {
    at: usize,
    shown: Arc<Mutex<Vec<Seen>>>,
}

/// A number that is none, and a place for a panic.
const ANSWERS: [Option<f64>; 7] = [Some(3.0), Some(1.0), None, Some(9.5), Some(f64::NAN), Some(4.2), Some(2.0)];

impl Algorithm for Script {
    fn next_limit(&mut self, _: f64, sample: &Sample) -> f64 {
        self.shown.lock().unwrap().push((sample.calls, sample.dropped, sample.in_flight));
        self.at += 1;
        ANSWERS[(self.at - 1) % ANSWERS.len()].unwrap_or_else(|| std::panic::resume_unwind(Box::new(Planned)))
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    Refused,
    Runs { saw: u32 },
}

struct Concurrency {
    handle: Handle,
    shown: Arc<Mutex<Vec<Seen>>>,
    must_be_shown: Vec<Seen>,
    min_calls: u32,
    limit: f64,
    /// Where the algorithm is in its list. It is a fresh one with new settings.
    at: usize,
    running: u32,
    window: Seen,
    opened: u64,
    rejected_before: u64,
    rejected: u64,
    dropped: u64,
    calls: BTreeMap<usize, State>,
    now: u64,
}

const WINDOW: u64 = 10;

impl Concurrency {
    fn new(setting: u8) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let min_calls = u32::from(setting % 3) + 1;
        Self {
            handle: Handle::new("x", Self::config(&shown, min_calls)),
            shown,
            must_be_shown: Vec::new(),
            min_calls,
            limit: 3.0,
            at: 0,
            running: 0,
            window: (0, 0, 0),
            opened: 0,
            rejected_before: 0,
            rejected: 0,
            dropped: 0,
            calls: BTreeMap::new(),
            now: 0,
        }
    }

    fn config(shown: &Arc<Mutex<Vec<Seen>>>, min_calls: u32) -> Config {
        let config = Config::custom(Script { at: 0, shown: Arc::clone(shown) }).initial(3).floor(1).ceiling(6);
        config.window(ms(WINDOW)).min_calls(min_calls).drops(Drops::Every)
    }

    fn take(&mut self) -> State {
        if self.running < self.limit as u32 {
            self.running += 1;
            return State::Runs { saw: self.running };
        }
        self.rejected += 1;
        State::Refused
    }

    /// The end of a call: nothing when it says nothing.
    fn end(&mut self, saw: u32, dropped: Option<bool>) {
        let most = self.running.max(saw);
        self.running -= 1;
        let Some(dropped) = dropped else { return };
        self.dropped += u64::from(dropped);
        let (calls, drops, in_flight) = self.window;
        self.window = (calls + 1, drops + u32::from(dropped), in_flight.max(most));
        if self.now >= self.opened + WINDOW {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.window.0 < self.min_calls {
            if self.now - self.opened > 100 * WINDOW && self.rejected == self.rejected_before {
                self.begin();
            }
            return;
        }
        let (.., in_flight) = self.window;
        self.must_be_shown.push(self.window);
        let answer = ANSWERS[self.at % ANSWERS.len()];
        self.at += 1;
        self.begin();
        let Some(answer) = answer else { return };
        let answer = if answer.is_nan() { self.limit } else { answer };
        let is_idle = f64::from(in_flight) * 2.0 < self.limit.floor();
        self.limit = if is_idle { answer.min(self.limit) } else { answer }.clamp(1.0, 6.0);
    }

    fn begin(&mut self) {
        self.window = (0, 0, 0);
        self.opened = self.now;
        self.rejected_before = self.rejected;
    }
}

impl Room for Concurrency {
    fn start(&mut self, id: usize, way: u8, _: u8, bell: &Bell) -> Call {
        let (handle, bell) = (self.handle.clone(), bell.clone());
        let (state, call): (State, Call) = match way {
            0 => (State::New, Box::pin(async move { flat(handle.run(bell).await) })),
            1 => (State::New, Box::pin(async move { handle.run_carrying(bell).await })),
            2 => {
                let call = async move {
                    let permit = handle.try_acquire().map_err(Error::Rejected)?;
                    let answer = bell.await;
                    if answer.is_ok() {
                        permit.success();
                    } else {
                        permit.failure();
                    }
                    answer
                };
                (State::New, Box::pin(call))
            }
            3 => (self.take(), called(ConcurrencyLayer::new(handle).layer(desk()), bell)),
            _ => (self.take(), called(Stack::builder("y").concurrency(handle).build().service(desk()), bell)),
        };
        self.calls.insert(id, state);
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let mut now = state(&mut self.calls, id);
        if matches!(now, State::New) {
            now = self.take();
        }
        let (said, saw, dropped) = match (now, end) {
            (State::Refused, _) => return Poll::Ready(Said::Rejected(Reason::Overloaded)),
            (State::Runs { saw }, Some(End::Ok)) => (Said::Ok, saw, false),
            (State::Runs { saw }, Some(End::Fail)) => (Said::Failed, saw, true),
            (State::Runs { saw }, Some(End::Panic)) => (Said::Panicked, saw, true),
            _ => {
                self.calls.insert(id, now);
                return Poll::Pending;
            }
        };
        self.end(saw, Some(dropped));
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        if let State::Runs { saw } = state(&mut self.calls, id) {
            self.end(saw, None);
        }
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    /// Another algorithm of the same kind is another one.
    fn set(&mut self, setting: u8) {
        self.min_calls = u32::from(setting % 3) + 1;
        self.handle.reconfigure(Self::config(&self.shown, self.min_calls)).unwrap();
        (self.at, self.opened, self.rejected_before) = (0, self.now, self.rejected);
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        !matches!(self.calls[&id], State::New) && end.is_some()
    }

    fn check(&self) {
        let known = self.handle.snapshot();
        assert_eq!((known.limit, known.in_flight), (self.limit as u32, self.running));
        assert_eq!((known.rejected, known.dropped), (self.rejected, self.dropped));
        assert_eq!(*self.shown.lock().unwrap(), self.must_be_shown);
    }
}

#[test]
fn an_adaptive_limit_does_what_the_model_does() {
    plans(5, 1, Concurrency::new);
}
