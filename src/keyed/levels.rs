use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use serde::Serialize;

use crate::{
    admission::{Admitted, Entry, InQueue, Parts, Running},
    bulkhead,
    error::{Error, Rejection},
    keyed::{
        ByOperation, ByTenant, Choose, Handle, KeyedLayer, LevelsConfig, Lookup, Operation, PerKey, Snapshot, Tenant,
        select::{Chooser, Chosen},
    },
    name::Name,
    observe::{ForMany, Observer},
    settings::ConfigError,
    time::Moment,
};

type Bulkhead = bulkhead::Handle;
type Three = (Handle<Tenant, Bulkhead>, (Handle<Operation, Bulkhead>, Bulkhead));
type Choice = <Three as Choose>::Choice;

/// What a [`KeyedLayer`] takes of three levels, with what finds tenant and operation of a request.
pub type LevelsBy<X = ByTenant, Y = ByOperation> =
    (PerKey<Tenant, Bulkhead, X>, (PerKey<Operation, Bulkhead, Y>, Bulkhead));

/// A bulkhead with three levels: so many calls at a time of a tenant, of an operation, and in all.
///
/// A call takes its place at each level, or none at all: the tenant's first, then the operation's, then that of all.
/// So a tenant who has used up its own places takes none of those that others need, not for a moment, and not while it
/// waits.
///
/// Cheap to clone; all clones are one.
///
/// ```
/// use mainstay::{bulkhead::Config, keyed::{Levels, LevelsConfig}};
///
/// # tokio_test::block_on(async {
/// let levels = Levels::new("shop", LevelsConfig::new(Config::new(64)).tenant_default(Config::new(1)));
/// let held = levels.try_acquire("acme", "search")?;
/// let rejection = levels.acquire("acme", "pay").await.unwrap_err();
/// assert_eq!(rejection.to_string(), "bulkhead \"shop/tenant\" is full");
/// let found = levels.run("other", "search", async { Ok::<_, std::io::Error>(42) }).await;
/// # Ok::<(), mainstay::Rejection>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Levels {
    parts: Arc<Parts<Chooser<Three>, ()>>,
}

/// A bulkhead with three levels at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LevelsSnapshot {
    /// All calls.
    pub global: bulkhead::Snapshot,
    /// Those of the tenants.
    pub tenants: Snapshot<bulkhead::Snapshot>,
    /// Those of the operations.
    pub operations: Snapshot<bulkhead::Snapshot>,
}

impl Levels {
    /// Levels with settings that are written in code.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible. For values from outside, use [`try_new`](Self::try_new).
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, config: LevelsConfig) -> Self {
        match Self::try_new(name, config) {
            Ok(levels) => levels,
            Err(error) => panic!("levels {name:?}: {error}"),
        }
    }

    /// Levels with settings from outside. The bulkhead of all calls bears the name, the others with `/tenant` and
    /// `/operation` behind it.
    ///
    /// # Errors
    ///
    /// All that is wrong with the names and the settings.
    pub fn try_new(name: &str, config: LevelsConfig) -> Result<Self, ConfigError> {
        // The longest of the names, but the message is to show the one that was given.
        let names = Name::new(name).and_then(|_| Name::new(&format!("{name}/operation"))).map(drop);
        match (names, config.check()) {
            (Err(name), Err(settings)) => return Err(name.and(settings)),
            (Err(error), Ok(())) | (Ok(()), Err(error)) => return Err(error),
            (Ok(()), Ok(())) => {}
        }
        let tenants = Handle::try_new(&format!("{name}/tenant"), config.tenants)?;
        let operations = Handle::try_new(&format!("{name}/operation"), config.operations)?;
        let three = (tenants, (operations, Bulkhead::try_new(name, config.global)?));
        Ok(Self { parts: Arc::new(Parts { policy: Chooser(three), classify: Arc::new(()) }) })
    }

    fn three(&self) -> &Three {
        &self.parts.policy.0
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.global().name()
    }

    /// The bulkhead of all calls.
    #[must_use]
    pub fn global(&self) -> &bulkhead::Handle {
        &self.three().1.1
    }

    /// The bulkheads of the tenants.
    #[must_use]
    pub fn tenants(&self) -> &Handle<Tenant, bulkhead::Handle> {
        &self.three().0
    }

    /// The bulkheads of the operations.
    #[must_use]
    pub fn operations(&self) -> &Handle<Operation, bulkhead::Handle> {
        &self.three().1.0
    }

    /// A layer for requests that know their tenant and their operation.
    #[must_use]
    pub fn layer(&self) -> KeyedLayer<LevelsBy> {
        KeyedLayer::new(self.by(ByTenant, ByOperation))
    }

    /// These levels for a [`KeyedLayer`], with what finds tenant and operation of a request.
    #[must_use]
    pub fn by<X, Y>(&self, tenant_of: X, operation_of: Y) -> LevelsBy<X, Y> {
        let (tenants, (operations, global)) = self.three();
        (tenants.by(tenant_of), (operations.by(operation_of), global.clone()))
    }

    fn choose(&self, tenant: impl Lookup<Tenant>, operation: impl Lookup<Operation>) -> Choice {
        let (tenants, (operations, _)) = self.three();
        let mut now = Moment::new();
        let tenant = Chosen(tenants.entry(tenant, &mut now));
        (tenant, (Chosen(operations.entry(operation, &mut now)), ()))
    }

    /// Takes a place at every level, if there is one at each. Never waits, needs no runtime.
    ///
    /// # Errors
    ///
    /// [`Reason::BulkheadFull`](crate::Reason) of the first level that has none; the other levels are as they were.
    pub fn try_acquire(
        &self,
        tenant: impl Lookup<Tenant>,
        operation: impl Lookup<Operation>,
    ) -> Result<LevelsPermit, Rejection> {
        let permit = self.parts.policy.admit_to(self.choose(tenant, operation), &mut Moment::new())?;
        Ok(LevelsPermit { _held: Admitted::with(Arc::clone(&self.parts), permit) })
    }

    /// Takes a place at every level, and waits in the queues if it must. Dropping the future leaves them, and gives
    /// back what was taken.
    ///
    /// # Errors
    ///
    /// [`Reason::BulkheadFull`](crate::Reason) of the level whose queue is full too, or where the wait took too long.
    pub fn acquire(&self, tenant: impl Lookup<Tenant>, operation: impl Lookup<Operation>) -> AcquireLevels {
        let choice = self.choose(tenant, operation);
        AcquireLevels { parts: Arc::clone(&self.parts), choice: Some(choice), place: None }
    }

    /// Runs a future in places of its own, and waits for them if it must. It is not polled before.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when it got no place, [`Error::Inner`] with its own error.
    pub async fn run<F, T, E>(
        &self,
        tenant: impl Lookup<Tenant>,
        operation: impl Lookup<Operation>,
        future: F,
    ) -> Result<T, Error<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let _permit = self.acquire(tenant, operation).await?;
        pin!(future).await.map_err(Error::Inner)
    }

    /// Changes the settings under traffic: calls that run go on, places that are added go to those that wait.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings; they are then as they were.
    pub fn reconfigure(&self, config: LevelsConfig) -> Result<(), ConfigError> {
        config.check()?;
        self.tenants().reconfigure(config.tenants)?;
        self.operations().reconfigure(config.operations)?;
        self.global().reconfigure(config.global)
    }

    /// The settings it has now.
    #[must_use]
    pub fn config(&self) -> LevelsConfig {
        let (tenants, operations) = (self.tenants().config(), self.operations().config());
        LevelsConfig { global: self.global().config(), tenants, operations }
    }

    /// Has an observer told of every call that is turned away, by whichever level.
    pub fn observe(&self, observer: impl Observer) {
        let observer = ForMany::new(observer);
        self.tenants().observe(observer.clone());
        self.operations().observe(observer.clone());
        self.global().observe(observer);
    }

    /// What it knows now. For single tenants and operations, see the [listings](Handle::listing) of the two.
    #[must_use]
    pub fn snapshot(&self) -> LevelsSnapshot {
        LevelsSnapshot {
            global: self.global().snapshot(),
            tenants: self.tenants().snapshot(),
            operations: self.operations().snapshot(),
        }
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenants, (operations, global)) = self.three();
        let mut levels = f.debug_struct("Levels");
        levels.field("global", global).field("tenants", tenants).field("operations", operations).finish()
    }
}

/// A place at every level, given back when dropped.
#[must_use = "a permit that is dropped gives its places back"]
pub struct LevelsPermit {
    _held: Running<Chooser<Three>, ()>,
}

impl fmt::Debug for LevelsPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelsPermit")
    }
}

type Held = Arc<Parts<Chooser<Three>, ()>>;

/// Waits for a place at every level: the answer of [`Levels::acquire`].
#[must_use = "futures do nothing unless polled"]
pub struct AcquireLevels {
    parts: Held,
    // Until the first poll.
    choice: Option<Choice>,
    place: Option<InQueue<Held>>,
}

impl Future for AcquireLevels {
    type Output = Result<LevelsPermit, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(choice) = this.choice.take() {
            match this.parts.policy.enter_to(choice, &mut Moment::new()) {
                Ok(Entry::Admitted(permit)) => {
                    let held = Admitted::with(Arc::clone(&this.parts), permit);
                    return Poll::Ready(Ok(LevelsPermit { _held: held }));
                }
                Ok(Entry::Queued(wait)) => this.place = Some(InQueue::new(Arc::clone(&this.parts), wait)),
                Err(rejection) => return Poll::Ready(Err(rejection)),
            }
        }
        let Some(place) = &mut this.place else { return Poll::Pending };
        let held = ready!(place.poll(cx));
        this.place = None;
        Poll::Ready(held.map(|held| LevelsPermit { _held: held }))
    }
}

impl fmt::Debug for AcquireLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireLevels").field("waits", &self.place.is_some()).finish_non_exhaustive()
    }
}
