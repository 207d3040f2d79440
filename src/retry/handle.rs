use std::{fmt, sync::Arc};

use crate::{
    budget::Budget,
    name::Name,
    observe::{Observer, Sink},
    retry::{
        config::Config,
        core::Core,
        meter::{Meter, Snapshot},
    },
    settings::ConfigError,
};

/// A retry: its settings, its budget and its counters, and the door for callers without Tower.
///
/// Cheap to clone; all clones are one retry. Give one to a [`RetryLayer`](super::RetryLayer), keep another for the
/// dashboard. It needs a runtime only to wait.
///
/// ```
/// use mainstay::{Error, retry::{Config, Handle}};
///
/// # tokio_test::block_on(async {
/// let retry = Handle::new("user-db", Config::database());
/// let mut calls = 0;
/// let user = retry.run(|| {
///     calls += 1;
///     let answer = if calls < 3 { Err("deadlock") } else { Ok("Ada") };
///     async move { answer.map_err(Error::Inner) }
/// });
/// assert_eq!(user.await, Ok("Ada"));
/// assert_eq!(retry.snapshot().recovered, 1);
/// # });
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
}

impl Handle {
    /// A retry with a name and settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible, with all that is wrong as the message. For values from outside, use
    /// [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("retry {name:?}: {error}"),
        }
    }

    /// A retry with a name and settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings: see [`Name::new`] and [`Config::check`].
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        let budget = config.budget.map(Budget::try_new).transpose()?;
        Ok(Self::of(name, config, budget, false))
    }

    fn of(name: Name, config: Config, budget: Option<Budget>, is_shared: bool) -> Self {
        let counts_calls = is_shared || budget.is_none();
        Self { core: Arc::new(Core { meter: Meter::new(), budget, config, counts_calls, sink: Sink::default(), name }) }
    }

    /// The same retry with another budget, in place of the one it was given: for several retries that share one. The
    /// counters and observers begin anew, so do this before anything else.
    ///
    /// ```
    /// use mainstay::retry::{Budget, BudgetConfig, Config, Handle};
    ///
    /// let budget = Budget::new(BudgetConfig::new());
    /// let reads = Handle::new("user-db/read", Config::database()).with_budget(&budget);
    /// let writes = Handle::new("user-db/write", Config::database().attempts(2)).with_budget(&budget);
    /// ```
    #[must_use]
    pub fn with_budget(self, budget: &Budget) -> Self {
        Self::of(self.core.name.clone(), self.core.config.clone(), Some(budget.clone()), true)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// Has an observer told of every retry, and of every call that is given up for want of one, from now on.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it has counted, for dashboards and health endpoints. Adds up the counts of all threads; never on the way of
    /// a call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core)
    }

    /// Bytes of memory this retry and its budget take, without observers and a function for waits: under 1 KiB before
    /// the first call on a machine with up to 4 cores, and 256 bytes more for each thread that calls through it.
    #[must_use]
    pub fn memory(&self) -> usize {
        let core = 2 * size_of::<usize>() + size_of::<Core>();
        core + self.core.meter.heap_size() + self.core.budget.as_ref().map_or(0, Budget::heap_size)
    }

    /// Whether `other` is a clone of this handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", self.name()).finish_non_exhaustive()
    }
}
