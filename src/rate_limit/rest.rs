//! What somebody who keeps many limits asks one of them.

use crate::{
    name::Name,
    rate_limit::{Config, Handle, handle::Core},
    sync::Counted,
    time::Moment,
};

impl Handle {
    /// A limit whose name and settings were checked before.
    pub(crate) fn of_checked(name: Name, config: Config) -> Self {
        Self { core: Counted::new(Core::new(name, config)) }
    }

    /// Whether this is the only handle, and nobody waits for a turn.
    pub(crate) fn is_alone(&self) -> bool {
        Counted::strong_count(&self.core) == 1
    }

    /// Whether a new limit in its place would decide the same.
    pub(crate) fn is_full(&self, now: &mut Moment) -> bool {
        self.core.is_full(now)
    }

    /// Begins anew with a full quota. Turns that are given stay as they are.
    pub(crate) fn refill(&self) {
        self.core.refill();
    }

    /// Bytes of memory it takes, without its observers.
    pub(crate) fn memory(&self) -> usize {
        2 * size_of::<usize>() + size_of_val(&*self.core)
    }
}
