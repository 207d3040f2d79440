//! reqwest and hyper-util, with the layer around the client and inside it, around its connector.

use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::{Uri, body::Incoming};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use mainstay::{BoxError, CarryRejection, Outcome, breaker::State, classify_fn};
use tower::{ServiceBuilder, util::MapErr};

use super::*;
use crate::loopback::{Client, Server, client, nobody, uri, within};

async fn server() -> Server {
    Server::start(
        Router::new()
            .route("/", get(async || "ok"))
            .route("/broken", get(async || (StatusCode::INTERNAL_SERVER_ERROR, "broken"))),
    )
    .await
}

/// A macro, so that nothing but reqwest itself says what the layer must be: its request type has no name.
macro_rules! connects {
    ($layer:expr) => {{
        let server = server().await;
        let (breaker, layer) = $layer;
        let connects = || reqwest::Client::builder().connector_layer(layer.clone()).build().unwrap();
        let url = format!("http://{}/", server.address);
        let answer = within(connects().get(&url).send()).await.unwrap();
        assert_eq!((answer.status(), within(answer.text()).await.unwrap().as_str()), (StatusCode::OK, "ok"));
        assert_eq!(breaker.snapshot().totals.calls.success, 1, "one connection");
        let refused = format!("http://{}/", nobody().await);
        for _ in 0..2 {
            assert!(within(connects().get(&refused).send()).await.unwrap_err().is_connect());
        }
        assert_eq!(breaker.state(), State::Open);
        let error = BoxError::from(within(connects().get(&url).send()).await.unwrap_err());
        assert_eq!(error.rejection().unwrap().policy(), "shop", "the rejection is found in reqwest's error");
    }};
}

/// A macro, so that nothing but hyper-util itself says what the service must be. Opens the circuit by so many calls.
macro_rules! dials {
    ($layer:expr) => {
        dials!($layer, 2)
    };
    ($layer:expr, $calls:expr) => {{
        let server = server().await;
        let (breaker, layer) = $layer;
        let typed = ServiceBuilder::new().layer(layer.clone()).map_err(Error::Inner).service(HttpConnector::new());
        let boxed = ServiceBuilder::new().layer(layer).map_err(BoxError::from).service(HttpConnector::new());
        let answer = within(client(typed.clone()).get(server.uri("/"))).await.unwrap();
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "ok");
        let answer = within(client(boxed.clone()).get(server.uri("/"))).await.unwrap();
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "ok");
        assert_eq!(breaker.snapshot().totals.calls.success, 2);
        let refused = uri(nobody().await, "/");
        assert!(within(client(typed.clone()).get(refused.clone())).await.unwrap_err().is_connect());
        if $calls > 1 {
            assert!(within(client(boxed.clone()).get(refused)).await.unwrap_err().is_connect());
        }
        assert_eq!(breaker.state(), State::Open);
        let errors = [
            within(client(typed).get(server.uri("/"))).await.unwrap_err(),
            within(client(boxed).get(server.uri("/"))).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(BoxError::from(error).rejection().unwrap().policy(), "shop");
        }
    }};
}

#[tokio::test]
async fn reqwest_connects_through_our_layers() {
    connects!(breaker());
    connects!(stack());
}

/// Whether reqwest's client behind a stack sends a request again that has a copy, and one that has none once.
#[tokio::test]
async fn reqwests_client_sends_again_what_has_a_copy() {
    let server = server().await;
    let statuses = classify_fn(|result: Result<&reqwest::Response, &Error<reqwest::Error>>| match result {
        Ok(response) if response.status().is_server_error() => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let quick = retry::Config::new().attempts(2).backoff(retry::Backoff::fixed(ms(1)));
    let stack =
        all().retry(quick).breaker(consecutive(4)).classify(statuses).replay(reqwest::Request::try_clone).build();
    let service = ServiceBuilder::new().layer(stack.layer()).map_err(Error::Inner).service(reqwest::Client::new());
    let request = |path: &str| {
        let url = format!("http://{}{path}", server.address).parse().unwrap();
        reqwest::Request::new(reqwest::Method::GET, url)
    };
    assert_eq!(within(within(service.clone().oneshot(request("/"))).await.unwrap().text()).await.unwrap(), "ok");
    for retries in [1, 2] {
        assert_eq!(within(service.clone().oneshot(request("/broken"))).await.unwrap().status(), 500);
        assert_eq!(stack.retry().unwrap().snapshot().retries, retries);
    }
    assert!(within(service.oneshot(request("/"))).await.unwrap_err().is_rejection());
    assert_eq!(stack.breaker().unwrap().snapshot().totals.calls.success, 1);
    // Without a word about requests, which are then sent once.
    let (breaker, layer) = super::stack();
    let service = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(reqwest::Client::new());
    let url: reqwest::Url = format!("http://{}/", nobody().await).parse().unwrap();
    for _ in 0..2 {
        let sent = within(service.clone().oneshot(reqwest::Request::new(reqwest::Method::GET, url.clone()))).await;
        assert!(matches!(sent, Err(Error::Inner(error)) if error.is_connect()));
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn reqwests_client_is_a_service_like_any_other() {
    let server = server().await;
    let (breaker, layer) = breaker();
    let layer =
        layer.classify(classify_fn(|result: Result<&reqwest::Response, &Error<reqwest::Error>>| match result {
            Ok(response) if response.status().is_server_error() => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }));
    let service = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(reqwest::Client::new());
    let send = async |path: &str| {
        let url = format!("http://{}{path}", server.address).parse().unwrap();
        within(service.clone().oneshot(reqwest::Request::new(reqwest::Method::GET, url))).await
    };
    assert_eq!(within(send("/").await.unwrap().text()).await.unwrap(), "ok");
    for _ in 0..2 {
        assert_eq!(send("/broken").await.unwrap().status(), 500);
    }
    assert!(send("/").await.unwrap_err().is_rejection());
    assert_eq!((breaker.state(), breaker.snapshot().totals.calls.success), (State::Open, 1));
    // With the default classifier, which need not know reqwest's types.
    let (breaker, layer) = super::breaker();
    let service = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(reqwest::Client::new());
    let url: reqwest::Url = format!("http://{}/", nobody().await).parse().unwrap();
    for _ in 0..2 {
        let sent = within(service.clone().oneshot(reqwest::Request::new(reqwest::Method::GET, url.clone()))).await;
        assert!(matches!(sent, Err(Error::Inner(error)) if error.is_connect()));
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn hyper_utils_client_is_a_service_like_any_other() {
    let (breaker, layer) = breaker();
    assert_client(&breaker, layer).await;
    let (breaker, layer) = stack();
    assert_client(&breaker, layer).await;
}

type Typed<S, E> = MapErr<S, fn(E) -> Error<E>>;

async fn assert_client<L>(breaker: &Handle, layer: L)
where
    L: Layer<Typed<Client, legacy::Error>>,
    L::Service:
        Service<hyper::Request<Empty<Bytes>>, Response = Response<Incoming>, Error = Error<legacy::Error>> + Clone,
{
    let server = server().await;
    let wrap: fn(legacy::Error) -> _ = Error::Inner;
    let service = ServiceBuilder::new().layer(layer).map_err(wrap).service(client(HttpConnector::new()));
    let send =
        async |uri: Uri| within(service.clone().oneshot(hyper::Request::get(uri).body(Empty::new()).unwrap())).await;
    let answer = send(server.uri("/")).await.unwrap();
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "ok");
    let refused = uri(nobody().await, "/");
    for _ in 0..2 {
        assert!(matches!(send(refused.clone()).await, Err(Error::Inner(error)) if error.is_connect()));
    }
    assert!(send(server.uri("/")).await.unwrap_err().is_rejection());
    assert_eq!((breaker.state(), breaker.snapshot().totals.calls.success), (State::Open, 1));
}

#[tokio::test]
async fn hyper_utils_client_connects_through_our_services() {
    dials!(breaker());
    dials!(stack());
    // A stack that would connect again clones the address.
    let again = all().build();
    dials!((again.breaker().unwrap().clone(), again.layer()), 1);
}
