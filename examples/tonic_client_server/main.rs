//! A tonic client and a tonic server, each behind a stack: `cargo run --features http --example tonic_client_server`
#![allow(clippy::print_stdout, reason = "it shows what happens")]
#![allow(unreachable_pub, reason = "its module stands for generated code")]

mod echo;

use std::time::Duration;

use echo::{Echo, EchoClient};
use mainstay::{
    BoxError, CarryRejection, Error, OnError, Outcome, Rejection, Stack, breaker, bulkhead, classify_fn,
    http::RespondLayer,
};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    body::Body,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tower::ServiceBuilder;

/// gRPC's errors stand in a header, under the status 200.
fn judge<E: CarryRejection>(result: Result<&http::Response<Body>, &E>) -> Outcome {
    let Ok(response) = result else { return mainstay::Classify::classify(&OnError, result) };
    match Status::from_header_map(response.headers()).map(|status| status.code()) {
        Some(Code::Unavailable | Code::Internal | Code::DeadlineExceeded) => Outcome::Failure,
        _ => Outcome::Success,
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The server: 64 calls at a time. A gRPC client can only read a rejection that is a status.
    let server = Stack::builder("echo").bulkhead(bulkhead::Config::new(64)).build();
    let layer = ServiceBuilder::new()
        .layer(RespondLayer::with(|rejection: &Rejection| Status::unavailable(rejection.to_string()).into_http()))
        .layer(server.layer())
        .map_err(Error::Inner);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?;
    tokio::spawn(Server::builder().layer(layer).add_service(Echo).serve_with_incoming(TcpIncoming::from(listener)));

    // The client: no bound on its requests, for nothing is sent twice.
    let stack = Stack::builder("echo")
        .timeout(Duration::from_secs(1))
        .breaker(breaker::Config::new().consecutive_failures(2))
        .classify(classify_fn(judge::<Error<tonic::transport::Error>>))
        .build();
    let channel = ServiceBuilder::new().layer(stack.layer()).map_err(Error::Inner).service(endpoint.connect_lazy());
    let mut echo = EchoClient::new(channel);
    for message in ["hello", "fail", "fail", "hello"] {
        match echo.echo(message).await {
            Ok(answer) => println!("{message}: {}", String::from_utf8_lossy(&answer)),
            Err(status) => println!("{message}: {}", status.message()),
        }
    }
    Ok(())
}
