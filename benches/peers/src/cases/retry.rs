//! A call through what runs it again or elsewhere, when there is no need to; and through a timeout.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use mainstay::{
    BoxError,
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    retry::{Config, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::Layer;
use tower_resilience_hedge::HedgeLayer as TheirHedgeLayer;

use super::bare;
use crate::{
    case::{Case, SECOND, Side, alone, future, operation, service},
    peers::{ATTEMPTS, LIMIT, mainstay as ours, resilience, tower as towers},
    upstream::{Answered, Down, Manner, Upstream, finish},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::answered("retry", retry(Manner::AtOnce)),
        Case::answered("retry_pending", retry(Manner::PendingOnce)),
        Case::answered("timeout", timeout(Manner::AtOnce)),
        Case::answered("timeout_pending", timeout(Manner::PendingOnce)),
        Case::answered("fallback", fallback(Manner::AtOnce)),
        Case::answered("fallback_used", fallback(Manner::Fails)),
        Case::answered("hedge", hedge()),
    ]
}

/// With a budget where there is one: backon has none.
fn retry(manner: Manner) -> Vec<Side> {
    let ours = |name, config| service(name, ours::behind(RetryLayer::new(ours::retry(config)), manner));
    let run = ours::retry(Config::new());
    vec![
        bare(manner),
        ours("mainstay", Config::new()),
        ours("mainstay-no-budget", Config::new().no_budget()),
        service("mainstay-error", ours::behind_own(RetryLayer::new(ours::retry(Config::new())), manner)),
        operation("mainstay-run", run, move |it, n| finish(it.run(|| Answered::<BoxError>::new(manner, n)))),
        service("tower-resilience", resilience::retry().layer(Upstream::<Down>::new(manner))),
        service("tower", towers::retry().layer(Upstream::<Down>::new(manner))),
        backon(manner),
    ]
}

fn backon(manner: Manner) -> Side {
    let builder = ExponentialBuilder::default().with_max_times(ATTEMPTS as usize - 1);
    future("backon", builder, move |builder, n| (move || Answered::<Down>::new(manner, n)).retry(*builder))
}

fn timeout(manner: Manner) -> Vec<Side> {
    vec![
        bare(manner),
        service("mainstay", ours::behind(TimeoutLayer::new(LIMIT), manner)),
        service("mainstay-error", ours::behind_own(TimeoutLayer::new(LIMIT), manner)),
        service("tower-resilience", resilience::timeout().layer(Upstream::<Down>::new(manner))),
        service("tower", towers::timeout().layer(Upstream::<Down>::new(manner))),
        future("tokio", (), move |(), n| tokio::time::timeout(LIMIT, Answered::<Down>::new(manner, n))),
    ]
}

fn fallback(manner: Manner) -> Vec<Side> {
    let layer = FallbackLayer::new(fallback::Handle::new("upstream"), Fallback::value(0));
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(layer, manner)),
        service("tower-resilience", resilience::fallback().layer(Upstream::<Down>::new(manner))),
    ]
}

/// What tower's hedge asks: every request may be sent twice.
#[derive(Clone)]
struct Always;

impl tower::hedge::Policy<u64> for Always {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

/// A second copy after 100 ms, which never comes to pass; after a percentile with tower, which cannot be shared.
fn hedge() -> Vec<Side> {
    const DELAY: Duration = Duration::from_millis(100);
    let layer = |config| HedgeLayer::new(hedge::Handle::new("upstream", config));
    let upstream = || Upstream::<Down>::new(Manner::AtOnce);
    let tower = move || tower::hedge::Hedge::new::<u64>(upstream(), Always, 100, 0.95, SECOND * 10);
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(layer(hedge::Config::new().delay(DELAY)), Manner::AtOnce)),
        service("mainstay-percentile", ours::behind(layer(hedge::Config::new()), Manner::AtOnce)),
        service("tower-resilience", TheirHedgeLayer::new(DELAY).layer(upstream())),
        alone("tower", tower),
    ]
}
