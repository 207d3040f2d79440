use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
};

use crate::fallback::strategy::Strategy;

/// Where good answers are kept.
///
/// [`LastGood`](super::LastGood) is the one that comes with the crate. A cache crate is plugged in with one impl, here
/// with the two methods that most of them have (moka's own look just so; one that reads with `await` does not fit here,
/// and is a [`Strategy`] instead):
///
/// ```
/// # use std::{collections::HashMap, sync::Mutex};
/// # struct Cache<K, T>(Mutex<HashMap<K, T>>);
/// # impl<K: std::hash::Hash + Eq, T: Clone> Cache<K, T> {
/// #     fn get(&self, key: &K) -> Option<T> { self.0.lock().unwrap().get(key).cloned() }
/// #     fn insert(&self, key: K, answer: T) { self.0.lock().unwrap().insert(key, answer); }
/// # }
/// use mainstay::fallback::{Fallback, Store};
///
/// struct Ours(Cache<u64, String>);
///
/// impl Store<u64, String> for Ours {
///     fn get(&self, key: &u64) -> Option<String> {
///         self.0.get(key)
///     }
///     fn put(&self, key: &u64, answer: &String) {
///         self.0.insert(*key, answer.clone());
///     }
/// }
///
/// # let cache = Cache(Mutex::default());
/// let fallback = Fallback::stored(Ours(cache), |id: &u64| Some(*id));
/// ```
pub trait Store<K, T> {
    /// The last good answer for a key, unless there is none or it is too old.
    fn get(&self, key: &K) -> Option<T>;

    /// A good answer. Called for every one: it is up to the store whether this one is worth a clone.
    fn put(&self, key: &K, answer: &T);
}

impl<K, T, M: Store<K, T>> Store<K, T> for Arc<M> {
    fn get(&self, key: &K) -> Option<T> {
        M::get(self, key)
    }

    fn put(&self, key: &K, answer: &T) {
        M::put(self, key, answer);
    }
}

/// The last good answer to the same question. Made by [`Fallback::cached`](super::Fallback::cached) and
/// [`Fallback::stored`](super::Fallback::stored).
#[derive(Clone)]
pub struct Cached<M, F> {
    pub(super) store: M,
    pub(super) key: F,
}

impl<Req, T, E, K, M, F> Strategy<Req, T, E> for Cached<M, F>
where
    M: Store<K, T>,
    F: Fn(&Req) -> Option<K>,
{
    type Kept = Option<K>;
    type Future = Ready<Result<T, E>>;

    #[inline]
    fn keep(&self, request: &mut Req) -> Option<K> {
        (self.key)(request)
    }

    fn succeeded(&self, kept: &Option<K>, response: &T) {
        if let Some(key) = kept {
            self.store.put(key, response);
        }
    }

    fn fall_back(&self, kept: &mut Option<K>, _: Result<&T, &E>) -> Option<Self::Future> {
        self.store.get(kept.as_ref()?).map(|answer| ready(Ok(answer)))
    }
}

impl<M: fmt::Debug, F> fmt::Debug for Cached<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("store", &self.store).finish_non_exhaustive()
    }
}
