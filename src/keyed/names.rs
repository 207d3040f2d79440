//! Tenants and operations: the two keys that everybody has, with names and ways of their own.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{
    keyed::{
        key::{KeyOf, Lookup},
        select::PerKey,
    },
    name::text_impls,
    outcome::OnError,
    settings::ConfigError,
};

use super::{Handle, KeyedLayer};

const LONGEST: usize = 128;
const WHY: &str = "must be 1..=128 printable ASCII characters without quotes, \\, <, > and &, no space at either end";

/// Text from outside that may become a key: it ends up in log lines, JSON and dashboards, and must mean the same in all
/// of them; and a million of them must not be long.
fn is_plain(text: &str) -> bool {
    let plain = |b: u8| (b' '..=b'~').contains(&b) && !b"\"'`\\<>&".contains(&b);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain) && text.trim_ascii() == text
}

macro_rules! text_key {
    ($name:ident, $field:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// 1 to 128 printable ASCII characters, without quotes, `\`, `<`, `>`, `&` and without a space at either end.
        /// Cheap to clone. Looked up by a `&str` as well.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            ///
            /// When it is empty, too long, or holds a character that it must not.
            pub fn new(name: &str) -> Result<Self, ConfigError> {
                if is_plain(name) {
                    return Ok(Self(name.into()));
                }
                Err(ConfigError::new($field, format_args!("\"{}\"", name.escape_debug()), WHY))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Lookup<$name> for &str {
            #[inline]
            fn is(&self, key: &$name) -> bool {
                **self == *key.0
            }

            fn into_key(self) -> Result<$name, ConfigError> {
                $name::new(self)
            }
        }

        // As a `str` hashes, because it is looked up by one.
        impl Hash for $name {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        text_impls!($name);
    };
}

text_key!(Tenant, "tenant", "Who calls: a customer, an account, another service.");
text_key!(Operation, "operation", "What is called: a route, a method, a query.");

/// A request that knows its tenant.
///
/// ```
/// use mainstay::{bulkhead, keyed::{Config, HasTenant, TenantLayer, ByTenant, Tenants}};
///
/// struct Order { shop: String }
///
/// impl HasTenant for Order {
///     fn tenant(&self) -> Option<&str> {
///         Some(&self.shop)
///     }
/// }
///
/// let tenants = Tenants::new("orders", Config::new(bulkhead::Config::tenant()));
/// let layer: TenantLayer<_> = TenantLayer::new(tenants.by(ByTenant));
/// ```
pub trait HasTenant {
    /// The tenant, if there is one.
    fn tenant(&self) -> Option<&str>;
}

/// A request that knows its operation.
pub trait HasOperation {
    /// The operation, if there is one.
    fn operation(&self) -> Option<&str>;
}

/// The tenant of requests that [know it](HasTenant).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByTenant;

/// The operation of requests that [know it](HasOperation).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByOperation;

impl<Req: HasTenant> KeyOf<Req, Tenant> for ByTenant {
    type Key<'a>
        = &'a str
    where
        Req: 'a;

    #[inline]
    fn key<'a>(&'a self, request: &'a Req) -> Option<&'a str> {
        request.tenant()
    }
}

impl<Req: HasOperation> KeyOf<Req, Operation> for ByOperation {
    type Key<'a>
        = &'a str
    where
        Req: 'a;

    #[inline]
    fn key<'a>(&'a self, request: &'a Req) -> Option<&'a str> {
        request.operation()
    }
}

/// A policy for each tenant.
pub type Tenants<P> = Handle<Tenant, P>;

/// A policy for each operation.
pub type Operations<P> = Handle<Operation, P>;

/// Puts a policy for each tenant in front of a service.
pub type TenantLayer<P, X = ByTenant, C = OnError> = KeyedLayer<PerKey<Tenant, P, X>, C>;

/// Puts a policy for each operation in front of a service.
pub type OperationLayer<P, X = ByOperation, C = OnError> = KeyedLayer<PerKey<Operation, P, X>, C>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tenants_and_operations_have() {
        for good in
            ["a", "org_123", "a@b.example", "0b1c-77", "GET /users/{id}", "/pkg.Service/Method", &"x".repeat(128)]
        {
            assert_eq!(Tenant::new(good).unwrap().as_str(), good);
            assert_eq!(Operation::new(good).unwrap(), *good);
        }
        for bad in ["", " ", " a", "a ", "a\n", "\0", "a\"b", "</script>", "a&b", "\u{202e}a", "ü", &"x".repeat(129)] {
            let error = Tenant::new(bad).unwrap_err();
            assert_eq!((error.field(), Operation::new(bad).unwrap_err().field()), ("tenant", "operation"));
            assert!(!error.to_string().contains('\n') && error.value().len() < 100, "{error}");
        }
    }

    #[test]
    fn a_name_hashes_as_the_text_it_is_looked_up_by() {
        let state = std::hash::RandomState::new();
        let hash = |it: &dyn Fn() -> u64| it();
        let name = Tenant::new("gold").unwrap();
        use std::hash::BuildHasher;
        assert_eq!(hash(&|| state.hash_one(&name)), hash(&|| state.hash_one("gold")));
    }
}
