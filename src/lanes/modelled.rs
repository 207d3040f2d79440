//! Seats and lanes under loom, which plays all threads of a model on one, and has no `OnceLock`.

use std::cell::Cell;

use crate::lanes::{Padded, Seat};

loom::thread_local! {
    static SEAT: Cell<Seat> = Cell::new(Seat::SHARED);
}

impl Seat {
    /// The seat that this thread of a model has taken, or the shared one.
    #[must_use]
    pub fn here() -> Self {
        SEAT.with(Cell::get)
    }

    /// Has this thread of a model sit here.
    #[doc(hidden)]
    pub fn take(self) {
        SEAT.with(|seat| seat.set(self));
    }
}

/// One, and the lane that is shared: more threads than two share a lane soon enough.
pub(crate) fn owned_lanes() -> usize {
    1
}

/// Loom has no `OnceLock`: its lanes are there from the start.
pub(super) struct Lazy<T>(Box<Padded<T>>);

impl<T> Lazy<T> {
    pub(super) fn new(make: &impl Fn() -> T) -> Self {
        Self(Box::new(Padded(make())))
    }

    pub(super) fn get_or_init(&self, _make: impl Fn() -> T) -> &T {
        &self.0.0
    }

    pub(super) fn get(&self) -> Option<&T> {
        Some(&self.0.0)
    }
}
