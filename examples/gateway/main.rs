//! A reverse proxy that keeps a sick server from making its clients sick.
//!
//! ```text
//!   clients  --HTTP-->  gateway  --HTTP-->  http://10.0.0.1:8080    a circuit breaker for each
//!                                  `----->  http://10.0.0.2:8080
//! ```
//!
//! Servers are called in turn; one whose circuit is open is passed over. A call counts as a failure when the server
//! cannot be reached, breaks off, says 5xx, takes too long to begin its answer, or falls silent in the middle of it,
//! and bodies are judged at their end. When no circuit lets the call in, the client is told at once when to come back.
//! Bodies stream through in both directions. `GET /-/health` tells what the breakers know.
//!
//! With `--config FILE` all the policies of a stack are as the file says: see `gateway.toml`. What may be sent twice is
//! then sent to the next server when one fails, with its body if that is small.
//!
//! With `--passthrough` it is the same proxy without any of this, to see what it costs: `benches/load/run` compares
//! the two under load.
//!
//! From the outside in (see `front.rs`, `pool.rs` and `upstream.rs`; `passthrough.rs` for the way without it):
//!
//! ```text
//!   RespondLayer                          rejections become 429, 503 and 504
//!     ReplayBodyLayer                     a small body can go to another server too
//!       Stack                             with --config: load shed, rate limit, timeout, retry, hedge
//!         next server in turn
//!           Stack::until_body_end         breaker, with --config: concurrency, bulkhead; StatusClassify
//!             time limit, call            Rejection with Reason::TimedOut
//! ```
//!
//! Try it with any server: `cargo run --release --features http --example gateway -- --upstream http://127.0.0.1:9000`

#![allow(unreachable_pub, reason = "these modules are a program: nobody outside could reach anything")]
#![allow(clippy::disallowed_methods, reason = "the ban keeps the library to one clock; these timers are the program's")]

mod args;
mod body;
mod front;
mod headers;
mod health;
mod passthrough;
mod pool;
mod report;
mod route;
mod server;
mod settings;
mod upstream;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use args::{Command, Options};
use bytes::Bytes;
use front::{Answers, Front};
use http::uri::Authority;
use http_body::Body;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use mainstay::BoxError;
use passthrough::Passthrough;
use pool::Pool;
use route::{Client, Route};
use settings::Settings;
use tokio::net::TcpListener;
use upstream::Upstream;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let done = match args::parse(arguments) {
        Ok(Command::Run(options)) => run(options).await,
        Ok(Command::Check(file)) => settings::read(&file).and_then(|_| say(&format!("{file:?} can be used"))),
        Ok(Command::Help) => say(args::USAGE),
        Err(problem) => Err(problem),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            report::line(&format_args!("gateway: {problem}"));
            ExitCode::from(2)
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    if options.passthrough {
        let client = client();
        let routes = options.upstreams.iter().map(|to| Route::new(client.clone(), to.clone(), options.idle));
        let servers: Vec<_> = options.upstreams.iter().map(Authority::as_str).collect();
        return serve(&options, &Passthrough::new(routes.collect()), &servers).await;
    }
    let settings = Settings::of(&options)?;
    let pool = pool(&options, &settings)?;
    let front = Front::new(pool.clone(), &settings).map_err(|why| why.to_string())?;
    let servers: Vec<_> = pool.upstreams().iter().map(|upstream| upstream.stack.name().as_str()).collect();
    serve(&options, &front, &servers).await
}

async fn serve(options: &Options, front: &impl Answers, servers: &[&str]) -> Result<(), String> {
    let stop = server::stop_signal().map_err(|why| format!("cannot wait for signals: {why}"))?;
    let at = options.listen.to_string();
    let listener = TcpListener::bind(options.listen).await.map_err(|why| args::complaint("--listen", &at, why))?;
    let addr = listener.local_addr().map_err(|why| args::complaint("--listen", &at, why))?;
    let bare = if options.passthrough { ", without mainstay" } else { "" };
    say(&format!("listening on http://{addr}, in front of {}{bare}", servers.join(", ")))?;
    server::run(listener, front, stop).await;
    Ok(())
}

fn pool(options: &Options, settings: &Settings) -> Result<Pool, String> {
    let client = client();
    let upstreams = options.upstreams.iter().map(|to| {
        let upstream = Upstream::new(client.clone(), to.clone(), settings);
        upstream.map_err(|why| args::complaint("--upstream", to.as_str(), why))
    });
    upstreams.collect::<Result<_, _>>().map(Pool::new)
}

fn client<B>() -> Client<B>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

fn say(text: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{text}").map_err(|why| format!("cannot write to stdout: {why}"))
}
