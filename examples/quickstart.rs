//! A database that goes down, behind a circuit breaker: `cargo run --example quickstart`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use mainstay::{
    Error,
    breaker::{CircuitBreakerLayer, Config, Handle},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// Stands for a database that goes down after the second call.
async fn fetch_user(id: u32) -> Result<String, std::io::Error> {
    if id <= 2 { Ok(format!("user {id}")) } else { Err(std::io::Error::other("connection refused")) }
}

#[tokio::main]
async fn main() -> Result<(), Error<std::io::Error>> {
    let breaker = Handle::new("user-db", Config::new().consecutive_failures(3));
    let mut users = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .map_err(Error::Inner) // once, at the bottom: the error can then carry a rejection
        .service(service_fn(fetch_user));

    for id in 1..=7 {
        match users.ready().await?.call(id).await {
            Ok(user) => println!("call {id}: {user}"),
            Err(Error::Inner(error)) => println!("call {id}: the database failed: {error}"),
            Err(Error::Rejected(rejection)) => println!("call {id}: the database was left alone: {rejection}"),
        }
    }
    println!("the circuit is {}", breaker.state());
    Ok(())
}
