//! The hosts that a layer must fit into: what each of them asks of it, and that it works there.

mod auto;
mod clients;
mod contract;
mod fatal;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod responses;
mod servers;
mod traits;

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
};
use http_body_util::Full;
use hyper::Response;
use mainstay::{
    Error, OnError, Stack,
    breaker::{CircuitBreakerLayer, Handle},
    bulkhead, concurrency,
    fallback::NoFallback,
    load_shed, rate_limit,
    retry::{self, Classified},
    stack::{Hook, Once, StackBuilder, StackLayer},
};
use tower::{Layer, Service, ServiceExt};

use crate::support::*;

/// What every host asks of a layer.
fn assert_layer<L: Clone + fmt::Debug + Send + Sync + 'static>(_: &L) {}

/// A layer over services whose error can carry rejections.
fn breaker() -> (Handle, CircuitBreakerLayer) {
    let breaker = Handle::new("shop", consecutive(2));
    let layer = CircuitBreakerLayer::new(breaker.clone());
    assert_layer(&layer);
    (breaker, layer)
}

/// A stack of all policies.
fn all() -> StackBuilder<Classified<OnError>, NoFallback, retry::Cloned> {
    Stack::builder("shop")
        .load_shed(load_shed::Config::server(100))
        .rate_limit(rate_limit::Config::new(10_000, ms(1_000)).max_wait(ms(1_000)))
        .timeout(ms(20_000))
        .retry(retry::Config::new().jitter(retry::Jitter::None))
        .breaker(consecutive(2))
        .concurrency(concurrency::Config::aimd())
        .bulkhead(bulkhead::Config::new(10).max_queue(10).max_wait(ms(1_000)))
        .attempt_timeout(ms(10_000))
}

/// A whole stack over requests of any type, which then are sent once.
fn stack() -> (Handle, StackLayer<Classified<OnError>, NoFallback, Hook<Once>>) {
    let stack = all().once().build();
    let layer = stack.layer();
    assert_layer(&layer);
    (stack.breaker().unwrap().clone(), layer)
}

/// The status of a router's answer.
async fn status(app: &Router) -> StatusCode {
    app.clone().oneshot(Request::new(Body::empty())).await.unwrap().status()
}

/// Routers behind a layer are open and shut with its circuit.
async fn assert_guarded(breaker: &Handle, routers: &[Router]) {
    for router in routers {
        assert_eq!(status(router).await, StatusCode::OK);
        breaker.force_open();
        assert_eq!(status(router).await, StatusCode::SERVICE_UNAVAILABLE);
        breaker.reset();
    }
    assert_eq!(breaker.snapshot().totals.calls.success, routers.len() as u64);
    assert_eq!(breaker.snapshot().totals.rejected, routers.len() as u64);
}

/// A service that insists on the contract: it panics when it is called without having been ready on that very clone.
/// It is ready only at the second time of asking.
struct Strict {
    asked: u32,
    calls: Arc<AtomicUsize>,
}

impl Strict {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (Self { asked: 0, calls: Arc::clone(&calls) }, calls)
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { asked: 0, calls: Arc::clone(&self.calls) }
    }
}

impl Service<u32> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Error<Infallible>;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.asked += 1;
        if self.asked < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        assert!(self.asked >= 2, "called without being ready");
        self.asked = 0;
        self.calls.fetch_add(1, SeqCst);
        ready(Ok(Response::new(Full::from("ok"))))
    }
}

/// Uses a service in every way that the contract allows.
async fn assert_contract<L>(breaker: &Handle, layer: L)
where
    L: Layer<Strict>,
    L::Service: Service<u32, Error: fmt::Debug> + Clone,
{
    let (strict, calls) = Strict::new();
    let mut service = layer.layer(strict);
    assert!(service.clone().oneshot(1).await.is_ok());
    for _ in 0..3 {
        assert!(service.ready().await.unwrap().call(1).await.is_ok());
    }
    // A clone of a service that is ready is not ready: it asks for itself, and leaves the other one ready.
    service.ready().await.unwrap();
    let mut clone = service.clone();
    assert!(clone.ready().await.unwrap().call(1).await.is_ok());
    assert!(service.call(1).await.is_ok());
    // The usual way with a service that moves into a future: the one that was made ready goes, the clone stays.
    service.ready().await.unwrap();
    let fresh = service.clone();
    let mut readied = std::mem::replace(&mut service, fresh);
    assert!(readied.call(1).await.is_ok());
    assert_eq!(calls.load(SeqCst), 7);
    // Ready because it would turn the call away; when the circuit closes in between, nobody has asked the service.
    breaker.force_open();
    service.ready().await.unwrap();
    breaker.reset();
    let _ = service.call(1).await;
    assert_eq!(calls.load(SeqCst), 7);
    assert!(service.ready().await.unwrap().call(1).await.is_ok());
    assert_eq!(calls.load(SeqCst), 8);
}
