//! reqwest behind a stack, and a stack inside it: `cargo run --features http --example reqwest_client`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::time::Duration;

use axum::{Router, routing::get};
use mainstay::{
    BoxError, CarryRejection, Classify, Error, OnError, Outcome, Stack, breaker,
    http::{StatusClassify, retry_after},
    retry,
};
use reqwest::{Client, Method, Request, Response};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

/// The meaning of statuses, for reqwest's own type of response.
struct Statuses(StatusClassify);

impl<E: CarryRejection> Classify<Response, E> for Statuses {
    fn classify(&self, result: Result<&Response, &E>) -> Outcome {
        result.map_or_else(|error| OnError.classify(Err::<&Response, _>(error)), |ok| self.0.outcome(ok.status()))
    }
    fn retry_after(&self, result: Result<&Response, &E>) -> Option<Duration> {
        result.ok().and_then(|response| retry_after(response.headers()))
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url: reqwest::Url = format!("http://{}/", listener.local_addr()?).parse()?;
    let app = Router::new().route("/", get(async || "hello"));
    tokio::spawn(async move { axum::serve(listener, app).await });

    // Inside, around the connector: once for each connection, not for each request.
    let connects = Stack::builder("connects").breaker(breaker::Config::new()).timeout(Duration::from_secs(1)).build();
    let client = Client::builder().retry(reqwest::retry::never()).connector_layer(connects.layer()).build()?;

    // Outside, around the client: once for each request. A request whose body streams has no copy, and is sent once.
    let stack = Stack::builder("shop")
        .timeout(Duration::from_secs(2))
        .retry(retry::Config::http())
        .breaker(breaker::Config::new())
        .classify(Statuses(StatusClassify::retryable()))
        .replay(|request: &Request| request.method().is_idempotent().then(|| request.try_clone()).flatten())
        .build();
    let mut shop = ServiceBuilder::new().layer(stack.layer()).map_err(Error::Inner).service(client);
    for _ in 0..3 {
        let answer = shop.ready().await?.call(Request::new(Method::GET, url.clone())).await?;
        println!("{}: {}", answer.status(), answer.text().await?);
    }
    let calls = |stack: mainstay::stack::Snapshot| stack.breaker.map_or(0, |breaker| breaker.totals.calls.success);
    println!("{} requests over {} connection", calls(stack.snapshot()), calls(connects.snapshot()));
    Ok(())
}
