//! Behaviour as a caller sees it, on a paused clock.

mod conformance;
mod conformance_breaker;
mod conformance_window;
