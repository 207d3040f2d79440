//! Bulkhead: queue, priorities, reserve, longest wait, new settings, and callers who wait to be ready.

use std::{collections::BTreeMap, future::poll_fn, task::Poll};

use mainstay::{
    Error, Priority, Reason, Stack,
    admission::Readiness,
    bulkhead::{BulkheadLayer, Config, Handle},
};
use tower::{Layer, Service};

use super::{
    Bell, Call, End, Room, Said, called, desk, flat,
    places::{Came, Places, Set},
    plans, state,
};
use crate::support::ms;

#[derive(Debug, Clone, Copy)]
enum State {
    /// It takes its place at its first poll.
    New(Way),
    Refused,
    Waits {
        until: Option<u64>,
    },
    Granted,
    Runs,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Waits,
    Tries,
    /// Until the service says that it is ready.
    IsReady,
}

struct Bulkhead {
    handle: Handle,
    places: Places,
    unready: bool,
    calls: BTreeMap<usize, (Priority, State)>,
    now: u64,
}

fn settings(setting: u8) -> (Set, bool) {
    let limit = [1, 2, 3, 5, 40][usize::from(setting) % 5];
    let reserve = u32::from(setting / 5) % 3;
    let max_queue = [0, 1, 3, 8][usize::from(setting / 15) % 4];
    let max_wait = [None, Some(10), Some(25)][usize::from(setting / 60) % 3];
    let reserve = if reserve < limit { reserve } else { 0 };
    (Set { limit, reserve, max_queue, max_wait }, setting > 200)
}

fn config(set: Set, unready: bool) -> Config {
    let config = Config::new(set.limit).reserve(set.reserve).max_queue(set.max_queue);
    let config = set.max_wait.into_iter().fold(config, |config, wait| config.max_wait(ms(wait)));
    config.readiness(if unready { Readiness::Unready } else { Readiness::Reject })
}

impl Bulkhead {
    fn new(setting: u8) -> Self {
        let (set, unready) = settings(setting);
        let handle = Handle::new("x", config(set, unready));
        Self { handle, places: Places::new(set), unready, calls: BTreeMap::new(), now: 0 }
    }

    fn of(came: Came, until: Option<u64>) -> State {
        match came {
            Came::In => State::Runs,
            Came::Waits => State::Waits { until },
            Came::Refused => State::Refused,
        }
    }

    fn until(&self) -> Option<u64> {
        self.places.set.max_wait.map(|wait| self.now + wait)
    }

    fn grant(&mut self, served: Vec<usize>) {
        for id in served {
            self.calls.get_mut(&id).unwrap().1 = State::Granted;
        }
    }

    fn begin(&mut self, id: usize, priority: Priority, way: Way) -> Option<State> {
        let came = match way {
            Way::Waits => self.places.enter(priority, id),
            Way::IsReady if self.unready && self.places.running >= self.places.room(priority) => return None,
            Way::Tries | Way::IsReady => self.places.take(priority),
        };
        Some(Self::of(came, self.until()))
    }
}

impl Room for Bulkhead {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let priority = [Priority::Low, Priority::Normal, Priority::High][usize::from(key)];
        let (handle, bell) = (self.handle.with_priority(priority), bell.clone());
        // In unready mode a service that is not ready may not be called.
        let way = if self.unready && (1..=3).contains(&way) { 5 } else { way };
        let (state, call): (State, Call) = match way {
            0 => (State::New(Way::Waits), Box::pin(async move { flat(handle.run(bell).await) })),
            1 => {
                let came = Self::of(self.places.take(priority), None);
                (came, called(BulkheadLayer::new(handle).layer(desk()), bell))
            }
            2 => {
                let came = Self::of(self.places.enter(priority, id), self.until());
                (came, called(BulkheadLayer::new(handle).queued().layer(desk()), bell))
            }
            3 => {
                let came = Self::of(self.places.enter(priority, id), self.until());
                (came, called(Stack::builder("y").bulkhead(handle).build().service(desk()), bell))
            }
            4 => {
                let call = async move {
                    let _permit = handle.try_acquire().map_err(Error::Rejected)?;
                    bell.await
                };
                (State::New(Way::Tries), Box::pin(call))
            }
            _ => {
                let mut service = BulkheadLayer::new(handle).layer(desk());
                let call = async move {
                    poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(bell).await
                };
                (State::New(Way::IsReady), Box::pin(call))
            }
        };
        self.calls.insert(id, (priority, state));
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let (priority, mut now) = state(&mut self.calls, id);
        if let State::New(way) = now {
            let Some(begun) = self.begin(id, priority, way) else {
                self.calls.insert(id, (priority, now));
                return Poll::Pending;
            };
            now = begun;
        }
        match now {
            State::Granted => now = State::Runs,
            State::Waits { until: Some(until) } if self.now >= until => {
                self.places.too_long(id);
                now = State::Refused;
            }
            _ => {}
        }
        let said = match (now, end) {
            (State::Refused, _) => return Poll::Ready(Said::Rejected(Reason::BulkheadFull)),
            (State::Runs, Some(End::Ok)) => Said::Ok,
            (State::Runs, Some(End::Fail)) => Said::Failed,
            (State::Runs, Some(End::Panic)) => Said::Panicked,
            _ => {
                self.calls.insert(id, (priority, now));
                return Poll::Pending;
            }
        };
        let served = self.places.give_back();
        self.grant(served);
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        let served = match state(&mut self.calls, id).1 {
            State::New(_) | State::Refused => return,
            State::Waits { .. } | State::Granted => self.places.leave(id),
            State::Runs => self.places.give_back(),
        };
        self.grant(served);
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    fn set(&mut self, setting: u8) {
        let (set, unready) = settings(setting);
        self.handle.reconfigure(config(set, unready)).unwrap();
        (self.places.set, self.unready) = (set, unready);
        let served = self.places.serve();
        self.grant(served);
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        let (priority, state) = self.calls[&id];
        match state {
            State::New(Way::IsReady) => !self.unready || self.places.running < self.places.room(priority),
            State::New(_) => false,
            State::Refused | State::Granted => true,
            State::Waits { until } => until.is_some_and(|until| until <= self.now),
            State::Runs => end.is_some(),
        }
    }

    fn check(&self) {
        let (known, places) = (self.handle.snapshot(), &self.places);
        assert_eq!((known.limit, known.running, known.waiting as usize), {
            (places.set.limit, places.running, places.line.len())
        });
        let counted = (known.rejected, known.queued, known.waited_too_long, known.left);
        assert_eq!(counted, (places.rejected, places.queued, places.waited_too_long, places.left));
        if self.calls.is_empty() {
            assert_eq!((places.running, places.line.len()), (0, 0), "the model itself is right");
            drop(self.handle.with_priority(Priority::Low).try_acquire().expect("nobody is here"));
        }
    }
}

#[test]
fn a_bulkhead_does_what_the_model_does() {
    plans(6, 3, Bulkhead::new);
}
