use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    contract::{Instance, InstanceId, ServiceName},
    discovery::{
        config::Config,
        hold::Answer,
        topic::{Counts, Topic},
        update::{Gone, Snapshot},
        watch::Watch,
    },
    settings::ConfigError,
    time::Tick,
};

/// Where a backend puts what it learns about one service: its watchers hear of what is different.
///
/// For backends over a network, which poll or are told: whole sets are compared with what is known, an error keeps the
/// known set and says that it is stale, and an answer without instances after one that had some is doubted for
/// [a while](Config::empty_grace). Cheap to clone; all clones are one, and with the last one the watches end.
///
/// ```
/// use mainstay::{contract::{Instance, ServiceName}, discovery::{Config, Publisher}};
///
/// let users = Publisher::new(ServiceName::new("users")?, Config::new());
/// users.publish([Instance::new("users", "a", "10.0.0.7", 80)?, Instance::new("users", "b", "10.0.0.8", 80)?]);
/// users.fail("connection refused");
/// let known = users.snapshot();
/// assert_eq!(known.len(), 2);
/// assert_eq!(known.stale.as_ref().unwrap().why, "connection refused");
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    topic: Arc<Topic>,
}

impl Publisher {
    /// A publisher with settings that are written in code. Nothing is known yet.
    ///
    /// # Panics
    ///
    /// When a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(service: ServiceName, config: Config) -> Self {
        match Self::try_new(service, config) {
            Ok(publisher) => publisher,
            Err(error) => panic!("publisher: {error}"),
        }
    }

    /// A publisher with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    #[expect(clippy::needless_pass_by_value, reason = "as everywhere")]
    pub fn try_new(service: ServiceName, config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let topic = Topic::new(service, &config, Arc::new(Counts::default()));
        Ok(Self { shared: Arc::new(Shared { topic }) })
    }

    /// All instances are these: the backend answers. The same set again is no change. Of two with one id, the last
    /// counts; those of other services are left out.
    pub fn publish(&self, instances: impl IntoIterator<Item = Instance>) {
        let topic = &self.shared.topic;
        let ours = |instance: &Instance| self.is_ours(instance);
        let set: BTreeMap<InstanceId, Arc<Instance>> =
            instances.into_iter().filter(ours).map(|instance| (instance.id().clone(), Arc::new(instance))).collect();
        let now = Tick::now();
        topic.with(now, |state| match state.hold.on_set(set.is_empty(), state.log.len() > 0, now) {
            Answer::Take => {
                state.log.replace(&set, Gone::Left);
                state.log.set_fresh();
            }
            Answer::Doubt => {
                state.set_stale("the backend answered with no instances");
            }
        });
    }

    /// One instance came, or is another: the backend answers.
    pub fn put(&self, instance: Instance) {
        if self.is_ours(&instance) {
            let now = Tick::now();
            self.shared.topic.with(now, |state| {
                state.hold.on_change();
                state.put(Arc::new(instance), now);
                state.log.set_fresh();
            });
        }
    }

    /// One instance is gone: the backend answers. Whether it was known.
    pub fn remove(&self, id: &InstanceId) -> bool {
        let now = Tick::now();
        self.shared.topic.with(now, |state| {
            state.hold.on_change();
            let known = state.take(id, Gone::Left, now);
            state.log.set_fresh();
            known
        })
    }

    /// The backend does not answer. What is known stays, and is said to be stale from the first error on.
    pub fn fail(&self, why: impl fmt::Display) {
        let (now, why) = (Tick::now(), why.to_string());
        let is_new = self.shared.topic.with(now, |state| {
            state.hold.on_error(now);
            state.set_stale(&*why)
        });
        let (service, error) = (self.service().as_str(), why);
        if is_new {
            tracing::warn!(service, error, "the backend does not answer");
        } else {
            tracing::debug!(service, error, "the backend does not answer");
        }
    }

    /// What is known.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.topic.snapshot()
    }

    /// Follows what is known.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.shared.topic.watch()
    }

    /// How many watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.shared.topic.with(Tick::now(), |state| state.log.watchers())
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.shared.topic.service()
    }

    fn is_ours(&self, instance: &Instance) -> bool {
        let ours = instance.service() == self.service();
        if !ours {
            let (service, id) = (self.service().as_str(), instance.id().as_str());
            tracing::warn!(service, instance = id, "an instance of another service is left out");
        }
        ours
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.topic.close();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("service", self.service()).finish_non_exhaustive()
    }
}
