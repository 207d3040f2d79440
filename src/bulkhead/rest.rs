//! What somebody who keeps many bulkheads asks one of them.

use std::sync::Arc;

use crate::{
    admission::Readiness,
    bulkhead::{Config, Handle, core::Core},
    name::Name,
    priority::Priority,
    waiters::Waiters,
};

impl Handle {
    /// A bulkhead whose name and settings were checked before.
    pub(crate) fn of_checked(name: Name, config: &Config) -> Self {
        Self { core: Arc::new(Core::new(name, config)), priority: Priority::default() }
    }

    /// Whether this is the only handle, no permit is out and nobody waits for one.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.core) == 1
    }

    /// Bytes of memory it takes while nobody waits, without its observers.
    pub(crate) fn memory(&self) -> usize {
        2 * size_of::<usize>() + size_of_val(&*self.core) + self.core.heap_size() + Waiters::HEAP_SIZE
    }
}

impl Config {
    pub(crate) fn is_unready(&self) -> bool {
        self.readiness == Readiness::Unready
    }

    /// How many calls may run.
    pub(crate) const fn places(&self) -> u32 {
        self.limit
    }
}
