//! The settings as a file has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    breaker, bulkhead, concurrency, hedge, load_shed, rate_limit, retry,
    settings::{ConfigError, Span, section},
    stack::config::Config,
};

/// Every section may be missing, and then is not part of the stack, or is that of the preset.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    load_shed: Option<load_shed::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    rate_limit: Option<rate_limit::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    retry: Option<retry::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    hedge: Option<hedge::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    breaker: Option<breaker::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    concurrency: Option<concurrency::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    bulkhead: Option<bulkhead::Raw>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    Standard,
    HttpClient,
    Database,
    Cache,
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut config = match raw.preset {
            None => Self::new(),
            Some(Preset::Standard) => Self::standard(),
            Some(Preset::HttpClient) => Self::http_client(),
            Some(Preset::Database) => Self::database(),
            Some(Preset::Cache) => Self::cache(),
        };
        let mut problems = Vec::new();
        read_span(&mut config.timeout, "timeout", raw.timeout, &mut problems);
        read_span(&mut config.attempt_timeout, "attempt_timeout", raw.attempt_timeout, &mut problems);
        read(&mut config.load_shed, "load_shed", raw.load_shed, &mut problems);
        read(&mut config.rate_limit, "rate_limit", raw.rate_limit, &mut problems);
        read(&mut config.retry, "retry", raw.retry, &mut problems);
        read(&mut config.hedge, "hedge", raw.hedge, &mut problems);
        read(&mut config.breaker, "breaker", raw.breaker, &mut problems);
        read(&mut config.concurrency, "concurrency", raw.concurrency, &mut problems);
        read(&mut config.bulkhead, "bulkhead", raw.bulkhead, &mut problems);
        problems.splice(0..0, config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

fn read<R, C: TryFrom<R, Error = ConfigError>>(
    section: &mut Option<C>,
    name: &str,
    raw: Option<R>,
    problems: &mut Vec<ConfigError>,
) {
    match raw.map(C::try_from).transpose() {
        Ok(None) => {}
        Ok(read) => *section = read,
        Err(error) => problems.extend(error.within(name).split()),
    }
}

fn read_span(field: &mut Option<Duration>, name: &'static str, span: Option<Span>, problems: &mut Vec<ConfigError>) {
    match span.map(|span| span.or_refuse(name)).transpose() {
        Ok(None) => {}
        Ok(read) => *field = read,
        Err(problem) => problems.push(problem),
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            preset: None,
            timeout: config.timeout.map(Span::from),
            attempt_timeout: config.attempt_timeout.map(Span::from),
            load_shed: config.load_shed.map(Into::into),
            rate_limit: config.rate_limit.map(Into::into),
            retry: config.retry.map(Into::into),
            hedge: config.hedge.map(Into::into),
            breaker: config.breaker.map(Into::into),
            concurrency: config.concurrency.map(Into::into),
            bulkhead: config.bulkhead.map(Into::into),
        }
    }
}
