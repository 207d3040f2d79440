//! What a service shares with its clones, behind a reference count that no other thread writes.
//!
//! Every call takes a reference along. Calls of a fresh clone take it from the count that all clones share; from the
//! second call on the clone has a count of its own. A host that clones for every call pays for the shared one, and a
//! host that keeps a clone never waits for its cache line.

use std::{ops::Deref, sync::Arc};

/// Makes the same thing again, behind a reference count of its own.
pub(crate) trait Fork {
    fn fork(&self) -> Arc<Self>;
}

/// A clone's reference.
#[derive(Debug)]
pub(crate) struct Own<P> {
    parts: Arc<P>,
    calls: Calls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    None,
    One,
    Many,
}

impl<P: Fork> Own<P> {
    pub(crate) fn new(parts: Arc<P>) -> Self {
        Self { parts, calls: Calls::None }
    }

    /// What the next call takes along.
    #[inline]
    pub(crate) fn of_call(&mut self) -> Arc<P> {
        match self.calls {
            Calls::Many => {}
            Calls::None => self.calls = Calls::One,
            Calls::One => {
                self.parts = self.parts.fork();
                self.calls = Calls::Many;
            }
        }
        Arc::clone(&self.parts)
    }
}

impl<P> Deref for Own<P> {
    type Target = P;

    #[inline]
    fn deref(&self) -> &P {
        &self.parts
    }
}

impl<P: Fork> Clone for Own<P> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Fork for u32 {
        fn fork(&self) -> Arc<Self> {
            Arc::new(*self)
        }
    }

    #[test]
    fn the_second_call_makes_a_count_of_its_own_and_a_clone_begins_anew() {
        let shared = Arc::new(5);
        let mut own = Own::new(Arc::clone(&shared));
        assert!(Arc::ptr_eq(&own.of_call(), &shared));
        let second = own.of_call();
        assert!(!Arc::ptr_eq(&second, &shared) && *second == 5);
        assert!(Arc::ptr_eq(&own.of_call(), &second));
        assert!(Arc::ptr_eq(&own.clone().of_call(), &second));
    }
}
