//! The settings as a file has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    load_shed::config::{Config, QueueDelay, Throttle},
    settings::{ConfigError, Span, section},
};

/// Every field may be missing, and then has the default of [`Config`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    queue_delay: Option<RawQueueDelay>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "section")]
    throttle: Option<RawThrottle>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawQueueDelay {
    target: Option<Span>,
    interval: Option<Span>,
    max_queue: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawThrottle {
    k: Option<f64>,
    min_requests: Option<u64>,
    cap: Option<f64>,
    window: Option<Span>,
    buckets: Option<u32>,
}

#[derive(Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    fn span(&mut self, field: &'static str, span: Option<Span>) -> Option<Duration> {
        span?.or_refuse(field).map_err(|problem| self.0.push(problem)).ok()
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl RawQueueDelay {
    fn read(self, problems: &mut Problems) -> QueueDelay {
        let mut queue = QueueDelay::new();
        set(&mut queue.target, problems.span("queue_delay.target", self.target));
        set(&mut queue.interval, problems.span("queue_delay.interval", self.interval));
        set(&mut queue.max_queue, self.max_queue);
        queue
    }
}

impl RawThrottle {
    fn read(self, problems: &mut Problems) -> Throttle {
        let mut throttle = Throttle::new();
        set(&mut throttle.k, self.k);
        set(&mut throttle.min_requests, self.min_requests);
        set(&mut throttle.cap, self.cap);
        set(&mut throttle.window, problems.span("throttle.window", self.window));
        set(&mut throttle.buckets, self.buckets);
        throttle
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let mut config = Self { in_flight: raw.in_flight, ..Self::default() };
        set(&mut config.normal_share, raw.normal_share);
        set(&mut config.low_share, raw.low_share);
        config.queue_delay = raw.queue_delay.map(|queue| queue.read(&mut problems));
        config.throttle = raw.throttle.map(|throttle| throttle.read(&mut problems));
        problems.0.extend(config.check().err().into_iter().flat_map(ConfigError::split));
        ConfigError::all(problems.0).map_or(Ok(config), Err)
    }
}

impl From<QueueDelay> for RawQueueDelay {
    fn from(queue: QueueDelay) -> Self {
        let QueueDelay { target, interval, max_queue } = queue;
        Self { target: Some(target.into()), interval: Some(interval.into()), max_queue: Some(max_queue) }
    }
}

impl From<Throttle> for RawThrottle {
    fn from(throttle: Throttle) -> Self {
        let Throttle { k, min_requests, cap, window, buckets } = throttle;
        Self {
            k: Some(k),
            min_requests: Some(min_requests),
            cap: Some(cap),
            window: Some(window.into()),
            buckets: Some(buckets),
        }
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        let Config { in_flight, normal_share, low_share, queue_delay, throttle } = config;
        Self {
            in_flight,
            normal_share: Some(normal_share),
            low_share: Some(low_share),
            queue_delay: queue_delay.map(RawQueueDelay::from),
            throttle: throttle.map(RawThrottle::from),
        }
    }
}
