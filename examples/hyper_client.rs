//! hyper-util's client behind the stack for HTTP: `cargo run --features http --example hyper_client`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::{
    error::Error as StdError,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use axum::{Router, http::StatusCode, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use mainstay::{Error, Stack};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

/// The first request finds the server busy, the second does not.
async fn users() -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    match REQUESTS.fetch_add(1, Relaxed) {
        0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "busy"),
        _ => (StatusCode::OK, [("x-by", "users")], "Ada"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/users/7", listener.local_addr()?);
    let app = Router::new().route("/users/7", get(users));
    tokio::spawn(async move { axum::serve(listener, app).await });

    // Knows which statuses are the service's failure, which requests may be sent twice, and `Retry-After`.
    let stack = Stack::http_client("users");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut users = ServiceBuilder::new()
        .layer(stack.layer())
        .map_err(Error::Inner) // once, at the bottom: the error can then carry a rejection
        .service(client);

    let answer = users.ready().await?.call(Request::get(&url).body(Full::default())?).await?;
    println!("GET: {}", answer.status());
    println!("  {}", String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()));
    println!("  after {} retry", stack.snapshot().retry.map_or(0, |retry| retry.retries));

    // A POST that failed may have been carried out all the same: it is not sent twice. And 405 is the client's fault.
    let answer = users.ready().await?.call(Request::post(&url).body(Full::from("Bob"))?).await?;
    println!("POST: {}, and the circuit is {}", answer.status(), stack.breaker().expect("it has one").state());
    Ok(())
}
