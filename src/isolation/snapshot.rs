use std::sync::Arc;

use serde::Serialize;

use crate::{
    contract::{Health, HealthStatus, ServiceName},
    isolation::{level::Level, meter::Sums, plan::Plan},
    stack,
};

/// A service at one moment, for dashboards, health endpoints and tests. Serialises to plain JSON.
#[non_exhaustive]
#[derive(Debug, Clone, Serialize)]
pub struct ServiceInfo {
    /// The service.
    pub service: ServiceName,
    /// Its level.
    pub level: Level,
    /// Its health, as it was last told.
    pub health: Health,
    /// Whether a fallback answers for it, at the levels that have one.
    pub fallback: bool,
    /// Calls that were begun. Each is in flight until it is one of the next three.
    pub calls: u64,
    /// Calls that got an answer, the service's or its fallback's.
    pub answered: u64,
    /// Calls that got an error, the service's or a rejection.
    pub failed: u64,
    /// Calls that were dropped before they had an answer, or whose service panicked.
    pub dropped: u64,
    /// Calls that have no answer yet.
    pub in_flight: u64,
    /// Calls that the fallback answered.
    pub fallbacks_used: u64,
    /// The policies of its level. A timeout and a retry whose settings were changed count from then on.
    pub policies: stack::Snapshot,
}

impl ServiceInfo {
    pub(super) fn of<Req, T, E>(plan: &Plan<Req, T, E>) -> Self {
        let Sums { calls, answered, failed, dropped, in_flight, fallbacks_used, .. } = plan.entry.meters.own.sums();
        Self {
            service: plan.entry.name.clone(),
            level: plan.setting.level,
            health: Health::clone(&plan.setting.health),
            fallback: plan.setting.fallback.is_enabled(),
            calls,
            answered,
            failed,
            dropped,
            in_flight,
            fallbacks_used,
            policies: plan.policies.snapshot(),
        }
    }
}

/// A manager at one moment: its services by level and by health, and all calls since it was made, those of services
/// that are gone among them.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Services that are registered.
    pub services: u64,
    /// How many of them are at each level.
    pub levels: Levels,
    /// How many of them are how well.
    pub health: Statuses,
    /// How many of them have a fallback that is enabled.
    pub fallbacks_enabled: u64,
    /// Calls that were begun. Each is in flight until it is one of the next three.
    pub calls: u64,
    /// Calls that got an answer, the service's or its fallback's.
    pub answered: u64,
    /// Calls that got an error, the service's or a rejection.
    pub failed: u64,
    /// Calls that were dropped before they had an answer, or whose service panicked.
    pub dropped: u64,
    /// Calls that have no answer yet.
    pub in_flight: u64,
    /// Calls that a fallback answered.
    pub fallbacks_used: u64,
    /// Calls of services that are not registered, and of what cannot be a method. They are not among the calls.
    pub unknown: u64,
}

/// How many services are at each level.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Levels {
    /// Called directly.
    pub none: u64,
    /// With timeout, retry and fallback.
    pub basic: u64,
    /// With a breaker too.
    pub enhanced: u64,
    /// With bulkhead, rate limit and load shedding too.
    pub full: u64,
}

/// How many services are how well.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statuses {
    /// Doing their work.
    pub healthy: u64,
    /// Doing it not as they should.
    pub degraded: u64,
    /// Not asked.
    pub unhealthy: u64,
}

impl Stats {
    pub(super) fn of<Req, T, E>(plans: &[Arc<Plan<Req, T, E>>], sums: Sums) -> Self {
        let Sums { calls, answered, failed, dropped, in_flight, fallbacks_used, unknown } = sums;
        let calls = Self { calls, answered, failed, dropped, in_flight, fallbacks_used, unknown, ..Self::default() };
        plans.iter().fold(calls, |mut stats, plan| {
            stats.services += 1;
            *stats.levels.of(plan.setting.level) += 1;
            *stats.health.of(plan.setting.health.status()) += 1;
            stats.fallbacks_enabled += u64::from(plan.setting.fallback.is_enabled());
            stats
        })
    }
}

impl Levels {
    fn of(&mut self, level: Level) -> &mut u64 {
        match level {
            Level::None => &mut self.none,
            Level::Basic => &mut self.basic,
            Level::Enhanced => &mut self.enhanced,
            Level::Full => &mut self.full,
        }
    }
}

impl Statuses {
    fn of(&mut self, status: HealthStatus) -> &mut u64 {
        match status {
            HealthStatus::Healthy => &mut self.healthy,
            HealthStatus::Degraded => &mut self.degraded,
            HealthStatus::Unhealthy => &mut self.unhealthy,
        }
    }
}
