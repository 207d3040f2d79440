//! Discovery: leases, watches, backends that fail, operators, settings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use mainstay::{
    contract::{Health, HealthStatus, Instance, InstanceId, ServiceName},
    discovery::{Change, Config, Discovery, DiscoveryError, Gone, InMemory, Lease, Publisher, Snapshot, Update, Watch},
};

use crate::support::*;

mod backend;
#[cfg(feature = "discover")]
mod bridge;
mod health;
#[cfg(feature = "http")]
mod http;
mod registration;
mod threads;
mod watch;

/// Scenarios of discovery that have no test here, and why.
pub(crate) const LEFT_OUT: &[(&str, &str)] =
    &[("SD-04", "which address of one host to connect to first is decided where connections are made")];

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn users() -> ServiceName {
    name("users")
}

pub(crate) fn id(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

pub(crate) fn user(id: &str) -> Instance {
    Instance::new("users", id, "10.0.0.1", 80).unwrap()
}

/// A future that is ready at once, without a runtime.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

pub(crate) fn register(backend: &impl Discovery, id: &str, ttl: Duration) -> Lease {
    now(backend.register(user(id), ttl)).unwrap()
}

pub(crate) fn watch(backend: &impl Discovery) -> Watch {
    now(backend.watch(&users())).unwrap()
}

/// The ids of the instances, and what they say where that is not the usual.
pub(crate) fn known(backend: &impl Discovery) -> String {
    let all = now(backend.instances(&users())).unwrap();
    let mut text: Vec<String> = all.iter().map(|instance| told(instance)).collect();
    text.extend(all.stale.as_ref().map(|stale| format!("stale: {}", stale.why)));
    text.join(" ")
}

pub(crate) fn told(instance: &Instance) -> String {
    let mut text = instance.id().to_string();
    if instance.health().status() != HealthStatus::Healthy {
        text += &format!(":{}", instance.health().status());
    }
    if !instance.takes_calls() {
        text += "!";
    }
    text
}

pub(crate) fn say(update: &Update) -> String {
    match update {
        Update::Snapshot(all) => {
            let told: Vec<String> = all.iter().map(|instance| told(instance)).collect();
            let missed = if all.missed > 0 { format!(" missed {}", all.missed) } else { String::new() };
            format!("[{}]{missed}", told.join(" "))
        }
        Update::Event(event) => match &event.change {
            Change::Added(new) => format!("+{}", told(new)),
            Change::Updated(new) => format!("~{}", told(new)),
            Change::Removed(old, why) => format!("-{} {why}", old.id()),
            Change::Stale(stale) => format!("stale: {}", stale.why),
            Change::Fresh => "fresh".to_owned(),
            other => panic!("{other:?}"),
        },
    }
}

/// All that a watch has to say now.
pub(crate) fn news(watch: &mut Watch) -> String {
    let updates: Vec<String> = std::iter::from_fn(|| watch.try_next().as_ref().map(say)).collect();
    updates.join(", ")
}

/// The instances of a publisher, as a backend.
pub(crate) struct Published {
    publisher: Publisher,
    // So many watches are answered; those after them hang.
    answers: AtomicUsize,
}

impl Published {
    pub(crate) fn new(publisher: &Publisher) -> Self {
        Self { publisher: publisher.clone(), answers: AtomicUsize::new(usize::MAX) }
    }

    pub(crate) fn answers(self, watches: usize) -> Self {
        Self { answers: AtomicUsize::new(watches), ..self }
    }
}

impl Discovery for Published {
    async fn register(&self, _: Instance, _: Duration) -> Result<Lease, DiscoveryError> {
        Err(DiscoveryError::Closed)
    }

    async fn heartbeat(&self, _: &Lease) -> Result<(), DiscoveryError> {
        Err(DiscoveryError::Closed)
    }

    async fn update(&self, _: &Lease, _: Instance) -> Result<(), DiscoveryError> {
        Err(DiscoveryError::Closed)
    }

    async fn deregister(&self, _: Lease) -> Result<(), DiscoveryError> {
        Err(DiscoveryError::Closed)
    }

    async fn instances(&self, _: &ServiceName) -> Result<Arc<Snapshot>, DiscoveryError> {
        Ok(self.publisher.snapshot())
    }

    async fn watch(&self, _: &ServiceName) -> Result<Watch, DiscoveryError> {
        if self.answers.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            std::future::pending::<()>().await;
        }
        Ok(self.publisher.watch())
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    pub(crate) fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn sd_01_a_set_that_is_published_is_compared_with_what_is_known() {
    let at_once = Config::new().empty_grace(ms(0)).invalidate_after(ms(100));
    let backend = Publisher::new(users(), at_once);
    let mut watch = backend.watch();
    backend.publish([user("a"), user("b")]);
    assert_eq!(news(&mut watch), "[a b]");
    backend.publish([user("b"), user("a")]);
    assert_eq!(news(&mut watch), "", "the same again closes nothing");
    backend.fail("sd error");
    assert_eq!(news(&mut watch), "stale: sd error", "an error keeps both");
    assert_eq!(backend.snapshot().len(), 2);
    backend.publish([user("a")]);
    assert_eq!(news(&mut watch), "-b left, fresh");
    backend.publish([]);
    assert_eq!(news(&mut watch), "-a left", "where no grace is asked for");

    // Invalid 100 ms after the first error of a row; a second one keeps the time of the first.
    backend.publish([user("a")]);
    backend.fail("sd error");
    assert_eq!(backend.snapshot().len(), 1);
    advance(ms(50)).await;
    backend.fail("another error");
    advance(ms(49)).await;
    assert_eq!(news(&mut watch), "+a, stale: sd error");
    advance(ms(1)).await;
    assert_eq!(news(&mut watch), "-a invalidated");
    let known = backend.snapshot();
    assert!(known.is_empty() && known.stale.as_ref().unwrap().why == "sd error");
    backend.publish([user("a")]);
    assert_eq!(news(&mut watch), "+a, fresh");
}

/// The translation: UP and DEGRADED are what an instance says while it takes calls; DOWN and STARTING are *unhealthy*,
/// and an operator's OUT_OF_SERVICE is the override *unhealthy*. To tell one from the other, the operator here says
/// *degraded* too. "Removing it with DOWN" gives the instance that health until it says something again.
#[tokio::test(start_paused = true)]
async fn sd_03_an_operators_word_counts_unless_the_instance_is_down() {
    let backend = InMemory::new();
    let lease = register(&backend, "a", ms(1_000));
    let out_of_service = Health::unhealthy("out of service");
    backend.override_health(&users(), &id("a"), out_of_service.clone()).unwrap();
    assert_eq!(known(&backend), "a:unhealthy");
    // It survives that the instance says again that it is up, and that it registers again.
    now(backend.update(&lease, user("a"))).unwrap();
    assert_eq!(known(&backend), "a:unhealthy");
    now(backend.deregister(lease)).unwrap();
    let lease = register(&backend, "a", ms(1_000));
    assert_eq!(known(&backend), "a:unhealthy");

    // What the instance says about being down beats the operator.
    backend.override_health(&users(), &id("a"), HealthStatus::Degraded).unwrap();
    assert_eq!(known(&backend), "a:degraded");
    now(backend.update(&lease, user("a").with_health(Health::unhealthy("starting")))).unwrap();
    assert_eq!(known(&backend), "a:unhealthy");
    now(backend.update(&lease, user("a"))).unwrap();
    assert_eq!(known(&backend), "a:degraded");

    // Removed with down: down, until the instance next says that it is up.
    assert!(backend.remove_override(&users(), &id("a"), Some(Health::unhealthy("down"))));
    assert_eq!(known(&backend), "a:unhealthy");
    now(backend.heartbeat(&lease)).unwrap();
    assert_eq!(known(&backend), "a:unhealthy");
    now(backend.update(&lease, user("a"))).unwrap();
    assert_eq!(known(&backend), "a");
    assert!(!backend.remove_override(&users(), &id("a"), None), "it was taken back");

    backend.override_health(&users(), &id("a"), out_of_service).unwrap();
    assert!(backend.remove_override(&users(), &id("a"), None));
    assert_eq!(known(&backend), "a", "as it last said");
    for (service, instance) in [("users", "b"), ("orders", "a")] {
        let error = backend.override_health(&name(service), &id(instance), HealthStatus::Healthy).unwrap_err();
        assert!(matches!(error, DiscoveryError::Unknown { .. }));
        assert_eq!(error.to_string(), format!("there is no \"{instance}\" in \"{service}\""));
    }
}

/// The index of a long poll is the business of a backend. What applies to all of them: an answer is no proof of a
/// change, a backend that begins anew lists all it has and only the difference is told, and a thousand changes at once
/// are not a thousand deliveries to one who reads rarely.
#[tokio::test(start_paused = true)]
async fn sd_05_an_answer_is_no_change_and_a_new_list_is_told_as_its_difference() {
    let backend = Publisher::new(users(), Config::new().events(16));
    let mut watch = backend.watch();
    let list = |of: &[&str]| of.iter().map(|id| user(id)).collect::<Vec<_>>();
    backend.publish(list(&["a"])); // index 10
    assert_eq!(news(&mut watch), "[a]");
    backend.publish(list(&["a", "b"])); // 12
    assert_eq!(news(&mut watch), "+b");
    backend.publish(list(&["a", "b"])); // 12 again
    assert_eq!(news(&mut watch), "");
    backend.publish(list(&["a", "b"])); // 5: it went backwards, so all was listed anew
    assert_eq!(news(&mut watch), "");
    backend.publish(list(&["b", "c"])); // 6
    assert_eq!(news(&mut watch), "-a left, +c");

    let mut deliveries = 0;
    for bump in 1..=1_000_u32 {
        backend.put(user("c").with_weight(bump).unwrap());
        // Somebody who has time for it three times in this second.
        if bump % 400 == 0 || bump == 1_000 {
            while let Some(update) = watch.try_next() {
                let Update::Snapshot(all) = update else { panic!("one at a time: {update:?}") };
                assert!(all.missed >= 200);
                deliveries += 1;
            }
        }
    }
    assert_eq!(deliveries, 3);
    assert_eq!(backend.snapshot().get(&id("c")).unwrap().weight(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_doubted_for_a_while() {
    let backend = Publisher::new(users(), Config::new());
    let mut watch = backend.watch();
    backend.publish([]);
    assert_eq!(news(&mut watch), "[]", "there was nothing before");
    backend.publish([user("a")]);
    backend.publish([]);
    assert_eq!(news(&mut watch), "+a, stale: the backend answered with no instances");
    advance(ms(20_000)).await;
    backend.publish([]);
    advance(ms(9_999)).await;
    assert_eq!(news(&mut watch), "");
    // The watch's own alarm, with nobody else asking.
    let mut task = tokio_test::task::spawn(watch);
    assert!(task.enter(|cx, mut watch| watch.poll_next(cx)).is_pending());
    advance(ms(1)).await;
    assert!(task.is_woken());
    assert_eq!(news(&mut task), "-a left, fresh");
    backend.publish([user("a")]);
    backend.publish([]);
    backend.publish([user("a")]);
    advance(ms(60_000)).await;
    assert_eq!(news(&mut task), "+a, stale: the backend answered with no instances, fresh");
    assert!(backend.remove(&id("a")) && !backend.remove(&id("a")), "one by one there is no doubt");
    backend.publish([user("b"), Instance::new("orders", "c", "10.0.0.1", 80).unwrap()]);
    assert_eq!(news(&mut task), "-a left, +b", "an instance of another service is left out");
    assert_eq!(backend.watchers(), 1);
    drop(backend);
    assert_eq!(task.enter(|cx, mut watch| watch.poll_next(cx)), Poll::Ready(None));
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    let year = Duration::from_secs(365 * 86_400);
    for (config, field, value, why) in [
        (Config::new().events(0), "events", "0", "must be in 1..=1000000"),
        (Config::new().events(1_000_001), "events", "1000001", "must be in 1..=1000000"),
        (Config::new().empty_grace(Duration::from_nanos(1)), "empty_grace", "1ns", "must be at least 1ms"),
        (Config::new().empty_grace(year * 2), "empty_grace", "730d", "must be at most 365d"),
        (Config::new().invalidate_after(ms(0)), "invalidate_after", "0s", "must be at least 1ms"),
        (Config::new().overrides_for(Duration::MAX), "overrides_for", "ns", "must be at most 365d"),
    ] {
        let error = InMemory::try_with(config.clone()).unwrap_err();
        assert_eq!((error.field(), error.why()), (field, why));
        assert!(error.value().contains(value), "{error}");
        assert_eq!(Publisher::try_new(users(), config.clone()).unwrap_err(), error);
        assert!(panics(|| InMemory::with(config.clone())) && panics(|| Publisher::new(users(), config)));
    }
    for (toml, expected) in [
        ("events = 0", "events = 0: must be in 1..=1000000"),
        ("empty_grace = 10", "empty_grace = 10: missing unit, write \"10s\" or \"10ms\""),
        ("invalidate_after = '-1s'\noverrides_for = ''", "invalidate_after = \"-1s\": a duration must not be negative"),
        ("invalidate_after = '1s'\noverrides_for = ''", "overrides_for = \"\": a duration must not be empty"),
        ("grace = '1s'", "unknown field `grace`"),
    ] {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    for config in [Config::new(), Config::new().invalidate_after(ms(5)).empty_grace(ms(0)).events(3)] {
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}

#[test]
fn impossible_leases_are_refused_and_errors_say_of_whom() {
    let backend = InMemory::new();
    for (ttl, why) in [
        (Duration::ZERO, "must be at least 1ms"),
        (Duration::from_nanos(999_999), "must be at least 1ms"),
        (Duration::MAX, "must be at most 365d"),
    ] {
        let DiscoveryError::Invalid(error) = now(backend.register(user("a"), ttl)).unwrap_err() else { panic!() };
        assert_eq!((error.field(), error.why()), ("ttl", why));
    }
    let lease = register(&backend, "a", ms(1));
    let error = now(backend.register(user("a"), ms(5))).unwrap_err();
    assert_eq!(error.to_string(), "\"a\" is registered in \"users\" already");
    for other in [user("b"), Instance::new("orders", "a", "10.0.0.1", 80).unwrap()] {
        let DiscoveryError::Invalid(error) = now(backend.update(&lease, other)).unwrap_err() else { panic!() };
        assert_eq!((error.field(), error.why()), ("instance", "the lease is for \"a\" in \"users\""));
    }
    // Of another backend, and of one that never was.
    let other = InMemory::new();
    let theirs = register(&other, "a", ms(1_000));
    for lost in [theirs, Lease::new(name("nobody"), id("a"), ms(5), 0)] {
        assert!(matches!(now(backend.heartbeat(&lost)), Err(DiscoveryError::LeaseLost { .. })));
        assert!(matches!(
            now(backend.update(&lost, Instance::new(lost.service().as_str(), "a", "h", 1).unwrap())),
            Err(DiscoveryError::LeaseLost { .. })
        ));
        assert!(backend.deregister_now(lost.clone()).is_ok());
        let error = now(backend.deregister(lost.clone())).unwrap_err();
        assert_eq!(error.to_string(), format!("the lease of \"a\" in \"{}\" is lost", lost.service()));
    }
}

#[test]
fn reasons_have_names() {
    for gone in [Gone::Deregistered, Gone::Expired, Gone::Left, Gone::Invalidated] {
        assert_eq!(serde_json::to_value(gone).unwrap(), gone.as_str());
        assert_eq!(format!("{gone:>13}").len(), 13);
    }
}
