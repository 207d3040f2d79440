//! The services by name. Nobody's code runs under its lock, nor is any dropped there.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use crate::{
    contract::ServiceName,
    isolation::{
        entry::{Entry, GONE},
        error::IsolationError,
        plan::Plan,
    },
    sync::{RwLock, atomic::Ordering::Release},
};

type Plans<Req, T, E> = HashMap<ServiceName, Arc<Plan<Req, T, E>>>;

pub(super) struct Table<Req, T, E>(RwLock<Plans<Req, T, E>>);

impl<Req, T, E> Table<Req, T, E> {
    pub(super) fn new() -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    pub(super) fn get(&self, service: &str) -> Option<Arc<Plan<Req, T, E>>> {
        self.0.read().get(service).map(Arc::clone)
    }

    /// The plan of this registration of a service, not of a later one by the same name.
    pub(super) fn of(&self, entry: &Arc<Entry>) -> Option<Arc<Plan<Req, T, E>>> {
        self.get(entry.name.as_str()).filter(|plan| Arc::ptr_eq(&plan.entry, entry))
    }

    /// Ordered by name.
    pub(super) fn all(&self) -> Vec<Arc<Plan<Req, T, E>>> {
        let mut all: Vec<_> = self.0.read().values().map(Arc::clone).collect();
        all.sort_unstable_by(|a, b| a.entry.name.cmp(&b.entry.name));
        all
    }

    pub(super) fn add(&self, plan: &Arc<Plan<Req, T, E>>) -> Result<(), IsolationError> {
        let service = plan.entry.name.clone();
        match self.0.write().entry(service) {
            hash_map::Entry::Vacant(place) => {
                place.insert(Arc::clone(plan));
                Ok(())
            }
            hash_map::Entry::Occupied(place) => Err(IsolationError::Duplicate { service: place.key().clone() }),
        }
    }

    /// Puts a plan in place of the one it was made from. `false` when that is not in force any more. Both are held by
    /// the caller, so that neither ends under the lock.
    pub(super) fn replace(&self, old: &Arc<Plan<Req, T, E>>, new: &Arc<Plan<Req, T, E>>) -> bool {
        let mut plans = self.0.write();
        let Some(plan) = plans.get_mut(new.entry.name.as_str()).filter(|plan| Arc::ptr_eq(plan, old)) else {
            return false;
        };
        *plan = Arc::clone(new);
        // After the plan: who sees the version finds the plan.
        new.entry.version.store(new.version, Release);
        true
    }

    pub(super) fn remove(&self, service: &str) -> Option<Arc<Plan<Req, T, E>>> {
        let mut plans = self.0.write();
        let plan = plans.remove(service)?;
        plan.entry.version.store(GONE, Release);
        Some(plan)
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().len()
    }
}
