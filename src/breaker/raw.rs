//! The settings as a file has them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    admission::Readiness,
    breaker::config::{Config, Window},
    settings::{ConfigError, Span, section},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    #[serde(deserialize_with = "section")]
    window: Option<RawWindow>,
    failure_rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_after: Option<Span>,
    slow_rate: Option<f64>,
    minimum_calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_failures: Option<u64>,
    open_for: Option<Span>,
    open_growth: Option<f64>,
    open_cap: Option<Span>,
    open_jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    honor_retry_after: Option<Span>,
    wake_up: Option<bool>,
    probes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_after: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_failure_rate: Option<f64>,
    half_open_for: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_cancelled_after: Option<Span>,
    readiness: Option<Readiness>,
    measure_latency: Option<bool>,
}

/// `{ calls = 100 }`, or `{ time = "10s", buckets = 10 }`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWindow {
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<u32>,
}

/// A rate, or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(Option<f64>);

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rate) => serializer.serialize_f64(rate),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in (0, 1], or \"off\"")
            }

            fn visit_f64<E: de::Error>(self, rate: f64) -> Result<Rate, E> {
                Ok(Rate(Some(rate)))
            }

            fn visit_u64<E: de::Error>(self, rate: u64) -> Result<Rate, E> {
                Ok(Rate(Some(rate as f64)))
            }

            fn visit_i64<E: de::Error>(self, rate: i64) -> Result<Rate, E> {
                Ok(Rate(Some(rate as f64)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                match text {
                    "off" => Ok(Rate(None)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut problems = Vec::new();
        let mut period = |field, span: Option<Span>| match span?.or_refuse(field) {
            Ok(period) => Some(period),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        config.slow_after = period("slow_after", raw.slow_after);
        config.open_for = period("open_for", raw.open_for).unwrap_or(config.open_for);
        config.honor_retry_after = period("honor_retry_after", raw.honor_retry_after);
        config.half_open_for = period("half_open_for", raw.half_open_for).unwrap_or(config.half_open_for);
        config.count_cancelled_after = period("count_cancelled_after", raw.count_cancelled_after);
        // A cap that nobody set follows an open period that is longer than the default cap.
        config.open_cap = period("open_cap", raw.open_cap).unwrap_or(config.open_cap.max(config.open_for));
        if let Some(RawWindow { calls, time, buckets }) = raw.window {
            let time = period("window.time", time);
            config.window = window(calls, time, buckets).unwrap_or_else(|problem| {
                problems.push(problem);
                config.window
            });
        }
        set(&mut config.failure_rate, raw.failure_rate.map(|rate| rate.0));
        set(&mut config.slow_rate, raw.slow_rate);
        set(&mut config.minimum_calls, raw.minimum_calls);
        set(&mut config.open_growth, raw.open_growth);
        set(&mut config.open_jitter, raw.open_jitter);
        set(&mut config.wake_up, raw.wake_up);
        set(&mut config.probes, raw.probes);
        set(&mut config.readiness, raw.readiness);
        set(&mut config.measure_latency, raw.measure_latency);
        config.consecutive_failures = raw.consecutive_failures;
        config.close_after = raw.close_after;
        config.probe_failure_rate = raw.probe_failure_rate;
        if let Err(error) = config.check() {
            problems.extend(error.split());
        }
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn window(
    calls: Option<usize>,
    time: Option<std::time::Duration>,
    buckets: Option<u32>,
) -> Result<Window, ConfigError> {
    let default = Config::default().window;
    match (calls, time, buckets, default) {
        (Some(calls), None, None, _) => Ok(Window::Calls(calls)),
        (Some(calls), ..) => {
            Err(ConfigError::new("window.calls", calls, "a window is of calls or of time and buckets, not of both"))
        }
        (None, time, buckets, Window::Time { length, buckets: usual }) => {
            Ok(Window::Time { length: time.unwrap_or(length), buckets: buckets.unwrap_or(usual) })
        }
        (None, _, _, calls @ Window::Calls(_)) => Ok(calls),
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let window = match config.window {
            Window::Calls(calls) => RawWindow { calls: Some(calls), ..RawWindow::default() },
            Window::Time { length, buckets } => {
                RawWindow { calls: None, time: Some(length.into()), buckets: Some(buckets) }
            }
        };
        Self {
            window: Some(window),
            failure_rate: Some(Rate(config.failure_rate)),
            slow_after: config.slow_after.map(Span::from),
            slow_rate: Some(config.slow_rate),
            minimum_calls: Some(config.minimum_calls),
            consecutive_failures: config.consecutive_failures,
            open_for: Some(config.open_for.into()),
            open_growth: Some(config.open_growth),
            open_cap: Some(config.open_cap.into()),
            open_jitter: Some(config.open_jitter),
            honor_retry_after: config.honor_retry_after.map(Span::from),
            wake_up: Some(config.wake_up),
            probes: Some(config.probes),
            close_after: config.close_after,
            probe_failure_rate: config.probe_failure_rate,
            half_open_for: Some(config.half_open_for.into()),
            count_cancelled_after: config.count_cancelled_after.map(Span::from),
            readiness: Some(config.readiness),
            measure_latency: Some(config.measure_latency),
        }
    }
}
