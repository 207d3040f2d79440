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
