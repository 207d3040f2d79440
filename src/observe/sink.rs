use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{name::Name, observe::Event, sync::RwLock};

/// Hears of the rare things that happen to a policy.
///
/// A closure over `&Event<'_>` is one, and so is `()`, which does nothing.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}

impl Observer for () {
    fn on_event(&self, _event: &Event<'_>) {}
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// The observers of one policy.
#[derive(Default)]
pub(crate) struct Sink {
    any: AtomicBool,
    observers: RwLock<Arc<[Arc<Seat>]>>,
}

struct Seat {
    observer: Box<dyn Observer>,
    panicked: AtomicBool,
}

impl Sink {
    pub(crate) fn add(&self, observer: impl Observer) {
        let seat = Arc::new(Seat { observer: Box::new(observer), panicked: AtomicBool::new(false) });
        let mut observers = self.observers.write();
        *observers = observers.iter().cloned().chain([seat]).collect();
        self.any.store(true, Relaxed);
    }

    /// Whether there is an observer.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Tells every observer, if there are any; the event is only made then.
    #[inline]
    pub(crate) fn tell<'a>(&self, policy: &Name, event: impl FnOnce() -> Event<'a>) {
        if self.is_heard() {
            self.tell_all(policy, &event());
        }
    }

    #[cold]
    fn tell_all(&self, policy: &Name, event: &Event<'_>) {
        // A copy, so that an observer may add observers.
        let observers = Arc::clone(&self.observers.read());
        for seat in observers.iter().filter(|seat| !seat.panicked.load(Relaxed)) {
            let told = catch_unwind(AssertUnwindSafe(|| seat.observer.on_event(event)));
            // Of two threads that it panics on at a time, one says so.
            if told.is_err() && !seat.panicked.swap(true, Relaxed) {
                LOST.fetch_add(1, Relaxed);
                tracing::error!(policy = policy.as_str(), "an observer panicked and is told nothing more");
            }
        }
    }
}

/// One observer at several policies: when it has panicked, it is told nothing more of any of them.
#[derive(Clone)]
pub(crate) struct ForMany(Arc<Seat>);

impl ForMany {
    pub(crate) fn new(observer: impl Observer) -> Self {
        Self(Arc::new(Seat { observer: Box::new(observer), panicked: AtomicBool::new(false) }))
    }
}

impl Observer for ForMany {
    fn on_event(&self, event: &Event<'_>) {
        let Seat { observer, panicked } = &*self.0;
        if panicked.load(Relaxed) {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| observer.on_event(event))) {
            // The first says so, at the policy it was told of.
            if !panicked.swap(true, Relaxed) {
                resume_unwind(panic);
            }
        }
    }
}

static LOST: AtomicU64 = AtomicU64::new(0);

/// How many observers have panicked since the process began. Each was told nothing more from then on, and was named in
/// one line of the log: what they should have shown is missing, so this is a number to watch.
#[must_use]
pub fn lost_observers() -> u64 {
    LOST.load(Relaxed)
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("observers", &self.observers.read().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_of_many_that_panics_says_so_once_and_is_told_nothing_more() {
        let told = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&told);
        let observer = ForMany::new(move |_: &Event<'_>| {
            counts.fetch_add(1, Relaxed);
            panic!("the observer panics");
        });
        let tell = || catch_unwind(AssertUnwindSafe(|| observer.on_event(&Event::Stale { policy: "x" }))).is_err();
        assert_eq!([tell(), tell(), tell()], [true, false, false]);
        assert_eq!(told.load(Relaxed), 1);
    }
}
