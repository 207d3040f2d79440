//! What the benches share.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// One thread's calls.
pub(crate) type Calls = Box<dyn FnMut(u64) + Send>;

/// The time of `calls` calls on each of `threads` threads that run at once.
pub(crate) fn time(threads: usize, calls: u64, work: impl Fn() -> Calls) -> Duration {
    let start = Barrier::new(threads);
    let worker = |mut each: Calls| {
        start.wait();
        let begin = Instant::now();
        (0..calls).for_each(&mut *each);
        begin.elapsed()
    };
    let worker = &worker;
    thread::scope(|scope| {
        let work: Vec<_> = (0..threads).map(|_| work()).collect();
        let running: Vec<_> = work.into_iter().map(|each| scope.spawn(move || worker(each))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).max().unwrap_or_default()
    })
}
