//! stub
pub mod admission;
pub mod breaker;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod lanes;
mod name;
pub mod observe;
mod outcome;
mod settings;
mod sync;
pub mod time;
mod waiters;
pub mod window;

pub use error::{BoxError, CarryRejection, Error, Reason, Rejection};
pub use name::Name;
pub use outcome::{Classify, OnError, Outcome, classify_error, classify_fn};
pub use settings::ConfigError;
