//! What a registered service keeps from one plan to the next.

use std::sync::Arc;

use crate::{
    bulkhead,
    contract::ServiceName,
    fallback,
    isolation::{
        config::Config,
        fallback_config::Tries,
        meter::{Meter, Meters},
    },
    load_shed,
    name::Name,
    observe::{Event, Observer, Sink},
    rate_limit,
    retry::{self, Backoff, Budget, Jitter},
    settings::ConfigError,
    sync::atomic::AtomicU64,
    timeout,
};

/// Holds no code of the service's or of its fallback's: a handle of a service that is gone does not keep them.
pub(super) struct Entry {
    pub(super) name: ServiceName,
    pub(super) policy: Name,
    pub(super) config: Config,
    pub(super) meters: Arc<Meters>,
    pub(super) sink: Arc<Sink>,
    pub(super) fallback: fallback::Handle,
    pub(super) bulkhead: bulkhead::Handle,
    pub(super) rate_limit: rate_limit::Handle,
    pub(super) load_shed: load_shed::Handle,
    /// Of all retries, whatever the settings are at the time: or every change would fill it again.
    budget: Option<Budget>,
    /// That of the plan in force, [`GONE`] when there is none.
    pub(super) version: AtomicU64,
}

/// The version of a service that is not registered any more.
pub(super) const GONE: u64 = u64::MAX;

/// The policies that begin anew when their settings change, so that calls in flight go on under the old ones.
#[derive(Clone)]
pub(super) struct Rounds {
    pub(super) of: Tries,
    pub(super) timeout: timeout::Handle,
    pub(super) attempt_timeout: timeout::Handle,
    pub(super) retry: retry::Handle,
}

/// Passes events on to the observers of the manager, those among them that come later.
struct Forward {
    sink: Arc<Sink>,
    policy: Name,
}

impl Observer for Forward {
    fn on_event(&self, event: &Event<'_>) {
        self.sink.tell(&self.policy, || event.clone());
    }
}

impl Entry {
    pub(super) fn new(name: ServiceName, config: Config, all: (&Arc<Meter>, &Arc<Sink>)) -> Result<Self, ConfigError> {
        let policy = name.policy_name();
        let of = policy.as_str();
        let retry = retry::Handle::try_new(of, config.retry.clone())?;
        let entry = Self {
            fallback: fallback::Handle::try_new(of)?,
            bulkhead: bulkhead::Handle::try_new(of, config.bulkhead.clone())?,
            rate_limit: rate_limit::Handle::try_new(of, config.rate_limit)?,
            load_shed: load_shed::Handle::try_new(of, config.load_shed)?,
            budget: retry.core().budget().cloned(),
            meters: Arc::new(Meters { own: Meter::new(), all: Arc::clone(all.0) }),
            sink: Arc::clone(all.1),
            version: AtomicU64::new(0),
            name,
            policy,
            config,
        };
        entry.fallback.observe(entry.forward());
        entry.bulkhead.observe(entry.forward());
        entry.rate_limit.observe(entry.forward());
        entry.load_shed.observe(entry.forward());
        Ok(entry)
    }

    /// An observer that tells those of the manager.
    pub(super) fn forward(&self) -> impl Observer + use<> {
        Forward { sink: Arc::clone(&self.sink), policy: self.policy.clone() }
    }

    pub(super) fn rounds(&self, tries: Tries) -> Result<Rounds, ConfigError> {
        let of = self.policy.as_str();
        let limit = tries.timeout.unwrap_or(self.config.timeout);
        let mut retry = self.config.retry.clone().deadline_within(limit);
        if let Some(retries) = tries.max_retries {
            retry = retry.attempts(retries.saturating_add(1));
        }
        if let Some(delay) = tries.retry_delay {
            retry = retry.backoff(Backoff::fixed(delay)).jitter(Jitter::None);
        }
        let retry = retry::Handle::try_new(of, retry)?;
        let rounds = Rounds {
            of: tries,
            timeout: timeout::Handle::try_new(of, limit)?,
            attempt_timeout: timeout::Handle::try_new(of, self.config.attempt_timeout.min(limit))?,
            retry: self.budget.as_ref().map_or_else(|| retry.clone(), |budget| retry.clone().with_budget(budget)),
        };
        rounds.timeout.observe(self.forward());
        rounds.attempt_timeout.observe(self.forward());
        rounds.retry.observe(self.forward());
        Ok(rounds)
    }
}
