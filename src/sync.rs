//! The atomics of the crate: those of `std`, or those of loom where its model checker runs.

#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::atomic;

#[cfg(mainstay_loom)]
pub(crate) use loom::sync::atomic;
