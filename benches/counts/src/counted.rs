//! The calls that are counted, and how they are made.

use std::hint::black_box;

use mainstay::time::Tick;
use tower::Service;

use crate::{paths, upstream::drive};

/// A round is one count. A path's is the median, which leaves out what comes once a second, such as the next bucket.
pub const ROUNDS: usize = 9;

/// Enough for what comes once in some calls, such as new random numbers once in 64.
pub const CALLS: u64 = 1_000;

/// What is called.
pub struct Path {
    name: &'static str,
    /// Whether each call is answered, or each is refused or fails. What is otherwise must not be counted.
    answered: bool,
    calls: Box<dyn FnMut(u64) -> u64>,
}

impl Path {
    /// Each call is refused, or fails.
    pub fn refused(self) -> Self {
        Self { answered: false, ..self }
    }
}

/// What answers at once. The loop is part of what is made for a path, so that a call is direct.
pub fn operation(name: &'static str, mut call: impl FnMut(u64) -> bool + 'static) -> Path {
    let calls = move |calls| (0..calls).map(|n| u64::from(call(black_box(n)))).sum();
    Path { name, answered: true, calls: Box::new(calls) }
}

/// A Tower service.
pub fn service(name: &'static str, mut service: impl Service<u64> + 'static) -> Path {
    operation(name, move |n| drive(&mut service, n))
}

/// All paths, each with its rounds, and their names in turn. Callgrind collects while this is [`counted_calls`].
pub fn all() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    // The clock is made ready by its first reading, which takes as long as it likes.
    black_box(Tick::now());
    for mut path in paths::all() {
        // Memory is there, and the thread has its places, before anything counts.
        let mut made = (path.calls)(CALLS);
        for _ in 0..ROUNDS {
            made += counted_calls(&mut path.calls);
        }
        let expected = if path.answered { (ROUNDS as u64 + 1) * CALLS } else { 0 };
        assert_eq!(made, expected, "{}: answers", path.name);
        println!("{}", path.name);
    }
}

/// Callgrind knows it by its name.
#[inline(never)]
fn counted_calls(calls: &mut dyn FnMut(u64) -> u64) -> u64 {
    black_box(calls(black_box(CALLS)))
}
