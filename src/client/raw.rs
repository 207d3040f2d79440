//! The settings as a file has them.

use serde::{Deserialize, Serialize};

use crate::{
    balance,
    client::{config::Config, pick_by::PickBy},
    settings::{ConfigError, Span, section},
    stack,
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    stack: Option<stack::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    balance: Option<balance::Raw>,
    pick_by: Option<PickBy>,
    first_wait: Option<Span>,
    max_methods: Option<usize>,
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let (mut config, mut problems) = (Self::default(), Vec::new());
        let mut note = |error: ConfigError| problems.extend(error.split());
        match raw.stack.map(stack::Config::try_from) {
            Some(Ok(stack)) => config.stack = stack,
            Some(Err(error)) => note(error.within("stack")),
            None => {}
        }
        match raw.balance.map(balance::Config::try_from) {
            Some(Ok(balance)) => config.balance = balance,
            Some(Err(error)) => note(error.within("balance")),
            None => {}
        }
        match raw.first_wait.map(|span| span.or_refuse("first_wait")) {
            Some(Ok(limit)) => config.first_wait = limit,
            Some(Err(error)) => note(error),
            None => {}
        }
        config.pick_by = raw.pick_by.unwrap_or(config.pick_by);
        config.max_methods = raw.max_methods.unwrap_or(config.max_methods);
        config.check().err().into_iter().for_each(note);
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let Config { stack, balance, pick_by, first_wait, max_methods } = config;
        Self {
            stack: Some(stack.into()),
            balance: Some(balance.into()),
            pick_by: Some(pick_by),
            first_wait: Some(first_wait.into()),
            max_methods: Some(max_methods),
        }
    }
}
