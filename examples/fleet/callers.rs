//! The callers of one service: so many calls a second, whether or not the earlier ones have been answered.

use std::time::Duration;

use mainstay::{
    BoxError,
    contract::{Invocation, Method},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tower::ServiceExt;

use crate::fleet::Front;

/// What the callers of a service saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub service: &'static str,
    pub calls: u32,
    pub failed: u32,
    pub fallbacks: u32,
    /// Of the calls that were answered, in order.
    pub latencies: Vec<Duration>,
}

impl Seen {
    /// The latency that so many of a hundred calls do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default()
    }
}

/// Makes `calls` calls at `rate` a second from `start` on. Returns when the last one is answered.
pub async fn call(
    service: &'static str,
    front: Result<Front, BoxError>,
    start: Instant,
    (rate, calls): (u32, u32),
) -> Result<Seen, BoxError> {
    let (front, get) = (front?, Method::new("get")?);
    let mut callers = JoinSet::new();
    for n in 0..calls {
        let arrival = start + Duration::from_secs(n.into()) / rate;
        sleep_until(arrival).await;
        let (front, call) = (front.clone(), Invocation::new(get.clone(), n));
        callers.spawn(async move {
            let answer = front.oneshot(call).await;
            (answer, arrival.elapsed())
        });
    }
    let mut seen = Seen { service, calls, failed: 0, fallbacks: 0, latencies: Vec::new() };
    while let Some(answered) = callers.join_next().await {
        match answered? {
            (Ok(page), latency) => {
                seen.fallbacks += u32::from(page == "fallback");
                seen.latencies.push(latency);
            }
            (Err(_), _) => seen.failed += 1,
        }
    }
    seen.latencies.sort();
    Ok(seen)
}
