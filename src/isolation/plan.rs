//! What a call of a service meets: fixed when the call begins, whatever is changed meanwhile.

use std::sync::Arc;

use crate::{
    breaker,
    contract::{Health, HealthStatus},
    fallback::NoFallback,
    isolation::{
        entry::{Entry, Rounds},
        erased::{Again, Inner},
        fallback_config::{CircuitBreaker, FallbackConfig},
        level::Level,
        strategy::Counting,
    },
    outcome::OnError,
    retry::Classified,
    settings::ConfigError,
    stack::{Hook, Stack, StackBuilder},
};

pub(super) type Rule = Classified<OnError>;

/// The policies of a level.
type Bare<Req> = Stack<Rule, NoFallback, Hook<Again<Req>>>;

/// The policies of a level, and a fallback.
type Covered<Req, T, E> = Stack<Rule, Counting<Req, T, E>, Hook<Again<Req>>>;

/// What can be changed while in use.
pub(super) struct Setting<Req, T, E> {
    pub(super) level: Level,
    pub(super) fallback: Arc<FallbackConfig<Req, T, E>>,
    pub(super) health: Arc<Health>,
}

/// What is called.
pub(super) struct Targets<Req, T, E> {
    pub(super) service: Inner<Req, T, E>,
    /// In place of the service while that is unhealthy.
    pub(super) refusal: Inner<Req, T, E>,
    pub(super) again: Again<Req>,
}

/// Never changed: a switch publishes another one, and calls in flight keep theirs.
pub(super) struct Plan<Req, T, E> {
    pub(super) entry: Arc<Entry>,
    pub(super) version: u64,
    pub(super) setting: Setting<Req, T, E>,
    pub(super) breaker: breaker::Handle,
    /// For the eye: the policies of the level, whether calls get as far or not.
    pub(super) policies: Bare<Req>,
    rounds: Rounds,
    pub(super) targets: Targets<Req, T, E>,
    pub(super) calls: Calls<Req, T, E>,
}

/// The way of a call.
pub(super) enum Calls<Req, T, E> {
    Direct,
    Bare { service: Inner<Req, T, E>, stack: Bare<Req> },
    Covered { service: Inner<Req, T, E>, stack: Covered<Req, T, E> },
}

impl<Req, T, E> Plan<Req, T, E> {
    /// The first plan of a service.
    pub(super) fn first(
        entry: Arc<Entry>,
        setting: Setting<Req, T, E>,
        targets: Targets<Req, T, E>,
    ) -> Result<Self, ConfigError> {
        let rounds = entry.rounds(setting.fallback.tries)?;
        let config = wanted(&entry, &setting).unwrap_or_else(|| entry.config.breaker.clone());
        let breaker = new_breaker(&entry, config)?;
        Self::of((entry, 0), setting, targets, (rounds, breaker))
    }

    /// The plan after this one. What it shares with this one it shares with the calls that run: places that are taken
    /// stay taken, and a circuit stays as it is.
    pub(super) fn next(&self, setting: Setting<Req, T, E>) -> Result<Self, ConfigError> {
        let entry = Arc::clone(&self.entry);
        let tries = setting.fallback.tries;
        let rounds = if tries == self.rounds.of { self.rounds.clone() } else { entry.rounds(tries)? };
        let breaker = match wanted(&entry, &setting) {
            // What the window knows cannot be kept in another window: then the circuit begins anew.
            Some(config) if self.breaker.accepts(&config).is_err() => new_breaker(&entry, config)?,
            _ => self.breaker.clone(),
        };
        Self::of((entry, self.version + 1), setting, self.targets.clone(), (rounds, breaker))
    }

    fn of(
        (entry, version): (Arc<Entry>, u64),
        setting: Setting<Req, T, E>,
        targets: Targets<Req, T, E>,
        (rounds, breaker): (Rounds, breaker::Handle),
    ) -> Result<Self, ConfigError> {
        let new = || Stack::builder(entry.policy.as_str()).fallback_handle(entry.fallback.clone());
        let of_level = || policies(new().replay(targets.again), &entry, &setting, (&rounds, &breaker));
        let refuses = setting.health.status() == HealthStatus::Unhealthy;
        let (service, builder) = match refuses {
            true => (targets.refusal.clone(), new().replay(targets.again)),
            false => (targets.service.clone(), of_level()),
        };
        let strategy = setting.fallback.strategy.as_ref().filter(|_| setting.fallback.enabled);
        let calls = match (setting.level, strategy) {
            (Level::None, _) => Calls::Direct,
            (_, None) => Calls::Bare { service, stack: builder.try_build()? },
            (_, Some(strategy)) => {
                let (strategy, meters) = (Arc::clone(strategy), Arc::clone(&entry.meters));
                Calls::Covered { service, stack: builder.fallback(Counting { strategy, meters }).try_build()? }
            }
        };
        let policies = of_level().try_build()?;
        Ok(Self { version, breaker, policies, rounds, calls, entry, setting, targets })
    }

    /// Gives the breaker the settings it is to have from now on. Its observers may hear of it: no lock may be held.
    pub(super) fn tune(&self) {
        let Some(config) = wanted(&self.entry, &self.setting) else { return };
        if let Err(error) = self.breaker.reconfigure(config) {
            tracing::error!(service = %self.entry.name, %error, "a circuit breaker keeps its settings");
        }
    }
}

/// The policies of a level, inside out.
fn policies<Req, T, E>(
    mut builder: StackBuilder<Rule, NoFallback, Hook<Again<Req>>>,
    entry: &Entry,
    setting: &Setting<Req, T, E>,
    (rounds, breaker): (&Rounds, &breaker::Handle),
) -> StackBuilder<Rule, NoFallback, Hook<Again<Req>>> {
    if setting.level >= Level::Basic {
        builder = builder.timeout(rounds.timeout.clone());
        builder = builder.attempt_timeout(rounds.attempt_timeout.clone()).retry(rounds.retry.clone());
    }
    if setting.level >= Level::Enhanced && !matches!(setting.fallback.circuit_breaker, CircuitBreaker::Off) {
        builder = builder.breaker(breaker.clone());
    }
    if setting.level >= Level::Full {
        builder = builder.bulkhead(entry.bulkhead.clone());
        builder = builder.rate_limit(entry.rate_limit.clone()).load_shed(entry.load_shed.clone());
    }
    builder
}

/// The settings of the breaker, `None` when there is to be none for now.
fn wanted<Req, T, E>(entry: &Entry, setting: &Setting<Req, T, E>) -> Option<breaker::Config> {
    match &setting.fallback.circuit_breaker {
        CircuitBreaker::AsConfigured => Some(entry.config.breaker.clone()),
        CircuitBreaker::Off => None,
        CircuitBreaker::With(config) => Some((**config).clone()),
    }
}

fn new_breaker(entry: &Entry, config: breaker::Config) -> Result<breaker::Handle, ConfigError> {
    let breaker = breaker::Handle::try_new(entry.policy.as_str(), config)?;
    breaker.observe(entry.forward());
    Ok(breaker)
}

impl<Req, T, E> Clone for Setting<Req, T, E> {
    fn clone(&self) -> Self {
        Self { level: self.level, fallback: Arc::clone(&self.fallback), health: Arc::clone(&self.health) }
    }
}

impl<Req, T, E> Clone for Targets<Req, T, E> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), refusal: self.refusal.clone(), again: self.again }
    }
}
