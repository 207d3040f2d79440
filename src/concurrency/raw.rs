//! The settings as a file has them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    concurrency::{
        Aimd, Gradient, Vegas,
        config::{Config, Drops, Kind},
    },
    settings::{ConfigError, Span},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    kind: RawKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentile: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<Drops>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerated_drops: Option<f64>,
    // Of all algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<f64>,
    // Of AIMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    increase: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_latency: Option<Span>,
    // Of Vegas.
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relearn_every: Option<Span>,
    // Of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smoothing: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headroom: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remeasure_every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remeasure_calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remeasure_jitter: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Aimd,
    Vegas,
    #[default]
    Gradient,
    Custom,
}

#[derive(Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    fn span(&mut self, field: &'static str, span: Option<Span>) -> Option<Duration> {
        span?.or_refuse(field).map_err(|problem| self.0.push(problem)).ok()
    }

    /// Refuses a parameter of another algorithm.
    fn only(&mut self, whose: &str, field: &'static str, value: Option<&dyn fmt::Display>) {
        if let Some(value) = value {
            self.0.push(ConfigError::new(field, value, format!("only {whose} has it")));
        }
    }
}

fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
    value.as_ref().map(|value| value as &dyn fmt::Display)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(mut raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        raw.refuse_others(&mut problems);
        let mut config = Self::default();
        match raw.kind {
            RawKind::Aimd => config = config.algorithm(raw.aimd(&mut problems)),
            RawKind::Vegas => config = config.algorithm(raw.vegas(&mut problems)),
            RawKind::Gradient => config = config.algorithm(raw.gradient(&mut problems)),
            RawKind::Custom => {
                let why = "code cannot be read from a file; one of aimd, vegas, gradient";
                problems.0.push(ConfigError::new("kind", "custom", why));
            }
        }
        set(&mut config.initial, raw.initial);
        set(&mut config.floor, raw.floor);
        set(&mut config.ceiling, raw.ceiling);
        set(&mut config.window, problems.span("window", raw.window));
        set(&mut config.min_calls, raw.min_calls);
        set(&mut config.percentile, raw.percentile);
        set(&mut config.drops, raw.drops);
        set(&mut config.tolerated_drops, raw.tolerated_drops);
        problems.0.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems.0).map_or(Ok(config), Err)
    }
}

impl Raw {
    fn refuse_others(&self, problems: &mut Problems) {
        if self.kind != RawKind::Aimd {
            problems.only("an aimd", "increase", shown(&self.increase));
            problems.only("an aimd", "max_latency", shown(&self.max_latency));
        }
        if self.kind != RawKind::Vegas {
            problems.only("a vegas", "alpha", shown(&self.alpha));
            problems.only("a vegas", "beta", shown(&self.beta));
            problems.only("a vegas", "relearn_every", shown(&self.relearn_every));
        }
        if self.kind != RawKind::Gradient {
            problems.only("a gradient", "tolerance", shown(&self.tolerance));
            problems.only("a gradient", "smoothing", shown(&self.smoothing));
            problems.only("a gradient", "headroom", shown(&self.headroom));
            problems.only("a gradient", "history", shown(&self.history));
            problems.only("a gradient", "remeasure_every", shown(&self.remeasure_every));
            problems.only("a gradient", "remeasure_calls", shown(&self.remeasure_calls));
            problems.only("a gradient", "remeasure_jitter", shown(&self.remeasure_jitter));
        }
    }

    fn aimd(&mut self, problems: &mut Problems) -> Aimd {
        let mut aimd = Aimd::new();
        set(&mut aimd.backoff, self.backoff);
        set(&mut aimd.increase, self.increase);
        set(&mut aimd.max_latency, problems.span("max_latency", self.max_latency.take()));
        aimd
    }

    fn vegas(&mut self, problems: &mut Problems) -> Vegas {
        let mut vegas = Vegas::new();
        set(&mut vegas.backoff, self.backoff);
        set(&mut vegas.alpha, self.alpha);
        set(&mut vegas.beta, self.beta);
        set(&mut vegas.relearn_every, problems.span("relearn_every", self.relearn_every.take()));
        vegas
    }

    fn gradient(&mut self, problems: &mut Problems) -> Gradient {
        let mut gradient = Gradient::new();
        set(&mut gradient.backoff, self.backoff);
        set(&mut gradient.tolerance, self.tolerance);
        set(&mut gradient.smoothing, self.smoothing);
        set(&mut gradient.headroom, self.headroom);
        set(&mut gradient.history, self.history);
        if let Some(interval) = problems.span("remeasure_every", self.remeasure_every.take()) {
            gradient = gradient.remeasure_every(interval);
        }
        if let Some(calls) = self.remeasure_calls {
            gradient = gradient.remeasure_calls(calls);
        }
        if let Some(share) = self.remeasure_jitter {
            gradient = gradient.remeasure_jitter(share);
        }
        gradient
    }

    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Aimd(aimd) => Self {
                kind: RawKind::Aimd,
                backoff: Some(aimd.backoff),
                increase: Some(aimd.increase),
                max_latency: Some(aimd.max_latency.into()),
                ..Self::default()
            },
            Kind::Vegas(vegas) => Self {
                kind: RawKind::Vegas,
                backoff: Some(vegas.backoff),
                alpha: Some(vegas.alpha),
                beta: Some(vegas.beta),
                relearn_every: Some(vegas.relearn_every.into()),
                ..Self::default()
            },
            Kind::Gradient(gradient) => Self {
                kind: RawKind::Gradient,
                backoff: Some(gradient.backoff),
                tolerance: Some(gradient.tolerance),
                smoothing: Some(gradient.smoothing),
                headroom: Some(gradient.headroom),
                history: Some(gradient.history),
                remeasure_every: gradient.measure.map(|measure| measure.every.into()),
                remeasure_calls: gradient.measure.map(|measure| measure.calls),
                remeasure_jitter: gradient.measure.map(|measure| measure.jitter),
                ..Self::default()
            },
            Kind::Custom(_) => Self { kind: RawKind::Custom, ..Self::default() },
        }
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            initial: Some(config.initial),
            floor: Some(config.floor),
            ceiling: Some(config.ceiling),
            window: Some(config.window.into()),
            min_calls: Some(config.min_calls),
            percentile: Some(config.percentile),
            drops: Some(config.drops),
            tolerated_drops: Some(config.tolerated_drops),
            ..Self::of(&config.rule.0)
        }
    }
}
