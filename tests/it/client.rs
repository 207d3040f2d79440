//! The client: calls by name over instances that come, go and fail.

mod calls;
mod config;
mod edges;
mod life;
mod metrics;
mod retries;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    Error,
    client::{Client, ClientBuilder, Config},
    contract::{Instance, Invocation, ServiceName},
    discovery::{Discovery, InMemory, Lease},
    retry::{self, Backoff},
    stack,
};
use tower::Service;

use crate::support::Boom;

pub(crate) type Failure = Error<Boom>;
pub(crate) type Users = Client<u32, String, Failure>;

/// What an instance does with its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    #[default]
    Well,
    Fails,
    Takes(Duration),
    Hangs,
    Panics,
}

/// All instances there are, by their addresses: what they do, and what they have got.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<BTreeMap<String, Host>>>);

#[derive(Debug, Default)]
struct Host {
    mode: Mode,
    calls: Vec<(String, u32)>,
    running: usize,
    made: usize,
}

impl World {
    pub(crate) fn set(&self, host: &str, mode: Mode) {
        self.0.lock().unwrap().entry(host.to_owned()).or_default().mode = mode;
    }

    pub(crate) fn calls(&self, host: &str) -> usize {
        self.0.lock().unwrap().get(host).map_or(0, |host| host.calls.len())
    }

    pub(crate) fn methods(&self, host: &str) -> Vec<String> {
        self.0.lock().unwrap()[host].calls.iter().map(|(method, _)| method.clone()).collect()
    }

    pub(crate) fn made(&self, host: &str) -> usize {
        self.0.lock().unwrap().get(host).map_or(0, |host| host.made)
    }

    pub(crate) fn running(&self) -> usize {
        self.0.lock().unwrap().values().map(|host| host.running).sum()
    }

    pub(crate) fn all_calls(&self) -> usize {
        self.0.lock().unwrap().values().map(|host| host.calls.len()).sum()
    }
}

/// The transport: one for each instance, by its host.
impl Service<Instance> for World {
    type Response = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        let host = instance.host().to_owned();
        self.0.lock().unwrap().entry(host.clone()).or_default().made += 1;
        ready(Ok(Wire { world: self.clone(), host }))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Wire {
    world: World,
    host: String,
}

/// Counts a call that runs.
struct Running(Wire);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.world.0.lock().unwrap().get_mut(&self.0.host).unwrap().running -= 1;
    }
}

impl Service<Invocation<u32>> for Wire {
    type Response = String;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Invocation<u32>) -> Self::Future {
        let mode = {
            let mut world = self.world.0.lock().unwrap();
            let host = world.entry(self.host.clone()).or_default();
            host.calls.push((call.method.as_str().to_owned(), call.request));
            host.running += 1;
            host.mode
        };
        let running = Running(self.clone());
        Box::pin(async move {
            let answer = format!("{} from {}", call.request, running.0.host);
            match mode {
                Mode::Well => Ok(answer),
                Mode::Fails => Err(Error::Inner(Boom)),
                Mode::Takes(time) => {
                    tokio::time::sleep(time).await;
                    Ok(answer)
                }
                Mode::Hangs => std::future::pending().await,
                Mode::Panics => panic!("the service panics"),
            }
        })
    }
}

/// Registers an instance whose host is its id.
pub(crate) async fn register(discovery: &InMemory, service: &str, id: &str) -> Lease {
    let instance = Instance::new(service, id, id, 80).unwrap();
    discovery.register(instance, Duration::from_secs(3_600)).await.unwrap()
}

pub(crate) async fn fleet(ids: &[&str]) -> (InMemory, World) {
    let discovery = InMemory::new();
    for id in ids {
        register(&discovery, "users", id).await;
    }
    (discovery, World::default())
}

/// Three attempts without waits, and no other limits.
pub(crate) fn tries(attempts: u32) -> Config {
    let mut policies = stack::Config::new();
    policies.retry = Some(retry::Config::new().attempts(attempts).backoff(Backoff::fixed(Duration::ZERO)).no_budget());
    Config::new().stack(policies)
}

pub(crate) fn builder(discovery: &InMemory, world: &World) -> ClientBuilder<InMemory, World> {
    Client::builder(discovery.clone(), world.clone())
}

pub(crate) fn users(discovery: &InMemory, world: &World, config: Config) -> Users {
    builder(discovery, world).config(config).build()
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// Lets all tasks run as far as they get.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
