//! What protects the servers: as it always is, or as a file says.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use mainstay::{breaker, stack::Config};

use crate::args::Options;

/// A file that is longer has not been written by hand, and is not read.
const LARGEST: u64 = 1024 * 1024;

/// How long a server may take until its answer begins, if nothing else is said.
const HEAD: Duration = Duration::from_secs(10);

/// A stack, taken in two: another attempt is best made with another server, and each server has failures of its own.
pub struct Settings {
    /// In front of all servers.
    pub all: Config,
    /// In front of each.
    pub server: Config,
    /// How long a server may take until its answer begins: the stack's limit of an attempt, held by who knows whether
    /// the client is late.
    pub head: Duration,
    /// How long a server may be silent in the middle of its answer.
    pub idle: Duration,
    pub from_file: bool,
}

impl Settings {
    pub fn of(options: &Options) -> Result<Self, String> {
        match &options.config {
            Some(file) => split(read(file)?, options),
            None => Ok(usual(options.head.unwrap_or(HEAD), options.idle)),
        }
    }
}

/// A breaker for each server. A busy server is judged by its rate, one with few calls by what fails in a row.
fn usual(head: Duration, idle: Duration) -> Settings {
    let breaker = breaker::Config::new()
        .time_window(Duration::from_secs(10))
        .minimum_calls(20)
        .failure_rate(0.5)
        .consecutive_failures(10)
        .open_for(Duration::from_secs(1))
        .open_growth(2.0, Duration::from_secs(30))
        .open_jitter(0.2)
        .honor_retry_after(Duration::from_secs(30))
        // A reader who leaves after the server has been silent for so long in the middle of its answer tells of a
        // failure.
        .count_cancelled_after(head)
        // Longer than a probe can take until it fails by itself, or its failure would come too late to count.
        .half_open_for(head + Duration::from_secs(1));
    let mut server = Config::new();
    server.breaker = Some(breaker);
    Settings { all: Config::new(), server, head, idle, from_file: false }
}

fn split(mut all: Config, options: &Options) -> Result<Settings, String> {
    if options.head.is_some() && all.attempt_timeout.is_some() {
        return Err("--timeout: the file has an attempt_timeout, which is the same".to_owned());
    }
    let mut server = Config::new();
    server.breaker = all.breaker.take();
    server.concurrency = all.concurrency.take();
    server.bulkhead = all.bulkhead.take();
    // A call that the limit of all attempts ends is cancelled to the breaker: a server that hangs has to fail before.
    let head = all.attempt_timeout.take().or(options.head).unwrap_or(HEAD);
    let head = all.timeout.map_or(head, |timeout| head.min(timeout));
    Ok(Settings { all, server, head, idle: options.idle, from_file: true })
}

/// Reads a file, or says in one line what is wrong with it.
pub fn read(file: &str) -> Result<Config, String> {
    let parse = match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml,
        Some("json") => json,
        _ => return Err(problem(file, "what is it? The name must end in .toml or .json")),
    };
    let text = text(file).map_err(|why| problem(file, why))?;
    parse(&text).map_err(|why| problem(file, why))
}

/// One line, whatever the file and its name have in them.
fn problem(file: &str, why: impl Display) -> String {
    let line = format!("{file}: {why}");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn text(file: &str) -> Result<String, String> {
    let unreadable = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be read: {why}"),
    };
    let mut bytes = Vec::new();
    // One byte more than there may be. Some files do not know how long they are.
    File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 1 MiB, which no settings are".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no text: not UTF-8".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn toml(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| {
        let message = error.message();
        match error.span().filter(|span| span.len() < text.len()).and_then(|span| text.get(..span.start)) {
            Some(before) => {
                let (line, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
                let column = before[start..].chars().count() + 1;
                format!("line {line}, column {column}: {}{message}", field(toml::from_str(text).ok()))
            }
            // Values that cannot be: the message names each.
            None => message.to_owned(),
        }
    })
}

fn json(text: &str) -> Result<Config, String> {
    if text.trim_start().starts_with('[') {
        return Err("line 1, column 1: a list, where an object of settings belongs".to_owned());
    }
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let (line, column) = (error.line(), error.column());
        match message.strip_suffix(&format!(" at line {line} column {column}")) {
            Some(message) => {
                format!("line {line}, column {column}: {}{message}", field(serde_json::from_str(text).ok()))
            }
            None => message,
        }
    })
}

/// The field in which a value of the wrong kind stands. Only the reader of a table knows it, which knows no lines.
fn field(table: Option<toml::Table>) -> String {
    let error = table.and_then(|table| table.try_into::<Config>().err()).map(|error| error.to_string());
    let path = error.as_deref().and_then(|error| error.lines().last()?.strip_prefix("in `")?.strip_suffix('`'));
    path.map(|path| format!("{path}: ")).unwrap_or_default()
}
