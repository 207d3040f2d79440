//! A stack around a database that goes down: `cargo run --example quickstart`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::time::Duration;

use mainstay::{Error, Stack, breaker, retry};

/// Stands for a database that goes down after the second call.
async fn fetch_user(id: u32) -> Result<String, std::io::Error> {
    if id <= 2 { Ok(format!("user {id}")) } else { Err(std::io::Error::other("connection refused")) }
}

#[tokio::main]
async fn main() {
    let users = Stack::builder("user-db") // or, with good defaults, Stack::database("user-db")
        .timeout(Duration::from_secs(2)) // for a call with all its attempts
        .retry(retry::Config::new().attempts(2))
        .breaker(breaker::Config::new().consecutive_failures(4))
        .build();

    for id in 1..=6 {
        match users.run(|| fetch_user(id)).await {
            Ok(user) => println!("call {id}: {user}"),
            Err(Error::Inner(error)) => println!("call {id}: the database failed: {error}"),
            Err(Error::Rejected(rejection)) => println!("call {id}: the database was left alone: {rejection}"),
        }
    }
    println!("the circuit is {}", users.breaker().expect("the stack has one").state());
}
