//! The proxy without mainstay: what it costs is seen beside this.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use crate::{
    front::{Answer, Answers, bad_gateway, own_answer},
    headers, health,
    route::{Failure, FromServer, Route, refusal},
};

/// Sends each request to the next server, whatever became of those before.
#[derive(Clone)]
pub struct Passthrough(Arc<Turns>);

struct Turns {
    // At least one.
    routes: Vec<Route<Incoming>>,
    next: AtomicUsize,
}

impl Passthrough {
    pub fn new(routes: Vec<Route<Incoming>>) -> Self {
        Self(Arc::new(Turns { routes, next: AtomicUsize::new(0) }))
    }
}

impl Answers for Passthrough {
    type Body = Either<FromServer, Full<Bytes>>;

    fn of_connection(&self) -> Self {
        self.clone()
    }

    async fn answer(self, client: IpAddr, mut request: Request<Incoming>) -> Answer<Self::Body> {
        if let Some(own) = own_answer(&request, || health::report(None, &[])) {
            return Ok(own.map(|body| Either::Right(Full::new(body))));
        }
        headers::prepare_request(&mut request, client);
        Ok(match self.0.send(request).await {
            Ok(response) => response.map(Either::Left),
            Err(failure) => bad_gateway(&failure).map(|body| Either::Right(Full::new(body))),
        })
    }
}

impl Turns {
    async fn send(&self, request: Request<Incoming>) -> Result<Response<FromServer>, Failure> {
        let route = &self.routes[self.next.fetch_add(1, Relaxed) % self.routes.len()];
        match route.call(request) {
            Some((call, pace)) => route.answer(call.await, &pace),
            None => Ok(refusal(StatusCode::BAD_REQUEST)),
        }
    }
}
