//! What an operator says of an instance, and the instance of itself. Pure: time comes in as an argument.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    contract::{Health, HealthStatus, Instance, InstanceId},
    time::Tick,
};

/// What operators say of one service's instances. By hand, so there are few.
#[derive(Debug, Default)]
pub(super) struct Overrides(BTreeMap<InstanceId, Override>);

#[derive(Debug)]
struct Override {
    // None once the word was taken back: what is shown holds until the instance says something.
    health: Option<Health>,
    // What the instance says of itself, while it is there.
    own: Option<Arc<Instance>>,
    // Until when this is kept, while it is not.
    until: Tick,
}

/// An instance as it is shown: the operator's word counts, unless the instance says that it is down. It knows that
/// best.
fn shown(own: &Arc<Instance>, health: &Health) -> Arc<Instance> {
    if own.health().status() == HealthStatus::Unhealthy {
        return Arc::clone(own);
    }
    Arc::new(Instance::clone(own).with_health(health.clone()))
}

impl Overrides {
    /// The instance came, or is another: how it is shown.
    pub(super) fn show(&mut self, own: Arc<Instance>, now: Tick) -> Arc<Instance> {
        let Some(over) = self.0.get_mut(own.id()) else { return own };
        let forgotten = over.own.is_none() && over.until <= now;
        let Some(health) = over.health.as_ref().filter(|_| !forgotten) else {
            self.0.remove(own.id());
            return own;
        };
        let instance = shown(&own, health);
        over.own = Some(own);
        instance
    }

    /// The instance is gone.
    pub(super) fn leave(&mut self, id: &InstanceId, until: Tick) {
        match self.0.get_mut(id) {
            Some(over) if over.health.is_some() => (over.own, over.until) = (None, until),
            Some(_) => drop(self.0.remove(id)),
            None => {}
        }
    }

    /// An operator's word on an instance that is shown as given: how it is shown from now on.
    pub(super) fn set(&mut self, instance: &Arc<Instance>, health: Health, now: Tick) -> Arc<Instance> {
        self.forget(now);
        let before = self.0.remove(instance.id()).and_then(|over| over.own);
        let own = before.unwrap_or_else(|| Arc::clone(instance));
        let shown = shown(&own, &health);
        self.0.insert(instance.id().clone(), Override { health: Some(health), own: Some(own), until: Tick::NEVER });
        shown
    }

    /// Takes an operator's word back: what the instance last said of itself, if it is there. `None` if there was no
    /// word. Where something else is shown for the time being, what it said is kept for the next word.
    pub(super) fn remove(&mut self, id: &InstanceId, for_now: bool) -> Option<Option<Arc<Instance>>> {
        let over = self.0.get_mut(id)?;
        over.health.take()?;
        let own = over.own.clone();
        if !for_now || own.is_none() {
            self.0.remove(id);
        }
        Some(own)
    }

    /// Forgets what waits for instances that did not come back in time.
    pub(super) fn forget(&mut self, now: Tick) {
        self.0.retain(|_, over| over.own.is_some() || over.until > now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use HealthStatus::{Degraded, Healthy, Unhealthy};

    use super::*;

    fn instance(status: HealthStatus) -> Arc<Instance> {
        Arc::new(Instance::new("users", "a", "10.0.0.1", 80).unwrap().with_health(status))
    }

    #[test]
    fn the_operators_word_counts_unless_the_instance_is_down() {
        for (own, word, expected) in [
            (Healthy, Unhealthy, Unhealthy),
            (Healthy, Degraded, Degraded),
            (Degraded, Healthy, Healthy),
            (Degraded, Unhealthy, Unhealthy),
            (Unhealthy, Healthy, Unhealthy),
            (Unhealthy, Degraded, Unhealthy),
        ] {
            let mut overrides = Overrides::default();
            let shown = overrides.set(&instance(own), word.into(), Tick::default());
            assert_eq!(shown.health().status(), expected, "{own} {word}");
            assert_eq!(overrides.show(instance(own), Tick::default()).health().status(), expected);
            let own_again = overrides.remove(shown.id(), false).unwrap().unwrap();
            assert_eq!(own_again.health().status(), own);
            assert!(overrides.remove(shown.id(), false).is_none() && overrides.is_empty());
        }
    }

    #[test]
    fn a_word_waits_for_an_instance_that_is_gone_but_not_for_ever() {
        for (back_at, expected) in [(99, Unhealthy), (100, Healthy)] {
            let mut overrides = Overrides::default();
            let id = instance(Healthy).id().clone();
            overrides.set(&instance(Healthy), Unhealthy.into(), Tick::default());
            overrides.leave(&id, Tick::from_nanos(100));
            overrides.forget(Tick::from_nanos(99));
            assert!(!overrides.is_empty());
            let back = overrides.show(instance(Healthy), Tick::from_nanos(back_at));
            assert_eq!(back.health().status(), expected);
            assert_eq!(overrides.is_empty(), expected == Healthy);
        }
    }

    #[test]
    fn nothing_is_kept_of_who_did_not_come_back_and_of_who_has_no_word() {
        let id = instance(Healthy).id().clone();
        let mut overrides = Overrides::default();
        overrides.set(&instance(Healthy), Unhealthy.into(), Tick::default());
        overrides.leave(&id, Tick::from_nanos(100));
        overrides.forget(Tick::from_nanos(100));
        assert!(overrides.is_empty());
        // Its word was taken back for the time being, and then it left.
        overrides.set(&instance(Healthy), Unhealthy.into(), Tick::default());
        assert!(overrides.remove(&id, true).is_some() && !overrides.is_empty());
        overrides.leave(&id, Tick::from_nanos(100));
        assert!(overrides.is_empty());
    }
}
