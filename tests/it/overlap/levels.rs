//! A bulkhead with levels: a place at each or none at all, waited for one after the other.

use std::{collections::BTreeMap, task::Poll};

use mainstay::{
    Error, Priority, Reason,
    bulkhead::{Config, Snapshot},
    keyed::{KeyedLayer, Levels as Handle, LevelsConfig, Operation, Tenant, key_fn},
};
use tower::Layer;

use super::{
    Bell, Call, End, Room, Said, called, desk, flat,
    places::{Came, Places, Set},
    plans, state,
};
use crate::support::ms;

/// Tenants, operations, all: where each level of a call is among the places.
type Path = [usize; 3];

#[derive(Debug, Clone, Copy)]
enum State {
    New {
        waits: bool,
    },
    Refused,
    /// It has the levels before this one.
    Waits {
        level: usize,
        until: Option<u64>,
    },
    Granted {
        level: usize,
    },
    Runs,
}

struct Levels {
    handle: Handle,
    /// Two tenants, two operations, and all.
    places: [Places; 5],
    calls: BTreeMap<usize, (Path, State)>,
    now: u64,
}

fn settings(setting: u8) -> [Set; 3] {
    let of = |n: u8, limits: [u32; 3]| Set {
        limit: limits[usize::from(n) % 3],
        reserve: 0,
        max_queue: u32::from(n / 3) % 3,
        max_wait: [None, Some(10), Some(25)][usize::from(n) % 3],
    };
    [of(setting, [1, 2, 3]), of(setting / 3, [1, 2, 3]), of(setting / 9, [4, 5, 6])]
}

fn config([tenant, operation, all]: [Set; 3]) -> LevelsConfig {
    let of = |set: Set| {
        let config = Config::new(set.limit).max_queue(set.max_queue);
        set.max_wait.into_iter().fold(config, |config, wait| config.max_wait(ms(wait)))
    };
    LevelsConfig::new(of(all)).tenant_default(of(tenant)).operation_default(of(operation))
}

fn tenant(number: usize) -> Tenant {
    Tenant::new(["a", "b"][number]).unwrap()
}

fn operation(number: usize) -> Operation {
    Operation::new(["get", "put"][number]).unwrap()
}

impl Levels {
    fn new(setting: u8) -> Self {
        let [tenants, operations, all] = settings(setting);
        let places = [tenants, tenants, operations, operations, all].map(Places::new);
        let handle = Handle::new("x", config(settings(setting)));
        // All keys are there from the beginning.
        for number in 0..2 {
            let _ = (handle.tenants().get(tenant(number)), handle.operations().get(operation(number)));
        }
        Self { handle, places, calls: BTreeMap::new(), now: 0 }
    }

    /// Takes the levels from one on.
    fn enter(&mut self, id: usize, path: Path, from: usize, waits: bool) -> State {
        for level in from..3 {
            let places = &mut self.places[path[level]];
            let priority = Priority::Normal;
            match if waits { places.enter(priority, id) } else { places.take(priority) } {
                Came::In => {}
                Came::Waits => {
                    let until = places.set.max_wait.map(|wait| self.now + wait);
                    return State::Waits { level, until };
                }
                Came::Refused => {
                    self.give_back(path, level);
                    return State::Refused;
                }
            }
        }
        State::Runs
    }

    /// Gives back the levels before one.
    fn give_back(&mut self, path: Path, before: usize) {
        for at in &path[..before] {
            let served = self.places[*at].give_back();
            self.grant(served);
        }
    }

    fn grant(&mut self, served: Vec<usize>) {
        for id in served {
            let (_, state) = self.calls.get_mut(&id).unwrap();
            let State::Waits { level, .. } = *state else { panic!("it waits") };
            *state = State::Granted { level };
        }
    }

    fn knows(&self, at: usize, known: &Snapshot) {
        let places = &self.places[at];
        let seen = (known.limit, known.running, known.waiting as usize);
        assert_eq!(seen, (places.set.limit, places.running, places.line.len()), "at {at}");
        let counted = (known.rejected, known.queued, known.waited_too_long, known.left);
        assert_eq!(counted, (places.rejected, places.queued, places.waited_too_long, places.left), "at {at}");
    }
}

impl Room for Levels {
    fn start(&mut self, id: usize, way: u8, key: u8, bell: &Bell) -> Call {
        let (one, two) = (usize::from(key % 2), usize::from(key / 2));
        let (path, bell, handle) = ([one, 2 + two, 4], bell.clone(), self.handle.clone());
        let by = || handle.by(key_fn(move |_: &Bell| Some(tenant(one))), key_fn(move |_: &Bell| Some(operation(two))));
        let (state, call): (State, Call) = match way {
            0 => (self.enter(id, path, 0, true), called(KeyedLayer::new(by()).queued().layer(desk()), bell)),
            1 => (self.enter(id, path, 0, false), called(KeyedLayer::new(by()).layer(desk()), bell)),
            2 => {
                let call = async move {
                    let _permit = handle.try_acquire(tenant(one), operation(two)).map_err(Error::Rejected)?;
                    bell.await
                };
                (State::New { waits: false }, Box::pin(call))
            }
            _ => {
                let call = async move { flat(handle.run(tenant(one), operation(two), bell).await) };
                (State::New { waits: true }, Box::pin(call))
            }
        };
        self.calls.insert(id, (path, state));
        call
    }

    fn poll(&mut self, id: usize, end: Option<End>) -> Poll<Said> {
        let (path, mut now) = state(&mut self.calls, id);
        if let State::New { waits } = now {
            now = self.enter(id, path, 0, waits);
        }
        match now {
            State::Granted { level } => now = self.enter(id, path, level + 1, true),
            State::Waits { level, until: Some(until) } if until <= self.now => {
                self.places[path[level]].too_long(id);
                self.give_back(path, level);
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
                self.calls.insert(id, (path, now));
                return Poll::Pending;
            }
        };
        self.give_back(path, 3);
        Poll::Ready(said)
    }

    fn drop(&mut self, id: usize) {
        let (path, now) = state(&mut self.calls, id);
        match now {
            State::New { .. } | State::Refused => {}
            State::Waits { level, .. } | State::Granted { level } => {
                let served = self.places[path[level]].leave(id);
                self.grant(served);
                self.give_back(path, level);
            }
            State::Runs => self.give_back(path, 3),
        }
    }

    fn pass(&mut self, now: u64) {
        self.now = now;
    }

    fn set(&mut self, setting: u8) {
        let sets = settings(setting);
        self.handle.reconfigure(config(sets)).unwrap();
        for at in 0..5 {
            self.places[at].set = sets[at / 2];
            let served = self.places[at].serve();
            self.grant(served);
        }
    }

    fn is_due(&self, id: usize, end: Option<End>) -> bool {
        match self.calls[&id].1 {
            State::New { .. } => false,
            State::Refused | State::Granted { .. } => true,
            State::Waits { until, .. } => until.is_some_and(|until| until <= self.now),
            State::Runs => end.is_some(),
        }
    }

    fn check(&self) {
        for number in 0..2 {
            self.knows(number, &self.handle.tenants().peek(tenant(number)).unwrap().snapshot());
            self.knows(2 + number, &self.handle.operations().peek(operation(number)).unwrap().snapshot());
        }
        self.knows(4, &self.handle.global().snapshot());
    }
}

#[test]
fn levels_do_what_the_model_does() {
    plans(4, 4, Levels::new);
}
