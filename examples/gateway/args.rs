//! The command line.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use http::{Uri, uri::Authority};

pub const USAGE: &str = "\
A reverse proxy that puts a circuit breaker in front of each HTTP/1 server behind it.

Usage: gateway --upstream URL [--upstream URL]... [--config FILE] [--listen ADDR] [--timeout TIME]
               [--idle-timeout TIME]
       gateway --config FILE --check
       gateway --upstream URL [--upstream URL]... --passthrough [--listen ADDR] [--idle-timeout TIME]

  --upstream URL       http://host[:port] of a server; several are taken in turn
  --listen ADDR        ip:port to listen on (default 127.0.0.1:8080; port 0 takes a free one)
  --config FILE        the settings of a stack as .toml or .json, see examples/gateway/gateway.toml: load_shed,
                       rate_limit, timeout, retry and hedge for all servers together, breaker, concurrency, bulkhead
                       and attempt_timeout for each (default: a breaker for each)
  --check              look at the file, say what is wrong with it or that nothing is, and stop
  --timeout TIME       how long a server may take until its answer begins, like 250ms or 10s (default 10s); in a
                       file this is attempt_timeout
  --idle-timeout TIME  how long a server may be silent in the middle of its answer (default 60s)
  --passthrough        the same proxy without mainstay, to see what that costs: servers are taken in turn whatever they
                       do, and nothing limits when their answers begin; not with --config, --check or --timeout
  --help               print this

GET /-/health tells the state of all circuits as JSON, with --config that of all policies; nothing else is answered by
the gateway itself. Wrong arguments and files end it with code 2 and a line that says what is wrong.";

/// What to do.
#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub upstreams: Vec<Authority>,
    pub config: Option<String>,
    /// How long a server may take until its answer begins, if that was said.
    pub head: Option<Duration>,
    /// How long between two pieces of its answer.
    pub idle: Duration,
    /// Whether nothing is to protect the servers.
    pub passthrough: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Options),
    /// Look at this file.
    Check(String),
    Help,
}

/// The options that were given, so far.
#[derive(Default)]
struct Given {
    listen: Option<SocketAddr>,
    upstreams: Vec<Authority>,
    config: Option<String>,
    head: Option<Duration>,
    idle: Option<Duration>,
    check: bool,
    passthrough: bool,
}

/// Reads the arguments, or says in one line what is wrong with them.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut given = Given::default();
    while let Some(arg) = args.next() {
        let (flag, inline) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        match flag {
            "--help" | "-h" => return Ok(Command::Help),
            "--check" if inline.is_none() => given.check = true,
            "--passthrough" if inline.is_none() => given.passthrough = true,
            "--listen" | "--upstream" | "--config" | "--timeout" | "--idle-timeout" => {
                let value = inline.or_else(|| args.next()).ok_or_else(|| format!("{flag} needs a value"))?;
                given.take(flag, &value).map_err(|why| complaint(flag, &value, why))?;
            }
            _ => return Err(format!("unknown argument {:?}; --help lists those there are", redact(&arg))),
        }
    }
    given.finish()
}

/// The line that says what is wrong with a value.
pub fn complaint(flag: &str, value: &str, why: impl Display) -> String {
    format!("{flag} {:?}: {why}", redact(value))
}

impl Given {
    fn take(&mut self, flag: &str, value: &str) -> Result<(), String> {
        match flag {
            "--listen" => once(&mut self.listen, value.parse().map_err(|_| "not an ip:port".to_owned())?),
            "--config" => once(&mut self.config, value.to_owned()),
            "--timeout" => once(&mut self.head, time(value)?),
            "--idle-timeout" => once(&mut self.idle, time(value)?),
            _ => {
                let upstream = upstream(value)?;
                if self.upstreams.contains(&upstream) {
                    return Err("given twice".to_owned());
                }
                self.upstreams.push(upstream);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Command, String> {
        let Self { check, passthrough, .. } = self;
        let protects = [("--check", check), ("--config", self.config.is_some()), ("--timeout", self.head.is_some())];
        if let Some((flag, _)) = protects.iter().find(|(_, given)| passthrough && *given) {
            return Err(format!("--passthrough leaves out all that protects: it does not go with {flag}"));
        }
        if self.check {
            let file = self.config.ok_or_else(|| "--check needs --config: which file?".to_owned())?;
            return Ok(Command::Check(file));
        }
        if self.upstreams.is_empty() {
            return Err("--upstream is missing: where should the calls go?".to_owned());
        }
        let idle = self.idle.unwrap_or(Duration::from_secs(60));
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let Self { upstreams, config, head, .. } = self;
        Ok(Command::Run(Options { listen, upstreams, config, head, idle, passthrough }))
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("given twice".to_owned()),
    }
}

/// A whole number of ms, s or m, up to an hour.
fn time(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: Option<u64> = text.strip_suffix(unit).and_then(|number| number.parse().ok());
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let length = number.zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    match length {
        Some(length @ 1..=3_600_000) => Ok(Duration::from_millis(length)),
        _ => Err("must be a whole number of ms, s or m, from 1ms to 60m".to_owned()),
    }
}

fn upstream(url: &str) -> Result<Authority, String> {
    // Before anything else is looked at, so that no message shows a password. A path may have an @ too, but there must
    // be no path.
    if url.contains('@') {
        return Err("credentials in URL not allowed".to_owned());
    }
    let uri: Uri = url.parse().map_err(|why: http::uri::InvalidUri| why.to_string())?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
        return Err("must begin with http://".to_owned());
    };
    if authority.host().is_empty() {
        return Err("has no host".to_owned());
    }
    // What follows the host is a colon and a number, or nothing; `http` takes a number that is too large for none.
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("the port must be from 1 to 65535".to_owned());
    }
    if uri.path() != "/" || uri.query().is_some() || url.contains('#') {
        return Err("must end after the host and port: the path comes from the client".to_owned());
    }
    Ok(authority.clone())
}

/// The value without what may be a password.
fn redact(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((secret, rest)) => {
            let scheme = secret.find("://").map_or("", |at| &secret[..at + 3]);
            format!("{scheme}***@{rest}")
        }
        None => value.to_owned(),
    }
}
