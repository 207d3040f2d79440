//! All the servers behind the gateway, and whose turn it is.

use std::{
    future::Future,
    iter,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use mainstay::{Error, http::StackBody};
use tower::{Service, ServiceExt};

use crate::{
    body::FromClient,
    route::{Failure, FromServer},
    upstream::{Rule, Upstream},
};

/// What came from a server, on its way through the breaker that judges it at its end.
pub type Judged = StackBody<FromServer, Rule>;

/// Sends each request to the next server whose policies let it in.
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

    pub fn upstreams(&self) -> &[Upstream] {
        &self.0.upstreams
    }
}

type Answer = Result<Response<Judged>, Error<Failure>>;

impl Service<Request<FromClient>> for Pool {
    type Response = Response<Judged>;
    type Error = Error<Failure>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FromClient>) -> Self::Future {
        let turns = Arc::clone(&self.0);
        // Where the future keeps it from the beginning: each move of a request copies some hundred bytes.
        let mut request = Some(request);
        Box::pin(async move {
            let mut refusals = Vec::new();
            for upstream in turns.in_turn() {
                let mut service = upstream.service.clone();
                match service.ready().await?.call(&mut request).await {
                    // Still ours: it was turned away in front of the server, as by a circuit that tries again.
                    Err(Error::Rejected(rejection)) if request.is_some() => refusals.push(rejection),
                    answer => return answer,
                }
            }
            let soonest = refusals.into_iter().min_by_key(|refusal| refusal.retry_after().unwrap_or(Duration::MAX));
            Err(Error::Rejected(soonest.expect("there is at least one server, and each turned the call away")))
        })
    }
}

impl Turns {
    /// All servers, the one whose turn it is first. Those with an open circuit come last: they are only asked so that
    /// the client can be told when to come back.
    fn in_turn(&self) -> impl Iterator<Item = &Upstream> {
        let count = self.upstreams.len();
        let (before, after) = self.upstreams.split_at(self.next.fetch_add(1, Relaxed) % count);
        let turn = after.iter().chain(before);
        let first = turn.clone().next().filter(|upstream| count == 1 || !upstream.is_open());
        // Most calls need no more than the first, and no list.
        let others = turn.skip(usize::from(first.is_some()));
        let sorted = || {
            let mut others: Vec<_> = others.collect();
            others.sort_by_cached_key(|upstream| upstream.is_open());
            others
        };
        first.into_iter().chain(iter::once_with(sorted).flatten())
    }
}
