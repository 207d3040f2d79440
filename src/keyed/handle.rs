use std::{fmt, sync::Arc};

use crate::{
    keyed::{
        Config, KeyedConfig, KeyedPolicy,
        key::{Key, Lookup},
        settings::Settings,
        table::{Entry, Table},
    },
    name::Name,
    settings::ConfigError,
    sync::{
        Counted, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Moment,
};

/// A policy for each key: the map, the switch and the eye.
///
/// Cheap to clone; all clones are one map. It is `by` something that finds the key that it becomes what a
/// [`KeyedLayer`](super::KeyedLayer) takes.
///
/// ```
/// use mainstay::{bulkhead, keyed::{Config, Tenants}};
///
/// let config = Config::new(bulkhead::Config::new(1)).key("gold", bulkhead::Config::new(2));
/// let tenants = Tenants::new("shop", config);
/// let held = tenants.get("acme").try_acquire()?;
/// assert!(tenants.get("acme").try_acquire().is_err());
/// assert!(tenants.get("gold").try_acquire().is_ok());
/// assert_eq!(tenants.snapshot().keys, 2);
/// # Ok::<(), mainstay::Rejection>(())
/// ```
pub struct Handle<K, P: KeyedPolicy> {
    pub(super) core: Arc<Core<K, P>>,
}

pub(super) struct Core<K, P: KeyedPolicy> {
    pub(super) table: Table<K, P>,
    pub(super) others: Counted<Entry<K, P>>,
    pub(super) strangers: AtomicU64,
    pub(super) keyless: AtomicU64,
    pub(super) settings: RwLock<Arc<Settings<K, P::Config>>>,
    pub(super) name: Name,
}

impl<K: Key, P: KeyedPolicy> Handle<K, P> {
    /// A policy for each key, with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible, with all that is wrong as the message. For values from outside, use
    /// [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new<C>(name: &str, config: Config<K, C>) -> Self
    where
        C: KeyedConfig<Policy = P>,
        P: KeyedPolicy<Config = C>,
    {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("keyed {} {name:?}: {error}", P::KIND),
        }
    }

    /// A policy for each key, with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings: see [`Name::new`] and [`Config::check`].
    pub fn try_new<C>(name: &str, config: Config<K, C>) -> Result<Self, ConfigError>
    where
        C: KeyedConfig<Policy = P>,
        P: KeyedPolicy<Config = C>,
    {
        let name = Name::with_settings(name, config.check())?;
        let settings = Settings::new(config);
        let core = Core {
            table: Table::new(settings.terms().max_keys),
            others: settings.make(&name, None, 0),
            strangers: AtomicU64::new(0),
            keyless: AtomicU64::new(0),
            settings: RwLock::new(Arc::new(settings)),
            name,
        };
        let handle = Self { core: Arc::new(core) };
        handle.list_keys();
        Ok(handle)
    }

    /// The name, which the policies of all keys bear: what they say and count does not grow with the number of keys.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// The policy of a key, a new one if the key was not known; the [others'](Self::others) when there is no room for
    /// it. As long as somebody has it, the key does not leave.
    #[must_use]
    pub fn get(&self, key: impl Lookup<K>) -> P {
        self.entry(key, &mut Moment::new()).policy.clone()
    }

    /// The policy of a key that is known. Does not count as use of the key.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "a key is handed over as everywhere, by value or by reference")]
    pub fn peek(&self, key: impl Lookup<K>) -> Option<P> {
        let table = &self.core.table;
        table.find(table.hash(&key), |known| key.is(known)).map(|entry| entry.policy.clone())
    }

    /// The policy that all calls without a key of their own share.
    #[must_use]
    pub fn others(&self) -> P {
        self.core.others.policy.clone()
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// The entry of a key: what a call holds from here to its end.
    #[inline]
    pub(super) fn entry(&self, key: impl Lookup<K>, now: &mut Moment) -> Counted<Entry<K, P>> {
        let table = &self.core.table;
        let hash = table.hash(&key);
        match table.find(hash, |known| key.is(known)) {
            Some(entry) => {
                entry.touch(now);
                entry
            }
            None => match key.into_key() {
                Ok(key) => self.add(key, hash, now),
                Err(_) => self.entry_of_keyless(),
            },
        }
    }

    /// The entry of a call without a key.
    pub(super) fn entry_of_keyless(&self) -> Counted<Entry<K, P>> {
        self.core.keyless.fetch_add(1, Relaxed);
        Counted::clone(&self.core.others)
    }

    fn entry_of_stranger(&self) -> Counted<Entry<K, P>> {
        self.core.strangers.fetch_add(1, Relaxed);
        Counted::clone(&self.core.others)
    }

    #[cold]
    fn add(&self, key: K, hash: u64, now: &mut Moment) -> Counted<Entry<K, P>> {
        let core = &*self.core;
        let mut settings = self.settings();
        let Some(mut room) = core.table.room(hash, &settings.terms(), now) else {
            // Somebody else may just have brought it.
            return core.table.find(hash, |known| *known == key).unwrap_or_else(|| self.entry_of_stranger());
        };
        let mut key = Some(key);
        loop {
            let entry = settings.make(&core.name, key, hash);
            entry.touch(now);
            match core.table.add(room, &entry, || core.settings.read().version == settings.version) {
                Ok(entry) => return entry,
                Err(again) => (room, key, settings) = (again, entry.key.clone(), self.settings()),
            }
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings<K, P::Config>> {
        Arc::clone(&self.core.settings.read())
    }

    /// Has every key with settings of its own be there.
    pub(super) fn list_keys(&self) {
        for (key, _) in &self.settings().config.keys {
            let _ = self.entry(key, &mut Moment::new());
        }
    }
}

impl<K, P: KeyedPolicy> Clone for Handle<K, P> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<K, P: KeyedPolicy> fmt::Debug for Handle<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.core.name)
            .field("of", &P::KIND)
            .field("keys", &self.core.table.len())
            .finish_non_exhaustive()
    }
}
