//! One server behind the gateway: a call to it, and the breaker around its calls. This is where mainstay comes in.

use std::{
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
    ConfigError, Error, Name, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Config, Handle},
    http::{StatusClassify, Streamed},
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use crate::{
    args::Limits,
    body::{Download, Pace, Upload},
    headers,
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

/// A server behind its breaker.
#[derive(Clone)]
pub struct Upstream {
    pub breaker: Handle,
    pub service: Streamed<Forward, Handle, StatusClassify>,
}

/// The settings of each breaker. A busy server is judged by its rate, one with few calls by what fails in a row.
fn settings(limits: Limits) -> Config {
    Config::new()
        .time_window(Duration::from_secs(10))
        .minimum_calls(20)
        .failure_rate(0.5)
        .consecutive_failures(10)
        .open_for(Duration::from_secs(1))
        .open_growth(2.0, Duration::from_secs(30))
        .open_jitter(0.2)
        .honor_retry_after(Duration::from_secs(30))
        // A reader who leaves after the server has been silent for so long in the middle of its answer tells of a
        // failure.
        .count_cancelled_after(limits.head)
        // Longer than a probe can take until it fails by itself, or its failure would come too late to count.
        .half_open_for(limits.head + Duration::from_secs(1))
}

impl Upstream {
    pub fn new(client: Client, to: Authority, limits: Limits) -> Result<Self, ConfigError> {
        let breaker = Handle::try_new(&name_of(&to), settings(limits))?;
        let host = HeaderValue::from_str(to.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
        let forward = Forward(Arc::new(Route { client, to, host, name: breaker.name().clone(), limits }));
        // The time limit is in the service, inside the breaker: a call that runs into it is a failure of the server.
        let layer = CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end();
        Ok(Self { service: layer.layer(forward), breaker })
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

/// Calls one server. The request is taken out of the caller's hands only when the breaker lets the call in; so one that
/// is turned away can still go to another server.
#[derive(Clone)]
pub struct Forward(Arc<Route>);

struct Route {
    client: Client,
    to: Authority,
    host: HeaderValue,
    name: Name,
    limits: Limits,
}

type Answer = Result<Response<FromServer>, Error<Failure>>;

impl Service<&mut Option<Request<Upload>>> for Forward {
    type Response = Response<FromServer>;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &mut Option<Request<Upload>>) -> Self::Future {
        let request = request.take().expect("a request is sent to one server only");
        let route = Arc::clone(&self.0);
        Box::pin(async move { route.send(request).await })
    }
}

/// How the wait for the head of an answer ends.
enum Head {
    Came(Result<Response<Incoming>, legacy::Error>),
    ServerLate,
    ClientLate,
}

impl Route {
    async fn send(&self, mut request: Request<Upload>) -> Answer {
        let pace = request.body().pace();
        let Some(uri) = self.address(request.uri()) else { return Ok(refusal(StatusCode::BAD_REQUEST)) };
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, self.host.clone());
        match self.head(request, &pace).await {
            Head::Came(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Error::Inner(Failure::Switched))
            }
            Head::Came(Ok(response)) => Ok(self.receive(response)),
            // Not the server's failure, and 4xx says so to the breaker. Hardly anyone will read it.
            Head::Came(Err(_)) if pace.client_failed() => Ok(refusal(StatusCode::BAD_REQUEST)),
            Head::Came(Err(error)) => Err(Error::Inner(error.into())),
            Head::ClientLate => Ok(refusal(StatusCode::REQUEST_TIMEOUT)),
            Head::ServerLate => Err(Error::Rejected(Rejection::new(Reason::TimedOut, self.name.clone()))),
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
        let mut limit = pin!(sleep(self.limits.head));
        loop {
            tokio::select! {
                biased;
                result = &mut call => return Head::Came(result),
                () = pace.moved() => limit.as_mut().reset(Instant::now() + self.limits.head),
                () = &mut limit => return if pace.awaits_client() { Head::ClientLate } else { Head::ServerLate },
            }
        }
    }

    fn receive(&self, response: Response<Incoming>) -> Response<FromServer> {
        let (mut head, body) = response.into_parts();
        headers::prepare_response(&mut head);
        Response::from_parts(head, Either::Left(Download::new(body, self.limits.idle)))
    }
}

/// What the client gets when it is its own fault.
fn refusal(status: StatusCode) -> Response<FromServer> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
}
