//! Settings: what is wrong with a value, durations as text, and rates as exact fractions.

mod checks;
mod duration;
mod error;
mod ratio;
mod section;

pub use error::ConfigError;

pub(crate) use checks::{Checks, LONGEST};
pub(crate) use duration::Span;
pub(crate) use ratio::Ratio;
pub(crate) use section::{section, table};
