use std::{fmt, future::Future, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    admission::{Admitted, Verdict, drive},
    concurrency::{
        config::Config,
        core::{Core, Ticket},
    },
    error::{CarryRejection, Error, Rejection},
    name::Name,
    observe::{Observer, optional_millis},
    outcome::{Classify, OnError, Outcome},
    settings::ConfigError,
    time::Moment,
};

/// An adaptive limit: at most so many calls at a time, and how many it finds out itself.
///
/// Cheap to clone; all clones are one limit. Needs no runtime.
///
/// ```
/// use mainstay::concurrency::{Config, Handle};
///
/// let limit = Handle::new("search", Config::new().initial(5));
/// let permits: Vec<_> = (0..5).map(|_| limit.try_acquire().expect("a place")).collect();
/// assert_eq!(limit.try_acquire().unwrap_err().to_string(), "\"search\" is overloaded");
/// permits.into_iter().for_each(|permit| permit.success());
/// assert_eq!(limit.in_flight(), 0);
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
}

/// An adaptive limit at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The name of the limit.
    pub policy: Name,
    /// What it is: `"concurrency"`.
    pub kind: &'static str,
    /// The algorithm: `"aimd"`, `"vegas"`, `"gradient"` or `"custom"`.
    pub algorithm: &'static str,
    /// How many calls may run.
    pub limit: u32,
    /// How many run.
    pub in_flight: u32,
    /// Calls that were turned away.
    pub rejected: u64,
    /// Calls that were let in and counted as drops.
    pub dropped: u64,
    /// The latency of the service when it is not busy, where the algorithm knows one.
    #[serde(rename = "base_latency_ms", serialize_with = "optional_millis")]
    pub base_latency: Option<Duration>,
    /// The latency of the last window in which a call succeeded.
    #[serde(rename = "latency_ms", serialize_with = "optional_millis")]
    pub latency: Option<Duration>,
}

impl Handle {
    /// A limit with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: Config) -> Self {
        match Self::try_new(name, config) {
            Ok(handle) => handle,
            Err(error) => panic!("adaptive limit {name:?}: {error}"),
        }
    }

    /// A limit with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings.
    pub fn try_new(name: &str, config: Config) -> Result<Self, ConfigError> {
        let name = Name::with_settings(name, config.check())?;
        Ok(Self { core: Arc::new(Core::new(name, config)) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// How many calls may run now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.core.limit()
    }

    /// How many calls run now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.core.in_flight()
    }

    /// Takes a place if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`](crate::Reason) when there is none.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        let ticket = self.core.take(&mut Moment::new())?;
        Ok(Permit { core: Arc::clone(&self.core), ticket: Some(ticket) })
    }

    /// Runs a future in a place of its own. It is not polled when there is none. An `Err` is a failure, whatever it is:
    /// for one that may be another policy's rejection, use [`run_carrying`](Self::run_carrying).
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when it got no place, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_with(OnError, future).await
    }

    /// Like [`run`](Self::run), for a future whose own error can carry rejections: the error stays as it is, and
    /// rejections by policies further in count as nothing.
    ///
    /// # Errors
    ///
    /// The future's own error, or the rejection in it.
    pub async fn run_carrying<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejection,
    {
        let admitted = Admitted::admit(self, &mut Moment::new()).map_err(E::from_rejection)?;
        drive(admitted, &OnError, future).await
    }

    /// Like [`run`](Self::run), with a classifier. It sees the future's own error as [`Error::Inner`].
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<C, F, T, E>(&self, classify: C, future: F) -> Result<T, Error<E>>
    where
        C: Classify<T, Error<E>>,
        F: Future<Output = Result<T, E>>,
    {
        let admitted = Admitted::admit(self, &mut Moment::new())?;
        drive(admitted, &classify, async { future.await.map_err(Error::Inner) }).await
    }

    /// Changes the settings under traffic. Calls that run go on, even when the new limit is below their number. The
    /// limit stays where it is, as far as floor and ceiling allow, and what was learnt is kept, unless the algorithm or
    /// one of its parameters changes.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings; they are then as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.core.set(config);
        Ok(())
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.core.config()
    }

    /// Has an observer told of every call that is turned away.
    pub fn observe(&self, observer: impl Observer) {
        self.core.sink.add(observer);
    }

    /// What it knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let learnt = self.core.learnt();
        Snapshot {
            policy: self.core.name.clone(),
            kind: "concurrency",
            algorithm: learnt.algorithm,
            limit: self.core.limit(),
            in_flight: self.core.in_flight(),
            rejected: self.core.rejected(),
            dropped: self.core.dropped(),
            base_latency: learnt.base,
            latency: learnt.latency,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", self.name())
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A place under an adaptive limit, for callers without Tower.
///
/// Tell it how the call ended: that is what the limit learns from. Dropping it gives the place back and says that the
/// call was cancelled, of which nothing is learnt.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    core: Arc<Core>,
    ticket: Option<Ticket>,
}

impl Permit {
    /// The call ended like this.
    pub fn record(self, outcome: Outcome) {
        self.settle(match outcome {
            Outcome::Success => Verdict::Success,
            Outcome::Failure => Verdict::Failure { retry_after: None },
            Outcome::Ignored => Verdict::Ignored,
        });
    }

    /// The service did its work.
    pub fn success(self) {
        self.record(Outcome::Success);
    }

    /// The service failed. Whether that is a drop is for the [settings](super::Config::drops) to say.
    pub fn failure(self) {
        self.record(Outcome::Failure);
    }

    /// The service turned the call away for overload, or let it time out.
    pub fn dropped(self) {
        self.settle(Verdict::Failure { retry_after: Some(Duration::ZERO) });
    }

    fn settle(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.core.settle(&ticket, verdict, &mut Moment::new());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // The panic of the code between `try_acquire` and here: without Tower this is the one place that can see
            // it.
            let verdict =
                if std::thread::panicking() { Verdict::Failure { retry_after: None } } else { Verdict::Cancelled };
            self.core.settle(&ticket, verdict, &mut Moment::new());
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("limit", &self.core.name).finish_non_exhaustive()
    }
}
