//! The hooks of the fleet: pickers, steers, transports, backends, checks, contracts, and services at levels.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use mainstay::{
    Error,
    balance::{self, Balance, Candidates, ConsistentHash, HashKey, KeyHasher, Pick, Picker, RoundRobin, Steer},
    client::Client,
    contract::{
        AsMethod, Capability, Endpoint, Health, Instance, Invocation, Method, ServiceContract, ServiceName, Version,
    },
    discovery::{
        Discovery, DiscoveryError, InMemory, Lease, Registration, Snapshot, Watch,
        health::{self, Checked},
    },
    fallback::Fallback,
    isolation::{FallbackConfig, IsolationManager, Level},
    registry::{Policies, PoliciesSnapshot, Registry},
};
use tower::{Service, ServiceExt, service_fn};

use super::{Fuse, blows, caught, text};
use crate::{
    harness::{Lab, Work, settle},
    support::*,
};

type Failure = Error<Boom>;

fn users() -> ServiceName {
    ServiceName::new("users").unwrap()
}

fn instance(number: u16) -> Instance {
    Instance::new("users", &format!("users-{number}"), "10.0.0.7", 8_000 + number).unwrap()
}

/// Everything that a balancer asks, with a panic at one of its questions.
#[derive(Clone)]
struct Odd(Fuse, u32);

impl Odd {
    fn here(&self, at: u32) {
        if self.1 == at {
            self.0.here();
        }
    }
}

impl Picker for Odd {
    type Plan = ();

    fn plan(&self, _: &[Arc<Instance>]) {
        self.here(0);
    }
}

impl Pick<()> for Odd {
    fn pick(&self, (): &(), (): &(), _: &impl Candidates) -> Option<usize> {
        self.here(1);
        Some(0)
    }
}

impl Steer<()> for Odd {
    fn avoids(&self, (): &(), _: &Instance) -> bool {
        self.here(2);
        false
    }

    fn picked(&self, (): &(), _: &Arc<Instance>) {
        self.here(3);
    }
}

impl HashKey<()> for Odd {
    fn hash_key(&self, (): &(), key: &mut KeyHasher) {
        self.here(4);
        std::hash::Hash::hash(&7, key);
    }
}

/// It is the caller's, as the docs of the balancer say: nothing is held, and the next call goes through.
pub(super) async fn pickers() {
    for at in 0..5 {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let handle = balance::Handle::new("users", balance::Config::new());
        (0..3).for_each(|number| handle.insert(Arc::new(instance(number)), lab.clone()));
        let odd = Odd(fuse.clone(), at);
        let held = || handle.snapshot().members.iter().map(|member| member.pending).sum::<u32>();
        if at == 4 {
            let by_key = Balance::new(&handle, ConsistentHash::new([0; 16], odd));
            picked(&fuse, &handle, by_key, held).await;
        } else if at < 2 {
            picked(&fuse, &handle, Balance::new(&handle, odd), held).await;
        } else {
            picked(&fuse, &handle, Balance::new(&handle, RoundRobin::new()).steer(odd), held).await;
        }
        let members = handle.snapshot().members;
        assert!(members.iter().all(|member| member.failures == 0), "{at}: it counts for nobody");
    }
}

async fn picked<S>(fuse: &Fuse, handle: &balance::Handle<Lab>, service: S, held: impl Fn() -> u32)
where
    S: Service<(), Response = u32, Error = Failure> + Clone + 'static,
{
    let call = || {
        let service = service.clone();
        caught(Box::pin(async move { text(service.oneshot(()).await) }))
    };
    fuse.arm(true);
    // A plan is made anew when the set has changed.
    handle.insert(Arc::new(instance(9)), Lab::new(Work::Ok));
    assert_eq!(call().await, None);
    fuse.arm(false);
    assert_eq!((held(), fuse.times()), (0, 1));
    for _ in 0..4 {
        assert_eq!(call().await, Some(Ok(1)));
    }
    assert_eq!(held(), 0);
}

/// What a service says of itself.
struct Liar(Fuse, u32, ServiceName, Version);

impl Liar {
    fn here(&self, at: u32) {
        if self.1 == at {
            self.0.here();
        }
    }
}

impl ServiceContract for Liar {
    fn name(&self) -> &ServiceName {
        self.here(0);
        &self.2
    }

    fn version(&self) -> &Version {
        self.here(1);
        &self.3
    }

    fn health(&self) -> Health {
        self.here(2);
        Health::healthy()
    }

    fn capabilities(&self) -> &[Capability] {
        self.here(3);
        &[]
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.here(4);
        &[]
    }
}

struct Tells(Fuse, u32);

impl Policies for Tells {
    fn snapshot(&self) -> PoliciesSnapshot {
        if self.1 == 5 {
            self.0.here();
        }
        PoliciesSnapshot::None
    }
}

impl AsMethod for Tells {
    fn as_method(&self) -> Result<Method, mainstay::ConfigError> {
        self.0.here();
        Method::new("get")
    }
}

/// Whoever asks gets the panic; the registry stays as it was, and no lock is held.
pub(super) async fn contracts() {
    for at in 0..6 {
        let (fuse, registry) = (Fuse::default(), Registry::new());
        let new = || {
            let contract = Liar(fuse.clone(), at, users(), Version::new(1, 0, 0));
            registry.register(contract, Tells(fuse.clone(), at))
        };
        fuse.arm(true);
        if blows(|| new().map(drop)) {
            assert!(registry.is_empty(), "{at}: not half there");
        }
        fuse.arm(false);
        let _registration = new().unwrap();
        fuse.arm(true);
        let _ = blows(|| registry.snapshot());
        let _ = blows(|| registry.by_health(mainstay::contract::HealthStatus::Healthy));
        let _ = blows(|| registry.update_health("users", Health::degraded("slow")));
        let _ = blows(|| registry.forget_health("users"));
        let _ = blows(|| registry.get("users").map(|service| service.snapshot()));
        fuse.arm(false);
        assert!(fuse.times() > 0, "{at} was asked");
        assert_eq!((registry.len(), registry.snapshot().services.len()), (1, 1), "{at}");
        registry.unregister("users").unwrap();
        assert!(registry.is_empty());
    }
    let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
    let manager = IsolationManager::<(), u32, Failure>::new();
    manager.register("users", lab, Level::Full, FallbackConfig::none()).unwrap();
    fuse.arm(true);
    assert!(blows(|| manager.execute("users", Tells(fuse.clone(), 0), ())));
    fuse.arm(false);
    assert_eq!(manager.execute("users", Tells(fuse.clone(), 0), ()).await.unwrap(), 1);
    let stats = manager.stats();
    assert_eq!((stats.calls, stats.answered, stats.in_flight), (1, 1, 0), "what is no method is no call");
}

/// A backend that panics once, at one of its questions.
#[derive(Clone)]
struct Shaky(InMemory, Fuse, u32);

impl Shaky {
    fn here(&self, at: u32) {
        if self.2 == at {
            let once = self.1.times() == 0;
            if once {
                self.1.here();
            }
        }
    }
}

impl Discovery for Shaky {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.here(0);
        self.0.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.here(1);
        self.0.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.here(2);
        self.0.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.here(3);
        self.0.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.0.instances(service).await
    }

    /// Of an async function nothing runs before it is polled; this is none.
    fn watch(&self, service: &ServiceName) -> impl Future<Output = Result<Watch, DiscoveryError>> + Send {
        self.here(6);
        async {
            self.here(4);
            self.0.watch(service).await
        }
    }

    fn deregister_now(&self, lease: Lease) -> Result<(), Lease> {
        self.here(5);
        self.0.deregister_now(lease)
    }
}

const TTL: Duration = Duration::from_secs(9);

/// A backend that panics has failed: an instance stays registered, and a client finds its service later.
pub(super) async fn discovery() {
    for at in 1..3 {
        let (memory, fuse) = (InMemory::new(), Fuse::default());
        let registration = Registration::new(Shaky(memory.clone(), fuse.clone(), at), instance(0), TTL).await.unwrap();
        let registration = Arc::new(registration);
        if at == 2 {
            fuse.arm(true);
            let mine = Arc::clone(&registration);
            let told = caught(Box::pin(async move { text(registration_update(&mine).await) })).await;
            assert!(told != Some(Ok(1)));
        }
        fuse.arm(true);
        for _ in 0..8 {
            super::after(3_000).await;
            settle().await;
        }
        fuse.arm(false);
        assert_eq!(fuse.times(), 1, "{at}");
        let known = memory.instances(&users()).await.unwrap();
        assert_eq!(known.len(), 1, "{at}: a panic in a backend is a heartbeat that failed, and no end");
        drop(registration);
        settle().await;
        assert_eq!(memory.snapshot().instances, 0, "{at}");
    }
    // One that panics when it is told of the end at once: the lease runs out.
    let (memory, fuse) = (InMemory::new(), Fuse::default());
    let registration = Registration::new(Shaky(memory.clone(), fuse.clone(), 5), instance(0), TTL).await.unwrap();
    fuse.arm(true);
    assert!(!blows(|| drop(registration)), "nothing panics in an end, where something else may panic already");
    fuse.arm(false);
    super::after(9_000).await;
    assert_eq!((memory.snapshot().instances, fuse.times()), (0, 1));
    for at in [4, 6] {
        let (memory, fuse, lab) = (InMemory::new(), Fuse::default(), Lab::new(Work::Ok));
        memory.register(instance(0), TTL).await.unwrap();
        let shaky = Shaky(memory.clone(), fuse.clone(), at);
        let client: Client<(), u32, Failure> =
            Client::builder(shaky, service_fn(move |_: Instance| ready(Ok::<_, Infallible>(lab.clone())))).build();
        fuse.arm(true);
        let first = client.call("users", "get", ()).await;
        fuse.arm(false);
        assert_eq!((first, fuse.times()), (Ok(1), 1), "asked again after a while, as after an error");
    }
}

async fn registration_update(registration: &Registration<Shaky>) -> Result<u32, DiscoveryError> {
    registration.update(registration.instance().with_draining(true)).await.map(|()| 1)
}

/// A transport that panics when it is made is that of an instance that gets no calls.
pub(super) async fn transport() {
    let (memory, fuse, lab) = (InMemory::new(), Fuse::default(), Lab::new(Work::Ok));
    for number in 0..2 {
        memory.register(instance(number), Duration::from_secs(3_600)).await.unwrap();
    }
    let mine = fuse.clone();
    let make = service_fn(move |instance: Instance| {
        if instance.port() == 8_000 {
            mine.here();
        }
        ready(Ok::<_, Infallible>(lab.clone()))
    });
    let client: Client<(), u32, Failure> = Client::builder(memory, make).build();
    fuse.arm(true);
    for _ in 0..4 {
        assert_eq!(client.call("users", "get", ()).await.unwrap(), 1);
    }
    fuse.arm(false);
    assert_eq!(fuse.times(), 1);
    assert_eq!(client.metrics("users").unwrap().total.in_flight, 0);
}

pub(super) async fn health_check() {
    let (memory, fuse) = (InMemory::new(), Fuse::default());
    memory.register(instance(0), Duration::from_secs(3_600)).await.unwrap();
    let mine = fuse.clone();
    let check = service_fn(move |_: Arc<Instance>| {
        mine.here();
        ready(Ok::<(), Infallible>(()))
    });
    let config = health::Config::new().interval(ms(1_000)).jitter(0.0).down_after(1).up_after(1);
    let checked = Checked::new(memory, check, config);
    let is_well = async || {
        super::after(1_000).await;
        settle().await;
        let known = checked.instances(&users()).await.unwrap();
        known.iter().all(|instance| instance.health().status() == mainstay::contract::HealthStatus::Healthy)
    };
    assert!(is_well().await);
    fuse.arm(true);
    assert!(!is_well().await, "a check that panics has failed");
    fuse.arm(false);
    assert!(is_well().await && fuse.times() > 0, "and the next is made");
    assert_eq!(checked.snapshot().running, 0);
}

pub(super) async fn error_kind() {
    let (memory, fuse, lab) = (InMemory::new(), Fuse::default(), Lab::new(Work::Fails));
    memory.register(instance(0), Duration::from_secs(3_600)).await.unwrap();
    let (mine, inside) = (fuse.clone(), lab.clone());
    let make = service_fn(move |_: Instance| ready(Ok::<_, Infallible>(inside.clone())));
    let client: Client<(), u32, Failure> = Client::builder(memory, make).build().error_kind(move |_| {
        mine.here();
        Some("mine")
    });
    fuse.arm(true);
    assert_eq!(client.call("users", "get", ()).await, Err(Error::Inner(Boom)));
    fuse.arm(false);
    let known = client.metrics("users").unwrap().total;
    assert_eq!((known.errors, known.in_flight, known.error_kinds.len(), fuse.times()), (1, 0, 1, 1));
}

/// In the service at each level, and in its fallback.
pub(super) async fn isolation() {
    for level in [Level::None, Level::Basic, Level::Enhanced, Level::Full] {
        for in_fallback in [false, true] {
            let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
            let (mine, inside) = (fuse.clone(), lab.clone());
            let service = service_fn(move |_: Invocation<()>| {
                if !in_fallback {
                    mine.here();
                }
                inside.work_on()
            });
            let mine = fuse.clone();
            let fallback = FallbackConfig::new(Fallback::with(move |_: &Failure| {
                if in_fallback {
                    mine.here();
                }
                7_u32
            }));
            let manager = IsolationManager::<(), u32, Failure>::new();
            manager.register("users", service, level, fallback.max_retries(0)).unwrap();
            let execute = || {
                let manager = manager.clone();
                caught(Box::pin(async move { text(manager.execute("users", "get", ()).await) }))
            };
            fuse.arm(true);
            let answer = execute().await;
            fuse.arm(false);
            let failed = Some(Err("Inner(Boom)".to_owned()));
            assert_eq!(answer, if in_fallback || fuse.times() == 0 { failed } else { None }, "{level} {in_fallback}");
            lab.set(Work::Ok);
            assert_eq!(execute().await, Some(Ok(1)), "{level} {in_fallback}");
            let stats = manager.stats();
            let dropped = u64::from(!in_fallback);
            assert_eq!((stats.calls, stats.dropped, stats.in_flight), (2, dropped, 0), "{level} {in_fallback}");
            assert_eq!(manager.bulkhead("users").unwrap().running(), 0);
            assert_eq!(manager.load_shed("users").unwrap().snapshot().in_flight, 0);
        }
    }
}

#[cfg(feature = "http")]
pub(super) async fn take_rejection() {
    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use mainstay::{
        bulkhead::{self, BulkheadLayer},
        http::RespondLayer,
    };
    use tower::Layer;

    let (fuse, places) = (Fuse::default(), bulkhead::Handle::new("x", bulkhead::Config::new(1)));
    let mine = fuse.clone();
    let respond = RespondLayer::with(move |_: &mainstay::Rejection| {
        mine.here();
        Response::new(Bytes::new())
    });
    let inside = service_fn(|(): ()| ready(Ok::<_, Failure>(Response::new(Full::<Bytes>::default()))));
    let service = respond.layer(BulkheadLayer::new(places.clone()).layer(inside));
    let held = places.try_acquire().unwrap();
    fuse.arm(true);
    let mut call = Box::pin(service.clone().oneshot(()));
    assert!(blows(|| super::poll(&mut call).is_ready()), "there is nothing else to answer with");
    fuse.arm(false);
    assert!(service.clone().oneshot(()).await.is_ok());
    drop((call, held));
    assert!(service.oneshot(()).await.is_ok());
    assert_eq!(places.running(), 0);
}
