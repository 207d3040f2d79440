use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::{
    balance::{config::Config, core::Core, snapshot::Snapshot},
    breaker,
    contract::{Instance, InstanceId},
    name::Name,
    observe::Observer,
    settings::ConfigError,
    time::Tick,
};

/// The instances of one service, and how each of them does: what a [`Balance`](super::Balance) picks from.
///
/// Cheap to clone; all clones are one set. Whoever knows the instances, discovery for one, tells it of them; every
/// balancer over it follows with its next call.
///
/// ```
/// use std::sync::Arc;
/// use mainstay::{balance::{Config, Handle}, contract::Instance};
///
/// let users = Handle::new("users", Config::new());
/// let first = Arc::new(Instance::new("users", "users-1", "10.0.0.7", 8080)?);
/// users.insert(Arc::clone(&first), "a client of 10.0.0.7:8080");
/// assert_eq!(users.len(), 1);
///
/// // It is about to go: no new calls, and all that is known of it stays.
/// users.update(&Arc::new(Instance::clone(&first).with_draining(true)));
/// assert_eq!(users.snapshot().usable, 0);
/// assert!(users.remove(first.id()));
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
pub struct Handle<S> {
    pub(super) core: Arc<Core<S>>,
}

impl<S> Handle<S> {
    /// An empty set with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("balance {name:?}: {error}"),
        }
    }

    /// An empty set with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings.
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Core::new(name, config) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.hub.name
    }

    /// How many members there are, whether they get calls or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.locked(|state| state.members.len())
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members, in the order of their ids.
    #[must_use]
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.core.locked(|state| state.members.values().map(|entry| Arc::clone(&entry.instance)).collect())
    }

    /// A member that has come, and the service that calls it. One that had the same id goes: this one is new, and
    /// nothing is known of it.
    pub fn insert(&self, instance: Arc<Instance>, service: S) {
        let now = Tick::now();
        self.core.locked(|state| self.core.put(state, instance, service, now));
    }

    /// A member says something else of its health, weight, draining or metadata; whether there is such a member. It
    /// keeps its service and all that is known of it. One at another address is another: it is not updated, because its
    /// service would go on calling the old one; [`insert`](Self::insert) it.
    pub fn update(&self, instance: &Arc<Instance>) -> bool {
        self.core.locked(|state| Core::restate(state, instance))
    }

    /// A member has gone; whether there was one. Calls that run end as they do.
    pub fn remove(&self, id: &InstanceId) -> bool {
        self.core.locked(|state| Core::take_out(state, id))
    }

    /// The members are these, and no others: those that are new come with the service that `make` gives them, those
    /// that are known are updated, the rest is removed. All at once: no call sees half of it.
    ///
    /// `make` runs under no lock. A member that is known by its id keeps its service: one that moved to another address
    /// under the same id is replaced.
    pub fn sync(&self, instances: impl IntoIterator<Item = Arc<Instance>>, mut make: impl FnMut(&Arc<Instance>) -> S) {
        let instances: Vec<Arc<Instance>> = instances.into_iter().collect();
        let known = |state: &mut super::core::State<S>, instance: &Arc<Instance>| {
            state.members.get(instance.id()).is_some_and(|entry| entry.instance.authority() == instance.authority())
        };
        let new: Vec<bool> =
            self.core.locked(|state| instances.iter().map(|instance| !known(state, instance)).collect());
        let made: Vec<Option<S>> =
            instances.iter().zip(new).map(|(instance, new)| new.then(|| make(instance))).collect();
        let now = Tick::now();
        self.core.locked(|state| {
            let named: BTreeSet<&InstanceId> = instances.iter().map(|instance| instance.id()).collect();
            let gone: Vec<InstanceId> = state.members.keys().filter(|id| !named.contains(id)).cloned().collect();
            for id in &gone {
                Core::take_out(state, id);
            }
            for (instance, service) in instances.iter().zip(made) {
                match service {
                    // Somebody else brought it meanwhile, or it is named twice.
                    Some(service) if known(state, instance) => {
                        Core::restate(state, instance);
                        Core::discard(state, service);
                    }
                    Some(service) => self.core.put(state, Arc::clone(instance), service, now),
                    None => {
                        Core::restate(state, instance);
                    }
                }
            }
        });
    }

    /// Gives a member no calls until [`readmit`](Self::readmit); whether it had some until now. As if it were draining:
    /// it is not taken back in a panic either.
    pub fn eject(&self, id: &InstanceId) -> bool {
        self.core.eject_by_hand(id)
    }

    /// Takes a member back, whoever has ejected it; whether it was out.
    pub fn readmit(&self, id: &InstanceId) -> bool {
        self.core.readmit(id)
    }

    /// The breaker of a member, when there is such a member and the settings give each a breaker.
    #[must_use]
    pub fn breaker(&self, id: &InstanceId) -> Option<breaker::Handle> {
        self.core.locked(|state| state.members.get(id).and_then(|entry| entry.member.breaker.clone()))
    }

    /// Changes the settings under traffic. What is known of the members stays; ejections that have begun end when they
    /// were going to; the next sweep is due one interval after the last.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, and a `breaker` that comes, goes or looks at another window: what the
    /// breakers know could not be kept. The settings are then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.core.reconfigure(config)
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.locked(|state| state.config.clone())
    }

    /// Has an observer told of ejections, readmissions, panics, and calls for which there was no instance; and of what
    /// happens to the breakers of instances, by their own names.
    pub fn observe(&self, observer: impl Observer) {
        self.core.hub.sink.add(observer);
    }

    /// What it knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", self.name()).field("members", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::core::tests::instance;

    #[test]
    fn one_that_is_named_twice_or_has_come_meanwhile_keeps_its_service() {
        let handle = Handle::new("users", Config::new());
        let [one, two] = [0, 1].map(|number| Arc::new(instance(number)));
        let mut made = 10;
        handle.sync([Arc::clone(&one), Arc::clone(&two), Arc::clone(&one)], |instance| {
            made += 1;
            if instance.id() == two.id() {
                handle.insert(Arc::clone(instance), 7);
            }
            made
        });
        let services = handle.core.locked(|state| state.members.values().map(|entry| entry.member.service).collect());
        assert_eq!((made, services), (13, vec![11, 7]));
    }
}
