//! All the servers behind the gateway, and whose turn it is.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use mainstay::{
    Error, Stack,
    http::{StatusClassify, StreamedBody},
};
use tower::{Service, ServiceExt};

use crate::{
    body::Upload,
    upstream::{Failure, FromServer, Held, Turn, Upstream},
};

/// What came from a server, on its way through the breaker that judges it at its end.
pub type Judged = StreamedBody<FromServer, Held, StatusClassify>;

/// Sends each request to the next server that lets it in.
#[derive(Clone)]
pub struct Pool(Arc<Turns>);

struct Turns {
    // At least one.
    upstreams: Vec<Upstream>,
    next: AtomicUsize,
}

impl Pool {
    pub fn new(upstreams: Vec<Upstream>) -> Self {
        Self(Arc::new(Turns { upstreams, next: AtomicUsize::new(0) }))
    }

    /// What protects each server.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        self.0.upstreams.iter().map(|upstream| &upstream.stack)
    }
}

type Answer = Result<Response<Judged>, Error<Failure>>;

impl Service<Request<Upload>> for Pool {
    type Response = Response<Judged>;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Upload>) -> Self::Future {
        let turns = Arc::clone(&self.0);
        Box::pin(async move { turns.send(request).await })
    }
}

impl Turns {
    async fn send(&self, request: Request<Upload>) -> Answer {
        let mut request = Some(request);
        let mut refusals = Vec::new();
        for upstream in self.in_turn() {
            let place = match upstream.stack.bulkhead() {
                Some(bulkhead) => match bulkhead.acquire().await {
                    Ok(place) => Some(place),
                    Err(rejection) => {
                        refusals.push(rejection);
                        continue;
                    }
                },
                None => None,
            };
            let mut service = upstream.service.clone();
            match service.ready().await?.call(Turn { request: &mut request, place }).await {
                // Still ours: the breaker turned the call away, which happens to a circuit that is trying again too.
                Err(Error::Rejected(rejection)) if request.is_some() => refusals.push(rejection),
                answer => return answer,
            }
        }
        let soonest = refusals.into_iter().min_by_key(|refusal| refusal.retry_after().unwrap_or(Duration::MAX));
        Err(Error::Rejected(soonest.expect("there is at least one server, and each turned the call away")))
    }

    /// All servers, the one whose turn it is first. Those with an open circuit come last: they are only asked so that
    /// the client can be told when to come back.
    fn in_turn(&self) -> Vec<&Upstream> {
        let count = self.upstreams.len();
        let first = self.next.fetch_add(1, Relaxed) % count;
        let (after, before) = (&self.upstreams[first..], &self.upstreams[..first]);
        let mut turn: Vec<_> = after.iter().chain(before).collect();
        if count > 1 {
            turn.sort_by_cached_key(|upstream| upstream.is_open());
        }
        turn
    }
}
