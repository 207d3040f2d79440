//! Loom's locks with the face of `parking_lot`'s: none is ever poisoned. And an `Arc` whose count loom sees: its own
//! cannot be dropped in a model that has failed.

use std::{
    ops::Deref,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
};

pub(crate) use loom::sync::MutexGuard;
use loom::sync::{
    RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicUsize, fence},
};

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::RwLock::new(value))
    }

    #[track_caller]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Counted<T>(Arc<(AtomicUsize, T)>);

impl<T> Counted<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new((AtomicUsize::new(1), value)))
    }

    pub(crate) fn strong_count(this: &Self) -> usize {
        this.0.0.load(Relaxed)
    }

    pub(crate) fn ptr_eq(this: &Self, other: &Self) -> bool {
        Arc::ptr_eq(&this.0, &other.0)
    }

    pub(crate) fn as_ptr(this: &Self) -> *const T {
        &raw const this.0.1
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        self.0.0.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.0.0.fetch_sub(1, Release) == 1 {
            fence(Acquire);
        }
    }
}
