use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    bulkhead,
    keyed::{Config, KeyedConfig, Lookup, Operation, Tenant},
    settings::{ConfigError, table},
};

/// The settings of a bulkhead with three levels: all calls, those of each tenant, those of each operation.
///
/// ```
/// use mainstay::{bulkhead::Config, keyed::LevelsConfig};
///
/// let config = LevelsConfig::new(Config::new(100))
///     .tenant_default(Config::new(10))
///     .tenant("gold", Config::new(40))
///     .operation_default(Config::new(50))
///     .operation("export", Config::new(2));
/// assert!(config.check().is_ok());
/// let file: LevelsConfig = toml::from_str("
///     global = { limit = 100 }
///     tenants = { default = { limit = 10 }, keys.gold = { limit = 40 } }
///     operations = { default = { limit = 50 }, keys.export = { limit = 2 } }
/// ").unwrap();
/// assert_eq!(file, config);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct LevelsConfig {
    pub(super) global: bulkhead::Config,
    pub(super) tenants: Config<Tenant, bulkhead::Config>,
    pub(super) operations: Config<Operation, bulkhead::Config>,
}

/// Every level may be missing, and then has its preset.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    #[serde(default = "bulkhead::Config::basic", deserialize_with = "table")]
    global: bulkhead::Config,
    #[serde(default = "tenants", deserialize_with = "table")]
    tenants: Config<Tenant, bulkhead::Config>,
    #[serde(default = "operations", deserialize_with = "table")]
    operations: Config<Operation, bulkhead::Config>,
}

fn tenants() -> Config<Tenant, bulkhead::Config> {
    Config::new(bulkhead::Config::tenant())
}

fn operations() -> Config<Operation, bulkhead::Config> {
    Config::new(bulkhead::Config::operation())
}

impl Default for LevelsConfig {
    /// The presets of the bulkhead: 64 calls in all, 10 of a tenant, 25 of an operation.
    fn default() -> Self {
        Self::new(bulkhead::Config::basic())
    }
}

impl LevelsConfig {
    /// So many calls in all; those of a tenant and of an operation have the [presets](bulkhead::Config::tenant).
    #[must_use]
    pub fn new(global: bulkhead::Config) -> Self {
        Self { global, tenants: tenants(), operations: operations() }
    }

    /// The limit of each tenant without one of its own. Less than that of all calls, or one tenant could take every
    /// place.
    #[must_use]
    pub fn tenant_default(mut self, config: bulkhead::Config) -> Self {
        self.tenants.default = config;
        self
    }

    /// The limit of one tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Lookup<Tenant>, config: bulkhead::Config) -> Self {
        self.tenants = self.tenants.key(tenant, config);
        self
    }

    /// The limit of each operation without one of its own.
    #[must_use]
    pub fn operation_default(mut self, config: bulkhead::Config) -> Self {
        self.operations.default = config;
        self
    }

    /// The limit of one operation.
    #[must_use]
    pub fn operation(mut self, operation: impl Lookup<Operation>, config: bulkhead::Config) -> Self {
        self.operations = self.operations.key(operation, config);
        self
    }

    /// So many tenants at most, and so many operations. From 1 to 1 000 000, default 10 000 of each.
    #[must_use]
    pub fn max_keys(mut self, tenants: usize, operations: usize) -> Self {
        self.tenants = self.tenants.max_keys(tenants);
        self.operations = self.operations.max_keys(operations);
        self
    }

    /// A tenant or an operation that was not asked for for so long may leave: see [`Config::idle_for`].
    #[must_use]
    pub fn idle_for(mut self, period: Duration) -> Self {
        self.tenants = self.tenants.idle_for(period);
        self.operations = self.operations.idle_for(period);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |checked: Result<(), ConfigError>, place| checked.map_err(|error| error.within(place));
        let levels = [
            within(KeyedConfig::check(&self.global), "global"),
            within(self.tenants.check(), "tenants"),
            within(self.operations.check(), "operations"),
        ];
        let mut problems: Vec<ConfigError> =
            levels.into_iter().filter_map(Result::err).flat_map(ConfigError::split).collect();
        let (all, one) = (self.global.places(), self.tenants.default.places());
        // With a single place there is nothing to share.
        if one >= all && all > 1 {
            let why = format!("must be less than global.limit, {all}, or one tenant could take every place");
            problems.push(ConfigError::new("tenants.default.limit", one, why));
        }
        ConfigError::all(problems).map_or(Ok(()), Err)
    }
}

impl TryFrom<Raw> for LevelsConfig {
    type Error = ConfigError;

    fn try_from(Raw { global, tenants, operations }: Raw) -> Result<Self, ConfigError> {
        let config = Self { global, tenants, operations };
        config.check().map(|()| config)
    }
}

impl From<LevelsConfig> for Raw {
    fn from(LevelsConfig { global, tenants, operations }: LevelsConfig) -> Self {
        Self { global, tenants, operations }
    }
}
