//! A small fleet in trouble: instances of two services die, come, grow slow and fail, while callers call.
//!
//! ```text
//!                  discovery (in memory): who is there
//!                      |  leases, watches
//!   callers -----> client ---------------------------> users-1, users-2, users-3, users-4
//!   callers -----> isolation manager ---> client ----> orders-1, orders-2, orders-3
//! ```
//!
//! Each instance is an HTTP server on a port of its own, which registers itself and sends heartbeats. The client follows
//! discovery, balances, ejects what does worse than the others, and tries on another instance what failed on one. Calls
//! of orders go through the isolation manager, whose level is switched while they run. What happens is told as it
//! happens; a table says what it came to.
//!
//! Run it with `cargo run --release --features http --example fleet`; `-- --help` tells its options. It takes 18
//! seconds.

#![allow(unreachable_pub, reason = "these modules are a program: nobody outside could reach anything")]
#![allow(clippy::disallowed_methods, reason = "the ban keeps the library to one clock; a load generator needs its own")]

mod args;
mod callers;
mod fleet;
mod report;
mod script;
mod server;
mod timeline;

use std::{
    io::{self, StdoutLock, Write},
    process::ExitCode,
};

use args::{Command, Options};
use fleet::Fleet;
use mainstay::BoxError;
use report::Report;
use timeline::Timeline;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let done = match args::parse(arguments) {
        Ok(Command::Run(options)) => run(options).await,
        Ok(Command::Help) => print(|out| writeln!(out, "{}", args::USAGE)),
        Err(problem) => {
            eprintln!("fleet: {problem}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens the fleet, plays the script to it under load, and shows what came of it.
async fn run(options: Options) -> Result<(), BoxError> {
    let start = Instant::now();
    let timeline = Timeline::begin(start);
    let mut fleet = Fleet::open(&timeline).await?;
    let (users, orders) = (fleet.users(), fleet.orders());
    let (calls, rate) = (options.calls(), options.rate);
    let (played, of_users, of_orders) = tokio::join!(
        script::play(&mut fleet, &timeline, start, options.length()),
        callers::call("users", users, start, (rate, calls)),
        callers::call("orders", orders, start, (rate, calls)),
    );
    played?;
    let report = Report::of(&mut fleet, [of_users?, of_orders?], start.elapsed()).await?;
    print(|out| {
        report.write_table(out)?;
        if options.json { report.write_json(out, &timeline.lines()) } else { Ok(()) }
    })
}

fn print(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<(), BoxError> {
    Ok(write(&mut io::stdout().lock())?)
}
