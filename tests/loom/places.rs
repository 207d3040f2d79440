//! The places of a bulkhead, in its word and in the lanes of threads.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use loom::{
    sync::{Arc, Mutex},
    thread,
};
use mainstay::{
    bulkhead::{Join, Places, Take},
    window::Seat,
};

use crate::support::{OWNER, model, model_of};

/// Places with the lock that is the queue's in a bulkhead, and a count of those in use that loom knows nothing of.
struct Bulkhead {
    places: Places,
    lock: Mutex<()>,
    room: u32,
    in_use: AtomicU32,
}

/// A lane of its own, and the one that is shared; a thread takes `batch` places at once for its lane.
fn bulkhead(room: u32, batch: u32) -> Arc<Bulkhead> {
    let places = Places::with_seats(8 * batch, 1);
    Arc::new(Bulkhead { places, lock: Mutex::new(()), room, in_use: AtomicU32::new(0) })
}

impl Bulkhead {
    fn took(&self) {
        assert!(self.in_use.fetch_add(1, SeqCst) < self.room, "more in use than there are");
    }

    fn take(&self, seat: Seat) -> bool {
        loop {
            match self.places.take_in(seat, self.room) {
                Take::Taken => {
                    self.took();
                    return true;
                }
                Take::Full | Take::Behind => return false,
                Take::Stray => self.handed(self.places.give_to_word(1)),
                Take::Unswept => {
                    let _lock = self.lock.lock().unwrap();
                    self.places.sweep();
                }
            }
        }
    }

    fn give(&self, seat: Seat) {
        self.in_use.fetch_sub(1, SeqCst);
        self.handed(self.places.give_in(seat));
    }

    fn handed(&self, left: u32) {
        if left > 0 {
            let _lock = self.lock.lock().unwrap();
            self.places.hand_back(left);
            while self.places.waiting() > 0 && self.places.taken() < self.room {
                self.places.grant();
                self.took();
            }
        }
    }

    /// A place at once, or one in the queue.
    fn take_or_join(&self) -> Join {
        let _lock = self.lock.lock().unwrap();
        loop {
            match self.places.take_or_join(self.room, 1) {
                Join::Took => {
                    self.took();
                    return Join::Took;
                }
                Join::Unswept => self.places.sweep(),
                other => return other,
            }
        }
    }

    /// Nothing is in use; all can be taken, from any seat, and no more.
    fn is_whole(&self) {
        assert_eq!((self.in_use.load(SeqCst), self.places.running(), self.places.waiting()), (0, 0, 0));
        for seat in [OWNER, Seat::SHARED] {
            assert_eq!((0..=self.room).filter(|_| self.take(seat)).count(), self.room as usize);
            (0..self.room).for_each(|_| self.give(seat));
        }
        assert_eq!(self.places.running(), 0);
    }
}

#[test]
fn bulkhead_as_many_places_as_threads_are_enough() {
    for (room, batch, seats) in
        [(2, 1, [OWNER, Seat::SHARED]), (2, 1, [Seat::SHARED, Seat::SHARED]), (3, 2, [OWNER, Seat::SHARED])]
    {
        model(move || {
            let bulkhead = bulkhead(room, batch);
            // Some are held all the time: a place for each thread is left.
            (2..room).for_each(|_| assert!(bulkhead.take(OWNER)));
            let other = Arc::clone(&bulkhead);
            let thread = thread::spawn(move || {
                for _ in 0..2 {
                    assert!(other.take(seats[1]), "turned away, and a place was free");
                    other.give(seats[1]);
                }
            });
            assert!(bulkhead.take(seats[0]), "turned away, and a place was free");
            bulkhead.give(seats[0]);
            thread.join().unwrap();
            (2..room).for_each(|_| bulkhead.give(Seat::SHARED));
            bulkhead.is_whole();
        });
    }
}

#[test]
fn bulkhead_no_more_are_in_use_than_there_are_and_none_is_lost() {
    // With three it takes minutes.
    model_of(2, || {
        let bulkhead = bulkhead(1, 1);
        let worker = |seat: Seat| {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                if bulkhead.take(seat) {
                    bulkhead.give(seat);
                }
            })
        };
        let (one, two) = (worker(Seat::SHARED), worker(OWNER));
        if bulkhead.take(OWNER) {
            bulkhead.give(Seat::SHARED);
        }
        one.join().unwrap();
        two.join().unwrap();
        bulkhead.is_whole();
    });
}

#[test]
fn bulkhead_a_lane_that_overflows_keeps_no_place_from_another_thread() {
    for batch in [1, 2] {
        model(move || {
            // The lane is full, one place is held, and one is left in the word.
            let bulkhead = bulkhead(2 * batch + 2, batch);
            (0..=2 * batch).for_each(|_| assert!(bulkhead.take(OWNER)));
            (0..2 * batch).for_each(|_| bulkhead.give(OWNER));
            let other = Arc::clone(&bulkhead);
            let thread = thread::spawn(move || {
                let all = 2 * batch + 1;
                (0..all).for_each(|_| assert!(other.take(Seat::SHARED), "turned away, and a place was free"));
                (0..all).for_each(|_| other.give(Seat::SHARED));
            });
            bulkhead.give(OWNER);
            thread.join().unwrap();
            bulkhead.is_whole();
        });
    }
}

#[test]
fn bulkhead_who_waits_is_served() {
    // With three it takes minutes.
    model_of(2, || {
        let bulkhead = bulkhead(1, 1);
        assert!(bulkhead.take(OWNER));
        let (giving, taking) = (Arc::clone(&bulkhead), Arc::clone(&bulkhead));
        let gives = thread::spawn(move || giving.give(OWNER));
        let takes = thread::spawn(move || {
            if taking.take(OWNER) {
                taking.give(OWNER);
            }
        });
        assert_ne!(bulkhead.take_or_join(), Join::TurnedAway);
        gives.join().unwrap();
        takes.join().unwrap();
        assert_eq!((bulkhead.places.waiting(), bulkhead.in_use.load(SeqCst)), (0, 1));
        bulkhead.give(OWNER);
        bulkhead.is_whole();
    });
}

#[test]
fn bulkhead_other_limits_lose_no_place() {
    model(|| {
        let bulkhead = bulkhead(2, 1);
        assert!(bulkhead.take(OWNER));
        let other = Arc::clone(&bulkhead);
        let thread = thread::spawn(move || {
            assert!(other.take(Seat::SHARED), "turned away, and a place was free");
            other.give(OWNER);
        });
        {
            let _lock = bulkhead.lock.lock().unwrap();
            bulkhead.places.set(2, true);
        }
        bulkhead.give(OWNER);
        thread.join().unwrap();
        bulkhead.is_whole();
    });
}
