//! A call through what runs it again or elsewhere, mostly when there is no need to; and through a timeout.

use std::{future::ready, hint::black_box, sync::Arc, time::Duration};

use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use mainstay::{
    BoxError,
    fallback::{self, CacheConfig, Fallback, FallbackLayer, NoFallback, Strategy},
    hedge::{self, HedgeLayer},
    retry::{Backoff, Budget, BudgetConfig, Config, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::{
    Layer,
    retry::budget::{Budget as _, TpsBudget},
};
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
        Case::answered("retry_tenth", retry_tenth()),
        Case::refused("retry_used_up", retry_used_up()),
        Case::answered("retry_budget", retry_budget()),
        Case::answered("timeout", timeout(Manner::AtOnce)),
        Case::answered("timeout_pending", timeout(Manner::PendingOnce)),
        Case::answered("fallback", fallback()),
        Case::answered("fallback_used", fallback_used()),
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

fn at_once() -> Config {
    Config::new().backoff(Backoff::fixed(Duration::ZERO))
}

/// One request in ten fails, and is sent again without a wait.
fn retry_tenth() -> Vec<Side> {
    let manner = Manner::TenthFails;
    let run = ours::retry(at_once());
    let builder = ConstantBuilder::default().with_delay(Duration::ZERO).with_max_times(ATTEMPTS as usize - 1);
    let backon = move |builder: &ConstantBuilder, n| {
        (move || Answered::<Down>::new(manner, n)).retry(*builder).sleep(|_| ready(()))
    };
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(RetryLayer::new(ours::retry(at_once())), manner)),
        operation("mainstay-run", run, move |it, n| finish(it.run(|| Answered::<BoxError>::new(manner, n)))),
        service("tower", towers::retry().layer(Upstream::<Down>::new(manner))),
        future("backon", builder, backon),
    ]
}

/// All requests fail, and the budget allows no more than its share of them; tower's and tower-resilience's none,
/// because what they grant comes from successes.
fn retry_used_up() -> Vec<Side> {
    let share = at_once().budget(BudgetConfig::new().min_per_second(0));
    let tower = towers::retry_within(TpsBudget::new(SECOND * 10, 0, 0.2));
    vec![
        bare(Manner::Fails),
        service("mainstay", ours::behind(RetryLayer::new(ours::retry(share)), Manner::Fails)),
        service("tower-resilience", resilience::retry_used_up().layer(Upstream::<Down>::new(Manner::Fails))),
        service("tower", tower.layer(Upstream::<Down>::new(Manner::Fails))),
    ]
}

/// What each call pays in.
fn retry_budget() -> Vec<Side> {
    let ours = |it: &Budget, _| {
        it.deposit();
        true
    };
    let towers = |it: &Arc<TpsBudget>, _| {
        it.deposit();
        true
    };
    vec![
        operation("bare", (), |(), n| black_box(n) == n),
        operation("mainstay", Budget::new(BudgetConfig::new()), ours),
        operation("tower", Arc::new(TpsBudget::default()), towers),
    ]
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

fn falling_back<F>(name: &'static str, strategy: F, manner: Manner) -> Side
where
    F: Strategy<u64, u64, BoxError> + Send + Sync + 'static,
{
    service(name, ours::behind(FallbackLayer::new(fallback::Handle::new("upstream"), strategy), manner))
}

fn fallback() -> Vec<Side> {
    let manner = Manner::AtOnce;
    let mut sides = fallbacks(manner);
    sides.push(falling_back("mainstay-none", NoFallback, manner));
    sides.push(falling_back("mainstay-cached", Fallback::cached(CacheConfig::new(), |n: &u64| Some(n % 64)), manner));
    sides
}

fn fallback_used() -> Vec<Side> {
    fallbacks(Manner::Fails)
}

fn fallbacks(manner: Manner) -> Vec<Side> {
    vec![
        bare(Manner::AtOnce),
        falling_back("mainstay", Fallback::value(0), manner),
        falling_back("mainstay-other-service", Fallback::service(ours::served(Manner::AtOnce)), manner),
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
    let run = hedge::Handle::new("upstream", hedge::Config::new());
    let tower = move || tower::hedge::Hedge::new::<u64>(upstream(), Always, 100, 0.95, SECOND * 10);
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(layer(hedge::Config::new().delay(DELAY)), Manner::AtOnce)),
        service("mainstay-percentile", ours::behind(layer(hedge::Config::new()), Manner::AtOnce)),
        service("mainstay-no-budget", ours::behind(layer(hedge::Config::new().no_budget()), Manner::AtOnce)),
        operation("mainstay-run", run, |it, n| finish(it.run(|_| Answered::<BoxError>::new(Manner::AtOnce, n)))),
        service("tower-resilience", TheirHedgeLayer::new(DELAY).layer(upstream())),
        alone("tower", tower),
    ]
}
