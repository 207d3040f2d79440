//! Where keys come from, and what they are looked up by.

use std::{fmt, hash::Hash, sync::Arc};

use crate::settings::ConfigError;

/// What a key must be able to do. Whatever can do it is one.
pub trait Key: Eq + Hash + Clone + fmt::Debug + Send + Sync + 'static {}

impl<K: Eq + Hash + Clone + fmt::Debug + Send + Sync + 'static> Key for K {}

/// Something that finds a key: the key itself, a reference to it, or, where keys are text, a `&str`, so that nothing is
/// allocated for a key that is known.
///
/// It must hash as the key does.
pub trait Lookup<K>: Hash {
    /// Whether this is the key.
    fn is(&self, key: &K) -> bool;

    /// The key, for one that was not known yet.
    ///
    /// # Errors
    ///
    /// What is wrong, when this cannot be a key. Such a call is one without a key.
    fn into_key(self) -> Result<K, ConfigError>;
}

impl<K: Key> Lookup<K> for K {
    #[inline]
    fn is(&self, key: &K) -> bool {
        self == key
    }

    fn into_key(self) -> Result<K, ConfigError> {
        Ok(self)
    }
}

impl<K: Key> Lookup<K> for &K {
    #[inline]
    fn is(&self, key: &K) -> bool {
        *self == key
    }

    fn into_key(self) -> Result<K, ConfigError> {
        Ok(self.clone())
    }
}

impl Lookup<String> for &str {
    #[inline]
    fn is(&self, key: &String) -> bool {
        self == key
    }

    fn into_key(self) -> Result<String, ConfigError> {
        Ok(self.to_owned())
    }
}

impl Lookup<Arc<str>> for &str {
    #[inline]
    fn is(&self, key: &Arc<str>) -> bool {
        **self == **key
    }

    fn into_key(self) -> Result<Arc<str>, ConfigError> {
        Ok(self.into())
    }
}

/// Knows the key of a request.
///
/// A closure that gives the key does, through [`key_fn`], and one that gives a `&str` out of the request, through
/// [`str_key_fn`]. For more, implement the trait:
///
/// ```
/// use mainstay::keyed::KeyOf;
///
/// struct Order { shop: String, region: u8 }
///
/// struct ByRegion;
///
/// impl KeyOf<Order, u8> for ByRegion {
///     type Key<'a> = u8;
///
///     fn key<'a>(&'a self, order: &'a Order) -> Option<u8> {
///         Some(order.region)
///     }
/// }
/// ```
///
/// A request without a key, and one over which this panics, goes to the policy that all calls without a key of their
/// own share.
pub trait KeyOf<Req, K> {
    /// What the key is looked up by.
    type Key<'a>: Lookup<K>
    where
        Self: 'a,
        Req: 'a;

    /// The key, if the request has one.
    fn key<'a>(&'a self, request: &'a Req) -> Option<Self::Key<'a>>;
}

impl<Req, K: Key, F: Fn(&Req) -> Option<K>> KeyOf<Req, K> for F {
    type Key<'a>
        = K
    where
        Self: 'a,
        Req: 'a;

    #[inline]
    fn key<'a>(&'a self, request: &'a Req) -> Option<K> {
        self(request)
    }
}

/// Gives a closure the signature that [`KeyOf`] needs, so that the compiler need not be told it.
pub fn key_fn<Req, K, F: Fn(&Req) -> Option<K>>(key: F) -> F {
    key
}

/// A closure that gives the key as text out of the request: nothing is allocated for a key that is known.
///
/// ```
/// # use hyper::http;
/// use mainstay::keyed::{Config, KeyedLayer, Tenants, str_key_fn};
/// use mainstay::breaker;
///
/// let tenants = Tenants::new("shop", Config::new(breaker::Config::tenant()));
/// let layer = KeyedLayer::new(tenants.by(str_key_fn(|request: &http::Request<String>| {
///     request.headers().get("x-tenant")?.to_str().ok()
/// })));
/// ```
pub fn str_key_fn<Req, F: Fn(&Req) -> Option<&str>>(key: F) -> StrKey<F> {
    StrKey(key)
}

/// A closure that gives the key as text: see [`str_key_fn`].
#[derive(Clone, Copy)]
pub struct StrKey<F>(F);

impl<Req, K, F> KeyOf<Req, K> for StrKey<F>
where
    F: Fn(&Req) -> Option<&str>,
    for<'s> &'s str: Lookup<K>,
{
    type Key<'a>
        = &'a str
    where
        Self: 'a,
        Req: 'a;

    #[inline]
    fn key<'a>(&'a self, request: &'a Req) -> Option<&'a str> {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for StrKey<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrKey")
    }
}
