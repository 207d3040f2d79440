use std::fmt;

use serde::Serialize;

use crate::{
    admission::Queue,
    breaker, bulkhead,
    keyed::leave::Standing,
    name::Name,
    observe::{CircuitState, Observer, Snapshot},
    rate_limit,
    settings::ConfigError,
    time::Moment,
};

/// The settings of a policy of which there can be one for each key.
///
/// Sealed: those of the circuit breaker, the bulkhead and the rate limit.
pub trait KeyedConfig: Clone + fmt::Debug + Send + Sync + 'static {
    /// The policy these are for.
    type Policy: KeyedPolicy<Config = Self>;

    /// Checks every value. What a policy for each key cannot do is refused as well.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    fn check(&self) -> Result<(), ConfigError>;
}

/// A policy of which there can be one for each key.
///
/// Sealed: the handles of the circuit breaker, the bulkhead and the rate limit.
pub trait KeyedPolicy: Queue + fmt::Debug + Send + Sync + 'static {
    /// Its settings.
    type Config: KeyedConfig<Policy = Self>;

    /// What it tells of itself.
    type Snapshot: Clone + fmt::Debug + PartialEq + Serialize + Send + Sync + 'static;

    /// What it is, as in its snapshot.
    const KIND: &'static str;

    /// One for a key, with settings that were checked.
    fn make(name: &Name, config: &Self::Config) -> Self;

    /// Whether [`reconfigure`](Self::reconfigure) would take these settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    fn accepts(&self, config: &Self::Config) -> Result<(), ConfigError>;

    /// Changes the settings under traffic.
    ///
    /// # Errors
    ///
    /// Everything that is wrong; the settings are then as they were.
    fn reconfigure(&self, config: &Self::Config) -> Result<(), ConfigError>;

    /// Has an observer told of what happens to it.
    fn observe(&self, observer: impl Observer);

    /// What it knows now.
    fn snapshot(&self) -> Self::Snapshot;

    /// What would be lost if it, of which nobody else has anything, were forgotten now.
    fn standing(&self, now: &mut Moment) -> Standing;

    /// Whether nobody else has a handle or a permit.
    fn is_alone(&self) -> bool;

    /// Begins anew: a circuit closes, a quota is full.
    fn reset(&self);

    /// Bytes of memory, without observers.
    fn memory(&self) -> usize;
}

/// The key is known only when the call comes, so nobody can be held back before.
fn refuse_unready(unready: bool) -> Result<(), ConfigError> {
    let why = "must be \"reject\" in a policy for each key: the key is not known before the call";
    if unready { Err(ConfigError::new("readiness", "unready", why)) } else { Ok(()) }
}

fn all(first: Result<(), ConfigError>, second: Result<(), ConfigError>) -> Result<(), ConfigError> {
    match (first, second) {
        (Err(first), Err(second)) => Err(first.and(second)),
        (first, second) => first.and(second),
    }
}

impl KeyedConfig for breaker::Config {
    type Policy = breaker::Handle;

    fn check(&self) -> Result<(), ConfigError> {
        all(self.check(), refuse_unready(self.is_unready()))
    }
}

impl KeyedPolicy for breaker::Handle {
    type Config = breaker::Config;
    type Snapshot = Snapshot;
    const KIND: &'static str = "circuit_breaker";

    fn make(name: &Name, config: &breaker::Config) -> Self {
        Self::of_checked(name.clone(), config.clone())
    }

    fn accepts(&self, config: &breaker::Config) -> Result<(), ConfigError> {
        self.accepts(config)
    }

    fn reconfigure(&self, config: &breaker::Config) -> Result<(), ConfigError> {
        self.reconfigure(config.clone())
    }

    fn observe(&self, observer: impl Observer) {
        self.observe(observer);
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn standing(&self, now: &mut Moment) -> Standing {
        match self.state_at(now) {
            CircuitState::Closed if self.has_doubts() => Standing::Remembers,
            CircuitState::Closed => Standing::AsNew,
            CircuitState::HalfOpen => Standing::Recovers,
            CircuitState::Open | CircuitState::ForcedOpen | CircuitState::Disabled | CircuitState::MetricsOnly => {
                Standing::Stays
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.is_alone()
    }

    fn reset(&self) {
        self.reset();
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

impl KeyedConfig for bulkhead::Config {
    type Policy = bulkhead::Handle;

    fn check(&self) -> Result<(), ConfigError> {
        all(self.check(), refuse_unready(self.is_unready()))
    }
}

impl KeyedPolicy for bulkhead::Handle {
    type Config = bulkhead::Config;
    type Snapshot = bulkhead::Snapshot;
    const KIND: &'static str = "bulkhead";

    fn make(name: &Name, config: &bulkhead::Config) -> Self {
        Self::of_checked(name.clone(), config)
    }

    fn accepts(&self, config: &bulkhead::Config) -> Result<(), ConfigError> {
        config.check()
    }

    fn reconfigure(&self, config: &bulkhead::Config) -> Result<(), ConfigError> {
        self.reconfigure(config.clone())
    }

    fn observe(&self, observer: impl Observer) {
        self.observe(observer);
    }

    fn snapshot(&self) -> bulkhead::Snapshot {
        self.snapshot()
    }

    /// A bulkhead remembers nothing but the calls that run or wait, and each of those has a part of it.
    fn standing(&self, _: &mut Moment) -> Standing {
        Standing::AsNew
    }

    fn is_alone(&self) -> bool {
        self.is_alone()
    }

    /// A bulkhead remembers nothing but the calls that run, and those go on.
    fn reset(&self) {}

    fn memory(&self) -> usize {
        self.memory()
    }
}

impl KeyedConfig for rate_limit::Config {
    type Policy = rate_limit::Handle;

    fn check(&self) -> Result<(), ConfigError> {
        self.check()
    }
}

impl KeyedPolicy for rate_limit::Handle {
    type Config = rate_limit::Config;
    type Snapshot = rate_limit::Snapshot;
    const KIND: &'static str = "rate_limit";

    fn make(name: &Name, config: &rate_limit::Config) -> Self {
        Self::of_checked(name.clone(), *config)
    }

    fn accepts(&self, config: &rate_limit::Config) -> Result<(), ConfigError> {
        config.check()
    }

    fn reconfigure(&self, config: &rate_limit::Config) -> Result<(), ConfigError> {
        self.reconfigure(*config)
    }

    fn observe(&self, observer: impl Observer) {
        self.observe(observer);
    }

    fn snapshot(&self) -> rate_limit::Snapshot {
        self.snapshot()
    }

    /// A quota that is not full yet must stay: who could push his key out would have a full one again.
    fn standing(&self, now: &mut Moment) -> Standing {
        if self.is_full(now) { Standing::AsNew } else { Standing::Stays }
    }

    fn is_alone(&self) -> bool {
        self.is_alone()
    }

    fn reset(&self) {
        self.refill();
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}
