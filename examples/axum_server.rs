//! An axum server that stays quick when too much is asked of it:
//! `cargo run --features http --example axum_server`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::{error::Error as StdError, time::Duration};

use axum::{Router, body::Body, routing::get};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use mainstay::{Error, Stack, bulkhead, http::RespondLayer, load_shed};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError + Send + Sync>> {
    // Two requests are worked on, two may wait for up to 100 ms, and more are turned away at once: of low priority,
    // half as many are let in. None takes longer than 300 ms.
    let stack = Stack::builder("shop")
        .load_shed(load_shed::Config::new().in_flight(4).shares(1.0, 0.5))
        .timeout(Duration::from_millis(300))
        .bulkhead(bulkhead::Config::new(2).max_queue(2).max_wait(Duration::from_millis(100)))
        .build();

    let app = Router::new()
        .route("/", get(async || sleep(Duration::from_millis(50)).await))
        .route("/report", get(async || sleep(Duration::from_secs(60)).await))
        .layer(
            ServiceBuilder::new()
                .layer(RespondLayer::new()) // outermost: rejections become 503, 429 or 504
                .layer(stack.layer())
                .map_err(Error::Inner), // axum's services cannot fail; now they can be rejected
        );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    println!("six requests at once:");
    let mut answers = JoinSet::new();
    for _ in 0..6 {
        answers.spawn(client.get(format!("http://{address}/").parse()?));
    }
    while let Some(answer) = answers.join_next().await {
        println!("  {}", answer??.status());
    }

    let answer = client.get(format!("http://{address}/report").parse()?).await?;
    println!("one that takes a minute: {}", answer.status());
    println!("  {}", String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()));
    Ok(())
}
