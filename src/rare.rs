//! What few calls ever have, and most come to their end without.

use std::ops::{Deref, DerefMut};

/// An `Option` whose end costs a look when there is nothing in it. That of a plain one is a function of its own as soon
/// as what may be in it has a long end, and saves and restores registers to find that there is nothing to do.
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<T>);

impl<T> Default for Rare<T> {
    #[inline(always)]
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Rare<T> {
    type Target = Option<T>;

    #[inline(always)]
    fn deref(&self) -> &Option<T> {
        &self.0
    }
}

impl<T> DerefMut for Rare<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Option<T> {
        &mut self.0
    }
}

impl<T> Drop for Rare<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(it) = self.0.take() {
            end(it);
        }
    }
}

#[cold]
#[inline(never)]
fn end<T>(it: T) {
    drop(it);
}
