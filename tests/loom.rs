//! All that is lock-free or hands something over, under loom, which tries the orders of its atomic operations and
//! locks: `RUSTFLAGS="--cfg mainstay_loom" cargo test --release --test loom`.
//!
//! What runs is the crate itself: by a private cfg it takes its atomics and locks from loom, each thread of a model has
//! a clock of its own, and chance is not left to chance. Bounds that are not the usual ones stand beside their models.

#![cfg(mainstay_loom)]
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "loom/support.rs"]
mod support;

#[path = "loom/balance.rs"]
mod balance;
#[path = "loom/breaker.rs"]
mod breaker;
#[path = "loom/budget.rs"]
mod budget;
#[path = "loom/concurrency.rs"]
mod concurrency;
#[path = "loom/discovery.rs"]
mod discovery;
#[path = "loom/fallback.rs"]
mod fallback;
#[path = "loom/isolation.rs"]
mod isolation;
#[path = "loom/keyed.rs"]
mod keyed;
#[path = "loom/load_shed.rs"]
mod load_shed;
#[path = "loom/places.rs"]
mod places;
#[path = "loom/probes.rs"]
mod probes;
#[path = "loom/queue.rs"]
mod queue;
#[path = "loom/rate_limit.rs"]
mod rate_limit;
#[path = "loom/window.rs"]
mod window;
