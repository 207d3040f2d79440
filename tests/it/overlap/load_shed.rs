//! Load shed: a limit with shares for priorities, and a queue whose order turns round when it stands.

use std::{collections::BTreeMap, task::Poll};

use mainstay::{
    Error, Priority, Reason, Stack,
    load_shed::{Config, Handle, LoadShedLayer, QueueDelay},
    priority_fn,
};
use tower::Layer;

use super::{Bell, Call, End, Room, Said, called, desk, flat, plans, state};
use crate::support::ms;

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// Times are milliseconds. No limit, no queue.
#[derive(Debug, Clone, Copy)]
struct Set {
    limit: Option<u32>,
    queue: Option<(u64, u64, u32)>,
}

fn settings(setting: u8) -> Set {
    let limit = [Some(1), Some(2), Some(4), Some(10), None][usize::from(setting) % 5];
    let queue = [None, Some((2, 10, 3)), Some((5, 20, 9)), Some((1, 40, 1))][usize::from(setting / 5) % 4];
    Set { limit, queue: queue.filter(|_| limit.is_some()) }
}

impl Set {
    fn config(&self) -> Config {
        let config = self.limit.into_iter().fold(Config::new().shares(0.8, 0.5), Config::in_flight);
        let delay =
            |(target, interval, most)| QueueDelay::new().target(ms(target)).interval(ms(interval)).max_queue(most);
        self.queue.map(delay).into_iter().fold(config, Config::queue_delay)
    }

    fn room(&self, priority: Priority) -> u32 {
        let Some(limit) = self.limit else { return u32::MAX };
        match priority {
            Priority::High => limit,
            Priority::Normal => (limit * 4 / 5).max(1),
            Priority::Low => (limit / 2).max(1),
        }
    }
}

/// Since when a queue is no good one, looked at whenever it changes.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    at: u64,
    oldest: Option<u64>,
    good_at: u64,
    stands: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    New { waits: bool },
    Refused,
    Waits { until: u64 },
    Granted,
    Runs { counted: bool },
}

struct LoadShed {
    handle: Handle,
    set: Set,
    /// What a queue was measured by last, if there was one.
    bounds: (u64, u64),
    running: u32,
    /// Those that wait, as they came: who, how much it matters, since when.
    line: Vec<(usize, Priority, u64)>,
    looks: [Look; 3],
    shed: (u64, u64),
    queued: u64,
    left: u64,
    calls: BTreeMap<usize, (Priority, State)>,
    now: u64,
}

impl LoadShed {
    fn new(setting: u8) -> Self {
        let set = settings(setting);
        let bounds = set.queue.map_or((0, 0), |(target, interval, _)| (target, interval));
        Self {
            handle: Handle::new("x", set.config()),
            set,
            bounds,
            running: 0,
            line: Vec::new(),
            looks: [Look::default(); 3],
            shed: (0, 0),
            queued: 0,
            left: 0,
            calls: BTreeMap::new(),
            now: 0,
        }
    }

    fn look(&mut self) {
        let (target, interval) = self.bounds;
        for (look, priority) in self.looks.iter_mut().zip(PRIORITIES) {
            let ahead = self.line.iter().filter(|(_, other, _)| *other >= priority);
            let oldest = ahead.map(|(_, _, since)| *since).min();
            // Until then the oldest of the last look had not waited for too long.
            let good_until = look.oldest.map_or(self.now, |since| self.now.min(since + target));
            if good_until >= look.at {
                look.good_at = look.good_at.max(good_until);
            }
            if oldest.is_none_or(|since| self.now - since <= target) {
                look.good_at = self.now;
            }
            let too_long = look.stands || self.now - look.good_at >= interval;
            *look = Look { at: self.now, oldest, stands: oldest.is_some() && too_long, ..*look };
        }
    }

    fn stands(&self, priority: Priority) -> bool {
        PRIORITIES.iter().zip(&self.looks).any(|(other, look)| *other == priority && look.stands)
    }

    fn enter(&mut self, id: usize, priority: Priority, waits: bool) -> State {
        if self.set.limit.is_none() {
            return State::Runs { counted: false };
        }
        if self.running < self.set.room(priority) && self.line.iter().all(|(_, other, _)| *other < priority) {
            self.running += 1;
            return State::Runs { counted: true };
        }
        let most = self.set.queue.map_or(0, |(_, _, most)| most as usize);
        if !waits || self.line.len() >= most {
            self.shed.0 += 1;
            return State::Refused;
        }
        self.queued += 1;
        self.look();
        let until = self.now + if self.stands(priority) { self.bounds.0 } else { self.bounds.1 };
        self.line.push((id, priority, self.now));
        self.look();
        State::Waits { until }
    }

    fn give_back(&mut self) {
        self.running -= 1;
        if !self.line.is_empty() {
            self.serve();
        }
    }

    fn serve(&mut self) {
        self.look();
        while let Some(highest) = self.line.iter().map(|(_, priority, _)| *priority).max() {
            if self.running >= self.set.room(highest) {
                break;
            }
            let mut of_it = (0..self.line.len()).filter(|at| self.line[*at].1 == highest);
            let at = if self.stands(highest) { of_it.next_back() } else { of_it.next() };
            let (id, ..) = self.line.remove(at.unwrap());
            self.running += 1;
            self.calls.get_mut(&id).unwrap().1 = State::Granted;
        }
        self.look();
    }

    fn leave(&mut self, id: usize) {
        self.line.retain(|(other, ..)| *other != id);
        self.look();
    }
}

impl Room for LoadShed {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let priority = PRIORITIES[usize::from(key)];
        let (handle, bell) = (self.handle.with_priority(priority), bell.clone());
        let by_request = priority_fn(move |_: &Bell| Some(priority));
        let waits = matches!(way, 0 | 3 | 4 | 5);
        let begun = if way < 2 { State::New { waits } } else { self.enter(id, priority, waits) };
        // Before it enters for real: it may be granted a place at once.
        self.calls.insert(id, (priority, begun));
        match way {
            0 => Box::pin(async move { flat(handle.run(bell).await) }),
            1 => Box::pin(async move {
                let _permit = handle.try_acquire().map_err(Error::Rejected)?;
                bell.await
            }),
            2 => called(LoadShedLayer::new(handle).layer(desk()), bell),
            3 => called(LoadShedLayer::new(handle).queued().layer(desk()), bell),
            4 => called(Stack::builder("y").load_shed(handle).build().service(desk()), bell),
            5 => called(LoadShedLayer::new(self.handle.clone()).queued().priority_of(by_request).layer(desk()), bell),
            _ => called(LoadShedLayer::new(self.handle.clone()).priority_of(by_request).layer(desk()), bell),
        }
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let (priority, mut now) = state(&mut self.calls, id);
        if let State::New { waits } = now {
            now = self.enter(id, priority, waits);
        }
        match now {
            State::Granted => now = State::Runs { counted: true },
            State::Waits { until } if until <= self.now => {
                self.leave(id);
                self.shed.1 += 1;
                now = State::Refused;
            }
            _ => {}
        }
        let (said, counted) = match (now, end) {
            (State::Refused, _) => (Said::Rejected(Reason::Overloaded), false),
            (State::Runs { counted }, Some(End::Ok)) => (Said::Ok, counted),
            (State::Runs { counted }, Some(End::Fail)) => (Said::Failed, counted),
            (State::Runs { counted }, Some(End::Panic)) => (Said::Panicked, counted),
            _ => {
                self.calls.insert(id, (priority, now));
                return Poll::Pending;
            }
        };
        if counted {
            self.give_back();
        }
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        match state(&mut self.calls, id).1 {
            State::New { .. } | State::Refused | State::Runs { counted: false } => {}
            State::Waits { .. } => {
                self.left += 1;
                self.leave(id);
            }
            State::Granted => {
                self.left += 1;
                self.give_back();
            }
            State::Runs { counted: true } => self.give_back(),
        }
    }

    /// Each snapshot, and there is one after every step, is a look at the queue: that it stands is seen by who looks
    /// while it does, and then holds, whatever the settings are later.
    fn pass(&mut self, now: u64) {
        self.now = now;
        self.look();
    }

    fn set(&mut self, setting: u8) {
        self.set = settings(setting);
        self.bounds = self.set.queue.map_or(self.bounds, |(target, interval, _)| (target, interval));
        self.handle.reconfigure(self.set.config()).unwrap();
        self.serve();
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        match self.calls[&id].1 {
            State::New { .. } => false,
            State::Refused | State::Granted => true,
            State::Waits { until } => until <= self.now,
            State::Runs { .. } => end.is_some(),
        }
    }

    fn check(&self) {
        let known = self.handle.snapshot();
        assert_eq!((known.limit, known.in_flight, known.waiting as usize), {
            (self.set.limit, self.running, self.line.len())
        });
        assert_eq!((known.shed.in_flight, known.shed.queue_delay, known.shed.total()), {
            (self.shed.0, self.shed.1, self.shed.0 + self.shed.1)
        });
        assert_eq!((known.queued, known.left), (self.queued, self.left));
    }
}

#[test]
fn a_shedder_does_what_the_model_does() {
    plans(7, 3, LoadShed::new);
}
