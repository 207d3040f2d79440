use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use crate::{
    fallback::{
        cache_config::CacheConfig,
        cached::Store,
        shard::{Bounds, Shard},
    },
    settings::ConfigError,
    sync::Mutex,
    time::Tick,
};

/// The last good answer for each key: so many at most, and none older than so long.
///
/// Cheap to clone; all clones are one. [`Fallback::cached`](super::Fallback::cached) makes one for itself;
/// [`Fallback::stored`](super::Fallback::stored) takes one that several fallbacks share.
///
/// A small map of our own and no cache crate: it needs no weights, no timers and no admission rule, and the crate would
/// be a dependency of everybody. Who has one already plugs it in as a [`Store`].
///
/// From 256 entries on it is in 16 parts with a lock each, and each part keeps its share of the entries: one that is
/// full lets its oldest go even if another has room. Nobody's `Hash`, `Eq`, `Clone` or `Drop` runs under a lock, and a
/// panic in one of them leaves everything as it was. Keys are hashed with a random key of the process, so that
/// strangers who choose keys cannot choose where they fall.
///
/// ```
/// use mainstay::fallback::{CacheConfig, LastGood, Store};
///
/// let answers = LastGood::new(CacheConfig::new().max_entries(2));
/// answers.put(&"a", &1);
/// answers.put(&"b", &2);
/// answers.put(&"c", &3);
/// assert_eq!([answers.get(&"a"), answers.get(&"b"), answers.get(&"c")], [None, Some(2), Some(3)]);
/// ```
pub struct LastGood<K, T> {
    shared: Arc<Shared<K, T>>,
}

struct Shared<K, T> {
    parts: Box<[Part<K, T>]>,
    config: CacheConfig,
    hasher: RandomState,
}

type Part<K, T> = Mutex<Shard<Arc<Entry<K, T>>>>;

struct Entry<K, T> {
    key: K,
    answer: T,
}

const PARTS: u32 = 16;
const WORTH_PARTS: u32 = 256;

impl<K, T> LastGood<K, T> {
    /// An empty one, with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(config: CacheConfig) -> Self {
        match Self::try_new(config) {
            Ok(answers) => answers,
            Err(error) => panic!("last good answers: {error}"),
        }
    }

    /// An empty one, with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn try_new(config: CacheConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let parts = if config.max_entries < WORTH_PARTS { 1 } else { PARTS };
        let parts = (0..parts).map(|_| Mutex::new(Shard::new())).collect();
        Ok(Self { shared: Arc::new(Shared { parts, config, hasher: RandomState::new() }) })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> CacheConfig {
        self.shared.config
    }

    /// How many answers there are, those that are too old among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.parts.iter().map(|part| part.lock().len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for part in &self.shared.parts {
            let left = std::mem::replace(&mut *part.lock(), Shard::new());
            drop(left);
        }
    }
}

impl<K: Hash, T> LastGood<K, T> {
    /// Forgets the answer for a key.
    pub fn forget(&self, key: &K) {
        let hash = self.shared.hasher.hash_one(key);
        let left = self.shared.part(hash).lock().remove(hash);
        drop(left);
    }
}

impl<K, T> Shared<K, T> {
    /// The map in a part goes by other bits of the hash than this.
    fn part(&self, hash: u64) -> &Part<K, T> {
        &self.parts[(hash >> 32) as usize % self.parts.len()]
    }

    fn bounds(&self) -> Bounds {
        // Rounded down, so that all parts together never hold more than was said.
        Bounds { most: self.config.max_entries as usize / self.parts.len(), max_age: self.config.max_age }
    }
}

impl<K, T> Store<K, T> for LastGood<K, T>
where
    K: Hash + Eq + Clone,
    T: Clone,
{
    fn get(&self, key: &K) -> Option<T> {
        let shared = &*self.shared;
        let hash = shared.hasher.hash_one(key);
        let found = shared.part(hash).lock().get(hash).map(|(entry, written)| (Arc::clone(entry), written));
        let (entry, written) = found?;
        // Two keys with one hash of 64 bits are as good as impossible, and still must not get each other's answer.
        let fits = entry.key == *key && Tick::now().since(written) <= shared.config.max_age;
        fits.then(|| entry.answer.clone())
    }

    fn put(&self, key: &K, answer: &T) {
        let shared = &*self.shared;
        let (hash, now) = (shared.hasher.hash_one(key), Tick::now());
        let part = shared.part(hash);
        let written = part.lock().get(hash).map(|(_, written)| written);
        if written.is_some_and(|written| now.since(written) < shared.config.refresh) {
            return;
        }
        let entry = Arc::new(Entry { key: key.clone(), answer: answer.clone() });
        let left = part.lock().put(hash, entry, now, shared.bounds());
        drop(left);
    }
}

impl<K, T> Clone for LastGood<K, T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, T> fmt::Debug for LastGood<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood").field("entries", &self.len()).finish_non_exhaustive()
    }
}
