//! Rate limit: turns that are waited for, given back, and worth another time when the rate has changed.

use std::{collections::BTreeMap, task::Poll};

use mainstay::{
    Error, Reason, Stack,
    rate_limit::{Config, Handle, RateLimitLayer},
    time::Tick,
};
use tower::Layer;

use super::{Bell, Call, End, Room, Said, called, desk, flat, plans, state};
use crate::support::ms;

#[derive(Debug, Clone, Copy)]
enum State {
    New {
        waits: bool,
    },
    Refused,
    /// Until its turn comes, for the time that it has paid for.
    Waits {
        at: u64,
        from: i64,
        until: i64,
    },
    Runs,
}

/// Times are milliseconds since the beginning.
struct RateLimit {
    handle: Handle,
    began: Tick,
    set: (u64, u64, Option<u64>),
    /// The calls that were let in are worth the time until then.
    paid_until: i64,
    now: u64,
    rejected: u64,
    waited: u64,
    calls: BTreeMap<usize, State>,
}

/// Milliseconds for each call, calls at once, the longest wait.
fn settings(setting: u8) -> (u64, u64, Option<u64>) {
    let every = [1, 4, 7, 50][usize::from(setting) % 4];
    let burst = [1, 2, 5][usize::from(setting / 4) % 3];
    (every, burst, [None, Some(10), Some(30), Some(1_000)][usize::from(setting / 12) % 4])
}

fn config((every, burst, max_wait): (u64, u64, Option<u64>)) -> Config {
    let config = Config::new(1, ms(every)).burst(burst as u32);
    max_wait.into_iter().fold(config, |config, wait| config.max_wait(ms(wait)))
}

impl RateLimit {
    fn new(setting: u8) -> Self {
        let (set, began) = (settings(setting), Tick::now());
        let handle = Handle::new("x", config(set));
        Self { handle, began, set, paid_until: 0, now: 0, rejected: 0, waited: 0, calls: BTreeMap::new() }
    }

    /// The next turn comes after so long.
    fn wait(&self) -> u64 {
        let ahead = (self.paid_until - self.now as i64).max(0) as u64;
        ahead.saturating_sub(self.set.0 * (self.set.1 - 1))
    }

    fn enter(&mut self, waits: bool) -> State {
        let wait = self.wait();
        let most = if waits { self.set.2.unwrap_or(0) } else { 0 };
        if wait > most {
            self.rejected += 1;
            return State::Refused;
        }
        let from = self.paid_until.max(self.now as i64);
        self.paid_until = from + self.set.0 as i64;
        if wait == 0 {
            return State::Runs;
        }
        self.waited += 1;
        State::Waits { at: self.now + wait, from, until: self.paid_until }
    }
}

impl Room for RateLimit {
    fn start(&mut self, id: usize, way: u8, _: u8, bell: &Bell) -> Call {
        let (handle, bell) = (self.handle.clone(), bell.clone());
        let (state, call): (State, Call) = match way {
            0 => (State::New { waits: true }, Box::pin(async move { flat(handle.run(bell).await) })),
            1 => {
                let call = async move {
                    handle.try_acquire().map_err(Error::Rejected)?;
                    bell.await
                };
                (State::New { waits: false }, Box::pin(call))
            }
            2 => (self.enter(false), called(RateLimitLayer::new(handle).layer(desk()), bell)),
            3 => (self.enter(true), called(RateLimitLayer::new(handle).queued().layer(desk()), bell)),
            _ => (self.enter(true), called(Stack::builder("y").rate_limit(handle).build().service(desk()), bell)),
        };
        self.calls.insert(id, state);
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let mut now = state(&mut self.calls, id);
        if let State::New { waits } = now {
            now = self.enter(waits);
        }
        if matches!(now, State::Waits { at, .. } if at <= self.now) {
            now = State::Runs;
        }
        match (now, end) {
            (State::Refused, _) => Poll::Ready(Said::Rejected(Reason::RateLimited)),
            (State::Runs, Some(End::Ok)) => Poll::Ready(Said::Ok),
            (State::Runs, Some(End::Fail)) => Poll::Ready(Said::Failed),
            (State::Runs, Some(End::Panic)) => Poll::Ready(Said::Panicked),
            _ => {
                self.calls.insert(id, now);
                Poll::Pending
            }
        }
    }

    /// A turn that was waited for and not used is another's, as much of it as is still to come.
    fn drop(&mut self, id: usize) {
        if let State::Waits { from, until, .. } = state(&mut self.calls, id) {
            self.paid_until -= (until - from.max(self.now as i64)).max(0);
        }
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    fn set(&mut self, setting: u8) {
        self.set = settings(setting);
        self.handle.reconfigure(config(self.set)).unwrap();
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        match self.calls[&id] {
            State::New { .. } => false,
            State::Refused => true,
            State::Waits { at, .. } => at <= self.now,
            State::Runs => end.is_some(),
        }
    }

    fn check(&self) {
        assert_eq!(self.began + ms(self.now), Tick::now());
        let ahead = (self.paid_until - self.now as i64).max(0) as u64;
        let saved = (self.set.0 * (self.set.1 - 1)).checked_sub(ahead);
        let available = saved.map_or(0, |saved| saved / self.set.0 + 1);
        let known = self.handle.snapshot();
        assert_eq!((known.available, known.rejected, known.waited), (available, self.rejected, self.waited));
    }
}

#[test]
fn a_rate_limit_does_what_the_model_does() {
    plans(5, 1, RateLimit::new);
}
