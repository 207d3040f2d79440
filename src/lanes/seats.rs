//! Which lane a thread has, and lanes that are made when they are first needed.

use std::{cell::Cell, cmp::Reverse, collections::BinaryHeap};

use parking_lot::Mutex;

use crate::lanes::{Padded, Seat};

impl Seat {
    /// The seat of this thread, taken now if it has none yet.
    #[inline]
    #[must_use]
    pub fn here() -> Self {
        match SEAT.try_with(Cell::get) {
            Ok(UNSEATED) | Err(_) => take_seat(),
            Ok(seat) => Self(seat),
        }
    }
}

const UNSEATED: u32 = u32::MAX - 1;

thread_local! {
    static SEAT: Cell<u32> = const { Cell::new(UNSEATED) };
    // Apart from SEAT because a thread-local with a destructor costs a check at every use.
    static OCCUPIED: Occupied = Occupied::take();
}

static FREE: Mutex<Seats> = Mutex::new(Seats { next: 0, left: BinaryHeap::new() });

struct Seats {
    next: u32,
    // The lowest first: a thread that stays is not to sit on the shared lane while one of its own is free.
    left: BinaryHeap<Reverse<u32>>,
}

struct Occupied(u32);

impl Occupied {
    fn take() -> Self {
        let mut seats = FREE.lock();
        let seat = seats.left.pop().map(|Reverse(seat)| seat).unwrap_or_else(|| {
            let seat = seats.next;
            seats.next = (seat + 1).min(UNSEATED - 1);
            seat
        });
        Self(seat)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // Destructors of other thread-locals may still count something: they do it on the shared lane, since the next
        // thread may sit here from now on. The lock orders the writes of the two.
        let _ = SEAT.try_with(|seat| seat.set(Seat::SHARED.0));
        FREE.lock().left.push(Reverse(self.0));
    }
}

#[cold]
fn take_seat() -> Seat {
    let Ok(seat) = OCCUPIED.try_with(|occupied| occupied.0) else { return Seat::SHARED };
    let _ = SEAT.try_with(|cell| cell.set(seat));
    Seat(seat)
}

/// How many lanes have one owner: a thread on every core, and the one that started them.
pub(crate) fn owned_lanes() -> usize {
    use std::sync::OnceLock;
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| std::thread::available_parallelism().map_or(4, usize::from).min(64) + 1)
}

pub(super) struct Lazy<T>(std::sync::OnceLock<Box<Padded<T>>>);

impl<T> Lazy<T> {
    pub(super) fn new(_make: &impl Fn() -> T) -> Self {
        Self(std::sync::OnceLock::new())
    }

    #[inline(always)]
    pub(super) fn get_or_init(&self, make: impl Fn() -> T) -> &T {
        match self.0.get() {
            Some(lane) => &lane.0,
            None => self.init(make),
        }
    }

    // Out of the way: what is called from the way of a call makes it save its registers.
    #[cold]
    #[inline(never)]
    fn init(&self, make: impl Fn() -> T) -> &T {
        &self.0.get_or_init(|| Box::new(Padded(make()))).0
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.0.get().map(|lane| &lane.0)
    }
}
