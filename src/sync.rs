//! The atomics of the crate and the way to wait for another thread: those of `std`, or those of loom where its model
//! checker runs.

#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::atomic;

#[cfg(mainstay_loom)]
pub(crate) use loom::sync::atomic;

#[cfg(not(mainstay_loom))]
pub(crate) use std::thread::yield_now as pause;

#[cfg(mainstay_loom)]
pub(crate) use loom::thread::yield_now as pause;
