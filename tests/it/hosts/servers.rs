//! axum with typed errors, and tower's own wrappers.

use axum::{error_handling::HandleErrorLayer, routing::get};
use mainstay::{CarryRejection, Reason};
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

#[tokio::test]
async fn axum_takes_our_typed_error_through_its_own_layer() {
    let (breaker, layer) = breaker();
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
}

type Doubling = ServiceFn<fn(u32) -> Ready<Result<u32, Infallible>>>;

fn doubling() -> Doubling {
    service_fn(|n| ready(infallible(n * 2)))
}

#[tokio::test(start_paused = true)]
async fn tower_buffers_our_service_and_the_rejection_is_found_in_its_error() {
    let (breaker, layer) = breaker();
    let guarded = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(doubling());
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
    let mut service = ServiceBuilder::new().layer(layer).layer(BufferLayer::new(4)).service(doubling());
    assert_eq!(service.ready().await.unwrap().call(4).await.unwrap(), 8);
    breaker.force_open();
    assert!(service.ready().await.unwrap().call(4).await.unwrap_err().rejection().is_some());
    assert_eq!(breaker.snapshot().totals.calls.success, 1);
}

#[tokio::test(start_paused = true)]
async fn tower_boxes_our_service_and_ours_stands_over_a_box() {
    let (breaker, layer) = breaker();
    let guarded = ServiceBuilder::new().layer(layer.clone()).map_err(Error::Inner).service(doubling());
    let boxed: BoxCloneSyncService<u32, u32, Error<Infallible>> = BoxCloneSyncService::new(guarded);
    let over = layer.layer(boxed);
    assert_eq!(over.clone().oneshot(1).await, Ok(2));
    assert_eq!(breaker.snapshot().totals.calls.success, 2, "both of them counted");
    breaker.force_open();
    assert!(over.oneshot(1).await.unwrap_err().is_rejection());
}
