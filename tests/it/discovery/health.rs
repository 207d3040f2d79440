//! Health checks over a backend.

use std::{collections::HashMap, sync::Mutex};

use mainstay::discovery::health::{Checked, Config};
use tower::service_fn;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Fine,
    Slow,
    Bad,
    Hangs,
    Panics,
}

/// What the instances answer; fine if nothing else is said.
#[derive(Clone, Default)]
struct Clinic {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Clinic {
    fn set(&self, id: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(id.into(), answer);
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    async fn ask(self, instance: Arc<Instance>) -> Result<Answer, &'static str> {
        self.asked.fetch_add(1, SeqCst);
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        let _running = Running(Arc::clone(&self.running));
        let answer = self.answers.lock().unwrap().get(instance.id().as_str()).copied().unwrap_or(Answer::Fine);
        tokio::task::yield_now().await;
        match answer {
            Answer::Bad => Err("boom"),
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("a check that panics"),
            answer => Ok(answer),
        }
    }

    fn over<D: Discovery>(&self, backend: D, config: Config) -> Checked<D> {
        let clinic = self.clone();
        let check = service_fn(move |instance| clinic.clone().ask(instance));
        let judge = |answer: &Answer| match answer {
            Answer::Slow => Health::degraded("slow"),
            _ => Health::healthy(),
        };
        Checked::try_new(backend, check, judge, config).unwrap()
    }
}

fn config() -> Config {
    Config::new().interval(ms(1_000)).jitter(0.0).timeout(ms(100)).down_after(3).up_after(2)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn pass(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
    settle().await;
}

async fn seen<D: Discovery>(checked: &Checked<D>) -> String {
    let all = checked.instances(&users()).await.unwrap();
    all.iter().map(|instance| told(instance)).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn thresholds_are_of_checks_in_a_row_and_the_first_comes_at_once() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config());
    register(&backend, "a", ms(600_000));
    assert_eq!(tasks(), 0, "nothing is started before somebody asks");
    let mut watch = checked.watch(&users()).await.unwrap();
    assert_eq!(news(&mut watch), "[a]");
    settle().await;
    assert_eq!(clinic.asked(), 1);
    clinic.set("a", Answer::Bad);
    pass(1_000).await;
    pass(1_000).await;
    assert_eq!((news(&mut watch), clinic.asked()), (String::new(), 3));
    pass(1_000).await;
    assert_eq!(news(&mut watch), "~a:unhealthy");
    let all = checked.instances(&users()).await.unwrap();
    assert_eq!(all.get(&id("a")).unwrap().health().message(), Some("boom"));
    assert_eq!(known(&backend), "a", "nothing is written back");
    clinic.set("a", Answer::Fine);
    pass(1_000).await;
    clinic.set("a", Answer::Bad);
    pass(1_000).await;
    clinic.set("a", Answer::Slow);
    pass(1_000).await;
    assert_eq!(news(&mut watch), "");
    pass(1_000).await;
    assert_eq!(news(&mut watch), "~a:degraded");
    clinic.set("a", Answer::Fine);
    pass(1_000).await;
    assert_eq!(news(&mut watch), "~a");
    let counts = serde_json::to_value(checked.snapshot()).unwrap();
    let expected = serde_json::json!({
        "kind": "health_checks", "services": 1, "instances": 1, "running": 0, "waiting": 0,
        "checks": 9, "failures": 4, "changes": 3,
    });
    assert_eq!(counts, expected);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_has_failed() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().down_after(1));
    register(&backend, "a", ms(600_000));
    register(&backend, "b", ms(600_000));
    clinic.set("a", Answer::Hangs);
    clinic.set("b", Answer::Panics);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(seen(&checked).await, "a b");
    settle().await;
    std::panic::set_hook(hook);
    assert_eq!(seen(&checked).await, "a b:unhealthy");
    pass(99).await;
    assert_eq!(seen(&checked).await, "a b:unhealthy");
    pass(1).await;
    assert_eq!(seen(&checked).await, "a:unhealthy b:unhealthy");
    let all = checked.instances(&users()).await.unwrap();
    let messages: Vec<_> = all.iter().map(|instance| instance.health().message().unwrap()).collect();
    assert_eq!(messages, ["the check took too long", "the check panicked"]);
    clinic.set("b", Answer::Fine);
    pass(3_000).await;
    assert_eq!(seen(&checked).await, "a:unhealthy b");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_where_it_is_dropped_is_not_the_last() {
    struct Bomb(bool);

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "dropped");
        }
    }

    let (backend, asked) = (InMemory::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let check = service_fn(move |_: Arc<Instance>| {
        let bomb = Bomb(count.fetch_add(1, SeqCst) == 0);
        async move {
            let _bomb = &bomb;
            std::future::pending::<Result<(), Boom>>().await
        }
    });
    let checked = Checked::new(backend.clone(), check, config().down_after(1));
    register(&backend, "a", ms(600_000));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(seen(&checked).await, "a");
    pass(100).await;
    std::panic::set_hook(hook);
    assert_eq!(seen(&checked).await, "a:unhealthy");
    pass(1_100).await;
    assert_eq!((asked.load(SeqCst), checked.snapshot().failures), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_says_goes_through_and_the_worse_counts() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().down_after(1).up_after(1));
    let lease = checked.register(user("a"), ms(5_000)).await.unwrap();
    let mut watch = checked.watch(&users()).await.unwrap();
    checked.update(&lease, user("a").with_health(Health::unhealthy("own"))).await.unwrap();
    settle().await;
    assert_eq!(news(&mut watch), "[a:unhealthy]");
    checked.update(&lease, user("a").with_draining(true)).await.unwrap();
    settle().await;
    clinic.set("a", Answer::Bad);
    pass(1_000).await;
    assert_eq!(news(&mut watch), "~a!, ~a:unhealthy!");
    checked.heartbeat(&lease).await.unwrap();
    checked.update(&lease, user("a").with_health(Health::degraded("own"))).await.unwrap();
    settle().await;
    assert_eq!(news(&mut watch), "~a:unhealthy", "not well by the checks");
    clinic.set("a", Answer::Fine);
    pass(1_000).await;
    assert_eq!(news(&mut watch), "~a:degraded");
    pass(4_000).await;
    assert_eq!(news(&mut watch), "-a expired", "on time, and for the reason that the backend gives");
    let lease = checked.register(user("b"), ms(5_000)).await.unwrap();
    assert!(checked.deregister_now(lease).is_ok());
    let lease = checked.register(user("c"), ms(5_000)).await.unwrap();
    settle().await;
    assert_eq!(seen(&checked).await, "c");
    checked.deregister(lease).await.unwrap();
    settle().await;
    assert_eq!((seen(&checked).await.as_str(), checked.inner().snapshot().instances), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_moves_begins_anew_and_an_answer_of_before_counts_for_nothing() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().down_after(1));
    let lease = register(&backend, "a", ms(600_000));
    clinic.set("a", Answer::Hangs);
    seen(&checked).await;
    settle().await;
    assert_eq!((clinic.asked(), clinic.running.load(SeqCst)), (1, 1));
    clinic.set("a", Answer::Fine);
    let moved = Instance::new("users", "a", "10.0.0.2", 80).unwrap();
    backend.update(&lease, moved).await.unwrap();
    settle().await;
    assert_eq!((clinic.asked(), clinic.running.load(SeqCst)), (2, 0), "the one in flight is given up");
    pass(500).await;
    assert_eq!(seen(&checked).await, "a");
    clinic.set("a", Answer::Hangs);
    pass(500).await;
    backend.deregister(lease).await.unwrap();
    settle().await;
    assert_eq!((seen(&checked).await.as_str(), clinic.running.load(SeqCst)), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_run_at_a_time_and_waiting_costs_no_time_of_the_check() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().concurrency(3).down_after(1));
    for n in 0..10 {
        register(&backend, &format!("i{n}"), ms(600_000));
        clinic.set(&format!("i{n}"), Answer::Hangs);
    }
    seen(&checked).await;
    settle().await;
    assert_eq!((checked.snapshot().running, checked.snapshot().waiting), (3, 7));
    pass(350).await;
    assert_eq!((clinic.asked(), clinic.most.load(SeqCst)), (10, 3));
    assert_eq!(seen(&checked).await.matches(":unhealthy").count(), 9);
    pass(50).await;
    assert_eq!(checked.snapshot().failures, 10);
}

#[tokio::test(start_paused = true)]
async fn an_instance_may_have_to_prove_itself_first() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().start_healthy(false));
    register(&backend, "a", ms(600_000));
    register(&backend, "b", ms(600_000));
    clinic.set("b", Answer::Bad);
    assert_eq!(seen(&checked).await, "a:unhealthy b:unhealthy");
    settle().await;
    assert_eq!(seen(&checked).await, "a b:unhealthy");
}

#[tokio::test(start_paused = true)]
async fn with_the_last_handle_every_task_every_check_and_every_watch_ends() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config());
    register(&backend, "a", ms(600_000));
    clinic.set("a", Answer::Hangs);
    let mut watch = checked.watch(&users()).await.unwrap();
    let clone = checked.clone();
    drop(checked);
    settle().await;
    assert_eq!((tasks(), clinic.running.load(SeqCst)), (2, 1));
    drop(clone);
    settle().await;
    assert_eq!((tasks(), clinic.running.load(SeqCst)), (0, 0));
    assert_eq!(news(&mut watch), "[a]");
    assert_eq!(watch.next().await, None);
    assert_eq!(backend.snapshot().watchers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_asks_for_is_not_checked_any_more() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    let checked = clinic.over(backend.clone(), config().idle_for(ms(10_000)));
    register(&backend, "a", ms(600_000));
    assert_eq!(seen(&checked).await, "a");
    checked.instances(&name("nobody")).await.unwrap();
    assert_eq!(checked.snapshot().services, 2);
    pass(9_000).await;
    assert_eq!(seen(&checked).await, "a");
    pass(9_000).await;
    assert_eq!(checked.snapshot().services, 1);
    pass(11_000).await;
    assert_eq!((checked.snapshot().services, tasks(), backend.snapshot().watchers), (0, 0, 0));
    let asked = clinic.asked();
    let watch = checked.watch(&users()).await.unwrap();
    pass(60_000).await;
    assert!(clinic.asked() > asked + 50, "watched, it is");
    drop(watch);
    pass(30_000).await;
    assert_eq!(tasks(), 0);
    assert_eq!(seen(&checked).await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_is_said_to_be_stale_and_what_it_knew_is_checked_on() {
    let publisher = Publisher::new(users(), mainstay::discovery::Config::new().events(2));
    publisher.publish([user("a"), user("b")]);
    let clinic = Clinic::default();
    let checked = clinic.over(Published::new(&publisher), config().down_after(1));
    let mut watch = checked.watch(&users()).await.unwrap();
    assert_eq!(news(&mut watch), "[a b]");
    publisher.fail("refused");
    clinic.set("a", Answer::Bad);
    settle().await;
    pass(1_000).await;
    assert_eq!(news(&mut watch), "stale: refused, ~a:unhealthy");
    // More at once than is kept: what is gone is gone here too.
    publisher.publish([user("c"), user("d"), user("a")]);
    settle().await;
    assert_eq!(news(&mut watch), "-b left, +c, +d, fresh");
    drop((publisher, checked));
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn when_the_backend_is_gone_so_are_its_checks() {
    let publisher = Publisher::new(users(), mainstay::discovery::Config::new());
    let checked = Clinic::default().over(Published::new(&publisher), config());
    let mut watch = checked.watch(&users()).await.unwrap();
    let lost = Publisher::new(users(), mainstay::discovery::Config::new());
    let gone = Clinic::default().over(Published::new(&lost), config());
    let mut ends = gone.watch(&users()).await.unwrap();
    drop(gone);
    drop(lost);
    assert_eq!(news(&mut ends), "[]");
    assert_eq!(ends.next().await, None);
    assert_eq!(news(&mut watch), "[]");
}

#[test]
fn without_a_runtime_it_says_so() {
    let checked = Clinic::default().over(InMemory::new(), config());
    assert!(matches!(now(checked.instances(&users())), Err(DiscoveryError::NoRuntime)));
    assert!(matches!(now(checked.watch(&users())), Err(DiscoveryError::NoRuntime)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut watch = runtime.block_on(checked.watch(&users())).unwrap();
    drop(runtime);
    assert_eq!(news(&mut watch), "[]");
    drop(checked);
    assert!(watch.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let check = || service_fn(async |_: Arc<Instance>| Ok::<_, Boom>(()));
    for (config, field, value, why) in [
        (Config::new().interval(ms(0)), "interval", "0s", "must be at least 1ms"),
        (Config::new().timeout(Duration::MAX), "timeout", "ns", "must be at most 365d"),
        (Config::new().jitter(1.5), "jitter", "1.5", "must be a finite number in [0, 1]"),
        (Config::new().jitter(f64::NAN), "jitter", "NaN", "must be a finite number in [0, 1]"),
        (Config::new().up_after(0), "up_after", "0", "must be in 1..=1000"),
        (Config::new().down_after(1_001), "down_after", "1001", "must be in 1..=1000"),
        (Config::new().concurrency(0), "concurrency", "0", "must be in 1..=10000"),
        (Config::new().idle_for(ms(0)), "idle_for", "0s", "must be at least 1ms"),
    ] {
        let made = Checked::try_new(InMemory::new(), check(), |()| Health::healthy(), config.clone());
        let error = made.unwrap_err();
        assert_eq!((error.field(), error.why()), (field, why));
        assert!(error.value().contains(value), "{error}");
        assert!(panics(|| Checked::new(InMemory::new(), check(), config)));
    }
    for (toml, expected) in [
        ("interval = 10\nconcurrency = 0", "interval = 10: missing unit, write \"10s\" or \"10ms\"; concurrency = 0: "),
        ("timeout = '-1s'", "timeout = \"-1s\": a duration must not be negative"),
        ("jitter = nan", "jitter = NaN: must be a finite number"),
        ("period = '1s'", "unknown field `period`"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    let config = config().start_healthy(false);
    assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn checks_that_end_with_their_runtime_begin_anew_on_another() {
    let (backend, clinic) = (InMemory::new(), Clinic::default());
    register(&backend, "a", ms(3_600_000));
    let checked = clinic.over(backend.clone(), config());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let first = runtime();
    let mut watch = first.block_on(async {
        let watch = checked.watch(&users()).await.unwrap();
        pass(10).await;
        watch
    });
    assert_eq!(clinic.asked(), 1);
    drop(first);
    assert_eq!(news(&mut watch), "[a]");
    let second = runtime();
    second.block_on(async {
        assert_eq!(tokio::time::timeout(ms(1), watch.next()).await, Ok(None), "nobody will tell it anything");
        register(&backend, "b", ms(3_600_000));
        assert_eq!(seen(&checked).await, "a b");
        pass(10).await;
        assert_eq!((clinic.asked(), checked.snapshot().services), (3, 1));
    });
    // One that is shut down starts nothing.
    let gone = second.handle().clone();
    drop(second);
    let refused = gone.block_on(checked.watch(&users())).unwrap_err();
    assert!(matches!(refused, DiscoveryError::NoRuntime), "{refused}");
}
