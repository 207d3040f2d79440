//! The settings as a file has them.

use serde::{Deserialize, Serialize};

use crate::{
    budget::RawBudget,
    error::Reason,
    retry::{
        backoff::{Backoff, Growth, Jitter},
        config::Config,
    },
    settings::{ConfigError, Span, section},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    attempts: Option<u32>,
    #[serde(deserialize_with = "section")]
    backoff: Option<RawBackoff>,
    jitter: Option<Jitter>,
    budget: Option<RawBudget>,
    retry_on: Option<Vec<Reason>>,
    max_retry_after: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Span>,
}

/// `{ kind = "exponential", initial = "100ms", factor = 2.0, cap = "5s" }`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBackoff {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap: Option<Span>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Fixed,
    Linear,
    #[default]
    Exponential,
    Custom,
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut problems = Problems::default();
        config.max_retry_after =
            problems.span("max_retry_after", raw.max_retry_after).unwrap_or(config.max_retry_after);
        config.deadline = problems.span("deadline", raw.deadline);
        if let Some(backoff) = raw.backoff {
            config.backoff = backoff.read(&mut problems);
        }
        set(&mut config.attempts, raw.attempts);
        set(&mut config.jitter, raw.jitter);
        set(&mut config.budget, raw.budget.map(|budget| budget.0));
        set(&mut config.retry_on, raw.retry_on);
        if let Err(error) = config.check() {
            problems.0.extend(error.split());
        }
        ConfigError::all(problems.0).map_or(Ok(config), Err)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[derive(Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    fn span(&mut self, field: &'static str, span: Option<Span>) -> Option<std::time::Duration> {
        span?.or_refuse(field).map_err(|problem| self.0.push(problem)).ok()
    }
}

impl RawBackoff {
    fn read(self, problems: &mut Problems) -> Backoff {
        let usual = Config::default().backoff;
        let Growth::Exponential { initial: usual_initial, factor: usual_factor } = usual.growth else {
            return usual;
        };
        let initial = problems.span("backoff.initial", self.initial).unwrap_or(usual_initial);
        if let Some(factor) = self.factor.filter(|_| self.kind != Kind::Exponential) {
            problems.0.push(ConfigError::new("backoff.factor", factor, "only an exponential backoff has a factor"));
        }
        let mut backoff = match self.kind {
            Kind::Fixed => Backoff::fixed(initial),
            Kind::Linear => Backoff::linear(initial),
            Kind::Exponential => Backoff::exponential(initial, self.factor.unwrap_or(usual_factor)),
            Kind::Custom => {
                let why = "a function cannot be read from a file; one of fixed, linear, exponential";
                problems.0.push(ConfigError::new("backoff.kind", "custom", why));
                usual
            }
        };
        backoff.cap = problems.span("backoff.cap", self.cap);
        backoff
    }
}

impl From<Backoff> for RawBackoff {
    fn from(backoff: Backoff) -> Self {
        let (kind, factor) = match backoff.growth {
            Growth::Fixed(_) => (Kind::Fixed, None),
            Growth::Linear(_) => (Kind::Linear, None),
            Growth::Exponential { factor, .. } => (Kind::Exponential, Some(factor)),
            Growth::Custom(_) => (Kind::Custom, None),
        };
        Self { kind, initial: backoff.initial().map(Span::from), factor, cap: backoff.cap.map(Span::from) }
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            attempts: Some(config.attempts),
            backoff: Some(config.backoff.into()),
            jitter: Some(config.jitter),
            budget: Some(RawBudget(config.budget)),
            retry_on: Some(config.retry_on),
            max_retry_after: Some(config.max_retry_after.into()),
            deadline: config.deadline.map(Span::from),
        }
    }
}
