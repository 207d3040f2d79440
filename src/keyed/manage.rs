//! The keys from outside: observers, settings, removal, and what is known of them.

use std::sync::Arc;

use crate::{
    keyed::{
        Config, Handle, KeySnapshot, KeyedConfig, KeyedPolicy, Snapshot,
        handle::Core,
        key::{Key, Lookup},
        settings::Settings,
        table::Entry,
        watch::{Post, Watch},
    },
    observe::{Event, Observer},
    settings::ConfigError,
    sync::{Counted, atomic::Ordering::Relaxed},
    time::Moment,
};

impl<K: Key, P: KeyedPolicy> Handle<K, P> {
    /// Has an observer told of what happens to the policies of all keys, and to that of the others. An event says the
    /// name of this handle; for its key, use [`observe_keys`](Self::observe_keys).
    pub fn observe(&self, observer: impl Observer) {
        self.observe_keys(move |_, event| observer.on_event(event));
    }

    /// Like [`observe`](Self::observe), with the key it happened to; none for what happened to the others' policy.
    ///
    /// ```
    /// use mainstay::{breaker, keyed::{Config, Tenant, Tenants}, observe::Event};
    ///
    /// let tenants = Tenants::new("shop", Config::new(breaker::Config::tenant()));
    /// tenants.observe_keys(|tenant: Option<&Tenant>, event: &Event<'_>| {
    ///     if let Event::Transition(change) = event {
    ///         eprintln!("the circuit of {tenant:?} is {}", change.to);
    ///     }
    /// });
    /// ```
    pub fn observe_keys(&self, observer: impl Fn(Option<&K>, &Event<'_>) + Send + Sync + 'static) {
        let watch = Arc::new(Watch::new(observer));
        let version = self.change(|settings| settings.watched(&watch));
        // Those that were made since have it already.
        for entry in self.all().iter().filter(|entry| entry.version < version) {
            entry.policy.observe(Post { watch: Arc::clone(&watch), key: entry.key.clone() });
        }
    }

    /// Replaces the settings; the version of the new ones. They are made and dropped outside of the lock, because keys
    /// are the user's.
    fn change(&self, change: impl Fn(&Settings<K, P::Config>) -> Settings<K, P::Config>) -> u64 {
        loop {
            let before = self.settings();
            let new = Arc::new(change(&before));
            let version = new.version;
            let mut settings = self.core.settings.write();
            if settings.version == before.version {
                *settings = new;
                drop(settings);
                return version;
            }
            drop(settings);
        }
    }

    /// Changes the settings under traffic, those of all keys that are there too. A key that has settings of its own no
    /// more goes on with the default. When there are more keys than there may be from now on, those leave first that
    /// may, and the rest as they become free.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, and what the policies cannot change, a breaker's window for one; they are
    /// then as they were.
    pub fn reconfigure<C>(&self, config: Config<K, C>) -> Result<(), ConfigError>
    where
        C: KeyedConfig<Policy = P>,
        P: KeyedPolicy<Config = C>,
    {
        config.check()?;
        let new = Settings::new(config);
        for entry in self.all() {
            let (config, own) = new.of(entry.key.as_ref());
            let place = || match &entry.key {
                Some(key) if own => format!("keys[{key:?}]"),
                None if own => "others".to_owned(),
                _ => "default".to_owned(),
            };
            entry.policy.accepts(config).map_err(|error| error.within(&place()))?;
        }
        self.change(|settings| settings.configured(new.config.clone()));
        self.all().iter().for_each(|entry| self.bring_up_to_date(entry));
        self.list_keys();
        self.shrink();
        Ok(())
    }

    /// All entries, that of the others too.
    fn all(&self) -> Vec<Counted<Entry<K, P>>> {
        let mut all = self.core.table.entries();
        all.push(Counted::clone(&self.core.others));
        all
    }

    /// Gives a policy the settings of now: again if they were changed again meanwhile, so that the last ones stay.
    fn bring_up_to_date(&self, entry: &Entry<K, P>) {
        loop {
            let settings = self.settings();
            let key = entry.key.as_ref();
            let (config, is_listed) = settings.of(key);
            entry.listed.store(is_listed, Relaxed);
            if let Err(error) = entry.policy.reconfigure(config) {
                tracing::error!(policy = self.name().as_str(), %error, "a key's policy keeps its settings");
            }
            if self.settings().version == settings.version {
                return;
            }
        }
    }

    /// Lets as many keys leave as there are too many, as far as they may.
    fn shrink(&self) {
        let terms = self.settings().terms();
        let too_many = self.core.table.len().saturating_sub(terms.max_keys);
        for n in 0..too_many as u64 {
            drop(self.core.table.room(self.core.table.hash(&n), &terms, &mut Moment::new()));
        }
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config<K, P::Config> {
        self.settings().config.clone()
    }

    /// Lets every key leave now that was not asked for for [`idle_for`](Config::idle_for) and may leave; how many did.
    /// Without this they leave bit by bit, as other keys come. It looks at every key.
    pub fn sweep(&self) -> usize {
        let (terms, mut now) = (self.settings().terms(), Moment::new());
        self.core.table.sweep(|entry| Entry::is_idle(entry, &terms, &mut now))
    }

    /// Forgets a key, whatever its policy is at; a new one begins anew. Whether it did: a key that has settings of its
    /// own stays, and so does one of which a call runs or somebody has the policy, because two policies of one key
    /// would let in twice as much.
    #[allow(clippy::needless_pass_by_value, reason = "a key is handed over as everywhere, by value or by reference")]
    pub fn remove(&self, key: impl Lookup<K>) -> bool {
        let table = &self.core.table;
        table.find(table.hash(&key), |known| key.is(known)).is_some_and(|entry| table.remove(entry))
    }

    /// Begins anew with every key: circuits close, quotas are full. Calls that run go on, and so do bulkheads, which
    /// remember nothing else.
    pub fn reset(&self) {
        self.all().iter().for_each(|entry| entry.policy.reset());
    }

    /// What it knows of all keys together.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<P::Snapshot> {
        let core = &*self.core;
        Snapshot {
            policy: core.name.clone(),
            kind: "keyed",
            of: P::KIND,
            keys: core.table.len(),
            max_keys: self.settings().config.max_keys,
            left: core.table.left(),
            strangers: core.strangers.load(Relaxed),
            keyless: core.keyless.load(Relaxed),
            others: core.others.policy.snapshot(),
        }
    }

    /// The keys there are, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Ord,
    {
        let mut keys: Vec<K> = self.core.table.entries().iter().filter_map(|entry| entry.key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// What the policy of each key knows, in the order of the keys. For dashboards: it looks at every key.
    #[must_use]
    pub fn listing(&self) -> Vec<KeySnapshot<K, P::Snapshot>>
    where
        K: Ord,
    {
        let entries = self.core.table.entries();
        let of_key = |entry: &Counted<Entry<K, P>>| {
            let (listed, snapshot) = (entry.listed.load(Relaxed), entry.policy.snapshot());
            Some(KeySnapshot { key: entry.key.clone()?, listed, snapshot })
        };
        let mut listing: Vec<_> = entries.iter().filter_map(of_key).collect();
        listing.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        listing
    }

    /// Bytes of memory, without observers and without what keys have on the heap. It looks at every key.
    #[must_use]
    pub fn memory(&self) -> usize {
        let core = 2 * size_of::<usize>() + size_of::<Core<K, P>>();
        core + self.core.table.heap_size() + self.all().iter().map(|entry| entry.policy.memory()).sum::<usize>()
    }
}
