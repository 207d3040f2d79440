//! What keeps an instance registered: heartbeats, leases that are lost, backends that fail, and the end.

use super::*;
use mainstay::discovery::{Registration, Snapshot};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Works,
    Fails,
    Hangs,
}

/// A backend over a network, as far as it matters: it may fail or hang, and cannot deregister at once.
#[derive(Clone)]
struct Remote {
    memory: InMemory,
    mode: Arc<std::sync::Mutex<Mode>>,
    heartbeats: Arc<AtomicUsize>,
}

impl Remote {
    fn new() -> Self {
        let mode = Arc::new(std::sync::Mutex::new(Mode::Works));
        Self { memory: InMemory::new(), mode, heartbeats: Arc::default() }
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    async fn reach(&self) -> Result<(), DiscoveryError> {
        let mode = *self.mode.lock().unwrap();
        tokio::task::yield_now().await;
        match mode {
            Mode::Works => Ok(()),
            Mode::Fails => Err(DiscoveryError::Unavailable("refused".into())),
            Mode::Hangs => std::future::pending().await,
        }
    }
}

impl Discovery for Remote {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.reach().await?;
        self.memory.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.heartbeats.fetch_add(1, SeqCst);
        self.reach().await?;
        self.memory.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.reach().await?;
        self.memory.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.reach().await?;
        self.memory.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.memory.instances(service).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        self.memory.watch(service).await
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// The clock goes on by itself while all wait.
async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn heartbeats_come_at_a_third_of_the_time_to_live() {
    let backend = Remote::new();
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    pass(ms(600_000)).await;
    assert_eq!(known(&backend), "a");
    let beats = backend.heartbeats.load(SeqCst);
    assert!((60..=75).contains(&beats), "every 8 to 10 s in 600 s: {beats}");
    assert_eq!(backend.memory.snapshot().expired, 0);
    assert_eq!(registration.lease().unwrap().ttl(), TTL);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_registered_anew_as_the_instance_is_now() {
    let backend = InMemory::new();
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    registration.update(user("a").with_weight(7).unwrap()).await.unwrap();
    let first = registration.lease().unwrap();
    now(backend.deregister(first.clone())).unwrap();
    assert_eq!(known(&backend), "");
    pass(ms(10_000)).await;
    assert_eq!(now(backend.instances(&users())).unwrap().get(&id("a")).unwrap().weight(), 7);
    let second = registration.lease().unwrap();
    assert_ne!(first, second);
    // An update that finds it lost does not wait for the next heartbeat.
    now(backend.deregister(second)).unwrap();
    registration.drain().await.unwrap();
    settle().await;
    assert_eq!(known(&backend), "a!");
    assert!(registration.instance().is_draining());
    for other in [user("b"), Instance::new("orders", "a", "10.0.0.1", 80).unwrap()] {
        let DiscoveryError::Invalid(error) = registration.update(other).await.unwrap_err() else { panic!() };
        assert_eq!((error.field(), error.why()), ("instance", "must be \"a\" in \"users\""));
    }
}

#[tokio::test(start_paused = true)]
async fn when_it_is_dropped_the_instance_is_gone_at_once_and_its_task_ends() {
    let backend = InMemory::new();
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    assert_eq!((known(&backend).as_str(), tasks()), ("a", 1));
    drop(registration);
    assert_eq!(known(&backend), "");
    settle().await;
    assert_eq!(tasks(), 0);
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    registration.close().await.unwrap();
    settle().await;
    assert_eq!((known(&backend).as_str(), tasks()), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_deregister_at_once_is_told_by_the_task() {
    let backend = Remote::new();
    drop(Registration::new(backend.clone(), user("a"), TTL).await.unwrap());
    assert_eq!(known(&backend), "a");
    settle().await;
    assert_eq!((known(&backend).as_str(), tasks()), ("", 0));
    // One that hangs holds the task for as long as the lease lasts, and no longer.
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    backend.set(Mode::Hangs);
    drop(registration);
    pass(TTL + ms(1)).await;
    assert_eq!((known(&backend).as_str(), tasks()), ("", 0));
    // A heartbeat that hangs does not hold up the end.
    backend.set(Mode::Works);
    let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    backend.set(Mode::Hangs);
    let before = backend.heartbeats.load(SeqCst);
    pass(ms(10_000)).await;
    assert!(backend.heartbeats.load(SeqCst) > before);
    backend.set(Mode::Works);
    drop(registration);
    settle().await;
    assert_eq!((known(&backend).as_str(), tasks()), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_or_hangs_is_tried_again_until_it_answers() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let backend = Remote::new();
        let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
        backend.set(mode);
        assert!(mode == Mode::Hangs || registration.drain().await.is_err());
        pass(ms(120_000)).await;
        assert_eq!(known(&backend), "", "the lease ran out");
        backend.set(Mode::Works);
        pass(ms(40_000)).await;
        assert_eq!(known(&backend), if mode == Mode::Hangs { "a" } else { "a!" });
        pass(ms(600_000)).await;
        assert_eq!(backend.memory.snapshot().expired, 1);
        registration.close().await.unwrap();
        settle().await;
        assert_eq!((known(&backend).as_str(), tasks()), ("", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_refuses_at_first_is_the_callers() {
    let backend = InMemory::new();
    let first = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
    let second = Registration::new(backend.clone(), user("a"), TTL).await.unwrap_err();
    assert!(matches!(second, DiscoveryError::Duplicate { .. }));
    let short = Registration::new(backend.clone(), user("b"), ms(0)).await.unwrap_err();
    assert!(matches!(short, DiscoveryError::Invalid(_)));
    assert_eq!(tasks(), 1);
    assert!(format!("{first:?}").contains("users"));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_at_any_point_ends_the_lease_all_the_same() {
    for polls in 0..4 {
        let backend = Remote::new();
        let registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
        let mut close = tokio_test::task::spawn(registration.close());
        for _ in 0..polls {
            if close.poll().is_ready() {
                break;
            }
        }
        drop(close);
        settle().await;
        assert_eq!((known(&backend).as_str(), tasks()), ("", 0), "after {polls} polls");
    }
}

#[test]
fn a_runtime_that_goes_takes_the_lease_with_it() {
    let backend = InMemory::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let registration = first.block_on(Registration::new(backend.clone(), user("a"), TTL)).unwrap();
    assert_eq!(known(&backend), "a");
    drop(first);
    assert_eq!(known(&backend), "", "nobody sends heartbeats any more");
    drop(registration);
    // Dropped without a runtime, and while one ends.
    let second = runtime();
    drop(second.block_on(Registration::new(backend.clone(), user("a"), TTL)).unwrap());
    assert_eq!(known(&backend), "");
    let held = second.block_on(Registration::new(backend.clone(), user("a"), TTL)).unwrap();
    second.spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    second.block_on(tokio::task::yield_now());
    drop(second);
    assert_eq!(known(&backend), "");
    let none = now(Registration::new(backend.clone(), user("a"), TTL)).unwrap_err();
    assert!(matches!(none, DiscoveryError::NoRuntime));
    assert_eq!(known(&backend), "", "nothing was begun");
}

/// For which operation, and how long; none for ever.
type Wait = (&'static str, Option<Duration>);

/// A backend whose next answers come after a while, or not at all.
#[derive(Clone)]
struct Slow {
    memory: InMemory,
    waits: Arc<std::sync::Mutex<Vec<Wait>>>,
}

impl Slow {
    fn new(waits: &[Wait]) -> Self {
        Self { memory: InMemory::new(), waits: Arc::new(std::sync::Mutex::new(waits.to_vec())) }
    }

    /// Waits as is due for this operation, once.
    async fn wait(&self, for_what: &str) {
        let due = {
            let mut waits = self.waits.lock().unwrap();
            let at = waits.iter().position(|(what, _)| *what == for_what);
            at.map(|at| waits.remove(at).1)
        };
        match due {
            Some(Some(time)) => tokio::time::sleep(time).await,
            Some(None) => std::future::pending().await,
            None => {}
        }
    }

    fn weight(&self) -> u32 {
        now(self.memory.instances(&users())).unwrap().get(&id("a")).map_or(0, |instance| instance.weight())
    }
}

impl Discovery for Slow {
    async fn register(&self, instance: Instance, ttl: Duration) -> Result<Lease, DiscoveryError> {
        self.wait("register").await;
        self.memory.register(instance, ttl).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<(), DiscoveryError> {
        self.wait("heartbeat").await;
        self.memory.heartbeat(lease).await
    }

    async fn update(&self, lease: &Lease, instance: Instance) -> Result<(), DiscoveryError> {
        self.wait("update").await;
        self.memory.update(lease, instance).await
    }

    async fn deregister(&self, lease: Lease) -> Result<(), DiscoveryError> {
        self.memory.deregister(lease).await
    }

    async fn instances(&self, service: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        self.memory.instances(service).await
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watch, DiscoveryError> {
        self.memory.watch(service).await
    }
}

fn weighing(weight: u32) -> Instance {
    user("a").with_weight(weight).unwrap()
}

#[tokio::test(start_paused = true)]
async fn after_a_heartbeat_that_hung_the_next_comes_in_time() {
    for _ in 0..20 {
        let backend = Slow::new(&[("heartbeat", None), ("heartbeat", Some(TTL / 4))]);
        let _registration = Registration::new(backend.clone(), user("a"), TTL).await.unwrap();
        pass(10 * TTL).await;
        assert_eq!(backend.memory.snapshot().expired, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_while_it_was_registered_anew_is_told_however_often_that_takes() {
    // First the backend does not answer to the heartbeat, so that the lease is lost; then it registers slowly, and
    // does not answer to the update.
    let backend = Slow::new(&[("register", Some(ms(0))), ("register", Some(ms(5_000))), ("update", None)]);
    let registration = Registration::new(backend.clone(), weighing(1), TTL).await.unwrap();
    now(backend.memory.deregister(registration.lease().unwrap())).unwrap();
    pass(ms(12_000)).await;
    assert_eq!(registration.lease(), None, "it registers");
    registration.update(weighing(2)).await.unwrap();
    pass(5 * TTL).await;
    assert_eq!((backend.weight(), backend.memory.snapshot().expired), (2, 0));
    registration.close().await.unwrap();
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_updates_at_a_time_the_later_stays() {
    let backend = Slow::new(&[("update", Some(ms(100)))]);
    let registration = Arc::new(Registration::new(backend.clone(), weighing(1), TTL).await.unwrap());
    let slow = Arc::clone(&registration);
    let slow = tokio::spawn(async move { slow.update(weighing(2)).await });
    settle().await;
    registration.update(weighing(3)).await.unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!((backend.weight(), registration.instance().weight()), (3, 3));
}

#[test]
fn a_registration_whose_runtime_is_gone_says_so() {
    let backend = InMemory::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let registration = runtime.block_on(Registration::new(backend.clone(), user("a"), TTL)).unwrap();
    drop(runtime);
    assert!(matches!(now(registration.drain()), Err(DiscoveryError::NoRuntime)), "nobody will register it anew");
}
