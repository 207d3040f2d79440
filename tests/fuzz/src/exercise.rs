//! What is done with settings that were accepted: they are built into the thing that they are for, which then takes a
//! hundred calls. None of it may panic, whatever the settings say.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{
    Error, balance, breaker, bulkhead,
    client::{self, Client},
    concurrency,
    contract::{AnyMethod, Instance, InstanceId, ServiceName},
    discovery::{self, Discovery, InMemory},
    fallback::{self, Fallback},
    hedge,
    isolation::{self, FallbackConfig, IsolationManager},
    keyed::{self, Operation, Tenant},
    load_shed, rate_limit, retry, stack,
};
use tower::{Layer, Service, service_fn};

const CALLS: u32 = 100;

/// Why a call of these failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

type Answer = Result<u32, Error<Broken>>;

/// Some calls succeed at once, some fail, some take a second, and some never end.
async fn answer(n: u32) -> Answer {
    match n % 7 {
        1 | 2 => Err(Error::Inner(Broken)),
        3 => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(n)
        }
        4 => std::future::pending().await,
        _ => Ok(n),
    }
}

async fn inner(n: u32) -> Result<u32, Broken> {
    answer(n).await.map_err(|_| Broken)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls each call, lets time pass, polls it again, and gives it up if it has not ended: by a second as a rule, and
/// once by a gap of six hours and once by one of two years.
fn drive<F: Future>(mut call: impl FnMut(u32) -> F) {
    in_runtime(async {
        for n in 0..CALLS {
            let mut future = pin!(call(n));
            if poll(future.as_mut()).is_pending() {
                tokio::time::advance(Duration::from_secs(1)).await;
                let _ = poll(future);
            }
            match n {
                40 => tokio::time::advance(Duration::from_secs(6 * 3_600)).await,
                70 => tokio::time::advance(Duration::from_secs(2 * 365 * 86_400)).await,
                _ => {}
            }
        }
    });
}

/// On a clock of its own that stands still.
pub fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be built").block_on(future)
}

fn never<T, E: std::fmt::Display>(built: Result<T, E>) -> T {
    built.unwrap_or_else(|error| panic!("checked settings are refused when they are used: {error}"))
}

pub fn breaker(config: breaker::Config) {
    let handle = never(breaker::Handle::try_new("x", config.clone()));
    drive(|n| handle.run(inner(n)));
    never(handle.reconfigure(config));
    saved(&handle.save());
    let _ = (handle.snapshot(), handle.memory());
}

pub fn saved(saved: &breaker::Saved) {
    let handle = breaker::Handle::new("x", breaker::Config::new());
    in_runtime(async { handle.restore(saved) });
    drive(|n| handle.run(inner(n)));
    let _ = (handle.snapshot(), handle.save());
}

pub fn bulkhead(config: bulkhead::Config) {
    let handle = never(bulkhead::Handle::try_new("x", config.clone()));
    drive(|n| handle.run(inner(n)));
    never(handle.reconfigure(config));
    assert_eq!(handle.snapshot().running, 0);
}

pub fn concurrency(config: concurrency::Config) {
    let handle = never(concurrency::Handle::try_new("x", config.clone()));
    drive(|n| handle.run(inner(n)));
    never(handle.reconfigure(config));
    assert_eq!(handle.in_flight(), 0);
    let _ = handle.snapshot();
}

pub fn hedge(config: hedge::Config) {
    let handle = never(hedge::Handle::try_new("x", config));
    drive(|n| handle.run(move |_| answer(n)));
    never(handle.reconfigure(config));
    let _ = handle.snapshot();
}

pub fn load_shed(config: load_shed::Config) {
    let handle = never(load_shed::Handle::try_new("x", config));
    drive(|n| handle.run(inner(n)));
    never(handle.reconfigure(config));
    let _ = handle.snapshot();
}

pub fn rate_limit(config: rate_limit::Config) {
    let handle = never(rate_limit::Handle::try_new("x", config));
    drive(|n| handle.run(inner(n)));
    never(handle.reconfigure(config));
    let _ = handle.snapshot();
}

pub fn retry(config: retry::Config) {
    let handle = never(retry::Handle::try_new("x", config));
    drive(|n| handle.run(move || answer(n)));
    let _ = handle.snapshot();
}

pub fn budget(config: retry::BudgetConfig) {
    let budget = never(retry::Budget::try_new(config));
    drive(|n| {
        budget.deposit();
        let _ = (budget.withdraw(), budget.available());
        std::future::ready(n)
    });
}

pub fn cache(config: fallback::CacheConfig) {
    let strategy = never(Fallback::try_cached(config, |n: &u32| Some(n % 11)));
    let layer = fallback::FallbackLayer::new(fallback::Handle::new("x"), strategy);
    let mut service = layer.layer(service_fn(answer));
    drive(|n| service.call(n));
}

pub fn tenants(config: keyed::Config<Tenant, breaker::Config>) {
    let handle = never(keyed::Handle::<Tenant, breaker::Handle>::try_new("x", config.clone()));
    drive(|n| {
        let breaker = handle.get(format!("tenant-{}", n % 9).as_str());
        async move { breaker.run(inner(n)).await }
    });
    never(handle.reconfigure(config));
    let _ = (handle.snapshot(), handle.listing(), handle.memory(), handle.sweep());
}

pub fn operations(config: keyed::Config<Operation, rate_limit::Config>) {
    let handle = never(keyed::Handle::<Operation, rate_limit::Handle>::try_new("x", config.clone()));
    drive(|n| {
        let limit = handle.get(format!("operation-{}", n % 9).as_str());
        async move { limit.run(inner(n)).await }
    });
    never(handle.reconfigure(config));
    let _ = (handle.snapshot(), handle.listing(), handle.memory(), handle.sweep());
}

pub fn levels(config: keyed::LevelsConfig) {
    let levels = never(keyed::Levels::try_new("x", config.clone()));
    drive(|n| {
        let (tenant, operation) = (format!("t{}", n % 9), format!("o{}", n % 5));
        let acquire = levels.acquire(tenant.as_str(), operation.as_str());
        async move {
            let permit = acquire.await;
            let _ = inner(n).await;
            drop(permit);
        }
    });
    never(levels.reconfigure(config));
    let _ = levels.snapshot();
}

pub fn stack(config: stack::Config) {
    let stack = never(config.builder("x").try_build());
    let mut service = stack.service(service_fn(answer));
    drive(|n| match n % 2 {
        0 => futures(Some(service.call(n)), None),
        _ => futures(None, Some(stack.run(move || inner(n)))),
    });
    let _ = stack.snapshot();
}

/// One of two.
async fn futures<A: Future, B: Future>(one: Option<A>, other: Option<B>) {
    if let Some(one) = one {
        one.await;
    }
    if let Some(other) = other {
        other.await;
    }
}

pub fn instance(id: u16) -> Instance {
    never(Instance::new("users", &format!("users-{id}"), "10.0.0.7", id))
}

pub fn balance(config: balance::Config) {
    let handle = never(balance::Handle::try_new("x", config.clone()));
    for id in 1..=7 {
        handle.insert(instance(id).into(), service_fn(answer));
    }
    let (mut ewma, mut weighted) =
        (balance::Balance::new(&handle, balance::PeakEwma), balance::Balance::new(&handle, balance::Weighted::new()));
    drive(|n| match n % 2 {
        0 => futures(Some(ewma.call(n)), None),
        _ => futures(None, Some(weighted.call(n))),
    });
    never(handle.reconfigure(config));
    let _ = handle.snapshot();
}

pub fn client(config: client::Config) {
    in_runtime(async {
        let discovery = InMemory::new();
        for id in 1..=3 {
            let _ = discovery.register(instance(id), Duration::from_secs(1)).await;
        }
        let transport = service_fn(async |_: Instance| Ok::<_, Infallible>(AnyMethod(service_fn(answer))));
        let client: Client<u32, u32, Error<Broken>> =
            never(Client::builder(discovery, transport).config(config).try_build());
        for n in 0..CALLS {
            let mut call = pin!(client.call("users", "get", n));
            if poll(call.as_mut()).is_pending() {
                tokio::task::yield_now().await;
                let _ = poll(call);
            }
            if n % 10 == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        let _ = (client.snapshot("users"), client.metrics("users"), client.health("users"));
    });
}

pub fn isolation(config: isolation::Config) {
    let manager = IsolationManager::<u32, u32, Error<Broken>>::new();
    let fallback = FallbackConfig::new(Fallback::value(0));
    never(
        manager
            .register_with("users", AnyMethod(service_fn(answer)), config, fallback)
            .map_err(|error| error.to_string()),
    );
    drive(|n| manager.execute("users", "get", n));
    let _ = (manager.info("users"), manager.list(), manager.stats());
}

pub fn discovery(config: discovery::Config) {
    let name = never(ServiceName::new("users"));
    in_runtime(async {
        let backend = never(InMemory::try_with(config.clone()));
        let mut watch = never(backend.watch(&name).await);
        let publisher = never(discovery::Publisher::try_new(name.clone(), config));
        for n in 0..CALLS {
            let id = (n % 5 + 1) as u16;
            if let Ok(lease) = backend.register(instance(id), Duration::from_secs(1)).await {
                let _ = backend.heartbeat(&lease).await;
            }
            publisher.put(instance(id));
            publisher.fail("a fault");
            publisher.publish([]);
            publisher.remove(&never(InstanceId::new("users-1")));
            tokio::time::advance(Duration::from_millis(700)).await;
            while watch.try_next().is_some() {}
        }
        let _ = (backend.snapshot(), publisher.snapshot());
    });
}

pub fn health_checks(config: discovery::health::Config) {
    let name = never(ServiceName::new("users"));
    in_runtime(async {
        let backend = InMemory::new();
        let asked = service_fn(async |_| answer(1).await);
        let checked = never(discovery::health::Checked::try_new(backend, asked, |_: &u32| contract_health(), config));
        let mut watch = never(checked.watch(&name).await);
        let _ = checked.inner().register(instance(1), Duration::from_secs(3_600)).await;
        for _ in 0..CALLS {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            while watch.try_next().is_some() {}
        }
        let _ = checked.snapshot();
    });
}

fn contract_health() -> mainstay::contract::Health {
    mainstay::contract::Health::healthy()
}

pub fn one_instance(instance: Instance) {
    let authority = instance.authority();
    assert!(authority.ends_with(&format!(":{}", instance.port())) && !authority.contains(char::is_control));
    let handle = balance::Handle::new("x", balance::Config::new());
    handle.insert(instance.into(), service_fn(answer));
    let mut service = balance::Balance::new(&handle, balance::Weighted::new());
    drive(|n| service.call(n));
}
