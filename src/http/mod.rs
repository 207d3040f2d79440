//! HTTP at the edge: what a status means, `Retry-After`, rejections as responses, and bodies that stream.
//!
//! - [`Stack::http_client`](crate::Stack::http_client) is a whole [stack](crate::stack) that knows all this.
//! - [`StatusClassify`] decides by the status of a response: 5xx is a failure, 4xx says nothing about the service.
//! - [`Idempotent`] has a [retry](crate::retry) send again only what may be sent twice, [`ReplayBodyLayer`] records
//!   bodies that stream, up to a limit, so that they can be.
//! - [`RespondLayer`] turns rejections into responses (503, 429, 504) and leaves only the service's own error, which
//!   makes a stack fit into axum's `Router::layer`.
//! - [`until_body_end`](crate::admission::AdmissionLayer::until_body_end) judges a response, and holds what the policy
//!   gave, until its body has ended, failed or been dropped, instead of at its head; [for
//!   each key](crate::keyed::KeyedLayer::until_body_end) and for a [whole stack](crate::Stack::until_body_end) too.
//! - [`retry_after`], [`retry_after_seconds`] and [`retry_after_date`] read and write the header.
//! - [`Client::http`](crate::client::Client::http) calls services by name, over [`HttpTransport`], which reaches each
//!   [instance](crate::contract::Instance).
//! - [`DeadlineLayer`] and [`SendDeadlineLayer`] carry the time left from server to client in headers,
//!   [`BodyTimeoutLayer`] cuts off bodies that stop half-way.
//!
//! A circuit breaker for all routes of an axum server:
//!
//! ```
//! use axum::{Router, routing::get};
//! use mainstay::{Error, breaker::{CircuitBreakerLayer, Config, Handle}, http::{RespondLayer, StatusClassify}};
//! use tower::ServiceBuilder;
//!
//! let breaker = Handle::new("shop", Config::new());
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(
//!     ServiceBuilder::new()
//!         .layer(RespondLayer::new())                   // outermost: rejections become responses
//!         .layer(CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end())
//!         .map_err(Error::Inner),                       // axum's services cannot fail; now they can be rejected
//! );
//! ```

mod attempt_limit;
mod body_timeout;
mod classify;
mod client;
mod deadline;
mod keyed;
mod replay;
mod replay_body;
mod respond;
mod retry_after;
mod stack;
mod streamed;
mod streamed_body;
mod streamed_queued;
mod streamed_stack;
mod tape;
mod transport;

pub use attempt_limit::{AttemptLimit, AttemptLimitFuture};
pub use body_timeout::{BodyTimeout, BodyTimeoutFuture, BodyTimeoutLayer, LimitedBody};
pub use classify::StatusClassify;
pub use client::{HttpClientBuilder, error_kind};
pub use deadline::{
    DeadlineLayer, GRPC_TIMEOUT, ReadDeadline, RequestDeadline, SendDeadline, SendDeadlineLayer, TIMEOUT_MS,
    grpc_timeout_value, timeout_header,
};
pub use keyed::{KeyedStreamed, KeyedStreamedLayer};
pub use replay::Idempotent;
pub use replay_body::{KeptRequest, ReplayBodies, ReplayBody, ReplayBodyLayer};
pub use respond::{Respond, RespondBody, RespondFuture, RespondLayer, TakeRejection, rejection_response};
pub use retry_after::{retry_after, retry_after_date, retry_after_seconds};
pub use stack::{HttpRules, HttpStack};
pub use streamed::{Streamed, StreamedFuture, StreamedLayer};
pub use streamed_body::StreamedBody;
pub use streamed_queued::{QueuedStreamed, QueuedStreamedFuture, QueuedStreamedLayer};
pub use streamed_stack::{StackBody, StreamedStack, StreamedStackLayer};
pub use transport::{HttpInstance, HttpTransport, TransportError, TransportFuture};
