use serde::Serialize;

use crate::name::Name;

/// The policies of all keys at one moment. What each of them knows is in the [listing](super::Handle::listing).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot<S> {
    /// The name of all of them.
    pub policy: Name,
    /// What this is: `"keyed"`.
    pub kind: &'static str,
    /// What the policy of a key is, `"bulkhead"` for one.
    pub of: &'static str,
    /// How many keys there are.
    pub keys: usize,
    /// How many there may be.
    pub max_keys: usize,
    /// Keys that have left, for want of use or of room, or because somebody removed them.
    pub left: u64,
    /// Calls for whose key there was no room.
    pub strangers: u64,
    /// Calls without a key.
    pub keyless: u64,
    /// The policy that all calls without a key of their own share.
    pub others: S,
}

/// The policy of one key at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeySnapshot<K, S> {
    /// The key.
    pub key: K,
    /// Whether it has settings of its own, and so never leaves.
    pub listed: bool,
    /// What its policy knows.
    pub snapshot: S,
}
