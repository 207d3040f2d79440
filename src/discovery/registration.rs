use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{error::Elapsed, sleep, timeout};

use crate::{
    contract::Instance,
    discovery::{Discovery, DiscoveryError, Lease},
    guarded::{guarded, guarded_future},
    settings::ConfigError,
    sync::Mutex,
    time::{Tick, random},
    waiters::{Place, Waiters},
};

/// Keeps an instance registered: a task sends heartbeats at a third of the time to live, a little earlier at random,
/// and registers the instance anew when its lease is lost. Ends when dropped.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{contract::{Instance, ServiceName}, discovery::{Discovery, InMemory, Registration}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (fleet, users) = (InMemory::new(), ServiceName::new("users")?);
/// let me = Instance::new("users", "a", "10.0.0.7", 80)?;
/// let registration = Registration::new(fleet.clone(), me, Duration::from_secs(30)).await?;
///
/// registration.drain().await?; // no new calls from now on
/// assert!(fleet.instances(&users).await?.iter().all(|instance| instance.is_draining()));
/// registration.close().await?;
/// assert!(fleet.instances(&users).await?.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # When it is dropped
///
/// The instance is deregistered: at once where the backend can do so without waiting, as [`InMemory`](super::InMemory)
/// can, else by the task, which ends with it. That needs no runtime. Where the runtime is shut down, the task is, and
/// the lease is ended in the same way or runs out.
pub struct Registration<D: Discovery> {
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    discovery: D,
    ttl: Duration,
    state: Mutex<State>,
    // The task alone waits here.
    changed: Waiters,
}

struct State {
    instance: Instance,
    // Counts what the instance was.
    version: u64,
    // What of it the backend knows; none when that is not sure.
    told: Option<u64>,
    lease: Option<Lease>,
    closed: bool,
    hurry: bool,
}

impl<D: Discovery> Registration<D> {
    /// Registers an instance and starts the task that keeps it registered.
    ///
    /// # Errors
    ///
    /// [`NoRuntime`](DiscoveryError::NoRuntime) outside of a runtime of tokio, and whatever the backend refuses the
    /// first registration with. Later failures are logged, and it is tried again.
    pub async fn new(discovery: D, instance: Instance, ttl: Duration) -> Result<Self, DiscoveryError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| DiscoveryError::NoRuntime)?;
        let lease = discovery.register(instance.clone(), ttl).await?;
        let state = State { instance, version: 0, told: Some(0), lease: Some(lease), closed: false, hurry: false };
        let shared = Arc::new(Shared { discovery, ttl, state: Mutex::new(state), changed: Waiters::default() });
        runtime.spawn(keep(Keeper(Arc::clone(&shared))));
        Ok(Self { shared })
    }

    /// The instance, as it was last given.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.shared.state.lock().instance.clone()
    }

    /// The lease, none while it is lost and not yet granted anew.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.shared.state.lock().lease.clone()
    }

    /// Changes what is known of the instance. Where the lease is lost, it is registered anew like this.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DiscoveryError::Invalid) when it is another instance, [`NoRuntime`](DiscoveryError::NoRuntime) when
    /// the task has ended with its runtime, and what the backend fails with; that is then told again with the next
    /// heartbeat.
    pub async fn update(&self, instance: Instance) -> Result<(), DiscoveryError> {
        self.change(|known| check_same(known, &instance).map(|()| instance.clone())).await
    }

    async fn change(&self, to: impl FnOnce(&Instance) -> Result<Instance, ConfigError>) -> Result<(), DiscoveryError> {
        let lease = {
            let mut state = self.shared.state.lock();
            if state.closed {
                return Err(DiscoveryError::NoRuntime);
            }
            state.instance = to(&state.instance)?;
            state.version += 1;
            state.lease.clone()
        };
        let Some(lease) = lease else { return Ok(()) };
        match self.shared.tell(&lease).await {
            Err(DiscoveryError::LeaseLost { .. }) => {
                self.shared.hurry();
                Ok(())
            }
            told => told,
        }
    }

    /// Tells callers to send no new calls: the instance is about to go. What it has begun it can finish; then
    /// [close](Self::close) this.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub async fn drain(&self) -> Result<(), DiscoveryError> {
        self.change(|known| Ok(known.clone().with_draining(true))).await
    }

    /// Sends no more heartbeats and leaves the lease as it is, to run out: what a process does that is killed. For
    /// trying out what others make of that.
    pub fn abandon(self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.lease = None;
    }

    /// Deregisters the instance and waits until the backend knows. A future that is dropped does as a registration that
    /// is dropped.
    ///
    /// # Errors
    ///
    /// What the backend fails with.
    pub async fn close(self) -> Result<(), DiscoveryError> {
        let lease = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.lease.clone()
        };
        let Some(lease) = lease else { return Ok(()) };
        let ended = self.shared.discovery.deregister(lease).await;
        self.shared.state.lock().lease = None;
        match ended {
            Err(DiscoveryError::LeaseLost { .. }) => Ok(()),
            ended => ended,
        }
    }
}

fn check_same(known: &Instance, given: &Instance) -> Result<(), ConfigError> {
    if (known.service(), known.id()) == (given.service(), given.id()) {
        return Ok(());
    }
    let value = format_args!("\"{}\" in \"{}\"", given.id(), given.service());
    Err(ConfigError::new("instance", value, format!("must be \"{}\" in \"{}\"", known.id(), known.service())))
}

impl<D: Discovery> Drop for Registration<D> {
    fn drop(&mut self) {
        self.shared.end();
        self.shared.changed.wake_all();
    }
}

impl<D: Discovery> Shared<D> {
    /// Closes, and ends the lease if that can be done at once.
    fn end(&self) {
        let lease = {
            let mut state = self.state.lock();
            state.closed = true;
            state.lease.take()
        };
        // The backend is the user's code, and this runs where something else may panic. Its lease runs out by itself.
        let ended = lease.and_then(|lease| guarded("discovery backend", || self.discovery.deregister_now(lease)));
        if let Some(Err(lease)) = ended {
            self.state.lock().lease = Some(lease);
        }
    }

    fn hurry(&self) {
        self.state.lock().hurry = true;
        self.changed.wake_all();
    }

    /// Waits for the next heartbeat, for somebody who is in a hurry, or for the end.
    async fn pause(&self, last: Tick) {
        // Never later than a third after the last one began, however long it took: two heartbeats may fail.
        let time = self.ttl.mul_f64((1.0 - 0.2 * random()) / 3.0).saturating_sub(Tick::now().since(last));
        let (mut place, mut alarm) = (Place::default(), pin!(sleep(time)));
        poll_fn(|cx| {
            place.wait(&self.changed, cx);
            let mut state = self.state.lock();
            if state.closed || std::mem::take(&mut state.hurry) {
                return Poll::Ready(());
            }
            drop(state);
            alarm.as_mut().poll(cx)
        })
        .await;
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Asks the backend. One that hangs is given a third of the time to live, so that another try comes in time; and no
    /// longer than until the end, when there is no answer.
    async fn ask<R>(&self, asking: impl Future<Output = R>) -> Option<Result<R, Elapsed>> {
        let mut place = Place::default();
        let mut asking = pin!(timeout(self.ttl / 3, asking));
        poll_fn(|cx| {
            place.wait(&self.changed, cx);
            if self.is_closed() {
                return Poll::Ready(None);
            }
            asking.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// One heartbeat, and with it what the backend does not know yet.
    async fn beat(&self) {
        let lease = self.state.lock().lease.clone();
        let told = match &lease {
            Some(lease) => self.ask(self.discovery.heartbeat(lease)).await,
            None => return self.register().await,
        };
        match told {
            Some(Ok(Ok(()))) => self.catch_up().await,
            Some(Ok(Err(DiscoveryError::LeaseLost { .. }))) => self.register().await,
            Some(Ok(Err(error))) => self.warn(&error, "a heartbeat failed"),
            Some(Err(late)) => self.warn(&late, "a heartbeat failed"),
            None => {}
        }
    }

    /// What was changed while there was no lease, or could not be told.
    async fn catch_up(&self) {
        let lease = {
            let state = self.state.lock();
            state.lease.clone().filter(|_| state.told != Some(state.version))
        };
        let Some(lease) = lease else { return };
        match self.ask(self.tell(&lease)).await {
            Some(Ok(Err(error))) => self.warn(&error, "a change of an instance could not be told"),
            Some(Err(late)) => self.warn(&late, "a change of an instance could not be told"),
            Some(Ok(Ok(()))) | None => {}
        }
    }

    /// Tells the backend what the instance is, until that is the last that was said: of two that are told at a time,
    /// the earlier may come last.
    async fn tell(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        loop {
            let (instance, version) = {
                let state = self.state.lock();
                (state.instance.clone(), state.version)
            };
            let told = self.discovery.update(lease, instance).await;
            let mut state = self.state.lock();
            state.told = told.is_ok().then_some(version);
            told?;
            if state.version == version {
                return Ok(());
            }
        }
    }

    fn warn(&self, error: &dyn fmt::Display, what: &str) {
        let of = {
            let state = self.state.lock();
            (state.instance.service().clone(), state.instance.id().clone())
        };
        tracing::warn!(service = of.0.as_str(), instance = of.1.as_str(), %error, "{what}");
    }

    /// Registers anew. Not cut short by the end: what the backend has granted by then would stay until it runs out.
    async fn register(&self) {
        let (instance, version) = {
            let mut state = self.state.lock();
            state.lease = None;
            (state.instance.clone(), state.version)
        };
        if self.is_closed() {
            return;
        }
        let (service, id) = (instance.service().clone(), instance.id().clone());
        let (service, instance_id) = (service.as_str(), id.as_str());
        match timeout(self.ttl / 3, self.discovery.register(instance, self.ttl)).await {
            Ok(Ok(lease)) => {
                tracing::info!(service, instance = instance_id, "a lost lease was registered anew");
                {
                    let mut state = self.state.lock();
                    (state.lease, state.told) = (Some(lease), Some(version));
                }
                self.catch_up().await;
            }
            Ok(Err(error)) => {
                tracing::warn!(service, instance = instance_id, %error, "a lost lease could not be registered anew");
            }
            Err(_) => tracing::warn!(service, instance = instance_id, "registering a lost lease anew took too long"),
        }
    }
}

/// The task's hold: where the runtime drops the task, the lease is ended as well as can be.
struct Keeper<D: Discovery>(Arc<Shared<D>>);

impl<D: Discovery> Drop for Keeper<D> {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn keep<D: Discovery>(keeper: Keeper<D>) {
    let shared = &keeper.0;
    let mut last = Tick::now();
    loop {
        shared.pause(last).await;
        if shared.is_closed() {
            break;
        }
        last = Tick::now();
        // A backend that panics has failed: the next heartbeat comes in its time, and nobody is deregistered for it.
        let _ended_either_way = guarded_future("discovery backend", shared.beat()).await;
    }
    // What could not be ended at once.
    let lease = shared.state.lock().lease.take();
    if let Some(lease) = lease {
        let _ = timeout(shared.ttl, shared.discovery.deregister(lease)).await;
    }
}

impl<D: Discovery> fmt::Debug for Registration<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        let instance = (state.instance.service(), state.instance.id());
        f.debug_struct("Registration").field("instance", &instance).field("lease", &state.lease).finish_non_exhaustive()
    }
}
