use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use crate::{
    keyed::{
        KeyedConfig,
        key::{Key, Lookup},
    },
    settings::{Checks, ConfigError, Span, section, table},
};

const MOST_KEYS: usize = 1_000_000;
const KEYS: usize = 10_000;
const IDLE_FOR: Duration = Duration::from_secs(600);

/// The settings of a policy for each key: what a key's policy is, which keys have one of another kind, and how many
/// keys there may be.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{bulkhead, keyed::{Config, Tenant}};
///
/// let config: Config<Tenant, _> = Config::new(bulkhead::Config::new(10))
///     .key("gold", bulkhead::Config::new(50))
///     .max_keys(1_000)
///     .idle_for(Duration::from_secs(60));
/// assert!(config.check().is_ok());
/// let file = "max_keys = 1000\nidle_for = '1m'\ndefault = { limit = 10 }\nkeys.gold = { limit = 50 }";
/// assert_eq!(toml::from_str::<Config<Tenant, bulkhead::Config>>(file).unwrap(), config);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "Raw<K, C>",
    into = "Raw<K, C>",
    bound(
        serialize = "K: Key + Serialize, C: KeyedConfig + Serialize",
        deserialize = "K: Key + Deserialize<'de>, C: KeyedConfig + Deserialize<'de>"
    )
)]
pub struct Config<K, C> {
    pub(super) default: C,
    pub(super) others: Option<C>,
    pub(super) keys: Vec<(K, C)>,
    pub(super) max_keys: usize,
    pub(super) idle_for: Duration,
    // Keys that are none.
    refused: Vec<ConfigError>,
}

/// Only `default` must be there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(serialize = "K: Serialize, C: Serialize", deserialize = "K: Deserialize<'de>, C: Deserialize<'de>")
)]
pub(crate) struct Raw<K, C> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_keys: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_for: Option<Span>,
    #[serde(deserialize_with = "table")]
    default: C,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    others: Option<C>,
    #[serde(default = "Pairs::default", skip_serializing_if = "Pairs::is_empty")]
    keys: Pairs<K, C>,
}

/// The settings of one key: a section like any other.
#[derive(Deserialize)]
#[serde(transparent, bound(deserialize = "C: Deserialize<'de>"))]
struct Own<C>(#[serde(deserialize_with = "table")] C);

/// A map in the order in which it was written.
#[derive(Debug)]
struct Pairs<K, C>(Vec<(K, C)>);

impl<K, C> Pairs<K, C> {
    fn default() -> Self {
        Self(Vec::new())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Serialize, C: Serialize> Serialize for Pairs<K, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, config)| (key, config)))
    }
}

impl<'de, K: Deserialize<'de>, C: Deserialize<'de>> Deserialize<'de> for Pairs<K, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<K, C>(PhantomData<(K, C)>);

        impl<'de, K: Deserialize<'de>, C: Deserialize<'de>> Visitor<'de> for Map<K, C> {
            type Value = Pairs<K, C>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings by key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, Own(config))) = map.next_entry()? {
                    pairs.push((key, config));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}

impl<K: Key, C: KeyedConfig> Config<K, C> {
    /// A policy with these settings for each key; at most 10 000 keys, and one that was not asked for for ten minutes
    /// may leave.
    #[must_use]
    pub const fn new(default: C) -> Self {
        Self { default, others: None, keys: Vec::new(), max_keys: KEYS, idle_for: IDLE_FOR, refused: Vec::new() }
    }

    /// Gives a key settings of its own. Such a key is there from the beginning and never leaves.
    #[must_use]
    pub fn key(mut self, key: impl Lookup<K>, config: C) -> Self {
        match key.into_key() {
            Ok(key) => self.keys.push((key, config)),
            Err(error) => self.refused.push(error.within("keys")),
        }
        self
    }

    /// The policy that all calls without a key of their own share: those that bring none, and those for whose key there
    /// is no room. By default it is as that of a single key.
    #[must_use]
    pub fn others(mut self, config: C) -> Self {
        self.others = Some(config);
        self
    }

    /// So many keys at most, those with settings of their own among them. From 1 to 1 000 000, default 10 000; it is
    /// what bounds the memory. The number of shards is that for the first setting.
    #[must_use]
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// A key that was not asked for for so long leaves when other keys come, or at a [sweep](super::Handle::sweep).
    /// From 1 ms to a year, default 10 min: longer than a caller pauses who will be back.
    #[must_use]
    pub const fn idle_for(mut self, period: Duration) -> Self {
        self.idle_for = period;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason; those of a key's policy under `default`, `others`
    /// and `keys["its name"]`.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("max_keys", self.max_keys, 1..=MOST_KEYS);
        checks.duration("idle_for", self.idle_for);
        if self.keys.len() > self.max_keys && self.max_keys > 0 {
            let why = format!("must be at least the {} keys that have settings of their own", self.keys.len());
            checks.refuse("max_keys", self.max_keys, why);
        }
        let mut problems: Vec<ConfigError> = checks.finish().err().into_iter().flat_map(ConfigError::split).collect();
        problems.extend(self.refused.iter().cloned());
        let mut check = |config: &C, place: &str| {
            let wrong = config.check().err().map(|error| error.within(place));
            problems.extend(wrong.into_iter().flat_map(ConfigError::split));
        };
        check(&self.default, "default");
        self.others.iter().for_each(|others| check(others, "others"));
        self.keys.iter().for_each(|(key, config)| check(config, &format!("keys[{key:?}]")));
        let mut seen = std::collections::HashSet::new();
        for (key, _) in self.keys.iter().filter(|(key, _)| !seen.insert(key)) {
            problems.push(ConfigError::new("keys", format_args!("{key:?}"), "is there twice"));
        }
        ConfigError::all(problems).map_or(Ok(()), Err)
    }
}

impl<K: Key, C: KeyedConfig> TryFrom<Raw<K, C>> for Config<K, C> {
    type Error = ConfigError;

    fn try_from(raw: Raw<K, C>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let idle_for = raw.idle_for.map_or(Ok(IDLE_FOR), |period| period.or_refuse("idle_for"));
        let config = Self {
            default: raw.default,
            others: raw.others,
            keys: raw.keys.0,
            max_keys: raw.max_keys.unwrap_or(KEYS),
            idle_for: idle_for.unwrap_or_else(|problem| {
                problems.push(problem);
                IDLE_FOR
            }),
            refused: Vec::new(),
        };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl<K, C> From<Config<K, C>> for Raw<K, C> {
    fn from(config: Config<K, C>) -> Self {
        Self {
            max_keys: Some(config.max_keys),
            idle_for: Some(config.idle_for.into()),
            default: config.default,
            others: config.others,
            keys: Pairs(config.keys),
        }
    }
}
