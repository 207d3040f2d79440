//! axum with typed errors, and tower's own wrappers.

use axum::{error_handling::HandleErrorLayer, routing::get};
use mainstay::{BoxError, CarryRejection, Reason};
use tower::{
    ServiceBuilder,
    buffer::{Buffer, BufferLayer},
    service_fn,
    util::{BoxCloneSyncService, ServiceFn},
};

use super::*;
use crate::loopback::Server;

async fn ok() -> &'static str {
    "ok"
}

/// A macro, so that nothing but axum itself says what the layer must be.
macro_rules! typed {
    ($layer:expr) => {{
        let (breaker, layer) = $layer;
        let typed = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |error: Error<Infallible>| {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }))
            .layer(layer)
            .map_err(Error::Inner);
        let routers = [
            Router::new().route("/", get(ok)).layer(typed.clone()),
            Router::new().route("/", get(ok)).route_layer(typed.clone()),
            Router::new().route("/", get(ok).layer(typed.clone())),
            Router::new().route("/", get(ok).route_layer(typed.clone())),
            Router::new().route_service("/", get(ok)).with_state(()).layer(typed),
        ];
        assert_guarded(&breaker, &routers).await;
        let [router, ..] = routers;
        let server = Server::start(router).await;
        assert_eq!(server.get("/").await.body(), "ok");
        breaker.force_open();
        let answer = server.get("/").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body(), r#"circuit breaker "shop" is open"#);
    }};
}

#[tokio::test]
async fn axum_takes_our_typed_error_through_its_own_layer() {
    typed!(breaker());
    typed!(stack());
}

type Doubling = ServiceFn<fn(u32) -> Ready<Result<u32, Infallible>>>;

fn doubling() -> Doubling {
    service_fn(|n| ready(infallible(n * 2)))
}

#[tokio::test(start_paused = true)]
async fn tower_buffers_our_service_and_the_rejection_is_found_in_its_error() {
    let (breaker, layer) = breaker();
    assert_buffered(&breaker, ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(doubling())).await;
    let (breaker, layer) = stack();
    assert_buffered(&breaker, ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(doubling())).await;
}

async fn assert_buffered<S>(breaker: &Handle, guarded: S)
where
    S: Service<u32, Response = u32, Error = Error<Infallible>, Future: Send> + Send + 'static,
{
    let mut buffered = Buffer::new(guarded, 4);
    assert_eq!(buffered.ready().await.unwrap().call(4).await.unwrap(), 8);
    breaker.force_open();
    let error = buffered.ready().await.unwrap().call(4).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().reason(), Reason::CircuitOpen);
    breaker.reset();
    assert_eq!(buffered.ready().await.unwrap().call(5).await.unwrap(), 10, "a rejection does not end the buffer");
}

#[tokio::test(start_paused = true)]
async fn our_layer_stands_over_a_buffer_too() {
    let (breaker, layer) = breaker();
    let over = ServiceBuilder::new().layer(layer).layer(BufferLayer::new(4)).service(doubling());
    assert_over_a_buffer(&breaker, over).await;
    let (breaker, layer) = stack();
    let over = ServiceBuilder::new().layer(layer).layer(BufferLayer::new(4)).service(doubling());
    assert_over_a_buffer(&breaker, over).await;
}

async fn assert_over_a_buffer(breaker: &Handle, mut service: impl Service<u32, Response = u32, Error = BoxError>) {
    assert_eq!(service.ready().await.unwrap().call(4).await.unwrap(), 8);
    breaker.force_open();
    assert!(service.ready().await.unwrap().call(4).await.unwrap_err().rejection().is_some());
    assert_eq!(breaker.snapshot().totals.calls.success, 1);
}

#[tokio::test(start_paused = true)]
async fn tower_boxes_our_service_and_ours_stands_over_a_box() {
    let (breaker, layer) = breaker();
    let guarded = ServiceBuilder::new().layer(layer.clone()).map_err(Error::Inner).service(doubling());
    assert_boxed(&breaker, layer, BoxCloneSyncService::new(guarded)).await;
    let (breaker, layer) = stack();
    let guarded = ServiceBuilder::new().layer(layer.clone()).map_err(Error::Inner).service(doubling());
    assert_boxed(&breaker, layer, BoxCloneSyncService::new(guarded)).await;
}

type Boxed = BoxCloneSyncService<u32, u32, Error<Infallible>>;

async fn assert_boxed<L>(breaker: &Handle, layer: L, boxed: Boxed)
where
    L: Layer<Boxed>,
    L::Service: Service<u32, Response = u32, Error = Error<Infallible>> + Clone,
{
    let over = layer.layer(boxed);
    assert_eq!(over.clone().oneshot(1).await, Ok(2));
    assert_eq!(breaker.snapshot().totals.calls.success, 2, "both of them counted");
    breaker.force_open();
    assert!(over.oneshot(1).await.unwrap_err().is_rejection());
}
