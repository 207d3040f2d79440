//! The fleet: two services, and everything of mainstay that calls them.

use std::{collections::BTreeMap, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use mainstay::{
    BoxError, Error,
    balance::{self, Outlier},
    breaker,
    client::{Client, Config, PickBy, ServiceSnapshot},
    contract::{Invocation, ServiceName},
    discovery::{Change, Discovery, InMemory, Update},
    fallback::Fallback,
    http::{HttpTransport, TransportError, error_kind},
    isolation::{self, FallbackConfig, IsolationManager, Level, ServiceInfo},
    stack,
};
use tower::{ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use crate::{
    server::{Mode, Server},
    timeline::Timeline,
};

/// What is asked: the number of a call.
pub type Ask = u32;

/// What a caller gets: the name of the instance that answered, or `fallback`.
pub type Page = String;

/// Whatever answers callers.
pub type Front = BoxCloneSyncService<Invocation<Ask>, Page, BoxError>;

type HttpClient = Client<Request<Empty<Bytes>>, Response<Incoming>, Error<TransportError>>;

pub struct Fleet {
    discovery: InMemory,
    client: HttpClient,
    manager: IsolationManager<Ask, Page, BoxError>,
    servers: Vec<Server>,
    // What those that are gone had got.
    gone: BTreeMap<String, u64>,
}

/// What a client does with either service: short limits, two more attempts elsewhere, and an instance that fails three
/// times in a row is left alone.
fn settings(pick_by: PickBy) -> Config {
    let mut policies = stack::Config::http_client();
    policies.timeout = Some(Duration::from_secs(1));
    policies.attempt_timeout = Some(Duration::from_millis(400));
    policies.breaker = None;
    let outlier = Outlier::new()
        .consecutive_failures(3)
        .max_ejected(0.5)
        .eject_for(Duration::from_secs(2))
        .interval(Duration::from_secs(1));
    Config::new().stack(policies).balance(balance::Config::new().outlier(outlier)).pick_by(pick_by)
}

impl Fleet {
    /// Starts three instances of each service, and what calls them.
    pub async fn open(timeline: &Timeline) -> Result<Self, BoxError> {
        let discovery = InMemory::new();
        let mut servers = Vec::new();
        for id in ["users-1", "users-2", "users-3", "orders-1", "orders-2", "orders-3"] {
            servers.push(Server::start(&discovery, service_of(id), id).await?);
        }
        for service in ["users", "orders"] {
            tokio::spawn(follow(discovery.clone(), ServiceName::new(service)?, timeline.clone()));
        }
        let heard = timeline.clone();
        let client = Client::http(discovery.clone(), HttpTransport::new())
            .service("users", settings(PickBy::PeakEwma))
            .service("orders", settings(PickBy::LeastLoaded))
            .observe(move |event: &mainstay::observe::Event<'_>| heard.hear(event))
            .build()
            .error_kind(error_kind);
        let manager = IsolationManager::new();
        let fallback = FallbackConfig::new(Fallback::with(|_: &BoxError| "fallback".to_owned())).max_retries(0);
        let breaker = breaker::Config::new().open_for(Duration::from_millis(500));
        let isolated = isolation::Config::new().level(Level::None).breaker(breaker);
        manager.register_with("orders", front(&client, "orders")?, isolated, fallback)?;
        let heard = timeline.clone();
        manager.observe(move |event: &mainstay::observe::Event<'_>| heard.hear(event));
        Ok(Self { discovery, client, manager, servers, gone: BTreeMap::new() })
    }

    /// Callers of users call the client.
    pub fn users(&self) -> Result<Front, BoxError> {
        front(&self.client, "users")
    }

    /// Callers of orders call the isolation manager, which calls the client.
    pub fn orders(&self) -> Result<Front, BoxError> {
        Ok(BoxCloneSyncService::new(self.manager.service("orders")?))
    }

    pub async fn start(&mut self, id: &str) -> Result<(), BoxError> {
        self.servers.push(Server::start(&self.discovery, service_of(id), id).await?);
        Ok(())
    }

    pub async fn kill(&mut self, id: &str) {
        if let Some(server) = self.take(id) {
            self.gone.insert(id.to_owned(), server.kill().await);
        }
    }

    pub async fn stop(&mut self, id: &str) -> Result<(), BoxError> {
        if let Some(server) = self.take(id) {
            self.gone.insert(id.to_owned(), server.stop().await?);
        }
        Ok(())
    }

    fn take(&mut self, id: &str) -> Option<Server> {
        let at = self.servers.iter().position(|server| server.id() == id)?;
        Some(self.servers.swap_remove(at))
    }

    pub fn set(&self, whom: impl Fn(&Server) -> bool, mode: Mode) {
        self.servers.iter().filter(|server| whom(server)).for_each(|server| server.set(mode));
    }

    pub fn set_level(&self, level: Level) -> Result<(), BoxError> {
        self.manager.set_level("orders", level)?;
        Ok(())
    }

    /// How many calls each instance of a service has got, as the instances themselves counted.
    pub fn calls(&self, service: &str) -> BTreeMap<String, u64> {
        let living = self.servers.iter().map(|server| (server.id().to_owned(), server.calls()));
        let all = self.gone.clone().into_iter().chain(living);
        all.filter(|(id, _)| service_of(id) == service).collect()
    }

    pub fn snapshot(&self, service: &str) -> Option<ServiceSnapshot> {
        self.client.snapshot(service)
    }

    pub fn isolated(&self) -> Result<ServiceInfo, BoxError> {
        Ok(self.manager.info("orders")?)
    }
}

fn service_of(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

/// A service of the client, as callers see it: a number goes in, the name of who answered comes out.
fn front(client: &HttpClient, service: &str) -> Result<Front, BoxError> {
    let caller = client.service(service)?;
    let asked = |call: Invocation<Ask>| {
        let request = Request::get(format!("/{}/{}", call.method, call.request)).body(Empty::new());
        Invocation::new(call.method, request.expect("a path of plain characters"))
    };
    let pages = ServiceBuilder::new()
        .map_request(asked)
        .map_err(|error: Error<TransportError>| BoxError::from(error))
        .service(caller)
        .and_then(read);
    Ok(BoxCloneSyncService::new(pages))
}

async fn read(response: Response<Incoming>) -> Result<Page, BoxError> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    match status {
        StatusCode::OK => Ok(String::from_utf8_lossy(&body).into_owned()),
        status => Err(format!("status {status}").into()),
    }
}

/// Tells who comes and goes.
async fn follow(discovery: InMemory, service: ServiceName, timeline: Timeline) {
    let Ok(mut watch) = discovery.watch(&service).await else { return };
    drop(discovery);
    while let Some(update) = watch.next().await {
        if let Update::Event(event) = update {
            match event.change {
                Change::Added(instance) => timeline.tell(format!("  {} is in discovery", instance.id())),
                Change::Removed(instance, why) => timeline.tell(format!("  {} left discovery: {why}", instance.id())),
                _ => {}
            }
        }
    }
}
