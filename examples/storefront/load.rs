//! The visitors: so many pages a second, whether or not the earlier ones have been answered.

use std::time::Duration;

use hyper::{StatusCode, Uri};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{gateway::MISSING, http::Client};

/// How long a visitor waits for a page.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How a page turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Whole,
    /// Served in time, with a placeholder for a part that was missing.
    Degraded,
    /// An error, or not served in time.
    Failed,
}

/// One page, as its visitor saw it.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    pub page: Page,
    /// From the moment at which the visitor was to come, not from when the load generator got round to it: what delays
    /// the generator delays the visitor too.
    pub latency: Duration,
}

/// Asks for `pages` pages at a fixed rate from `start` on. Returns when the last one is answered or given up.
pub async fn visit(gateway: &Uri, start: Instant, rate: u32, pages: u32) -> Result<Vec<Visit>, JoinError> {
    let client = Client::new();
    let mut visitors = JoinSet::new();
    for page in 0..pages {
        let arrival = start + Duration::from_secs(page.into()) / rate;
        sleep_until(arrival).await;
        visitors.spawn(visitor(client.clone(), gateway.clone(), arrival));
    }
    let mut visits = Vec::with_capacity(visitors.len());
    while let Some(visit) = visitors.join_next().await {
        visits.push(visit?);
    }
    Ok(visits)
}

/// Has every connection made and every piece of code run once, so that the healthy phase is not measured cold.
pub async fn warm_up(gateway: &Uri) -> Result<(), JoinError> {
    visit(gateway, Instant::now(), 100, 20).await.map(drop)
}

async fn visitor(client: Client, gateway: Uri, arrival: Instant) -> Visit {
    let page = match timeout_at(arrival + PATIENCE, client.get(&gateway)).await {
        Ok(Ok(response)) if response.status() != StatusCode::OK => Page::Failed,
        Ok(Ok(response)) if response.headers().contains_key(MISSING) => Page::Degraded,
        Ok(Ok(_)) => Page::Whole,
        Ok(Err(_)) | Err(_) => Page::Failed,
    };
    Visit { page, latency: arrival.elapsed() }
}
