//! Checks by a path over HTTP, with real servers.

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::get,
};
use mainstay::{
    contract::Protocol,
    discovery::health::{Checked, Config, HttpCheck, HttpCheckError},
};
use tower::Service;

use super::*;
use crate::loopback::*;

fn at(address: std::net::SocketAddr) -> Instance {
    Instance::new("users", "a", &address.ip().to_string(), address.port()).unwrap()
}

async fn check(path: &str, instance: Instance) -> Result<StatusCode, HttpCheckError> {
    within(HttpCheck::new(path).unwrap().call(Arc::new(instance))).await
}

#[tokio::test]
async fn a_status_of_success_is_healthy_and_nothing_else() {
    let app = Router::new()
        .route("/ok", get(async || "fine"))
        .route("/none", get(async || StatusCode::NO_CONTENT))
        .route("/moved", get(async || StatusCode::FOUND))
        .route("/down", get(async || StatusCode::SERVICE_UNAVAILABLE))
        .route("/query", get(async |uri: axum::http::Uri| if uri.query() == Some("deep=1") { Ok(()) } else { Err("") }))
        .route("/endless", get(async || Body::new(Endless)));
    let server = Server::start(app).await;
    for (path, expected) in [
        ("/ok", Ok(200)),
        ("/none", Ok(204)),
        ("/query?deep=1", Ok(200)),
        ("/endless", Ok(200)),
        ("/moved", Err("it answered with 302 Found")),
        ("/down", Err("it answered with 503 Service Unavailable")),
        ("/nothing", Err("it answered with 404 Not Found")),
    ] {
        let found = check(path, at(server.address)).await.map(|status| status.as_u16());
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{path}");
    }
    let refused = check("/ok", at(nobody().await)).await.unwrap_err();
    assert!(matches!(refused, HttpCheckError::Request(_)) && refused.to_string().starts_with("it could not be asked"));
    let https = check("/ok", at(server.address).with_protocol(Protocol::Https)).await.unwrap_err();
    assert!(matches!(https, HttpCheckError::NoHttp));
}

#[tokio::test]
async fn a_check_is_a_plain_get_without_a_body() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let tell = get(async move |headers: axum::http::HeaderMap| {
        log.lock().unwrap().extend(headers.keys().map(ToString::to_string));
    });
    let server = Server::start(Router::new().route("/ok", tell)).await;
    check("/ok", at(server.address)).await.unwrap();
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    assert_eq!(heard, ["connection", "host", "user-agent"]);
}

/// A body without an end.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[0; 4_096])))))
    }
}

#[tokio::test]
async fn instances_are_found_well_and_ill_and_those_that_never_answer_too() {
    let server = Server::start(Router::new().route("/up", get(async || ()))).await;
    let (silent, address) = listen().await;
    let backend = InMemory::new();
    let there = |id: &str, address: std::net::SocketAddr| {
        Instance::new("users", id, &address.ip().to_string(), address.port()).unwrap()
    };
    for (id, address) in [("up", server.address), ("refused", nobody().await), ("silent", address)] {
        now(backend.register(there(id, address), ms(600_000))).unwrap();
    }
    let config = Config::new().timeout(ms(50)).interval(ms(20)).down_after(1).start_healthy(false);
    let checked = Checked::new(backend, HttpCheck::new("/up").unwrap(), config);
    let _watch = checked.watch(&users()).await.unwrap();
    // Checks that fail again change nothing that a watch would tell of.
    within(async {
        while checked.snapshot().failures < 4 || checked.snapshot().changes < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let all = checked.instances(&users()).await.unwrap();
    let told: Vec<String> = all.iter().map(|instance| told(instance)).collect();
    assert_eq!(told, ["refused:unhealthy", "silent:unhealthy", "up"]);
    drop(silent);
}

#[test]
fn a_path_that_is_none_is_refused() {
    for path in ["", "up", "http://x/", "/a b", "/\n", "*"] {
        let error = HttpCheck::new(path).unwrap_err();
        assert_eq!(error.field(), "path");
        assert!(!error.to_string().contains('\n'));
    }
    assert!(format!("{:?}", HttpCheck::new("/up?a=b").unwrap()).contains("/up"));
}
