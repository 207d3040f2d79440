//! What the policies of all keys are made with.

use std::{collections::HashMap, sync::Arc};

use crate::{
    keyed::{
        Config, KeyedConfig, KeyedPolicy,
        key::Key,
        table::{Entry, Terms},
        watch::{Post, Watch},
    },
    name::Name,
    sync::{Counted, atomic::Ordering::Relaxed},
};

/// Replaced as a whole: a policy that was made with those of before is found out by their version.
#[derive(Debug)]
pub(super) struct Settings<K, C> {
    pub(super) version: u64,
    pub(super) config: Config<K, C>,
    watches: Vec<Arc<Watch<K>>>,
    // Where in the configuration a key is.
    listed: HashMap<K, usize>,
}

impl<K: Key, C: KeyedConfig> Settings<K, C> {
    pub(super) fn new(config: Config<K, C>) -> Self {
        Self { version: 0, watches: Vec::new(), listed: listed(&config), config }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms { max_keys: self.config.max_keys, idle_for: self.config.idle_for }
    }

    /// The settings of a key's policy, or of that of the others, and whether they are its own.
    pub(super) fn of(&self, key: Option<&K>) -> (&C, bool) {
        let own = match key {
            Some(key) => self.listed.get(key).map(|at| &self.config.keys[*at].1),
            None => self.config.others.as_ref(),
        };
        (own.unwrap_or(&self.config.default), own.is_some())
    }

    pub(super) fn make(&self, name: &Name, key: Option<K>, hash: u64) -> Counted<Entry<K, C::Policy>> {
        let (config, is_listed) = self.of(key.as_ref());
        let policy = C::Policy::make(name, config);
        for watch in &self.watches {
            policy.observe(Post { watch: Arc::clone(watch), key: key.clone() });
        }
        let entry = Entry::new(policy, key, hash, self.version);
        entry.listed.store(is_listed, Relaxed);
        Counted::new(entry)
    }

    /// The same with another configuration.
    pub(super) fn configured(&self, config: Config<K, C>) -> Self {
        Self { version: self.version + 1, watches: self.watches.clone(), listed: listed(&config), config }
    }

    /// The same with one more observer.
    pub(super) fn watched(&self, watch: &Arc<Watch<K>>) -> Self {
        let watches = self.watches.iter().chain([watch]).cloned().collect();
        let (config, listed) = (self.config.clone(), self.listed.clone());
        Self { version: self.version + 1, config, watches, listed }
    }
}

fn listed<K: Key, C>(config: &Config<K, C>) -> HashMap<K, usize> {
    config.keys.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect()
}
