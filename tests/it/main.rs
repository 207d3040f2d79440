//! The behaviour of the crate through its public face, on a paused clock.

#![allow(missing_docs, reason = "tests say what they show by their names")]
#![allow(clippy::unwrap_used, reason = "an unwrap is an assertion here, in helpers too")]

mod alloc;
mod bad_input;
mod balance;
mod breaker_cancel;
mod breaker_control;
mod breaker_model;
mod breaker_service;
mod bulkhead;
mod client;
mod concurrency;
mod conformance;
mod conformance_breaker;
mod conformance_retry;
mod conformance_window;
mod contract;
mod details;
mod discovery;
mod discovery_model;
mod errors;
mod fallback;
mod faults;
mod floods;
mod fuzz;
mod harness;
mod hedge;
mod hedge_cancel;
mod hosts;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_stream;
mod isolation;
mod keyed;
#[cfg(feature = "http")]
mod keyed_http;
mod keyed_levels;
mod keyed_table;
mod load_shed;
mod log;
mod loopback;
mod observe;
mod overlap;
mod panics;
mod rate_limit;
mod registry;
mod retry_budget;
mod retry_cancel;
mod retry_config;
mod retry_observe;
mod retry_service;
mod review_cost;
mod review_findings;
mod review_rooms;
mod stack;
mod support;
mod timeout;
mod ui;
mod window;
