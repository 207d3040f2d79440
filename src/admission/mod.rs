//! Admit, then settle: the one Tower service of every policy that lets a call in or turns it away.
//!
//! To Tower, a circuit breaker, a bulkhead and a rate limit are the same thing. A [`Policy`] says how a call is let in
//! and how its end is settled; [`AdmissionLayer`], [`Admission`] and [`ResponseFuture`] do everything else, once:
//! readiness, panics, cancellation, classification. A pair of policies is a policy: the first is asked first, and when
//! the second refuses, the first takes back what it gave.
//!
//! You meet these types under the names of the rooms, [`CircuitBreakerLayer`](crate::breaker::CircuitBreakerLayer) for
//! one.
//!
//! # Readiness
//!
//! Nothing is taken in `poll_ready`: an idle, ready clone holds no permit. A breaker that would turn the next call away
//! is ready at once, without asking the service below, and `call` answers with the rejection; so a service that is
//! never ready cannot hide an open circuit, and callers who wait for the service are woken when the circuit opens.
//! Should the circuit let calls in again by the time of the call, the service is asked then, and the call is turned
//! away only if it is not ready at once. Bulkheads and rate limits decide in `call`: by then a place may be free.
//!
//! # Queues
//!
//! A policy that is a [`Queue`] can let a call in later. Behind [`queued`](AdmissionLayer::queued) such a call waits,
//! with the clone of the service that was made ready for it; behind the plain layer it is turned away.
//!
//! # Cancellation
//!
//! Dropping the future at any point gives everything back. A panic in the service counts as one failure and goes on to
//! the caller; a panic in the classifier counts as one failure, and the caller gets the service's result.

mod future;
mod gatekeeper;
mod guard;
mod layer;
mod policy;
mod queue;
mod queued;
mod service;

pub use future::ResponseFuture;
pub use layer::AdmissionLayer;
pub use policy::{Gate, Policy, Readiness, Verdict};
pub use queue::{Entry, PairWait, Queue};
pub use queued::{Queued, QueuedFuture, QueuedLayer};
pub use service::Admission;

pub(crate) use gatekeeper::{Entered, Gatekeeper, InQueue};
pub(crate) use guard::{Admitted, Holds, Parts, drive, guard_begin, guard_permit, settle_permit, verdict};
pub(crate) use policy::Sealed;
pub(crate) use service::Front;

/// A call that runs behind a layer.
pub(crate) type Running<P, C> = Admitted<std::sync::Arc<Parts<P, C>>>;
