//! Hosts that want responses in place of errors.

use axum::{response::IntoResponse, routing::get};
use mainstay::{
    BoxError,
    fallback::Fallback,
    http::{ReplayBodyLayer, RespondLayer, StatusClassify},
};
use tower::{ServiceBuilder, buffer::BufferLayer};

use super::*;

async fn ok() -> &'static str {
    "ok"
}

#[tokio::test]
async fn axum_takes_our_layers_wherever_it_takes_layers() {
    let (breaker, layer) = breaker();
    let streamed = layer.clone().classify(StatusClassify::new()).until_body_end();
    let respond = RespondLayer::new();
    assert_layer(&streamed);
    assert_layer(&respond);
    let heads = ServiceBuilder::new().layer(respond.clone()).layer(layer).map_err(Error::Inner);
    let bodies = ServiceBuilder::new().layer(respond).layer(streamed).map_err(Error::Inner);
    let routers = [
        Router::new().route("/", get(ok)).layer(heads.clone()),
        Router::new().route("/", get(ok)).route_layer(heads.clone()),
        Router::new().route("/", get(ok).layer(heads.clone())),
        Router::new().route("/", get(ok).route_layer(heads.clone())),
        Router::new().fallback(ok).layer(heads),
    ];
    assert_guarded(&breaker, &routers).await;
    let (before, after) = (breaker.snapshot().totals.calls.success, 3);
    for router in [
        Router::new().route("/", get(ok)).layer(bodies.clone()),
        Router::new().route("/", get(ok)).route_layer(bodies.clone()),
        Router::new().route("/", get(ok).layer(bodies)),
    ] {
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(axum::body::to_bytes(answer.into_body(), 10).await.unwrap(), "ok");
    }
    assert_eq!(breaker.snapshot().totals.calls.success, before + after);
}

#[tokio::test]
async fn axum_takes_a_whole_stack_wherever_it_takes_layers() {
    let (breaker, layer) = stack();
    let whole = ServiceBuilder::new().layer(RespondLayer::new()).layer(layer).map_err(Error::Inner);
    let routers = [
        Router::new().route("/", get(ok)).layer(whole.clone()),
        Router::new().route("/", get(ok)).route_layer(whole.clone()),
        Router::new().route("/", get(ok).layer(whole.clone())),
        Router::new().route("/", get(ok).route_layer(whole.clone())),
        Router::new().fallback(ok).layer(whole),
    ];
    assert_guarded(&breaker, &routers).await;
    let streamed = all().once().build();
    let bodies =
        ServiceBuilder::new().layer(RespondLayer::new()).layer(streamed.until_body_end()).map_err(Error::Inner);
    assert_layer(&streamed.until_body_end());
    for router in [
        Router::new().route("/", get(ok)).layer(bodies.clone()),
        Router::new().route("/", get(ok)).route_layer(bodies.clone()),
        Router::new().route("/", get(ok).layer(bodies)),
    ] {
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(streamed.bulkhead().unwrap().running(), 1);
        assert_eq!(axum::body::to_bytes(answer.into_body(), 10).await.unwrap(), "ok");
        assert_eq!(streamed.bulkhead().unwrap().running(), 0);
    }
    assert_eq!(streamed.breaker().unwrap().snapshot().totals.calls.success, 3);
    // A stack with a fallback of its own answers in place of what is behind it.
    let calm = Fallback::with(|_: &Error<Infallible>| "we will be right back".into_response());
    let stack = all().once().fallback(calm).build();
    let whole = ServiceBuilder::new().layer(RespondLayer::new()).layer(stack.layer()).map_err(Error::Inner);
    let router = Router::new().route("/", get(ok)).layer(whole);
    stack.breaker().unwrap().force_open();
    assert_eq!(status(&router).await, StatusCode::OK);
    assert_eq!(stack.fallback().snapshot().used, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_the_http_feature_calls_the_clone_that_was_ready() {
    let stack = all().build();
    assert_contract(stack.breaker().unwrap(), ServiceBuilder::new().layer(RespondLayer::new()).layer(stack.layer()))
        .await;
    let stack = all().build();
    assert_contract(stack.breaker().unwrap(), stack.until_body_end()).await;
    let client = Stack::http_client("shop");
    assert_layer(&client.layer());
    assert_layer(&client.until_body_end());
    assert_layer(&ReplayBodyLayer::default());
}

#[tokio::test(start_paused = true)]
async fn a_layer_with_closures_of_yours_is_still_a_layer() {
    // Neither Clone nor Debug: what the closures hold is shared.
    struct Held(u16);
    let (page, code) = (Held(418), Held(503));
    let respond = RespondLayer::with(move |_: &mainstay::Rejection| {
        let Held(status) = page;
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer
    });
    assert_layer(&respond);
    let (breaker, layer) = breaker();
    let layer =
        layer.classify(mainstay::classify_fn(move |result: Result<&Response<Full<Bytes>>, &Error<Infallible>>| {
            let Held(failure) = code;
            match result {
                Ok(response) if response.status() == failure => mainstay::Outcome::Failure,
                _ => mainstay::Outcome::Success,
            }
        }));
    assert_layer(&layer);
    let streamed = layer.clone().until_body_end();
    assert_layer(&streamed);
    assert_contract(&breaker, ServiceBuilder::new().layer(respond.clone()).layer(layer)).await;
    assert_contract(&breaker, ServiceBuilder::new().layer(respond).layer(streamed)).await;
    // The eight of each; nobody asked for the streamed bodies, so their heads count.
    assert_eq!((breaker.snapshot().totals.calls.success, breaker.snapshot().totals.cancelled), (16, 0));
}

#[tokio::test(start_paused = true)]
async fn every_layer_of_this_feature_calls_the_clone_that_was_ready() {
    let (breaker, layer) = breaker();
    let streamed = layer.clone().classify(StatusClassify::new()).until_body_end();
    assert_contract(&breaker, streamed.clone()).await;
    assert_contract(&breaker, ServiceBuilder::new().layer(RespondLayer::new()).layer(layer)).await;
    assert_contract(&breaker, ServiceBuilder::new().layer(RespondLayer::new()).layer(streamed)).await;
}

#[tokio::test(start_paused = true)]
async fn rejections_become_responses_through_a_buffer() {
    let (breaker, layer) = breaker();
    let (strict, _) = Strict::new();
    let service =
        ServiceBuilder::new().layer(RespondLayer::new()).layer(BufferLayer::new(4)).layer(layer).service(strict);
    let answer: Result<_, BoxError> = service.clone().oneshot(1).await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    breaker.force_open();
    assert_eq!(service.oneshot(1).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}
