//! A shop front in trouble: the same incident twice, without and with mainstay.
//!
//! ```text
//!                                          +--> users
//!   visitors  --HTTP-->  gateway  --HTTP-->+--> orders            fails, then hangs, then recovers
//!                                          +--> recommendations   fails now and then, then always, then recovers
//! ```
//!
//! Everything is real but the work: each box is an HTTP server on a port of its own, and each call goes through a
//! socket. Visitors come at a fixed rate, whether or not earlier ones have been served. The gateway asks all three
//! upstreams for every page and puts a placeholder where a part is missing, in both runs. They differ in one thing: the
//! protected gateway makes its calls through a stack of fallback, time limits, retry with a budget, circuit breaker and
//! bulkhead, the other one tries three times at once. See `Part::fetch` in `gateway.rs`.
//!
//! Run it with `cargo run --release --example storefront`; `-- --help` tells its options. It takes some 25 seconds.

#![allow(unreachable_pub, reason = "these modules are a program: nobody outside could reach anything")]
#![allow(clippy::disallowed_methods, reason = "the ban keeps the library to one clock; a load generator needs its own")]

mod args;
mod gateway;
mod http;
mod incident;
mod load;
mod progress;
mod report;
mod shop;
mod upstream;

use std::{
    io::{self, StdoutLock, Write},
    process::ExitCode,
};

use args::{Command, Options};
use incident::{Phase, Stage};
use mainstay::BoxError;
use progress::Progress;
use report::{Outcome, Upstreams};
use shop::Shop;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let done = match args::parse(arguments) {
        Ok(Command::Run(options)) => compare(options).await,
        Ok(Command::Help) => print(|out| writeln!(out, "{}", args::USAGE)),
        Err(problem) => {
            eprintln!("storefront: {problem}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storefront: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the incident both ways and shows what came of it.
async fn compare(options: Options) -> Result<(), BoxError> {
    let unprotected = run(options, false).await?;
    let protected = run(options, true).await?;
    let incident = incident::describe(options.length());
    print(|out| {
        writeln!(out, "\n{} pages a second for {} s; {incident}.", options.rate, options.seconds)?;
        report::write_table(out, &unprotected, &protected)?;
        if options.json { report::write_json(out, &unprotected, &protected) } else { Ok(()) }
    })
}

/// Opens a shop, plays the incident to it under load, and closes it.
async fn run(options: Options, protected: bool) -> Result<Outcome, BoxError> {
    let (rate, length) = (options.rate, options.length());
    let stage = Stage::new();
    let shop = Shop::open(rate, protected, &stage).await?;
    let uri = shop.uri()?;
    load::warm_up(&uri).await?;

    let start = Instant::now();
    let changes = shop.changes(start);
    let title = if protected { "protected" } else { "unprotected" };
    let (orders, recommendations) = (stage.orders.subscribe(), stage.recommendations.subscribe());
    let progress = Progress { title, start, length, orders, recommendations, breakers: shop.breakers() };
    let (visits, (), ()) =
        tokio::join!(load::visit(&uri, start, rate, options.pages()), stage.play(start, length), progress.show(),);
    let wall = start.elapsed();
    let upstreams = Upstreams {
        calls_in_outage: shop.calls_in_outage(),
        flaky: shop.storm(Phase::Flaky),
        failing: shop.storm(Phase::Failing),
    };
    shop.close().await;
    Ok(Outcome::new(&visits?, upstreams, changes.try_iter().collect(), wall))
}

fn print(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<(), BoxError> {
    Ok(write(&mut io::stdout().lock())?)
}
