use std::{fmt, sync::Arc, time::SystemTime};

use serde::Serialize;

use crate::contract::{Instance, InstanceId, ServiceName};

/// What is known of one service at one moment. Immutable and shared.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The service.
    pub service: ServiceName,
    /// The number of the last change that is in it; the next event has the next number.
    pub sequence: u64,
    /// All its instances, ordered by id. Also those that take no calls.
    pub instances: Arc<[Arc<Instance>]>,
    /// Why this may not be the truth any more, where the backend does not answer.
    pub stale: Option<Arc<Stale>>,
    /// How many events a watcher has missed, because it read too rarely. None for all who only ask.
    pub missed: u64,
}

impl Snapshot {
    pub(super) fn empty(service: ServiceName) -> Self {
        Self { service, sequence: 0, instances: Arc::default(), stale: None, missed: 0 }
    }

    /// The instance of this id.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        let at = self.instances.binary_search_by(|instance| instance.id().cmp(id)).ok()?;
        self.instances.get(at)
    }

    /// All instances, ordered by id.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Instance>> {
        self.instances.iter()
    }

    /// How many instances there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is no instance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}

impl<'a> IntoIterator for &'a Snapshot {
    type Item = &'a Arc<Instance>;
    type IntoIter = std::slice::Iter<'a, Arc<Instance>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What a watch gives out.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// All that is known: first of all, and again for a watcher that fell behind. It replaces what came before.
    Snapshot(Arc<Snapshot>),
    /// What has changed since.
    Event(Event),
}

/// One change.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number. The first event after a snapshot has the number after the snapshot's, and none is left out.
    pub sequence: u64,
    /// What has changed.
    pub change: Change,
}

/// What has changed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An instance came.
    Added(Arc<Instance>),
    /// An instance is another: its health, weight, draining, metadata, address.
    Updated(Arc<Instance>),
    /// An instance is gone; this is how it was last known.
    Removed(Arc<Instance>, Gone),
    /// The backend does not answer: what is known stays, and may not be the truth any more.
    Stale(Arc<Stale>),
    /// The backend answers again.
    Fresh,
}

/// Why an instance is gone.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// It was deregistered.
    Deregistered,
    /// Its lease ran out.
    Expired,
    /// The backend does not name it any more.
    Left,
    /// The backend has failed for so long that nothing it said is believed any more.
    Invalidated,
}

impl Gone {
    /// The reason in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deregistered => "deregistered",
            Self::Expired => "expired",
            Self::Left => "left",
            Self::Invalidated => "invalidated",
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// That what is known may not be the truth any more.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Since when, by the wall clock, for people.
    pub since: SystemTime,
    /// Why: the backend's first error, or that it answered with nothing.
    pub why: String,
}
