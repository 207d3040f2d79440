//! A call through what lets so many calls in: bulkhead, rate limit, load shed, adaptive concurrency.
//!
//! In `bulkhead` and `rate_limit` the side `mainstay` is the permit by itself, beside tokio's semaphore and governor,
//! and `mainstay-service` the Tower service, beside tower's and tower-resilience's.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use mainstay::{
    bulkhead::{self, BulkheadLayer},
    concurrency::{self, ConcurrencyLayer},
    load_shed::{self, LoadShedLayer, Throttle},
    rate_limit::{self, RateLimitLayer},
};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceBuilder, limit::RateLimit, limit::rate::Rate};
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Aimd};

use super::bare;
use crate::{
    case::{Case, SECOND, Side, alone, operation, service},
    peers::{LONG, PLACES, PLENTY, mainstay as ours, resilience, tower as towers},
    upstream::{Down, Manner, Upstream, drive},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::answered("bulkhead", bulkhead()),
        Case::answered("bulkhead_pending", bulkhead_services(Manner::PendingOnce)),
        Case::refused("bulkhead_full", bulkhead_full()),
        Case::answered("rate_limit", rate_limit()),
        Case::refused("rate_limit_full", rate_limit_full()),
        Case::answered("load_shed", load_shed()),
        Case::answered("concurrency", adaptive()),
    ]
}

fn peer(manner: Manner) -> Upstream<Down> {
    Upstream::new(manner)
}

fn bulkhead_services(manner: Manner) -> Vec<Side> {
    vec![
        bare(manner),
        service("mainstay-service", ours::behind(BulkheadLayer::new(ours::bulkhead(PLACES)), manner)),
        service("mainstay-error", ours::behind_own(BulkheadLayer::new(ours::bulkhead(PLACES)), manner)),
        service("mainstay-queued", ours::behind(BulkheadLayer::new(ours::bulkhead(PLACES)).queued(), manner)),
        service("tower", towers::concurrency().layer(peer(manner))),
        service("tower-resilience", resilience::bulkhead(PLACES as usize).layer(peer(manner))),
    ]
}

fn semaphore(places: u32) -> [Side; 2] {
    let semaphore = Arc::new(Semaphore::new(places as usize));
    let owned = |it: &Arc<Semaphore>, _| Arc::clone(it).try_acquire_owned().is_ok();
    [
        operation("tokio", Arc::clone(&semaphore), |it, _| it.try_acquire().is_ok()),
        operation("tokio-owned", semaphore, owned),
    ]
}

fn bulkhead() -> Vec<Side> {
    let mut sides = bulkhead_services(Manner::AtOnce);
    let call = |it: &bulkhead::Handle, n| it.call(|| Ok::<u64, Down>(n)).is_ok();
    sides.insert(1, operation("mainstay-call", ours::bulkhead(PLACES), call));
    sides.insert(1, operation("mainstay", ours::bulkhead(PLACES), |it, _| it.try_acquire().is_ok()));
    sides.extend(semaphore(PLACES));
    sides
}

/// All places are taken. Tower's limit only waits; its load shed in front turns away.
fn bulkhead_full() -> Vec<Side> {
    let full = ours::bulkhead(1);
    std::mem::forget(full.try_acquire());
    let shed = ServiceBuilder::new().load_shed().layer(tower::limit::GlobalConcurrencyLimitLayer::new(0));
    let mut sides = vec![
        bare(Manner::Fails),
        operation("mainstay", full.clone(), |it, _| it.try_acquire().is_ok()),
        service("mainstay-service", ours::behind_own(BulkheadLayer::new(full.clone()), Manner::AtOnce)),
        service("mainstay-boxed", ours::behind(BulkheadLayer::new(full), Manner::AtOnce)),
        service("tower", shed.service(peer(Manner::AtOnce))),
        service("tower-resilience", full_bulkhead()),
    ];
    sides.extend(semaphore(0));
    sides
}

/// One place, and a call that never ends has it.
fn full_bulkhead() -> tower_resilience_bulkhead::Bulkhead<Upstream<Down>> {
    use tower::Service as _;
    let mut service = resilience::bulkhead(1).layer(peer(Manner::PendingOnce));
    let mut taken = Box::pin(service.call(0));
    let polled = taken.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_pending(), "it waits for the service");
    Box::leak(Box::new(taken));
    service
}

fn governor(quota: Quota) -> Arc<DefaultDirectRateLimiter> {
    Arc::new(RateLimiter::direct(quota))
}

/// One call an hour, and it was made.
fn used_up() -> rate_limit::Handle {
    let handle = rate_limit::Handle::new("upstream", rate_limit::Config::new(1, LONG));
    assert!(handle.try_acquire().is_ok());
    handle
}

fn rate_limit() -> Vec<Side> {
    let plenty = || rate_limit::Handle::new("upstream", rate_limit::Config::per_second(PLENTY));
    let quota = Quota::per_second(NonZeroU32::new(PLENTY).expect("not 0"));
    // Tower's cannot be shared: it is no `Clone`.
    let tower = || RateLimit::new(peer(Manner::AtOnce), Rate::new(u64::from(PLENTY), SECOND));
    vec![
        bare(Manner::AtOnce),
        operation("mainstay", plenty(), |it, _| it.try_acquire().is_ok()),
        operation("governor", governor(quota), |it, _| it.check().is_ok()),
        service("mainstay-service", ours::behind(RateLimitLayer::new(plenty()), Manner::AtOnce)),
        service("tower-resilience", resilience::rate_limit(PLENTY as usize, SECOND).layer(peer(Manner::AtOnce))),
        alone("tower", tower),
    ]
}

fn rate_limit_full() -> Vec<Side> {
    let governor = governor(Quota::with_period(LONG).expect("not 0"));
    assert!(governor.check().is_ok());
    let mut theirs = resilience::rate_limit(1, LONG).layer(peer(Manner::AtOnce));
    assert!(drive(&mut theirs, 0));
    vec![
        bare(Manner::Fails),
        operation("mainstay", used_up(), |it, _| it.try_acquire().is_ok()),
        operation("governor", governor, |it, _| it.check().is_ok()),
        service("mainstay-service", ours::behind_own(RateLimitLayer::new(used_up()), Manner::AtOnce)),
        service("mainstay-boxed", ours::behind(RateLimitLayer::new(used_up()), Manner::AtOnce)),
        service("tower-resilience", theirs),
    ]
}

fn load_shed() -> Vec<Side> {
    let shed = |config| LoadShedLayer::new(load_shed::Handle::new("upstream", config));
    let tower = ServiceBuilder::new().load_shed().layer(towers::concurrency());
    let throttle = load_shed::Config::new().throttle(Throttle::new());
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(shed(load_shed::Config::new().in_flight(PLACES)), Manner::AtOnce)),
        service("mainstay-throttle", ours::behind(shed(throttle), Manner::AtOnce)),
        service("tower", tower.service(peer(Manner::AtOnce))),
    ]
}

/// Limits that learn from latency, by AIMD; tower's is fixed.
fn adaptive() -> Vec<Side> {
    let layer = |config| ConcurrencyLayer::new(concurrency::Handle::new("upstream", config));
    let aimd = Aimd::builder().initial_limit(20).build().expect("good settings");
    vec![
        bare(Manner::AtOnce),
        service("mainstay", ours::behind(layer(concurrency::Config::aimd()), Manner::AtOnce)),
        service("mainstay-gradient", ours::behind(layer(concurrency::Config::new()), Manner::AtOnce)),
        service("tower-resilience", AdaptiveLimiterLayer::new(aimd).layer(peer(Manner::AtOnce))),
        service("tower", towers::concurrency().layer(peer(Manner::AtOnce))),
    ]
}
