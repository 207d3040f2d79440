//! The queue of a bulkhead: places that are handed over, with the wakers of those who wait.

use std::{future::poll_fn, sync::Arc, time::Duration};

use loom::thread;
use mainstay::{
    Priority,
    admission::{Gate, Policy, Readiness},
    bulkhead::{Config, Handle},
};

use crate::support::{InUse, NEVER, OWNER, block_on, model, model_of, poll_once, wakes};

/// A bulkhead, and how many of its places are in use.
#[derive(Clone)]
struct Room {
    handle: Handle,
    limit: u32,
    in_use: Arc<InUse>,
}

impl Room {
    fn new(limit: u32) -> Self {
        Self::of(limit, Config::new(limit).max_queue(2).max_wait(NEVER))
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
        let room = self.clone();
        thread::spawn(move || room.use_one())
    }

    /// Nothing runs and nobody waits; all places can be taken, and no more.
    fn is_whole(&self) {
        let snapshot = self.handle.snapshot();
        assert_eq!((snapshot.running, snapshot.waiting), (0, 0));
        let all: Vec<_> = (0..self.limit).map(|_| self.handle.try_acquire().unwrap()).collect();
        assert!(self.handle.try_acquire().is_err());
        drop(all);
    }
}

/// A place in use, given back after it is counted as free.
struct Held {
    room: Room,
    _permit: mainstay::bulkhead::Permit,
}

impl Held {
    fn of(room: &Room, permit: mainstay::bulkhead::Permit) -> Self {
        room.in_use.enter(room.limit);
        Self { room: room.clone(), _permit: permit }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.in_use.leave();
    }
}

#[test]
fn queue_two_who_wait_are_served_one_after_the_other() {
    model(|| {
        let room = Room::new(1);
        let held = room.held();
        let (one, two) = (room.user(), room.user());
        drop(held);
        one.join().unwrap();
        two.join().unwrap();
        room.is_whole();
    });
}

#[test]
fn queue_a_place_that_is_given_back_while_one_joins_is_not_lost() {
    for limit in [1, 2] {
        model(move || {
            let room = Room::new(limit);
            let held: Vec<_> = (0..limit).map(|_| room.held()).collect();
            let user = room.user();
            drop(held);
            user.join().unwrap();
            room.is_whole();
        });
    }
}

#[test]
fn queue_a_place_that_rests_in_a_lane_is_found_by_who_waits() {
    model(|| {
        let room = Room::new(8);
        // Taken through a lane, so that more than were asked for lie there.
        OWNER.take();
        let mut held: Vec<_> = (0..8).map(|_| room.held()).collect();
        let user = room.user();
        drop(held.pop());
        drop(held.pop());
        user.join().unwrap();
        drop(held);
        room.is_whole();
    });
}

#[test]
fn queue_a_place_that_is_granted_to_one_who_leaves_goes_to_the_next() {
    model(|| {
        let room = Room::new(1);
        let held = room.held();
        let mut leaves = room.handle.acquire();
        assert!(poll_once(&mut leaves).is_pending());
        let user = room.user();
        let leaving = thread::spawn(move || drop(leaves));
        drop(held);
        leaving.join().unwrap();
        user.join().unwrap();
        assert_eq!(room.handle.snapshot().left, 1);
        room.is_whole();
    });
}

#[test]
fn queue_who_has_waited_too_long_has_a_place_or_leaves_none_behind() {
    model(|| {
        // Its alarm rings at once: the clock of a model is behind that of its timers.
        let room = Room::of(1, Config::new(1).max_queue(2).max_wait(Duration::from_millis(1)));
        let held = room.held();
        let handle = room.handle.clone();
        let waiting = thread::spawn(move || block_on(handle.acquire()).is_ok());
        drop(held);
        let served = waiting.join().unwrap();
        let snapshot = room.handle.snapshot();
        assert_eq!(snapshot.waited_too_long, u64::from(!served));
        assert_eq!(snapshot.rejected, u64::from(!served));
        room.is_whole();
    });
}

#[test]
fn queue_the_next_is_the_one_who_matters_more() {
    model(|| {
        let room = Room::new(1);
        let held = room.held();
        let mut low = room.handle.with_priority(Priority::Low).acquire();
        let mut high = room.handle.with_priority(Priority::High).acquire();
        assert!(poll_once(&mut low).is_pending() && poll_once(&mut high).is_pending());
        let lows = wakes(&mut low);
        let releasing = thread::spawn(move || drop(held));
        let seen = Arc::clone(&lows);
        let leaving = thread::spawn(move || {
            assert_eq!(seen.count(), 0, "served before one who matters more and waits");
            drop(high);
        });
        releasing.join().unwrap();
        // Whether it was granted the place and gave it on, or had left before: the low one has it in the end.
        leaving.join().unwrap();
        assert_eq!(lows.count(), 1);
        assert!(poll_once(&mut low).is_ready());
        room.is_whole();
    });
}

#[test]
fn queue_one_who_matters_more_goes_past_and_costs_nobody_a_place() {
    for waits in [false, true] {
        model(move || {
            // One place is kept for those of high priority.
            let room = Room::of(2, Config::new(2).reserve(1).max_queue(2).max_wait(NEVER));
            let held = room.held();
            let user = room.user();
            let high = Room { handle: room.handle.with_priority(Priority::High), ..room.clone() };
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
            Room { handle: room.handle.with_priority(Priority::High), ..room }.is_whole();
        });
    }
}

#[test]
fn queue_more_places_go_to_those_who_wait() {
    model(|| {
        let room = Room { limit: 2, ..Room::new(1) };
        let held = room.held();
        let user = room.user();
        room.handle.reconfigure(Config::new(2).max_queue(2).max_wait(NEVER)).unwrap();
        user.join().unwrap();
        drop(held);
        room.is_whole();
    });
}

#[test]
fn queue_full_turns_away_and_is_right_afterwards() {
    // With three it takes half a minute.
    model_of(2, || {
        let room = Room::of(1, Config::new(1).max_queue(1).max_wait(NEVER));
        let held = room.held();
        let one = room.clone();
        let comer = thread::spawn(move || drop(block_on(one.handle.acquire()).map(|permit| Held::of(&one, permit))));
        let two = room.clone();
        let other = thread::spawn(move || drop(block_on(two.handle.acquire()).map(|permit| Held::of(&two, permit))));
        assert!(room.handle.snapshot().waiting <= 1);
        drop(held);
        comer.join().unwrap();
        other.join().unwrap();
        assert!(room.handle.snapshot().rejected <= 1);
        room.is_whole();
    });
}

fn ready(handle: &Handle) -> Gate {
    let mut waiting = Default::default();
    block_on(poll_fn(|cx| handle.poll_gate(&mut waiting, cx)))
}

#[test]
fn queue_who_waits_to_be_ready_is_woken_by_a_place_and_by_settings() {
    for by_settings in [false, true] {
        model(move || {
            let config = |limit| Config::new(limit).readiness(Readiness::Unready);
            let handle = Handle::new("x", config(1));
            let permit = handle.try_acquire().unwrap();
            let other = handle.clone();
            let waiting = thread::spawn(move || ready(&other));
            match by_settings {
                true => handle.reconfigure(config(2)).unwrap(),
                false => drop(permit),
            }
            assert_eq!(waiting.join().unwrap(), Gate::Open);
        });
    }
}

#[test]
fn queue_one_who_gives_up_to_be_ready_takes_no_wake_up_along() {
    model(|| {
        let handle = Handle::new("x", Config::new(1).readiness(Readiness::Unready));
        let permit = handle.try_acquire().unwrap();
        let mut leaves = Default::default();
        assert!(poll_once(&mut poll_fn(|cx| handle.poll_gate(&mut leaves, cx))).is_pending());
        let other = handle.clone();
        let waiting = thread::spawn(move || ready(&other));
        let leaving = thread::spawn(move || drop(leaves));
        drop(permit);
        leaving.join().unwrap();
        assert_eq!(waiting.join().unwrap(), Gate::Open);
    });
}
