use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    client::{
        builder::ClientBuilder,
        caller::{Caller, ResponseFuture},
        health::{ServiceHealth, ServiceSnapshot},
        lane::Route,
        metrics::ServiceMetrics,
        pending::Pending,
        shared::KindOf,
    },
    contract::{AsMethod, ServiceName},
    error::{Reason, Rejection},
    settings::ConfigError,
    sync::RwLock,
};

/// Calls services by name: see [the folder](super).
///
/// `Req`, `T` and `E` are what its services are asked, what they answer, and their error. Cheap to clone; all clones
/// are one client: they share instances, policies and metrics. When the last one and the last [`Caller`] are dropped,
/// all its tasks end.
pub struct Client<Req = (), T = (), E = ()> {
    shared: Arc<Inner<Req, T, E>>,
}

type Routes<Req, T, E> = HashMap<ServiceName, Arc<dyn Route<Req, T, E>>>;

/// Makes the route to a service.
pub(super) type Open<Req, T, E> = dyn Fn(ServiceName) -> Result<Arc<dyn Route<Req, T, E>>, ConfigError> + Send + Sync;

pub(super) struct Inner<Req, T, E> {
    pub(super) routes: RwLock<Routes<Req, T, E>>,
    pub(super) open: Box<Open<Req, T, E>>,
    pub(super) kinds: Arc<OnceLock<Box<KindOf<T, E>>>>,
    pub(super) max_services: usize,
    /// Those with settings of their own: names from outside take no place of theirs.
    pub(super) named: HashSet<String>,
}

impl Client {
    /// A client that finds instances through `discovery` and reaches each through what `transport` makes for it: any
    /// Tower service from an [`Instance`](crate::contract::Instance) to a service of
    /// [`Invocation`](crate::contract::Invocation)s.
    pub fn builder<D, M>(discovery: D, transport: M) -> ClientBuilder<D, M> {
        ClientBuilder::new(discovery, transport)
    }
}

impl<Req, T, E> Client<Req, T, E> {
    pub(super) fn new(inner: Inner<Req, T, E>) -> Self {
        Self { shared: Arc::new(inner) }
    }

    /// Names the kinds of errors in the [metrics](super::Metrics::error_kinds): an HTTP status, say. It is asked for
    /// errors, and for responses that count as failures; `None` leaves the kind to the client. At most 64 kinds are
    /// told apart. To be called once, before the first call; a second hook is not heard.
    #[must_use]
    pub fn error_kind<K>(self, kind: impl Fn(Result<&T, &E>) -> Option<K> + Send + Sync + 'static) -> Self
    where
        K: Into<Cow<'static, str>>,
    {
        let _ = self.shared.kinds.set(Box::new(move |result| kind(result).map(Into::into)));
        self
    }

    fn route(&self, service: &str) -> Result<Arc<dyn Route<Req, T, E>>, ConfigError> {
        let known = self.shared.routes.read().get(service).cloned();
        known.map_or_else(|| self.open(service), Ok)
    }

    #[cold]
    fn open(&self, service: &str) -> Result<Arc<dyn Route<Req, T, E>>, ConfigError> {
        let name = ServiceName::new(service)?;
        let most = self.shared.max_services;
        let named = self.shared.named.contains(service);
        if !named && self.shared.routes.read().len() >= most {
            return Err(full(&name, most));
        }
        // Before the lock: it runs code of the user's. Of two that come at once, one is thrown away.
        let opened = (self.shared.open)(name.clone())?;
        let mut routes = self.shared.routes.write();
        if !named && routes.len() >= most && !routes.contains_key(service) {
            return Err(full(&name, most));
        }
        Ok(Arc::clone(routes.entry(name).or_insert(opened)))
    }

    fn known(&self, service: &str) -> Option<Arc<dyn Route<Req, T, E>>> {
        self.shared.routes.read().get(service).cloned()
    }

    /// The services that this client has met, by name.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        let mut names: Vec<_> = self.shared.routes.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// How well a service is, as this client sees it; `None` for one that it has not met.
    #[must_use]
    pub fn health(&self, service: &str) -> Option<ServiceHealth> {
        Some(self.known(service)?.health())
    }

    /// What was counted of the calls of a service; `None` for one that it has not met.
    #[must_use]
    pub fn metrics(&self, service: &str) -> Option<ServiceMetrics> {
        Some(self.known(service)?.metrics())
    }

    /// All that is known of a service; `None` for one that it has not met.
    #[must_use]
    pub fn snapshot(&self, service: &str) -> Option<ServiceSnapshot> {
        Some(self.known(service)?.snapshot())
    }

    /// A client of one service, for many calls: it looks the service up once. It begins to follow its instances, if it
    /// is asked for on a runtime; else the first call does.
    ///
    /// # Errors
    ///
    /// When the name is none, and when the client knows [as many services as it may](ClientBuilder::max_services).
    pub fn service(&self, service: &str) -> Result<Caller<Req, T, E>, ConfigError> {
        let route = self.route(service)?;
        route.follow();
        Ok(Caller::new(route))
    }

    /// Calls a method of a service.
    ///
    /// The call begins when the answer is first polled. Dropping the answer ends the call wherever it stands; all that
    /// it held goes back.
    ///
    /// The error is the services' own type, from the last attempt. A policy that turns the call away makes it a
    /// rejection: [`Reason::NoInstance`] when no instance may be called, [`Reason::UnknownService`] and
    /// [`Reason::UnknownMethod`] for names that are none; [`service`](Self::service) says what is wrong with one.
    pub fn call(&self, service: &str, method: impl AsMethod, request: Req) -> ResponseFuture<T, E> {
        match self.route(service) {
            Ok(route) => Caller::new(route).call_method(method, request),
            Err(error) => {
                tracing::warn!(%error, "a call of a service that cannot be");
                ResponseFuture::refused(Rejection::new(Reason::UnknownService, ServiceName::policy_of(service)))
            }
        }
    }

    /// Calls a method of a service as a task of its own. The handle gives the answer with [what became of the
    /// call](super::Metadata), and ends it.
    ///
    /// # Errors
    ///
    /// When a name is none, and when the client knows [as many services as it may](ClientBuilder::max_services).
    ///
    /// # Panics
    ///
    /// When there is no tokio runtime.
    pub fn call_async(&self, service: &str, method: impl AsMethod, request: Req) -> Result<Pending<T, E>, ConfigError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        Caller::new(self.route(service)?).call_async(method, request)
    }
}

fn full(name: &ServiceName, most: usize) -> ConfigError {
    ConfigError::new("service", format_args!("{name:?}"), format!("the client knows {most} services already"))
}

impl<Req, T, E> Clone for Client<Req, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Req, T, E> fmt::Debug for Client<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("services", &self.services()).finish_non_exhaustive()
    }
}
