use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use tower::Service;

use crate::{
    balance::{self, Balance, Pick},
    client::{
        call::{Call, Reached, Resend},
        client::{Client, Inner},
        config::Config,
        control::Controls,
        follow::follow,
        following::{Following, Running},
        lane::{Lane, Route},
        marked::Marked,
        metrics::Meters,
        pick_by::{ByConfig, Fixed, PickerOf},
        shared::{KindOf, Shared},
        steer::Another,
    },
    contract::{Instance, Invocation, ServiceName},
    discovery::Discovery,
    error::CarryRejection,
    fallback::{NoFallback, Strategy},
    observe::{ForMany, Observer},
    outcome::{Classify, OnError},
    replay::{Cloned, Replay},
    retry::{Classified, Rule},
    settings::ConfigError,
    sync::Mutex,
};

/// Puts a [`Client`] together.
///
/// ```
/// use mainstay::{
///     Error, client::{Client, Config, PickBy}, contract::{AnyMethod, Instance}, discovery::InMemory,
/// };
/// use tower::service_fn;
///
/// # async fn fetch(_: String, id: u32) -> Result<String, Error<std::io::Error>> { Ok(format!("user {id}")) }
/// let transport = service_fn(async |instance: Instance| {
///     let address = instance.authority();
///     Ok::<_, std::io::Error>(AnyMethod(service_fn(move |id: u32| fetch(address.clone(), id))))
/// });
/// let client = Client::builder(InMemory::new(), transport)
///     .service("users", Config::new().pick_by(PickBy::PeakEwma))
///     .build();
/// # fn name<Req>(_: &Client<Req, String, Error<std::io::Error>>) {}
/// # name::<u32>(&client);
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder<D, M, C = Classified<OnError>, F = NoFallback, R = Cloned, K = ByConfig> {
    discovery: Arc<D>,
    transport: M,
    given: Given,
    rule: C,
    fallback: F,
    replay: R,
    picker: K,
}

/// What does not depend on types.
struct Given {
    config: Config,
    services: HashMap<String, Config>,
    max_services: usize,
    observers: Vec<Arc<dyn Observer>>,
}

impl<D, M> ClientBuilder<D, M> {
    pub(super) fn new(discovery: D, transport: M) -> Self {
        let (services, observers) = (HashMap::new(), Vec::new());
        Self {
            discovery: Arc::new(discovery),
            transport,
            given: Given { config: Config::new(), services, max_services: 1_000, observers },
            rule: Classified(OnError),
            fallback: NoFallback,
            replay: Cloned,
            picker: ByConfig,
        }
    }
}

impl<D, M, C, F, R, K> ClientBuilder<D, M, C, F, R, K> {
    /// The settings of all services that have none of their own. Default [`Config::new`].
    pub fn config(mut self, config: Config) -> Self {
        self.given.config = config;
        self
    }

    /// The settings of one service, whole: nothing of [`config`](Self::config) goes into them.
    pub fn service(mut self, name: impl Into<String>, config: Config) -> Self {
        self.given.services.insert(name.into(), config);
        self
    }

    /// So many services at most, from 1 to 100 000; calls of further ones are turned away. Default 1000. The names of
    /// services may come from outside, and each takes memory and a task. Those with [settings of their
    /// own](Self::service) always have a place.
    pub fn max_services(mut self, most: usize) -> Self {
        self.given.max_services = most;
        self
    }

    /// Has an observer told of what happens to any policy of any service.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.given.observers.push(Arc::new(ForMany::new(observer)));
        self
    }

    /// Decides what results mean: for the breakers, for ejection, for whether a call is tried again, and for the
    /// metrics. Default [`OnError`]: an error that is the caller's fault (no such user) is tried again and has
    /// instances ejected, unless a classifier says that it is [ignored](crate::Outcome::Ignored).
    pub fn classify<J>(self, classify: J) -> ClientBuilder<D, M, Classified<J>, F, R, K> {
        self.rule(Classified(classify))
    }

    /// As [`classify`](Self::classify), with a [rule](Rule) of its own for what is tried again.
    pub fn rule<J>(self, rule: J) -> ClientBuilder<D, M, J, F, R, K> {
        let Self { discovery, transport, given, fallback, replay, picker, .. } = self;
        ClientBuilder { discovery, transport, given, rule, fallback, replay, picker }
    }

    /// Answers in place of a service that failed. It sees the [`Call`]: a strategy for one service asks for its name.
    pub fn fallback<G>(self, fallback: G) -> ClientBuilder<D, M, C, G, R, K> {
        let Self { discovery, transport, given, rule, replay, picker, .. } = self;
        ClientBuilder { discovery, transport, given, rule, fallback, replay, picker }
    }

    /// How requests are sent again, instead of by cloning them: a [`Replay`], or a closure `Fn(&Req) -> Option<Req>`.
    pub fn replay<Q>(self, replay: Q) -> ClientBuilder<D, M, C, F, Q, K> {
        let Self { discovery, transport, given, rule, fallback, picker, .. } = self;
        ClientBuilder { discovery, transport, given, rule, fallback, replay, picker }
    }

    /// The same picker for every service, whatever its settings say: one that looks at the [`Call`], such as
    /// [`ConsistentHash`](crate::balance::ConsistentHash), or one of your own.
    pub fn picker<P>(self, picker: P) -> ClientBuilder<D, M, C, F, R, Fixed<P>> {
        let Self { discovery, transport, given, rule, fallback, replay, .. } = self;
        ClientBuilder { discovery, transport, given, rule, fallback, replay, picker: Fixed(picker) }
    }
}

impl<D, M, C, F, R, K> ClientBuilder<D, M, C, F, R, K> {
    /// The client. It needs no runtime; its first call does.
    ///
    /// # Panics
    ///
    /// When a name or a setting is impossible, with all that is wrong as the message. For settings from outside, use
    /// [`try_build`](Self::try_build).
    #[must_use]
    #[track_caller]
    pub fn build<Req, T, E>(self) -> Client<Req, T, E>
    where
        D: Discovery,
        M: Service<Instance, Error: fmt::Display + Send, Future: Send> + Clone + Send + Sync + 'static,
        M::Response: Service<Invocation<Req>, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        C: Classify<T, E> + Rule<T, E> + Send + Sync + 'static,
        F: Strategy<Call<Req>, T, E, Kept: Send, Future: Send> + Send + Sync + 'static,
        R: Replay<Req, Kept: Send> + Send + Sync + 'static,
        K: PickerOf + Send + Sync + 'static,
        K::Picker: Pick<Call<Req>, Plan: Send + Sync> + Clone + Send + Sync + 'static,
        Req: Send + 'static,
        T: Send + 'static,
        E: CarryRejection + fmt::Display + Send + 'static,
    {
        match self.try_build() {
            Ok(client) => client,
            Err(error) => panic!("client: {error}"),
        }
    }

    /// The client, with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with names and settings, those of a service under its name.
    pub fn try_build<Req, T, E>(self) -> Result<Client<Req, T, E>, ConfigError>
    where
        D: Discovery,
        M: Service<Instance, Error: fmt::Display + Send, Future: Send> + Clone + Send + Sync + 'static,
        M::Response: Service<Invocation<Req>, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        C: Classify<T, E> + Rule<T, E> + Send + Sync + 'static,
        F: Strategy<Call<Req>, T, E, Kept: Send, Future: Send> + Send + Sync + 'static,
        R: Replay<Req, Kept: Send> + Send + Sync + 'static,
        K: PickerOf + Send + Sync + 'static,
        K::Picker: Pick<Call<Req>, Plan: Send + Sync> + Clone + Send + Sync + 'static,
        Req: Send + 'static,
        T: Send + 'static,
        E: CarryRejection + fmt::Display + Send + 'static,
    {
        self.given.check()?;
        let Self { discovery, transport, given, rule, fallback, replay, picker } = self;
        let (rule, fallback, replay) = (Arc::new(rule), Arc::new(fallback), Arc::new(replay));
        let (kinds, max_services) = (Arc::new(OnceLock::new()), given.max_services);
        let named = given.services.keys().cloned().collect();
        let shared_kinds = Arc::clone(&kinds);
        let maker = Maker { discovery, transport, given, rule, fallback, replay, picker };
        let open = Box::new(move |name| maker.open::<Req, T, E>(name, Arc::clone(&shared_kinds)));
        Ok(Client::new(Inner { routes: Default::default(), open, kinds, max_services, named }))
    }
}

impl Given {
    fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut note = |error: ConfigError| problems.extend(error.split());
        self.config.check().err().into_iter().for_each(&mut note);
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort_by_key(|(name, _)| *name);
        for (name, config) in services {
            ServiceName::new(name).err().into_iter().for_each(&mut note);
            config.check().err().into_iter().for_each(|error| note(error.within(name)));
        }
        if !(1..=100_000).contains(&self.max_services) {
            note(ConfigError::new("max_services", self.max_services, "must be in 1..=100000"));
        }
        ConfigError::all(problems).map_or(Ok(()), Err)
    }
}

/// Makes the routes to services.
struct Maker<D, M, C, F, R, K> {
    discovery: Arc<D>,
    transport: M,
    given: Given,
    rule: Arc<C>,
    fallback: Arc<F>,
    replay: Arc<R>,
    picker: K,
}

impl<D, M, C, F, R, K> Maker<D, M, C, F, R, K> {
    fn open<Req, T, E>(
        &self,
        name: ServiceName,
        kinds: Arc<OnceLock<Box<KindOf<T, E>>>>,
    ) -> Result<Arc<dyn Route<Req, T, E>>, ConfigError>
    where
        D: Discovery,
        M: Service<Instance, Error: fmt::Display + Send, Future: Send> + Clone + Send + Sync + 'static,
        M::Response: Service<Invocation<Req>, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        C: Classify<T, E> + Rule<T, E> + Send + Sync + 'static,
        F: Strategy<Call<Req>, T, E, Kept: Send, Future: Send> + Send + Sync + 'static,
        R: Replay<Req, Kept: Send> + Send + Sync + 'static,
        K: PickerOf + Send + Sync + 'static,
        K::Picker: Pick<Call<Req>, Plan: Send + Sync> + Clone + Send + Sync + 'static,
        Req: Send + 'static,
        T: Send + 'static,
        E: CarryRejection + fmt::Display + Send + 'static,
    {
        let config = self.given.services.get(name.as_str()).unwrap_or(&self.given.config).clone();
        let (policy, rule) = (name.policy_name(), Shared(Arc::clone(&self.rule)));
        let members = balance::Handle::try_new(policy.as_str(), config.balance)?;
        // A limit of 200 ms is not to mean five seconds.
        let first_wait = config.stack.timeout.map_or(config.first_wait, |limit| limit.min(config.first_wait));
        let stack = config
            .stack
            .builder(policy.as_str())
            .classify(rule.clone())
            .retry_rule(rule.clone())
            .fallback(Marked(Arc::clone(&self.fallback)))
            .replay(Resend(Arc::clone(&self.replay)))
            .try_build()?;
        let picker = self.picker.picker(config.pick_by);
        let balance = Balance::new(&members, picker).classify(rule.clone()).steer(Another);
        let service = stack.service(balance);
        let following = Arc::new(Following::new(name));
        let follow = self.follower(&members, &following);
        let control = Box::new(Controls { stack, members });
        self.given.observers.iter().for_each(|observer| super::control::Control::observe(&*control, observer));
        Ok(Arc::new(Lane {
            service,
            classify: rule,
            kinds,
            meters: Meters::new(config.max_methods),
            following,
            control,
            first_wait,
            follow,
            task: Mutex::new(None),
        }))
    }

    /// What keeps the members of a service up to date.
    fn follower(
        &self,
        members: &balance::Handle<Reached<M::Response>>,
        following: &Arc<Following>,
    ) -> Box<super::lane::Follow>
    where
        D: Discovery,
        M: Service<Instance> + Clone + Send + Sync + 'static,
        M::Response: Clone + Send + Sync + 'static,
        M::Error: fmt::Display + Send,
        M::Future: Send,
    {
        let (discovery, transport) = (Arc::clone(&self.discovery), self.transport.clone());
        let (members, following) = (members.clone(), Arc::clone(following));
        Box::new(move || {
            let running = Running::of(&following);
            Box::pin(follow(Arc::clone(&discovery), transport.clone(), members.clone(), running))
        })
    }
}

impl<D, M, C, F, R, K> fmt::Debug for ClientBuilder<D, M, C, F, R, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("config", &self.given.config)
            .field("services", &self.given.services)
            .finish_non_exhaustive()
    }
}
