//! The client over HTTP: real servers on the loopback interface.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, Request, Uri, header::HOST},
    routing::any,
};
use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
};
use mainstay::{
    Error,
    client::{Client, Config, PickBy},
    contract::{Instance, Protocol},
    discovery::{Discovery, InMemory},
    http::{HttpTransport, TransportError, error_kind},
    retry::{self, Backoff},
    stack,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::loopback::{Server, nobody, within};

type Http = Client<Request<Full<Bytes>>, Response<Incoming>, Error<TransportError>>;

async fn register(discovery: &InMemory, id: &str, address: SocketAddr) {
    let instance = Instance::new("shop", id, &address.ip().to_string(), address.port()).unwrap();
    discovery.register(instance, Duration::from_secs(3_600)).await.unwrap();
}

fn client(discovery: &InMemory) -> Http {
    let mut policies = stack::Config::http_client();
    policies.retry = Some(retry::Config::http().attempts(3).backoff(Backoff::fixed(Duration::ZERO)).no_budget());
    let config = Config::new().stack(policies).pick_by(PickBy::RoundRobin);
    Client::http(discovery.clone(), HttpTransport::new()).config(config).build().error_kind(error_kind)
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_goes_to_the_instance_with_its_own_path() {
    within(async {
        let echo = any(|uri: Uri, headers: HeaderMap, body: String| async move {
            format!("{uri} {} {body}", headers[HOST].to_str().unwrap())
        });
        let server = Server::start(Router::new().fallback(echo)).await;
        let discovery = InMemory::new();
        register(&discovery, "a", server.address).await;
        let client = client(&discovery);
        for (asked, path) in [("/a/b?c=d", "/a/b?c=d"), ("http://elsewhere:1/x", "/x"), ("/", "/")] {
            let response = client.call("shop", "get", get(asked)).await.unwrap();
            assert_eq!(text(response).await, format!("{path} {} ", server.address));
        }
        let post = Request::post("/orders").body(Full::from("tea")).unwrap();
        let response = client.call("shop", "order", post).await.unwrap();
        assert!(text(response).await.ends_with(" tea"));
        assert_eq!(client.metrics("shop").unwrap().methods["get"].successes, 3);
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_is_gone_is_passed_over_and_nobody_notices() {
    within(async {
        let server = Server::start(Router::new().fallback(any(async || "here"))).await;
        let discovery = InMemory::new();
        register(&discovery, "a", server.address).await;
        register(&discovery, "b", nobody().await).await;
        let client = client(&discovery);
        for _ in 0..40 {
            assert_eq!(text(client.call("shop", "get", get("/")).await.unwrap()).await, "here");
        }
        let balance = client.snapshot("shop").unwrap().balance;
        assert_eq!(balance.ejections, 1, "after five failures in a row");
    })
    .await;
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_elsewhere_if_it_may_be_sent_twice() {
    within(async {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let busy = any(move || {
            counted.fetch_add(1, SeqCst);
            async { StatusCode::SERVICE_UNAVAILABLE }
        });
        let discovery = InMemory::new();
        let (one, two) = (
            Server::start(Router::new().fallback(busy.clone())).await,
            Server::start(Router::new().fallback(busy)).await,
        );
        register(&discovery, "a", one.address).await;
        register(&discovery, "b", two.address).await;
        let client = client(&discovery);
        let response = client.call("shop", "get", get("/")).await.unwrap();
        assert_eq!((response.status(), calls.swap(0, SeqCst)), (StatusCode::SERVICE_UNAVAILABLE, 3));
        let post = Request::post("/").body(Full::default()).unwrap();
        let response = client.call("shop", "post", post).await.unwrap();
        assert_eq!((response.status(), calls.load(SeqCst)), (StatusCode::SERVICE_UNAVAILABLE, 1));
        let kinds = client.metrics("shop").unwrap().total.error_kinds;
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [("status_503".into(), 2)]);
    })
    .await;
}

#[tokio::test]
async fn errors_say_what_is_behind_them() {
    within(async {
        let discovery = InMemory::new();
        register(&discovery, "a", nobody().await).await;
        let error = client(&discovery).call("shop", "get", get("/")).await.unwrap_err();
        match &error {
            Error::Inner(error) => assert!(error.is_connect(), "{error}"),
            Error::Rejected(_) => panic!("{error}"),
        }
        assert!(error.to_string().contains("refused"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_does_not_speak_http_is_never_called() {
    within(async {
        let discovery = InMemory::new();
        let grpc = Instance::new("shop", "a", "127.0.0.1", 1).unwrap().with_protocol(Protocol::Grpc);
        discovery.register(grpc, Duration::from_secs(60)).await.unwrap();
        let error = Instance::new("shop", "b", "127.0.0.1", 1).map(|instance| {
            let instance = instance.with_protocol(Protocol::Tcp);
            tower::Service::call(&mut HttpTransport::<Full<Bytes>>::new(), instance)
        });
        assert_eq!(error.unwrap().await.unwrap_err().to_string(), "the instance speaks tcp, not http or https");

        let tls = Instance::new("tls", "a", "127.0.0.1", 1).unwrap().with_protocol(Protocol::Https);
        discovery.register(tls, Duration::from_secs(60)).await.unwrap();
        let error = client(&discovery).call("tls", "get", get("/")).await.unwrap_err();
        assert!(error.to_string().contains("scheme"), "a connector without TLS says so: {error}");
    })
    .await;
}

#[tokio::test]
async fn odd_requests_reach_the_instance_or_say_why_not() {
    within(async {
        let echo = any(|method: hyper::Method, uri: Uri, headers: HeaderMap| async move {
            format!("{method} {uri} {}", headers[HOST].to_str().unwrap())
        });
        let server = Server::start(Router::new().fallback(echo)).await;
        let discovery = InMemory::new();
        register(&discovery, "a", server.address).await;
        let client = client(&discovery);
        // As a server got them, and a gateway hands them on.
        for version in [hyper::Version::HTTP_10, hyper::Version::HTTP_11, hyper::Version::HTTP_2] {
            let mut request = get("/x");
            *request.version_mut() = version;
            let response =
                client.call("shop", "get", request).await.unwrap_or_else(|error| panic!("{version:?} {error}"));
            assert_eq!(text(response).await, format!("GET /x {}", server.address), "{version:?}");
        }
        let any = Request::builder().method("OPTIONS").uri("*").body(Full::default()).unwrap();
        let response = client.call("shop", "options", any).await.unwrap();
        assert_eq!(text(response).await, format!("OPTIONS * {}", server.address));
        let named = Request::get("/x").header(HOST, "shop.example").body(Full::default()).unwrap();
        assert_eq!(text(client.call("shop", "get", named).await.unwrap()).await, "GET /x shop.example");
        let absolute = Request::get("http://user:pass@elsewhere:1").body(Full::default()).unwrap();
        let response = client.call("shop", "get", absolute).await.unwrap();
        assert_eq!(text(response).await, format!("GET / {}", server.address));
        let tunnel = Request::connect("elsewhere:443").body(Full::default()).unwrap();
        let _ = client.call("shop", "connect", tunnel).await;
        assert_eq!(
            text(client.call("shop", "get", get("/y")).await.unwrap()).await,
            format!("GET /y {}", server.address)
        );
    })
    .await;
}

#[tokio::test]
async fn an_instance_is_reached_over_ipv6() {
    within(async {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let echo = any(|headers: HeaderMap| async move { headers[HOST].to_str().unwrap().to_owned() });
        let app = Router::new().fallback(echo);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let discovery = InMemory::new();
        let instance = Instance::new("shop", "a", "::1", port).unwrap();
        discovery.register(instance, Duration::from_secs(60)).await.unwrap();
        let client = client(&discovery);
        let response = client.call("shop", "get", get("/")).await.unwrap();
        assert_eq!(text(response).await, format!("[::1]:{port}"));
        serving.abort();
    })
    .await;
}

#[tokio::test]
async fn a_body_that_streams_goes_on_when_its_instance_is_removed_and_the_client_dropped() {
    within(async {
        let (listener, address) = crate::loopback::listen().await;
        let (more, rest) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                socket.read_buf(&mut asked).await.unwrap();
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\none ").await.unwrap();
            rest.await.unwrap();
            socket.write_all(b"two").await.unwrap();
        });
        let discovery = InMemory::new();
        let instance = Instance::new("shop", "a", &address.ip().to_string(), address.port()).unwrap();
        let lease = discovery.register(instance, Duration::from_secs(60)).await.unwrap();
        let client = client(&discovery);
        let response = client.call("shop", "get", get("/")).await.unwrap();
        discovery.deregister(lease).await.unwrap();
        while client.health("shop").unwrap().instances > 0 {
            tokio::task::yield_now().await;
        }
        assert!(client.call("shop", "get", get("/")).await.is_err());
        drop((client, discovery));
        more.send(()).unwrap();
        assert_eq!(text(response).await, "one two");
        serving.await.unwrap();
    })
    .await;
}
