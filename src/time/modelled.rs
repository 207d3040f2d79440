//! Time under loom, where every run has to repeat: each thread of a model has a clock of its own, which stands until it
//! sets it. So two threads may be asked at different times whatever order they come in.

use std::cell::Cell;

use crate::time::Tick;

loom::thread_local! {
    static NOW: Cell<u64> = Cell::new(0);
}

/// It is this late for this thread of a model from now on.
#[doc(hidden)]
pub fn set_now(now: Tick) {
    NOW.with(|clock| clock.set(now.as_nanos()));
}

pub(super) fn os_now() -> u64 {
    NOW.with(Cell::get)
}

/// The middle: chance would not repeat.
pub(crate) const fn random() -> f64 {
    0.5
}
