//! The behaviour of the crate through its public face, on a paused clock.

#![allow(missing_docs, reason = "tests say what they show by their names")]
#![allow(clippy::unwrap_used, reason = "an unwrap is an assertion here, in helpers too")]

mod alloc;
mod bad_input;
mod breaker_cancel;
mod breaker_control;
mod breaker_service;
mod conformance;
mod conformance_breaker;
mod conformance_retry;
mod conformance_window;
mod errors;
mod log;
mod observe;
mod retry_budget;
mod retry_cancel;
mod retry_config;
mod retry_observe;
mod retry_service;
mod support;
mod ui;
mod window;
