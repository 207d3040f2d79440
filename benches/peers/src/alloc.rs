//! The global allocator: the system's, which counts when asked to. While calls are timed it does not count, and costs
//! each allocation one load of a flag that nobody writes.

#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every request goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        freed(layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        freed(layout.size());
        unsafe { System.realloc(at, layout, size) }
    }
}

fn taken(bytes: usize) {
    if COUNTS.load(Relaxed) {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

fn freed(bytes: usize) {
    if COUNTS.load(Relaxed) {
        FREED.fetch_add(bytes as u64, Relaxed);
    }
}

/// What was allocated while counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub allocations: u64,
    pub bytes: u64,
    /// Of these and of older bytes, so many were given back.
    pub freed: u64,
}

impl Taken {
    /// What is there still, and was not before.
    pub fn kept(self) -> u64 {
        self.bytes.saturating_sub(self.freed)
    }
}

fn now() -> Taken {
    Taken { allocations: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed), freed: FREED.load(Relaxed) }
}

/// What all threads allocate while this runs.
pub fn count<T>(run: impl FnOnce() -> T) -> (T, Taken) {
    let before = now();
    COUNTS.store(true, Relaxed);
    let done = run();
    COUNTS.store(false, Relaxed);
    let after = now();
    let taken = Taken {
        allocations: after.allocations - before.allocations,
        bytes: after.bytes - before.bytes,
        freed: after.freed - before.freed,
    };
    (done, taken)
}
