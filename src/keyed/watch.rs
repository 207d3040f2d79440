//! Observers of many policies at once.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::observe::{Event, Observer};

type Tell<K> = dyn Fn(Option<&K>, &Event<'_>) + Send + Sync;

/// Hears of what happens to the policies of all keys.
pub(super) struct Watch<K> {
    tell: Box<Tell<K>>,
    // Once for all keys: an observer that panics is told nothing more of any of them.
    panicked: AtomicBool,
}

impl<K> Watch<K> {
    pub(super) fn new(tell: impl Fn(Option<&K>, &Event<'_>) + Send + Sync + 'static) -> Self {
        Self { tell: Box::new(tell), panicked: AtomicBool::new(false) }
    }
}

impl<K> fmt::Debug for Watch<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("panicked", &self.panicked).finish_non_exhaustive()
    }
}

/// A watch at the policy of one key.
pub(super) struct Post<K> {
    pub(super) watch: Arc<Watch<K>>,
    pub(super) key: Option<K>,
}

impl<K: Send + Sync + 'static> Observer for Post<K> {
    fn on_event(&self, event: &Event<'_>) {
        let Watch { tell, panicked } = &*self.watch;
        if panicked.load(Relaxed) {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| tell(self.key.as_ref(), event))) {
            // Of two keys that it panics at at a time, one says so.
            if !panicked.swap(true, Relaxed) {
                resume_unwind(panic);
            }
        }
    }
}
