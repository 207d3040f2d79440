use std::{fmt, sync::Arc, time::Duration};

use crate::{
    budget::Budget,
    hedge::{config::Config, core::Core, meter::Snapshot},
    name::Name,
    observe::Observer,
    settings::ConfigError,
    time::Tick,
};

/// A hedge: its settings, its budget, what it has measured, and the door for callers without Tower.
///
/// Cheap to clone; all clones are one hedge. Give one to a [`HedgeLayer`](super::HedgeLayer), keep another for the
/// dashboard. It needs a runtime only to wait.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{Error, hedge::{Config, Handle}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error<std::io::Error>> {
/// let hedge = Handle::new("user-db", Config::new().delay(Duration::from_millis(50)));
/// let user = hedge.run(async |attempt| {
///     // The first copy hangs.
///     if attempt == 1 {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///     }
///     Ok::<_, Error<std::io::Error>>(format!("Ada, by copy {attempt}"))
/// });
/// assert_eq!(user.await?, "Ada, by copy 2");
/// assert_eq!(hedge.snapshot().won, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Handle {
    /// A hedge with a name and settings that are written in code.
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
            Err(error) => panic!("hedge {name:?}: {error}"),
        }
    }

    /// A hedge with a name and settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings: see [`Name::new`] and [`Config::check`].
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        let budget = config.budget.map(Budget::try_new).transpose()?;
        Ok(Self { core: Arc::new(Core::new(name, config, budget, false)) })
    }

    /// The same hedge with another budget, in place of the one it was given: that of a retry of the same service, so
    /// that retries and hedges together stay within it. The retry adds each call's share to it, and so this does not;
    /// hedges that share a budget without a retry have its owner [add them](Budget::deposit). The counters and
    /// observers begin anew, so do this before anything else.
    ///
    /// ```
    /// use mainstay::{hedge, retry::{self, Budget, BudgetConfig}};
    ///
    /// let budget = Budget::new(BudgetConfig::new());
    /// let retry = retry::Handle::new("user-db", retry::Config::new()).with_budget(&budget);
    /// let hedge = hedge::Handle::new("user-db", hedge::Config::new()).with_budget(&budget);
    /// ```
    #[must_use]
    pub fn with_budget(self, budget: &Budget) -> Self {
        let core = Core::new(self.core.name.clone(), self.config(), Some(budget.clone()), true);
        Self { core: Arc::new(core) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.pace.config()
    }

    /// Changes the settings under traffic, except the budget, which is in use. What was measured is kept. A call that
    /// waits for its next copy already waits as long as it was to.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, or that they have another budget; they are then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        self.core.pace.set(config)
    }

    /// How long a call waits now before another copy is sent.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.core.delay(Tick::now())
    }

    /// Has an observer told of every copy that is sent, from now on.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it has counted and measured, for dashboards and health endpoints. Adds up the counts of all threads; never
    /// on the way of a call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core)
    }

    /// Bytes of memory this hedge and its budget take, without observers: under 1 KiB before the first call on a
    /// machine with up to 4 cores, and for each thread that calls through it 256 bytes more, or 1.5 KiB if it measures
    /// latencies.
    #[must_use]
    pub fn memory(&self) -> usize {
        let (core, budget) = (2 * size_of::<usize>() + size_of::<Core>(), self.core.budget.as_ref());
        core + self.core.meter.heap_size() + self.core.pace.heap_size() + budget.map_or(0, Budget::heap_size)
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
