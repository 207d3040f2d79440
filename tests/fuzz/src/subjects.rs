//! All that is read from a file: how it is read, and documents in which every section stands. `tests/it/fuzz.rs`
//! compares the list with what the crate can read.

use std::fmt::Debug;

use mainstay::{
    Name, balance, breaker, bulkhead, client, concurrency, contract, discovery, fallback, hedge, isolation,
    keyed::{self, Operation, Tenant},
    load_shed, observe, rate_limit, retry, stack, window,
};
use serde::{Serialize, de::DeserializeOwned};

use super::exercise;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Toml,
}

/// Why a text was refused, and where in it, if the format says so.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub message: String,
    pub place: Option<std::ops::Range<usize>>,
}

impl Format {
    pub fn read<T: DeserializeOwned>(self, text: &str) -> Result<T, Refusal> {
        match self {
            Self::Json => serde_json::from_str(text).map_err(|error| Refusal {
                message: error.to_string(),
                place: offset(text, error.line(), error.column()).map(|at| at..at),
            }),
            Self::Toml => toml::from_str(text)
                .map_err(|error| Refusal { message: error.message().to_owned(), place: error.span() }),
        }
    }
}

/// How far into the text the column of a line is, counted from 1.
fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let before: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    Some((before + column.saturating_sub(1)).min(text.len()))
}

/// What is read from a file.
pub trait Subject: Serialize + DeserializeOwned + Debug {
    /// Documents in JSON that are right and have every section in one of them.
    const DOCUMENTS: &'static [&'static str];

    /// Does with it what it is for.
    fn exercise(self);
}

/// A subject by name.
pub struct Entry {
    pub name: &'static str,
    pub documents: &'static [&'static str],
    /// Reads, and no more.
    pub check: fn(&str, Format) -> Result<(), Refusal>,
    /// Reads, writes what was read, reads that, and uses it.
    pub read: fn(&str, Format) -> Result<(), Refusal>,
}

/// Those that there are with the feature `http` only.
#[cfg(not(feature = "http"))]
pub const HTTP: &[Entry] = &[];
#[cfg(feature = "http")]
pub const HTTP: &[Entry] = &[entry::<mainstay::http::StatusClassify>("http::StatusClassify")];

#[cfg(feature = "http")]
impl Subject for mainstay::http::StatusClassify {
    const DOCUMENTS: &'static [&'static str] = &[r#"{"failure": [429], "success": [404], "ignore": [501]}"#];

    fn exercise(self) {
        (100..=999).filter_map(|code| http::StatusCode::from_u16(code).ok()).for_each(|code| {
            let _ = self.outcome(code);
        });
    }
}

/// All there are.
pub fn all() -> impl Iterator<Item = &'static Entry> + Clone {
    ALWAYS.iter().chain(HTTP)
}

const fn entry<S: Subject>(name: &'static str) -> Entry {
    Entry { name, documents: S::DOCUMENTS, check: check::<S>, read: read::<S> }
}

fn check<S: Subject>(text: &str, format: Format) -> Result<(), Refusal> {
    format.read::<S>(text).map(drop)
}

fn read<S: Subject>(text: &str, format: Format) -> Result<(), Refusal> {
    let value: S = format.read(text)?;
    comes_back(&value);
    value.exercise();
    Ok(())
}

/// What was read can be written, and what is written is read as the same. A moment is written in whole milliseconds.
pub fn comes_back<S: Serialize + DeserializeOwned + Debug>(value: &S) {
    let (json, again) = written_and_read(value);
    let (same, last) = written_and_read(&again);
    assert_eq!(json, same);
    assert_eq!(format!("{last:?}"), format!("{again:?}"), "{json}");
    assert!(json.contains("_unix_ms") || format!("{again:?}") == format!("{value:?}"), "{json} was {value:?}");
}

fn written_and_read<S: Serialize + DeserializeOwned>(value: &S) -> (String, S) {
    let json = serde_json::to_value(value).expect("what was read can be written");
    let text = json.to_string();
    assert!(serde_json::from_str::<S>(&text).is_ok(), "{text} is refused");
    // Not from the text: reading a float from it may change its last bit.
    let again = serde_json::from_value(json).unwrap_or_else(|error| panic!("{text} is refused: {error}"));
    (text, again)
}

macro_rules! subjects {
    ($($type:ty = $name:literal, $exercise:expr, [$($document:literal),* $(,)?];)*) => {
        $(impl Subject for $type {
            const DOCUMENTS: &'static [&'static str] = &[$($document),*];

            fn exercise(self) {
                let exercise: fn(Self) = $exercise;
                exercise(self);
            }
        })*

        /// Those that there always are.
        pub const ALWAYS: &[Entry] = &[$(entry::<$type>($name)),*];
    };
}

subjects! {
    breaker::Config = "breaker::Config", exercise::breaker, [
        r#"{"window": {"time": "10s", "buckets": 10}, "slow_after": "1s"}"#,
        r#"{"window": {"calls": 50}, "open_growth": 2.0}"#,
    ];
    breaker::Saved = "breaker::Saved", |it| exercise::saved(&it), [
        r#"{"state": "open", "open_remaining_ms": 1, "failed_probings": 1, "consecutive_failures": 1,
            "window": {"success": 3, "failure": 2}, "totals": {"calls": {"success": 3}}}"#,
    ];
    bulkhead::Config = "bulkhead::Config", exercise::bulkhead, [
        r#"{"limit": 8, "max_queue": 4, "max_wait": "1s", "reserve": 2}"#,
    ];
    concurrency::Config = "concurrency::Config", exercise::concurrency, [
        r#"{"kind": "gradient", "remeasure_every": "60s"}"#, r#"{"kind": "aimd"}"#, r#"{"kind": "vegas"}"#,
    ];
    hedge::Config = "hedge::Config", exercise::hedge, [
        r#"{"delay": "50ms", "budget": {"ratio": 0.2}}"#, r#"{"percentile": 95, "budget": {}}"#,
    ];
    load_shed::Config = "load_shed::Config", exercise::load_shed, [
        r#"{"in_flight": 64, "queue_delay": {}, "throttle": {}}"#,
    ];
    rate_limit::Config = "rate_limit::Config", exercise::rate_limit, [
        r#"{"calls": 10, "per": "1s", "burst": 5, "max_wait": "1s"}"#,
    ];
    retry::Config = "retry::Config", exercise::retry, [
        r#"{"backoff": {"kind": "exponential", "initial": "10ms", "cap": "1s"}, "budget": {},
            "jitter": {"range": 0.5}}"#,
        r#"{"backoff": {"kind": "linear", "initial": "10ms"}, "budget": "off", "jitter": "decorrelated"}"#,
        r#"{"backoff": {"kind": "fixed"}, "retry_on": ["timed_out"], "jitter": "equal"}"#,
    ];
    retry::BudgetConfig = "budget::BudgetConfig", exercise::budget, [r#"{"ratio": 0.2}"#];
    fallback::CacheConfig = "fallback::CacheConfig", exercise::cache, [r#"{"max_age": "1h"}"#];
    keyed::Config<Tenant, breaker::Config> = "keyed::Config", exercise::tenants, [
        r#"{"max_keys": 4, "idle_for": "1s", "default": {"window": {}}, "others": {"window": {}},
            "keys": {"gold": {"window": {}}}}"#,
    ];
    keyed::Config<Operation, rate_limit::Config> = "keyed::Config", exercise::operations, [
        r#"{"default": {"calls": 10, "per": "1s"}, "others": {"calls": 10, "per": "1s"},
            "keys": {"export": {"calls": 1, "per": "1s"}}}"#,
    ];
    keyed::LevelsConfig = "keyed::LevelsConfig", exercise::levels, [
        r#"{"global": {"limit": 64}, "tenants": {"default": {"limit": 4}, "others": {"limit": 4},
            "keys": {"gold": {"limit": 8}}}, "operations": {"default": {"limit": 4}, "others": {"limit": 4},
            "keys": {"export": {"limit": 8}}}}"#,
    ];
    stack::Config = "stack::Config", exercise::stack, [
        r#"{"preset": "standard", "load_shed": {"in_flight": 64, "queue_delay": {}, "throttle": {}},
            "rate_limit": {"calls": 100, "per": "1s"}, "retry": {"backoff": {}, "budget": {}, "jitter": {"range": 0.1}},
            "hedge": {"budget": {}}, "breaker": {"window": {}}, "concurrency": {}, "bulkhead": {"limit": 64}}"#,
    ];
    balance::Config = "balance::Config", exercise::balance, [
        r#"{"outlier": {}, "breaker": {"window": {}}, "slow_start": {"window": "1m"}}"#,
    ];
    balance::Outlier = "balance::Outlier", |it| exercise::balance(balance::Config::new().outlier(it)), ["{}"];
    balance::SlowStart = "balance::SlowStart", |it| exercise::balance(balance::Config::new().slow_start(it)), [
        r#"{"window": "1m"}"#,
    ];
    client::Config = "client::Config", exercise::client, [
        r#"{"stack": {"preset": "standard", "load_shed": {"in_flight": 64, "queue_delay": {}, "throttle": {}},
            "rate_limit": {"calls": 100, "per": "1s"}, "retry": {"backoff": {}, "budget": {}, "jitter": {"range": 0.1}},
            "hedge": {"budget": {}}, "breaker": {"window": {}}, "concurrency": {}, "bulkhead": {"limit": 64}},
            "balance": {"outlier": {}, "breaker": {"window": {}}, "slow_start": {"window": "1m"}}}"#,
    ];
    isolation::Config = "isolation::Config", exercise::isolation, [
        r#"{"level": "full", "retry": {"backoff": {}, "budget": {}, "jitter": {"range": 0.1}},
            "breaker": {"window": {}}, "bulkhead": {"limit": 64}, "rate_limit": {"calls": 100, "per": "1s"},
            "load_shed": {"in_flight": 64, "queue_delay": {}, "throttle": {}}}"#,
    ];
    discovery::Config = "discovery::Config", exercise::discovery, [r#"{"events": 16}"#];
    discovery::health::Config = "discovery::health::Config", exercise::health_checks, [r#"{"interval": "5s"}"#];
    contract::Contract = "contract::Contract", |_| (), [
        r#"{"name": "users", "version": "1.4.0", "health": {"status": "healthy", "at_unix_ms": 1,
            "details": {"a": "b"}},
            "capabilities": [{"name": "search", "version": "1.0.0"}],
            "endpoints": [{"method": "get", "verb": "GET", "path": "/users/{id}",
                "parameters": [{"name": "id", "type": "u32", "required": true}],
                "responses": [{"code": "200", "type": "User"}]}]}"#,
    ];
    contract::Capability = "contract::Capability", |_| (), [r#"{"name": "search"}"#];
    contract::Endpoint = "contract::Endpoint", |_| (), [r#"{"method": "get"}"#];
    contract::Parameter = "contract::Parameter", |_| (), [r#"{"name": "id", "type": "u32"}"#];
    contract::Response = "contract::Response", |_| (), [r#"{"code": "200", "type": "User"}"#];
    contract::Health = "contract::Health", |_| (), [r#"{"status": "degraded", "at_unix_ms": 1,
            "details": {"a": "b"}}"#];
    contract::Instance = "contract::Instance", exercise::one_instance, [
        r#"{"id": "users-1", "service": "users", "host": "10.0.0.7", "port": 8080, "last_seen_unix_ms": 1,
            "health": {"status": "healthy", "at_unix_ms": 1}, "metadata": {"zone": "a"}}"#,
    ];
    window::Counts = "window::Counts", |_| (), [r#"{}"#];
    observe::Totals = "observe::Totals", |_| (), [r#"{"calls": {}}"#];
    Name = "Name", |_| (), [r#""users""#];
    contract::ServiceName = "contract::ServiceName", |it| drop(it.policy_name()), [r#""users""#];
    contract::InstanceId = "contract::InstanceId", |it| drop(it.policy_name()), [r#""users-1""#];
    contract::Method = "contract::Method", |it| drop(it.policy_name()), [r#""get""#];
    contract::Version = "contract::Version", |_| (), [r#""1.4.0""#];
    Tenant = "keyed::Tenant", |_| (), [r#""gold""#];
    Operation = "keyed::Operation", |_| (), [r#""export""#];
}
