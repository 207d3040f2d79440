//! How much a call matters, to every policy that has to choose between calls.

use serde::{Deserialize, Serialize};

/// How much a call matters. Higher ones are served first; among equals, who came first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Can wait, and be turned away first: batch work, prefetching.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Served first, turned away last; may take what is kept in reserve.
    High,
}

/// Knows how much a request matters.
///
/// A closure does, through [`priority_fn`].
pub trait PriorityOf<Req> {
    /// The priority; none for that of the policy's handle.
    fn priority(&self, request: &Req) -> Option<Priority>;
}

impl<Req, F: Fn(&Req) -> Option<Priority>> PriorityOf<Req> for F {
    fn priority(&self, request: &Req) -> Option<Priority> {
        self(request)
    }
}

/// Gives a closure the signature that [`PriorityOf`] needs, so that the compiler need not be told it.
pub fn priority_fn<Req, F: Fn(&Req) -> Option<Priority>>(priority: F) -> F {
    priority
}
