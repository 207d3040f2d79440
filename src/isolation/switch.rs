//! What is changed while in use, and what is asked.

use std::sync::Arc;

use crate::{
    breaker, bulkhead,
    contract::Health,
    isolation::{
        error::IsolationError,
        fallback_config::{CircuitBreaker, FallbackConfig},
        level::Level,
        manager::IsolationManager,
        plan::{Plan, Setting},
        snapshot::{ServiceInfo, Stats},
    },
    load_shed,
    observe::Observer,
    rate_limit,
};

/// The plan before a switch, and the one since.
type Switched<Req, T, E> = (Arc<Plan<Req, T, E>>, Arc<Plan<Req, T, E>>);

impl<Req, T, E> IsolationManager<Req, T, E> {
    /// Changes the level of a service for calls that begin from now on; which level it was before.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn set_level(&self, service: &str, level: Level) -> Result<Level, IsolationError> {
        let (old, _) = self.switch(service, |now| Setting { level, ..now.clone() })?;
        let from = old.setting.level;
        tracing::info!(service, %from, to = %level, "the isolation level of a service was changed");
        Ok(from)
    }

    /// Changes the fallback of a service, and the settings that come with it, for calls that begin from now on; what
    /// they were before.
    ///
    /// The circuit keeps its state, whatever its settings, unless they have another window: then it begins anew.
    ///
    /// # Errors
    ///
    /// When there is no service of that name, or a setting is impossible. It is left as it is then.
    pub fn update_fallback(
        &self,
        service: &str,
        fallback: FallbackConfig<Req, T, E>,
    ) -> Result<FallbackConfig<Req, T, E>, IsolationError> {
        fallback.check().map_err(|error| error.within("fallback"))?;
        let fallback = Arc::new(fallback);
        let (old, new) = self.switch(service, |now| Setting { fallback: Arc::clone(&fallback), ..now.clone() })?;
        let (from, to) = (&*old.setting.fallback, &*fallback);
        // One that was off has the settings of whoever used it last. One that stays as configured may have been given
        // others by hand since, and keeps them.
        let as_configured = |of: &FallbackConfig<Req, T, E>| matches!(of.circuit_breaker, CircuitBreaker::AsConfigured);
        if !(as_configured(from) && as_configured(to)) {
            self.tune(&new);
        }
        tracing::info!(
            service,
            from = from.is_enabled(),
            to = to.is_enabled(),
            "the fallback of a service was changed"
        );
        Ok(from.clone())
    }

    /// Says how well a service is, for calls that begin from now on; how well it was before. At levels basic and up an
    /// unhealthy service is not asked, and its fallback answers at once.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn update_health(&self, service: &str, health: impl Into<Health>) -> Result<Health, IsolationError> {
        let health = Arc::new(health.into());
        let (old, _) = self.switch(service, |now| Setting { health: Arc::clone(&health), ..now.clone() })?;
        let from = &old.setting.health;
        if from.status() != health.status() {
            let (from, to) = (from.status(), health.status());
            tracing::info!(service, %from, %to, "the health of a service has changed");
        }
        Ok(Health::clone(from))
    }

    /// Makes another plan of the one in force and puts it in its place. Nothing is locked while it is made: if another
    /// switch was faster, it is made again from what that left.
    fn switch(
        &self,
        service: &str,
        edit: impl Fn(&Setting<Req, T, E>) -> Setting<Req, T, E>,
    ) -> Result<Switched<Req, T, E>, IsolationError> {
        loop {
            let old = self.plan(service)?;
            let new = Arc::new(old.next(edit(&old.setting))?);
            if self.shared.table.replace(&old, &new) {
                return Ok((old, new));
            }
        }
    }

    /// Gives the breaker its new settings: again if they were changed again meanwhile, so that the last ones stay.
    fn tune(&self, new: &Arc<Plan<Req, T, E>>) {
        let mut plan = Arc::clone(new);
        loop {
            plan.tune();
            match self.shared.table.of(&plan.entry) {
                Some(now) if !Arc::ptr_eq(&now, &plan) => plan = now,
                _ => return,
            }
        }
    }

    /// The level of a service.
    ///
    /// # Errors
    ///
    /// When there is no service of that name, as all that follow.
    pub fn level(&self, service: &str) -> Result<Level, IsolationError> {
        Ok(self.plan(service)?.setting.level)
    }

    /// How well a service is, as it was last told.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn health(&self, service: &str) -> Result<Health, IsolationError> {
        Ok(Health::clone(&self.plan(service)?.setting.health))
    }

    /// The fallback of a service, to change a part of it.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn fallback(&self, service: &str) -> Result<FallbackConfig<Req, T, E>, IsolationError> {
        Ok(FallbackConfig::clone(&self.plan(service)?.setting.fallback))
    }

    /// The circuit breaker of a service, whether its level has one or not.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn breaker(&self, service: &str) -> Result<breaker::Handle, IsolationError> {
        Ok(self.plan(service)?.breaker.clone())
    }

    /// The bulkhead of a service, whether its level has one or not.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn bulkhead(&self, service: &str) -> Result<bulkhead::Handle, IsolationError> {
        Ok(self.plan(service)?.entry.bulkhead.clone())
    }

    /// The rate limit of a service, whether its level has one or not.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn rate_limit(&self, service: &str) -> Result<rate_limit::Handle, IsolationError> {
        Ok(self.plan(service)?.entry.rate_limit.clone())
    }

    /// The load shedder of a service, whether its level has one or not.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn load_shed(&self, service: &str) -> Result<load_shed::Handle, IsolationError> {
        Ok(self.plan(service)?.entry.load_shed.clone())
    }

    /// What is known of a service now.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn info(&self, service: &str) -> Result<ServiceInfo, IsolationError> {
        Ok(ServiceInfo::of(&*self.plan(service)?))
    }

    /// What is known of all services now, ordered by name.
    #[must_use]
    pub fn list(&self) -> Vec<ServiceInfo> {
        self.shared.table.all().iter().map(|plan| ServiceInfo::of(plan)).collect()
    }

    /// All services and calls in numbers. Adds up the counts of all threads; never on the way of a call.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.shared.table.all(), self.shared.meter.sums())
    }

    /// Has an observer told of what happens to the policies of all services, those that are registered later too, and
    /// of calls that were turned away because their service is unhealthy or unknown.
    pub fn observe(&self, observer: impl Observer) {
        self.shared.sink.add(observer);
    }
}
