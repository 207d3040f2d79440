//! The atomics and locks of the crate and the way to wait for another thread: those of `std` and `parking_lot`, or
//! those of loom where its model checker runs.

#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::atomic;

#[cfg(mainstay_loom)]
pub(crate) use loom::sync::atomic;

#[cfg(not(mainstay_loom))]
pub(crate) use std::thread::yield_now as pause;

#[cfg(mainstay_loom)]
pub(crate) use loom::thread::yield_now as pause;

#[cfg(not(mainstay_loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};

/// An `Arc` for what asks how many references there are: loom has to see them come and go.
#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::Arc as Counted;

#[cfg(mainstay_loom)]
mod modelled;

#[cfg(mainstay_loom)]
pub(crate) use modelled::{Counted, Mutex, MutexGuard, RwLock};
