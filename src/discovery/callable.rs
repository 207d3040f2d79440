//! Which instances may be called, and what of an update changes that. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    contract::{HealthStatus, Instance, InstanceId},
    discovery::update::{Change, Update},
};

#[derive(Debug, Default)]
pub(super) struct Callable(BTreeMap<InstanceId, Arc<Instance>>);

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Insert(Arc<Instance>),
    Remove(InstanceId),
}

fn is_callable(instance: &Instance) -> bool {
    instance.takes_calls() && instance.health().status() != HealthStatus::Unhealthy
}

/// Whether a service made for one serves the other too. Health and weight are not what it is made of.
fn is_same_service(a: &Instance, b: &Instance) -> bool {
    (a.host(), a.port(), a.protocol()) == (b.host(), b.port(), b.protocol())
        && (a.version(), a.metadata()) == (b.version(), b.metadata())
}

impl Callable {
    /// What to do, in order.
    pub(super) fn apply(&mut self, update: &Update, steps: &mut VecDeque<Step>) {
        match update {
            Update::Snapshot(all) => {
                let gone: Vec<InstanceId> = self.0.keys().filter(|id| all.get(id).is_none()).cloned().collect();
                gone.iter().for_each(|id| self.remove(id, steps));
                all.iter().for_each(|instance| self.put(instance, steps));
            }
            Update::Event(event) => match &event.change {
                Change::Added(instance) | Change::Updated(instance) => self.put(instance, steps),
                Change::Removed(instance, _) => self.remove(instance.id(), steps),
                Change::Stale(_) | Change::Fresh => {}
            },
        }
    }

    fn put(&mut self, instance: &Arc<Instance>, steps: &mut VecDeque<Step>) {
        if !is_callable(instance) {
            return self.remove(instance.id(), steps);
        }
        let before = self.0.insert(instance.id().clone(), Arc::clone(instance));
        if before.is_none_or(|before| !is_same_service(&before, instance)) {
            steps.push_back(Step::Insert(Arc::clone(instance)));
        }
    }

    fn remove(&mut self, id: &InstanceId, steps: &mut VecDeque<Step>) {
        if self.0.remove(id).is_some() {
            steps.push_back(Step::Remove(id.clone()));
        }
    }
}
