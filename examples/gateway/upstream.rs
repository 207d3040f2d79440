//! One server behind the gateway: a call to it, and what protects it. This is where mainstay comes in.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use mainstay::{
    ConfigError, Error, Rejection, Stack,
    admission::AdmissionLayer,
    breaker::{self, State},
    bulkhead::Permit,
    concurrency,
    http::{StatusClassify, Streamed},
    timeout,
};
use tower::{Layer, Service};

use crate::{
    body::{Download, Pace, Upload},
    headers, report,
    settings::Settings,
};

pub type Client = legacy::Client<HttpConnector, Upload>;

/// What comes from a server, or what we say in its place because of the client.
pub type FromServer = Either<Download, Full<Bytes>>;

/// Why there is no answer, when nobody turned the call away.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the call failed")]
    Call(#[from] legacy::Error),
    #[error("the server switched protocols without being asked to")]
    Switched,
}

/// What lets a call in, and holds it until the end of its answer. An adaptive limit queues nobody; the bulkhead does,
/// and so is asked by the [pool](crate::pool), which can wait.
pub type Held = (Option<breaker::Handle>, Option<concurrency::Handle>);

/// A server behind its policies.
#[derive(Clone)]
pub struct Upstream {
    /// All its policies. Calls do not go through it: it judges an answer by its head, and a server that breaks off in
    /// the middle of one has failed. So its handles stand in layers that see bodies to their end.
    pub stack: Stack,
    pub service: Streamed<Forward, Held, StatusClassify>,
}

impl Upstream {
    pub fn new(client: Client, to: Authority, settings: &Settings) -> Result<Self, ConfigError> {
        let stack = settings.server.clone().builder(&name_of(&to)).try_build()?;
        stack.observe(report::transitions);
        let host = HeaderValue::from_str(to.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
        let limit = stack.attempt_timeout().cloned();
        let forward = Forward(Arc::new(Route { client, to, host, limit, idle: settings.idle }));
        // The time limit is in the service, inside the breaker: a call that runs into it is a failure of the server.
        let held = (stack.breaker().cloned(), stack.concurrency().cloned());
        let layer = AdmissionLayer::new(held).classify(StatusClassify::new()).until_body_end();
        Ok(Self { service: layer.layer(forward), stack })
    }

    /// Whether its circuit lets no call in at all.
    pub fn is_open(&self) -> bool {
        self.stack.breaker().is_some_and(|breaker| matches!(breaker.state(), State::Open | State::ForcedOpen))
    }
}

/// The host and port, in the alphabet of names: an IPv6 address loses its brackets, and `::1` is as good as `0::1`. Of
/// a host that is too long for a name the end is kept.
fn name_of(to: &Authority) -> String {
    let host = to.host().trim_start_matches('[').trim_end_matches(']');
    let zero = if host.starts_with(':') { "0" } else { "" };
    let name = format!("{zero}{host}:{}", to.port_u16().unwrap_or(80));
    let end = name.get(name.len().saturating_sub(64)..).unwrap_or(&name);
    end.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// A call to one server: the request, and the place in the server's bulkhead if it has one.
pub struct Turn<'a> {
    pub request: &'a mut Option<Request<Upload>>,
    pub place: Option<Permit>,
}

/// Calls one server. The request is taken out of the caller's hands only when the breaker lets the call in; so one that
/// is turned away can still go to another server.
#[derive(Clone)]
pub struct Forward(Arc<Route>);

struct Route {
    client: Client,
    to: Authority,
    host: HeaderValue,
    limit: Option<timeout::Handle>,
    idle: Duration,
}

type Answer = Result<Response<FromServer>, Error<Failure>>;

impl Service<Turn<'_>> for Forward {
    type Response = Response<FromServer>;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Turn { request, place }: Turn<'_>) -> Self::Future {
        let request = request.take().expect("a request is sent to one server only");
        let route = Arc::clone(&self.0);
        Box::pin(async move { route.send(request, place).await })
    }
}

/// How the wait for the head of an answer ends.
enum Head {
    Came(Result<Response<Incoming>, legacy::Error>),
    ServerLate(Rejection),
    ClientLate,
}

impl Route {
    async fn send(&self, mut request: Request<Upload>, place: Option<Permit>) -> Answer {
        let (pace, _underway) = (request.body().pace(), request.body_mut().source().begin());
        let Some(uri) = self.address(request.uri()) else { return Ok(refusal(StatusCode::BAD_REQUEST)) };
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, self.host.clone());
        match self.head(request, &pace).await {
            Head::Came(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Error::Inner(Failure::Switched))
            }
            Head::Came(Ok(response)) => Ok(self.receive(response, place)),
            // Not the server's failure, and 4xx says so to the breaker. Hardly anyone will read it.
            Head::Came(Err(_)) if pace.client_failed() => Ok(refusal(StatusCode::BAD_REQUEST)),
            Head::Came(Err(error)) => Err(Error::Inner(error.into())),
            Head::ClientLate => Ok(refusal(StatusCode::REQUEST_TIMEOUT)),
            Head::ServerLate(rejection) => Err(Error::Rejected(rejection)),
        }
    }

    /// Where to ask for what the client asked for.
    fn address(&self, asked: &Uri) -> Option<Uri> {
        let path = asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Uri::builder().scheme(Scheme::HTTP).authority(self.to.clone()).path_and_query(path).build().ok()
    }

    /// Waits for the head of the answer. The time that counts is the time in which the request does not move on.
    async fn head(&self, request: Request<Upload>, pace: &Pace) -> Head {
        let mut call = pin!(self.client.request(request));
        loop {
            let step = async {
                tokio::select! {
                    biased;
                    result = &mut call => Some(result),
                    () = pace.moved() => None,
                }
            };
            let limited = match &self.limit {
                Some(limit) => limit.run(async { Ok::<_, Infallible>(step.await) }).await,
                None => Ok(step.await),
            };
            match limited {
                Ok(Some(result)) => return Head::Came(result),
                Ok(None) => {}
                Err(Error::Rejected(_)) if pace.awaits_client() => return Head::ClientLate,
                Err(Error::Rejected(rejection)) => return Head::ServerLate(rejection),
                Err(Error::Inner(never)) => match never {},
            }
        }
    }

    fn receive(&self, response: Response<Incoming>, place: Option<Permit>) -> Response<FromServer> {
        let (mut head, body) = response.into_parts();
        headers::prepare_response(&mut head);
        Response::from_parts(head, Either::Left(Download::new(body, self.idle, place)))
    }
}

/// What the client gets when it is its own fault.
fn refusal(status: StatusCode) -> Response<FromServer> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
}
