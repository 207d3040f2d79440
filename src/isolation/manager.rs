use std::{fmt, sync::Arc};

use tower::Service;

use crate::{
    contract::{AsMethod, Health, Invocation, ServiceName},
    error::{CarryRejection, Reason, Rejection},
    isolation::{
        config::Config,
        entry::Entry,
        erased::{Again, Inner},
        error::IsolationError,
        fallback_config::FallbackConfig,
        future::ResponseFuture,
        isolated::Isolated,
        level::Level,
        meter::{Count, Meter},
        plan::{Plan, Setting, Targets},
        table::Table,
    },
    observe::{Event, Sink},
    settings::ConfigError,
};

/// Services by name, each behind policies of its own: see [the folder](super).
///
/// Cheap to clone; all clones are one. `Req`, `T` and `E` are request, response and error of all its services.
pub struct IsolationManager<Req, T, E> {
    pub(super) shared: Arc<Shared<Req, T, E>>,
}

pub(super) struct Shared<Req, T, E> {
    pub(super) table: Table<Req, T, E>,
    pub(super) meter: Arc<Meter>,
    pub(super) sink: Arc<Sink>,
}

impl<Req, T, E> IsolationManager<Req, T, E> {
    /// A manager without services.
    #[must_use]
    pub fn new() -> Self {
        let (table, meter, sink) = (Table::new(), Arc::new(Meter::new()), Arc::new(Sink::default()));
        Self { shared: Arc::new(Shared { table, meter, sink }) }
    }

    /// Registers a service, with the usual settings.
    ///
    /// Each attempt clones the service and makes the clone ready. One that takes plain requests comes in through
    /// [`AnyMethod`](crate::contract::AnyMethod).
    ///
    /// # Errors
    ///
    /// When there is a service of that name, or the name or a setting of the fallback is impossible.
    pub fn register<S>(
        &self,
        name: &str,
        service: S,
        level: Level,
        fallback: FallbackConfig<Req, T, E>,
    ) -> Result<Isolated<Req, T, E>, IsolationError>
    where
        S: Service<Invocation<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Clone + Send + 'static,
        T: 'static,
        E: CarryRejection + fmt::Display + 'static,
    {
        self.register_with(name, service, Config::new().level(level), fallback)
    }

    /// Registers a service with settings of its own.
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register), and when a setting is impossible; all that is wrong is reported together.
    pub fn register_with<S>(
        &self,
        name: &str,
        service: S,
        config: Config,
        fallback: FallbackConfig<Req, T, E>,
    ) -> Result<Isolated<Req, T, E>, IsolationError>
    where
        S: Service<Invocation<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Clone + Send + 'static,
        T: 'static,
        E: CarryRejection + fmt::Display + 'static,
    {
        self.add((name, config), Inner::new(service), Again(Some(Invocation::clone)), fallback)
    }

    /// Registers a service whose requests are sent once only, whatever the settings say of retries: for requests that
    /// cannot be cloned, and for those that must not be made twice.
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_once<S>(
        &self,
        name: &str,
        service: S,
        config: Config,
        fallback: FallbackConfig<Req, T, E>,
    ) -> Result<Isolated<Req, T, E>, IsolationError>
    where
        S: Service<Invocation<Req>, Response = T, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Send + 'static,
        T: 'static,
        E: CarryRejection + fmt::Display + 'static,
    {
        self.add((name, config), Inner::new(service), Again(None), fallback)
    }

    fn add(
        &self,
        (name, config): (&str, Config),
        service: Inner<Req, T, E>,
        again: Again<Req>,
        fallback: FallbackConfig<Req, T, E>,
    ) -> Result<Isolated<Req, T, E>, IsolationError>
    where
        T: 'static,
        E: CarryRejection + 'static,
    {
        let name = checked(name, &config, &fallback)?;
        let Shared { table, meter, sink } = &*self.shared;
        let level = config.level;
        let entry = Arc::new(Entry::new(name, config, (meter, sink))?);
        let refusal = Inner::refusing(entry.policy.clone(), Arc::clone(sink));
        let setting = Setting { level, fallback: Arc::new(fallback), health: Arc::new(Health::healthy()) };
        let plan = Arc::new(Plan::first(entry, setting, Targets { service, refusal, again })?);
        table.add(&plan)?;
        tracing::info!(service = %plan.entry.name, level = %level, "a service is isolated");
        Ok(Isolated::new(Arc::clone(&self.shared), &plan))
    }

    /// Forgets a service. Calls that run finish, and the service is dropped with the last of them; later ones are
    /// answered as those of a service that is unknown.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn unregister(&self, service: &str) -> Result<(), IsolationError> {
        let plan = self.shared.table.remove(service).ok_or_else(|| IsolationError::unknown(service))?;
        tracing::info!(service = %plan.entry.name, "a service is not isolated any more");
        Ok(())
    }

    /// Whether there is a service of that name.
    #[must_use]
    pub fn contains(&self, service: &str) -> bool {
        self.shared.table.get(service).is_some()
    }

    /// How many services there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A service of the manager as a Tower service. It follows every switch; once the service is unregistered it
    /// answers as one that is unknown, even when another of the same name is registered.
    ///
    /// # Errors
    ///
    /// When there is no service of that name.
    pub fn service(&self, service: &str) -> Result<Isolated<Req, T, E>, IsolationError> {
        let plan = self.plan(service)?;
        Ok(Isolated::new(Arc::clone(&self.shared), &plan))
    }

    pub(super) fn plan(&self, service: &str) -> Result<Arc<Plan<Req, T, E>>, IsolationError> {
        self.shared.table.get(service).ok_or_else(|| IsolationError::unknown(service))
    }
}

impl<Req, T, E: CarryRejection + fmt::Display> IsolationManager<Req, T, E> {
    /// Calls a method of a service. The call begins now, and goes on as the answer is polled.
    ///
    /// The answer is the service's own, or its fallback's. The error is the service's own type: a policy that turns the
    /// call away makes it a rejection, and so does a name that is not registered, with [`Reason::UnknownService`], and
    /// one that no method can have, with [`Reason::UnknownMethod`].
    pub fn execute(&self, service: &str, method: impl AsMethod, request: Req) -> ResponseFuture<Req, T, E> {
        match (self.shared.table.get(service), method.as_method()) {
            (Some(plan), Ok(method)) => ResponseFuture::begin(plan, Invocation::new(method, request)),
            (Some(_), Err(_)) => self.shared.refuse(service, Reason::UnknownMethod),
            (None, _) => self.shared.refuse(service, Reason::UnknownService),
        }
    }
}

impl<Req, T, E> Shared<Req, T, E> {
    #[cold]
    pub(super) fn refuse(&self, service: &str, reason: Reason) -> ResponseFuture<Req, T, E> {
        self.meter.count(Count::Unknown);
        let policy = ServiceName::policy_of(service);
        let rejection = Rejection::new(reason, policy.clone());
        self.sink.tell(&policy, || Event::Rejected(&rejection));
        ResponseFuture::unknown(rejection)
    }
}

/// All that is wrong with a registration, reported together.
fn checked<Req, T, E>(
    name: &str,
    config: &Config,
    fallback: &FallbackConfig<Req, T, E>,
) -> Result<ServiceName, IsolationError> {
    let mut problems = Vec::new();
    let name = ServiceName::new(name).map_err(|error| problems.extend(error.split())).ok();
    problems.extend(config.check().err().into_iter().flat_map(ConfigError::split));
    let fallback = fallback.check().map_err(|error| error.within("fallback"));
    problems.extend(fallback.err().into_iter().flat_map(ConfigError::split));
    match (name, ConfigError::all(problems)) {
        (Some(name), None) => Ok(name),
        (_, problem) => Err(problem.expect("a name that is none is a problem").into()),
    }
}

impl<Req, T, E> Clone for IsolationManager<Req, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Req, T, E> Default for IsolationManager<Req, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, T, E> fmt::Debug for IsolationManager<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolationManager").field("services", &self.len()).finish_non_exhaustive()
    }
}
