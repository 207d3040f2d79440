//! Sliding windows: what the last calls were, counted without a lock.
//!
//! Two kinds: [`TimeWindow`] knows the calls of the last so many seconds, [`CountWindow`] the last so many calls.
//! [`SlidingWindow`] is either. All take `&self`, and time comes in as an argument. Use them for a policy of your own;
//! the policies of this crate bring theirs along.
//!
//! A window tells four kinds of calls apart ([`Kind`]) and counts each exactly ([`Counts`]). What one thread records
//! lies on cache lines that only this thread writes; a reader adds the threads up. A reader that runs while others
//! record may miss what they are recording, or see it half: a call in place of another may be seen before or after the
//! one it replaces. Once they are done the counts are exact.
//!
//! **Epochs.** [`advance`](SlidingWindow::advance) empties a window by moving it to a new epoch. A record says which
//! epoch it belongs to, and one of another epoch is refused, even when the two meet in the same instant. This is how a
//! late result cannot reach the window of a circuit that has closed again since.
//!
//! ```
//! use std::time::Duration;
//! use mainstay::{time::Tick, window::{Kind, TimeWindow}};
//!
//! let window = TimeWindow::new(Duration::from_secs(10), 10);
//! let second = |n: u64| Tick::from_nanos(n * 1_000_000_000);
//! window.record(second(1), 0, Kind::Failure);
//! window.record(second(4), 0, Kind::Success);
//! assert_eq!(window.counts(second(9)).failures(), 1);
//! assert_eq!(window.counts(second(11)).failures(), 0);
//! assert_eq!(window.counts(second(11)).calls(), 1);
//! ```

mod count;
mod counts;
mod sliding;
mod time;

pub use count::CountWindow;
pub use counts::{Counts, Kind};
pub use sliding::SlidingWindow;
pub use time::TimeWindow;

#[doc(hidden)]
pub use crate::lanes::Seat;
