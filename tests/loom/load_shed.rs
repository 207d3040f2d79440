//! The places of a shedder with their queue, and its throttle.

use std::{sync::Arc, time::Duration};

use loom::thread;
use mainstay::{
    Priority,
    load_shed::{Config, Handle, Permit, QueueDelay, Throttle},
};

use crate::support::{InUse, NEVER, OWNER, at_second, block_on, model, poll_once, wakes};

/// A shedder with one place, and whether that is in use.
#[derive(Clone)]
struct Gate {
    handle: Handle,
    limit: u32,
    in_use: Arc<InUse>,
}

/// Calls that wait as long as they have to.
fn queue() -> QueueDelay {
    QueueDelay::new().target(NEVER).interval(NEVER).max_queue(2)
}

impl Gate {
    fn new(limit: u32) -> Self {
        Self::of(limit, Config::new().in_flight(limit).queue_delay(queue()))
    }

    fn of(limit: u32, config: Config) -> Self {
        Self { handle: Handle::new("x", config), limit, in_use: Arc::default() }
    }

    fn held(&self) -> Held {
        Held::of(self, self.handle.try_acquire().unwrap())
    }

    /// Waits for a place, has it and gives it back.
    fn use_one(&self) {
        drop(Held::of(self, block_on(self.handle.acquire()).unwrap()));
    }

    /// In a thread of its own.
    fn user(&self) -> thread::JoinHandle<()> {
        let gate = self.clone();
        thread::spawn(move || gate.use_one())
    }

    /// Nothing runs and nobody waits; all places can be taken, and no more.
    fn is_whole(&self) {
        let snapshot = self.handle.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
        let all: Vec<_> = (0..self.limit).map(|_| self.handle.try_acquire().unwrap()).collect();
        assert!(self.handle.try_acquire().is_err());
        drop(all);
    }
}

/// A place in use, given back after it is counted as free.
struct Held {
    gate: Gate,
    _permit: Permit,
}

impl Held {
    fn of(gate: &Gate, permit: Permit) -> Self {
        gate.in_use.enter(gate.limit);
        Self { gate: gate.clone(), _permit: permit }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.in_use.leave();
    }
}

#[test]
fn load_shed_no_more_are_in_use_than_there_are_places_and_none_is_lost() {
    model(|| {
        let gate = Gate::of(1, Config::new().in_flight(1));
        let taker = || {
            let gate = gate.clone();
            thread::spawn(move || drop(gate.handle.try_acquire().map(|permit| Held::of(&gate, permit))))
        };
        let (one, two) = (taker(), taker());
        drop(gate.handle.try_acquire().map(|permit| Held::of(&gate, permit)));
        one.join().unwrap();
        two.join().unwrap();
        gate.is_whole();
    });
}

#[test]
fn load_shed_two_who_wait_are_served_one_after_the_other() {
    model(|| {
        let gate = Gate::new(1);
        let held = gate.held();
        let (one, two) = (gate.user(), gate.user());
        drop(held);
        one.join().unwrap();
        two.join().unwrap();
        gate.is_whole();
    });
}

#[test]
fn load_shed_a_place_that_is_granted_to_one_who_leaves_goes_to_the_next() {
    model(|| {
        let gate = Gate::new(1);
        let held = gate.held();
        let mut leaves = gate.handle.acquire();
        assert!(poll_once(&mut leaves).is_pending());
        let user = gate.user();
        let leaving = thread::spawn(move || drop(leaves));
        drop(held);
        leaving.join().unwrap();
        user.join().unwrap();
        gate.is_whole();
    });
}

#[test]
fn load_shed_who_has_waited_too_long_has_a_place_or_leaves_none_behind() {
    model(|| {
        let ms = Duration::from_millis(1);
        let delay = QueueDelay::new().target(ms).interval(ms).max_queue(2);
        let gate = Gate::of(1, Config::new().in_flight(1).queue_delay(delay));
        let held = gate.held();
        let handle = gate.handle.clone();
        let waiting = thread::spawn(move || block_on(handle.acquire()).is_ok());
        drop(held);
        let served = waiting.join().unwrap();
        assert_eq!(gate.handle.snapshot().shed.queue_delay, u64::from(!served));
        gate.is_whole();
    });
}

#[test]
fn load_shed_the_next_is_the_one_who_matters_more() {
    model(|| {
        let gate = Gate::new(1);
        let held = gate.held();
        let mut low = gate.handle.with_priority(Priority::Low).acquire();
        let mut high = gate.handle.with_priority(Priority::High).acquire();
        assert!(poll_once(&mut high).is_pending());
        let lows = wakes(&mut low);
        let releasing = thread::spawn(move || drop(held));
        let seen = Arc::clone(&lows);
        let leaving = thread::spawn(move || {
            assert_eq!(seen.count(), 0, "served before one who matters more and waits");
            drop(high);
        });
        releasing.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(lows.count(), 1);
        assert!(poll_once(&mut low).is_ready());
        gate.is_whole();
    });
}

#[test]
fn load_shed_one_who_matters_more_goes_past_and_costs_nobody_a_place() {
    for waits in [false, true] {
        model(move || {
            let gate = Gate::of(2, Config::new().in_flight(2).shares(0.5, 0.5).queue_delay(queue()));
            let held = gate.held();
            let user = gate.user();
            let high = Gate { handle: gate.handle.with_priority(Priority::High), ..gate.clone() };
            let past = thread::spawn(move || if waits { high.use_one() } else { drop(high.held()) });
            // Who could wait is served as well while nothing is given back.
            if waits {
                past.join().unwrap();
                drop(held);
            } else {
                drop(held);
                past.join().unwrap();
            }
            user.join().unwrap();
            Gate { handle: gate.handle.with_priority(Priority::High), ..gate }.is_whole();
        });
    }
}

#[test]
fn load_shed_more_places_go_to_those_who_wait() {
    for limited in [true, false] {
        model(move || {
            let gate = Gate { limit: 2, ..Gate::new(1) };
            let held = gate.held();
            let user = gate.user();
            let two = Config::new().in_flight(2).shares(1.0, 1.0).queue_delay(queue());
            gate.handle.reconfigure(if limited { two } else { Config::new() }).unwrap();
            user.join().unwrap();
            drop(held);
            gate.handle.reconfigure(two).unwrap();
            gate.is_whole();
        });
    }
}

/// Turns calls away as soon as two requests were made, and none of them accepted.
fn throttled() -> Handle {
    let throttle = Throttle::new().min_requests(2).k(1.0).window(Duration::from_secs(1), 1);
    Handle::new("x", Config::new().throttle(throttle))
}

#[test]
fn load_shed_refusals_that_come_together_put_the_throttle_on() {
    model(|| {
        let shedder = throttled();
        let (one, two) = (shedder.try_acquire().unwrap(), shedder.try_acquire().unwrap());
        let thread = thread::spawn(move || {
            // On a lane of its own: what is added to one lane is in one order anyhow.
            OWNER.take();
            one.failure();
        });
        two.failure();
        thread.join().unwrap();
        // Of three calls two thirds are turned away; chance says a half.
        assert!(shedder.try_acquire().is_err());
    });
}

#[test]
fn load_shed_a_look_that_came_too_early_does_not_put_the_throttle_off() {
    model(|| {
        let shedder = throttled();
        let (one, two) = (shedder.try_acquire().unwrap(), shedder.try_acquire().unwrap());
        one.failure();
        // Calls look while one is refused: one that was let in has looked before.
        let other = shedder.clone();
        let thread = thread::spawn(move || drop(other.try_acquire()));
        two.failure();
        thread.join().unwrap();
        assert!(shedder.try_acquire().is_err());
    });
}

#[test]
fn load_shed_the_throttle_goes_off_once_refusals_are_forgotten() {
    model(|| {
        let shedder = throttled();
        let (one, two) = (shedder.try_acquire().unwrap(), shedder.try_acquire().unwrap());
        one.failure();
        two.failure();
        let other = shedder.clone();
        let thread = thread::spawn(move || {
            at_second(10);
            assert!(other.try_acquire().is_ok());
        });
        at_second(10);
        assert!(shedder.try_acquire().is_ok());
        thread.join().unwrap();
        assert!(shedder.try_acquire().is_ok());
    });
}
