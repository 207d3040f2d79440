//! The settings as a file has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    breaker, bulkhead,
    isolation::{config::Config, level::Level},
    load_shed, rate_limit, retry,
    settings::{ConfigError, Span, section},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    level: Option<Level>,
    timeout: Option<Span>,
    attempt_timeout: Option<Span>,
    #[serde(deserialize_with = "section")]
    retry: Option<retry::Raw>,
    #[serde(deserialize_with = "section")]
    breaker: Option<breaker::Raw>,
    #[serde(deserialize_with = "section")]
    bulkhead: Option<bulkhead::Raw>,
    #[serde(deserialize_with = "section")]
    rate_limit: Option<rate_limit::Raw>,
    #[serde(deserialize_with = "section")]
    load_shed: Option<load_shed::Raw>,
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let (mut config, mut problems) = (Self::new(), Vec::new());
        config.level = raw.level.unwrap_or(config.level);
        read_span(&mut config.timeout, "timeout", raw.timeout, &mut problems);
        // Who says how long a call may take, and no more, has not said that an attempt may take longer.
        config.attempt_timeout = config.attempt_timeout.min(config.timeout);
        read_span(&mut config.attempt_timeout, "attempt_timeout", raw.attempt_timeout, &mut problems);
        read(&mut config.retry, "retry", raw.retry, &mut problems);
        read(&mut config.breaker, "breaker", raw.breaker, &mut problems);
        read(&mut config.bulkhead, "bulkhead", raw.bulkhead, &mut problems);
        read(&mut config.rate_limit, "rate_limit", raw.rate_limit, &mut problems);
        read(&mut config.load_shed, "load_shed", raw.load_shed, &mut problems);
        problems.splice(0..0, config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

fn read<R, C: TryFrom<R, Error = ConfigError>>(
    section: &mut C,
    name: &str,
    raw: Option<R>,
    problems: &mut Vec<ConfigError>,
) {
    match raw.map(C::try_from) {
        None => {}
        Some(Ok(read)) => *section = read,
        Some(Err(error)) => problems.extend(error.within(name).split()),
    }
}

fn read_span(field: &mut Duration, name: &'static str, span: Option<Span>, problems: &mut Vec<ConfigError>) {
    match span.map(|span| span.or_refuse(name)) {
        None => {}
        Some(Ok(read)) => *field = read,
        Some(Err(problem)) => problems.push(problem),
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            level: Some(config.level),
            timeout: Some(config.timeout.into()),
            attempt_timeout: Some(config.attempt_timeout.into()),
            retry: Some(config.retry.into()),
            breaker: Some(config.breaker.into()),
            bulkhead: Some(config.bulkhead.into()),
            rate_limit: Some(config.rate_limit.into()),
            load_shed: Some(config.load_shed.into()),
        }
    }
}
