//! One server behind the gateway: a call to it, and what protects it. This is where mainstay comes in.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, uri::Authority};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, ResponseFuture};
use mainstay::{
    ConfigError, Error, Rejection, Stack,
    breaker::State,
    fallback::NoFallback,
    http::{StatusClassify, StreamedStack},
    retry::Classified,
    stack::{Hook, Once, Snapshot},
    timeout,
};
use tower::{Layer, Service};

use crate::{
    body::{FromClient, Pace},
    report,
    route::{Client, Failure, FromServer, Route, refusal},
    settings::Settings,
};

/// What decides about the calls to one server. None is sent twice here: another attempt goes to another server.
pub type Guard = Stack<Rule, NoFallback, Hook<Once>>;

/// What the answer of a server means.
pub type Rule = Classified<StatusClassify>;

/// A server behind its policies.
#[derive(Clone)]
pub struct Upstream {
    pub stack: Guard,
    pub service: StreamedStack<Forward, Rule, NoFallback, Hook<Once>>,
    limit: timeout::Handle,
}

impl Upstream {
    pub fn new(client: Client<FromClient>, to: Authority, settings: &Settings) -> Result<Self, ConfigError> {
        let name = name_of(&to);
        let stack = settings.server.clone().builder(&name).classify(StatusClassify::new()).once().try_build()?;
        stack.observe(report::transitions);
        let limit = timeout::Handle::try_new(&name, settings.head)?;
        // The time limit is in the service: a call that runs into it is a failure of the server, and only the service
        // knows whether it is the client who is late.
        let forward = Forward(Arc::new(Limited { route: Route::new(client, to, settings.idle), limit: limit.clone() }));
        Ok(Self { service: stack.until_body_end().layer(forward), stack, limit })
    }

    /// Whether its circuit lets no call in at all.
    pub fn is_open(&self) -> bool {
        self.stack.breaker().is_some_and(|breaker| matches!(breaker.state(), State::Open | State::ForcedOpen))
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.stack.snapshot();
        snapshot.attempt_timeout = Some(self.limit.snapshot());
        snapshot
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

/// Calls one server. The request is taken out of the caller's hands only when the call is let in; so one that
/// is turned away can still go to another server.
#[derive(Clone)]
pub struct Forward(Arc<Limited>);

struct Limited {
    route: Route<FromClient>,
    limit: timeout::Handle,
}

type Answer = Result<Response<FromServer>, Error<Failure>>;

impl Service<&mut Option<Request<FromClient>>> for Forward {
    type Response = Response<FromServer>;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &mut Option<Request<FromClient>>) -> Self::Future {
        let request = request.take().expect("a request is sent to one server only");
        // Handed over here and not in the future, which would be as large as the request, and be moved.
        let called = self.0.route.call(request);
        let limited = Arc::clone(&self.0);
        Box::pin(async move {
            let Some((mut call, pace)) = called else { return Ok(refusal(StatusCode::BAD_REQUEST)) };
            match limited.head(&mut call, &pace).await {
                Head::Came(result) => limited.route.answer(result, &pace).map_err(Error::Inner),
                Head::ClientLate => Ok(refusal(StatusCode::REQUEST_TIMEOUT)),
                Head::ServerLate(rejection) => Err(Error::Rejected(rejection)),
            }
        })
    }
}

/// How the wait for the head of an answer ends.
enum Head {
    Came(Result<Response<Incoming>, legacy::Error>),
    ServerLate(Rejection),
    ClientLate,
}

impl Limited {
    /// Waits for the head of the answer. The time that counts is the time in which the request does not move on.
    async fn head(&self, call: &mut ResponseFuture, pace: &Pace) -> Head {
        let mut came = None;
        loop {
            let mut moved = pin!(pace.moved());
            // What came stays where it is, and is not handed from future to future.
            let step = poll_fn(|cx| {
                if let Poll::Ready(result) = Pin::new(&mut *call).poll(cx) {
                    came = Some(result);
                    return Poll::Ready(Ok::<_, Infallible>(()));
                }
                if pace.streams() { moved.as_mut().poll(cx).map(Ok) } else { Poll::Pending }
            });
            match (self.limit.run(step).await, came.take()) {
                (_, Some(result)) => return Head::Came(result),
                (Ok(()), None) => {}
                (Err(Error::Rejected(_)), None) if pace.awaits_client() => return Head::ClientLate,
                (Err(Error::Rejected(rejection)), None) => return Head::ServerLate(rejection),
                (Err(Error::Inner(never)), None) => match never {},
            }
        }
    }
}
