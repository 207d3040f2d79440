//! A policy for each tenant in front of an HTTP server, held to the end of the body.

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, Response, StatusCode},
    routing::get,
};
use http_body_util::BodyExt;
use mainstay::{
    Error,
    breaker::State,
    bulkhead,
    http::{RespondLayer, StatusClassify},
    keyed::{Config, KeyedLayer, Tenant, Tenants, key_fn, str_key_fn},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

fn request(tenant: &str) -> Request<Body> {
    Request::get("/").header("x-tenant", tenant).body(Body::empty()).unwrap()
}

fn tenant_of(request: &Request<Body>) -> Option<&str> {
    request.headers().get("x-tenant")?.to_str().ok()
}

#[tokio::test(start_paused = true)]
async fn in_axum_each_tenant_has_its_circuit() {
    let tenants = Tenants::new("shop", Config::new(consecutive(2)));
    let layer = KeyedLayer::new(tenants.by(str_key_fn(tenant_of))).classify(StatusClassify::new());
    let app = Router::new()
        .route(
            "/",
            get(async |request: Request<Body>| match tenant_of(&request) {
                Some("bad") => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::OK,
            }),
        )
        .layer(ServiceBuilder::new().layer(RespondLayer::new()).layer(layer.until_body_end()).map_err(Error::Inner));
    let mut seen = Vec::new();
    for tenant in ["bad", "bad", "bad", "good", "no\tname"] {
        let response = app.clone().oneshot(request(tenant)).await.unwrap();
        seen.push(response.status().as_u16());
        let _ = response.into_body().collect().await.unwrap();
    }
    assert_eq!(seen, [500, 500, 503, 200, 200]);
    assert_eq!((tenants.get("bad").state(), tenants.get("good").state()), (State::Open, State::Closed));
    assert_eq!((tenants.snapshot().keys, tenants.snapshot().keyless), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_and_its_key_are_held_until_the_body_ends_or_is_dropped() {
    let tenants = Tenants::new("shop", Config::new(bulkhead::Config::new(1)).max_keys(1));
    let key = key_fn(|request: &Request<Body>| request.extensions().get::<Tenant>().cloned());
    let layer = KeyedLayer::new(tenants.by(key)).until_body_end();
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        let body = in_pieces([Bytes::from("one"), Bytes::from("two")]);
        Ok::<_, Error<Boom>>(Response::new(body))
    }));
    let request = |tenant| {
        let mut request = request("");
        request.extensions_mut().insert(Tenant::new(tenant).unwrap());
        request
    };
    for end in [true, false] {
        let mut body = service.clone().oneshot(request("a")).await.unwrap().into_body();
        assert!(body.frame().await.is_some());
        assert!(service.clone().oneshot(request("a")).await.is_err_and(|error| error.is_rejection()));
        let _ = tenants.get("b");
        assert_eq!((tenants.keys().len(), tenants.peek("a").unwrap().running()), (1, 1));
        if end {
            while body.frame().await.is_some() {}
        }
        drop(body);
        assert_eq!(tenants.get("a").running(), 0);
    }
    let _ = tenants.get("b");
    assert!(tenants.peek("a").is_none());
}

/// A body that comes in pieces, of a length that nobody knows.
fn in_pieces(pieces: [Bytes; 2]) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
    struct Pieces(std::vec::IntoIter<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.next().map(|piece| Ok(http_body::Frame::data(piece))))
        }
    }

    Pieces(Vec::from(pieces).into_iter())
}
