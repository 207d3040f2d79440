//! What a policy tells about itself: events that are pushed, and counts that are pulled.
//!
//! Observation costs nothing when nobody looks. Counts and latencies are kept anyway, on cache lines of the thread that
//! counts, and are added up when a [`Snapshot`] is asked for. [Observers](Observer) hear only of rare things: a
//! transition, a rejection, a late result, a retry, another copy of a call, a fallback, an ejection.
//!
//! Observers run on the thread on which the thing happened, after every lock is released, so they may call back into
//! the policy. One that panics is told nothing more; the policy's state and the call's own result are not touched.
//!
//! ```
//! use mainstay::{breaker, observe::Event};
//!
//! let breaker = breaker::Handle::new("payments", breaker::Config::new());
//! breaker.observe(|event: &Event<'_>| {
//!     if let Event::Transition(change) = event {
//!         eprintln!("{} went from {} to {}", change.policy, change.from, change.to);
//!     }
//! });
//! breaker.force_open();
//! println!("{:?}", breaker.snapshot());
//! ```

mod event;
mod histogram;
mod meter;
mod sink;
mod snapshot;

pub use event::{Cause, CircuitState, Ejection, EjectionCause, Event, GiveUp, Retry, Transition};
pub use histogram::Latency;
pub use meter::Totals;
pub use sink::{Observer, lost_observers};
pub use snapshot::{LastTransition, Snapshot};

pub(crate) use histogram::{Histogram, Sum, millis};
pub(crate) use meter::{Meter, Tally};
pub(crate) use sink::{ForMany, Sink};
pub(crate) use snapshot::optional_millis;
