//! The behaviour of the crate through its public face, on a paused clock.

#![allow(missing_docs, reason = "tests say what they show by their names")]

mod alloc;
mod bad_input;
mod breaker_cancel;
mod breaker_control;
mod breaker_service;
mod errors;
//#[cfg(feature = "http")]
//mod hosts;
//#[cfg(feature = "http")]
//mod http;
mod observe;
mod support;
mod ui;
mod window;
