//! The settings as a file has them.

use serde::{Deserialize, Serialize};

use crate::{
    balance::{
        config::Config,
        outlier_config::{Outlier, RawOutlier},
        ramp::{RawSlowStart, SlowStart},
    },
    breaker,
    settings::{ConfigError, Span, section, table},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    panic_threshold: Option<f64>,
    #[serde(deserialize_with = "table")]
    outlier: RawOutlier,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    breaker: Option<breaker::Raw>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    slow_start: Option<RawSlowStart>,
    decay: Option<Span>,
    initial_latency: Option<Span>,
    failure_penalty: Option<Span>,
}

/// A value, or what is wrong with its section.
fn checked<T, R>(raw: R, place: &'static str, problems: &mut Vec<ConfigError>) -> Option<T>
where
    T: TryFrom<R, Error = ConfigError>,
{
    T::try_from(raw).map_err(|error| problems.extend(error.within(place).split())).ok()
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let (mut config, mut problems) = (Self::default(), Vec::new());
        config.outlier = checked::<Outlier, _>(raw.outlier, "outlier", &mut problems).unwrap_or_default();
        config.breaker = raw.breaker.and_then(|raw| checked(raw, "breaker", &mut problems));
        config.slow_start = raw.slow_start.and_then(|raw| checked::<SlowStart, _>(raw, "slow_start", &mut problems));
        let spans = [
            ("decay", raw.decay, &mut config.decay),
            ("initial_latency", raw.initial_latency, &mut config.initial_latency),
            ("failure_penalty", raw.failure_penalty, &mut config.failure_penalty),
        ];
        for (field, span, place) in spans {
            match span.map(|span| span.or_refuse(field)) {
                Some(Ok(duration)) => *place = duration,
                Some(Err(problem)) => problems.push(problem),
                None => {}
            }
        }
        config.panic_threshold = raw.panic_threshold.unwrap_or(config.panic_threshold);
        problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems).map_or(Ok(config), Err)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            panic_threshold: Some(config.panic_threshold),
            outlier: config.outlier.into(),
            breaker: config.breaker.map(Into::into),
            slow_start: config.slow_start.map(Into::into),
            decay: Some(config.decay.into()),
            initial_latency: Some(config.initial_latency.into()),
            failure_penalty: Some(config.failure_penalty.into()),
        }
    }
}
