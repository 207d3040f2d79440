//! The settings as a file has them.

use serde::{Deserialize, Serialize};

use crate::{
    budget::RawBudget,
    hedge::config::Config,
    settings::{ConfigError, Span},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentile: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_samples: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<Span>,
    budget: Option<RawBudget>,
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let measured = raw.percentile.is_some()
            || raw.min_samples.is_some()
            || [&raw.initial_delay, &raw.min_delay, &raw.max_delay].iter().any(|span| span.is_some());
        if let Some(delay) = raw.delay.as_ref().filter(|_| measured) {
            let why = "goes without percentile, min_samples, initial_delay, min_delay and max_delay";
            problems.push(ConfigError::new("delay", delay, why));
        }
        let mut read =
            |field, span: Option<Span>| span?.or_refuse(field).map_err(|problem| problems.push(problem)).ok();
        let usual = Self::default();
        let config = Self {
            attempts: raw.attempts.unwrap_or(usual.attempts),
            delay: read("delay", raw.delay),
            percentile: raw.percentile.unwrap_or(usual.percentile),
            min_samples: raw.min_samples.unwrap_or(usual.min_samples),
            initial_delay: read("initial_delay", raw.initial_delay),
            min_delay: read("min_delay", raw.min_delay).unwrap_or(usual.min_delay),
            max_delay: read("max_delay", raw.max_delay).unwrap_or(usual.max_delay),
            budget: raw.budget.map_or(usual.budget, |budget| budget.0),
        };
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let (attempts, budget) = (Some(config.attempts), Some(RawBudget(config.budget)));
        if let Some(delay) = config.delay {
            return Self { attempts, delay: Some(delay.into()), budget, ..Self::default() };
        }
        Self {
            attempts,
            delay: None,
            percentile: Some(config.percentile),
            min_samples: Some(config.min_samples),
            initial_delay: config.initial_delay.map(Span::from),
            min_delay: Some(config.min_delay.into()),
            max_delay: Some(config.max_delay.into()),
            budget,
        }
    }
}
