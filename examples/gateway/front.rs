//! What the clients talk to.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Waker},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use mainstay::{
    BoxError, ConfigError,
    fallback::NoFallback,
    http::{HttpRules, HttpStack, Idempotent, ReplayBodies, ReplayBodyLayer, Respond, RespondBody, RespondLayer},
    stack::{Hook, StackService},
};
use tower::{Layer, Service};

use crate::{
    headers, health,
    pool::{Judged, Pool},
    route::Failure,
    settings::Settings,
};

pub type Answer<B> = Result<Response<B>, Infallible>;

/// Whoever answers the clients, with mainstay or without.
pub trait Answers: Clone + Send + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;

    /// One for a connection, whose calls come one after the other.
    fn of_connection(&self) -> Self;

    fn answer(self, client: IpAddr, request: Request<Incoming>) -> impl Future<Output = Answer<Self::Body>> + Send;
}

type Protected = StackService<Pool, HttpRules, NoFallback, Hook<Idempotent>>;

/// What came through the pool, or what the gateway says itself.
pub type ToClient = Either<RespondBody<Judged>, Full<Bytes>>;

/// Answers every request of a connection: by itself, or with what a server says.
///
/// A connection has a service of its own, which all its calls go through: a clone for each call would count references
/// that all threads write, and not stay long enough to have a count of its own.
#[derive(Clone)]
pub struct Front {
    service: Arc<Mutex<Guarded>>,
    eyes: Arc<Eyes>,
}

// Rejections are responses from here on: 503 with `Retry-After` for an open circuit, 504 for a call that took too long.
type Guarded = Respond<ReplayBodies<Protected>>;

/// What the report of health looks at.
struct Eyes {
    pool: Pool,
    stack: HttpStack,
    tells_all: bool,
}

impl Front {
    /// The stack of all servers stands in front of the pool, so that another attempt goes to the next server.
    pub fn new(pool: Pool, settings: &Settings) -> Result<Self, ConfigError> {
        let stack = settings.all.clone().builder("gateway").http().try_build()?;
        let service = RespondLayer::new().layer(ReplayBodyLayer::default().layer(stack.service(pool.clone())));
        Ok(Self {
            service: Arc::new(Mutex::new(service)),
            eyes: Arc::new(Eyes { pool, stack, tells_all: settings.from_file }),
        })
    }

    fn call(&self, request: Request<Incoming>) -> <Guarded as Service<Request<Incoming>>>::Future {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        // Never pending, and no error: what may be full stands in front of each server, behind the pool.
        let _ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        service.call(request)
    }
}

impl Eyes {
    fn health(&self) -> Response<Bytes> {
        health::report(self.tells_all.then(|| self.stack.snapshot()), self.pool.upstreams())
    }
}

impl Answers for Front {
    type Body = ToClient;

    fn of_connection(&self) -> Self {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { service: Arc::new(Mutex::new(service)), eyes: Arc::clone(&self.eyes) }
    }

    async fn answer(self, client: IpAddr, mut request: Request<Incoming>) -> Answer<ToClient> {
        if let Some(own) = own_answer(&request, || self.eyes.health()) {
            return Ok(own.map(|body| Either::Right(Full::new(body))));
        }
        headers::prepare_request(&mut request, client);
        Ok(match self.call(request).await {
            Ok(response) => response.map(Either::Left),
            Err(failure) => bad_gateway(&failure).map(|body| Either::Right(Full::new(body))),
        })
    }
}

/// What needs no server.
pub fn own_answer(request: &Request<Incoming>, health: impl FnOnce() -> Response<Bytes>) -> Option<Response<Bytes>> {
    match (request.method(), request.uri().path()) {
        // A tunnel cannot be judged, and this is no proxy for the whole world.
        (&Method::CONNECT, _) => Some(only("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
        (&Method::GET | &Method::HEAD, health::PATH) => Some(health()),
        (_, health::PATH) => Some(only("GET, HEAD")),
        _ => None,
    }
}

/// This method is none of those there are.
fn only(allowed: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The server could not be reached, or broke off. Which one it was is nobody's business out there.
pub fn bad_gateway(failure: &Failure) -> Response<Bytes> {
    let body: &[u8] = match failure {
        Failure::Call(error) if error.is_connect() => br#"{"error":"connect_failed"}"#,
        Failure::Call(_) | Failure::Switched => br#"{"error":"bad_answer"}"#,
    };
    let mut response = Response::new(Bytes::from_static(body));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
