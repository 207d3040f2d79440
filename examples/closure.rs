//! A plain async closure behind a whole stack, without HTTP or Tower: `cargo run --example closure`
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use mainstay::{Error, Stack};

/// Stands for a query: every third one loses its connection.
async fn query(queries: &AtomicU32, id: u32) -> io::Result<String> {
    match queries.fetch_add(1, Relaxed) % 3 {
        1 => Err(io::ErrorKind::ConnectionReset.into()),
        _ => Ok(format!("user {id}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error<io::Error>> {
    // A limit for a call and one for an attempt, retries with a budget, a breaker, and as many places as a pool has
    // connections. Clones of the stack share all of it.
    let users = Stack::database("user-db");

    let queries = AtomicU32::new(0);
    for id in 1..=4 {
        // The closure is called once for each attempt, and the answer is that of the last one.
        let user = users.run(|| query(&queries, id)).await?;
        println!("{user}, after {} queries in all", queries.load(Relaxed));
    }

    // Whoever holds the stack can look into it and switch it.
    let breaker = users.breaker().expect("this stack has one");
    println!("the circuit is {}: {} failures", breaker.state(), breaker.snapshot().totals.calls.failures());
    breaker.force_open();
    match users.run(|| query(&queries, 5)).await {
        Err(Error::Rejected(rejection)) => println!("left alone: {rejection}"),
        Err(Error::Inner(error)) => println!("failed: {error}"),
        Ok(user) => println!("{user}"),
    }
    Ok(())
}
