//! All that can be dropped, and who drops it. `tests/architecture.rs` compares the paths with the public face.

#[cfg(feature = "discover")]
use super::flows;
#[cfg(feature = "http")]
use super::http;
use super::{Entry, again, client, discovery, fleet, rooms, services};

/// Each entry may have a feature it needs.
macro_rules! list {
    (
        futures { $($(#[$on_future:meta])* $future:literal => $drop_future:path,)* }
        services { $($(#[$on_service:meta])* $service:literal => $drop_service:path,)* }
        flows { $($(#[$on_flow:meta])* $flow:literal => $drop_flow:path,)* }
    ) => {
        pub(super) const FUTURES: &[Entry] =
            &[$($(#[$on_future])* ($future, || Box::pin($drop_future())),)*];
        pub(super) const SERVICES: &[Entry] =
            &[$($(#[$on_service])* ($service, || Box::pin($drop_service())),)*];
        pub(super) const FLOWS: &[Entry] =
            &[$($(#[$on_flow])* ($flow, || Box::pin($drop_flow())),)*];
    };
}

#[rustfmt::skip]
list! {
    futures {
        "admission::QueuedFuture" => rooms::queued,
        "admission::ResponseFuture" => rooms::admission,
        "balance::ResponseFuture" => fleet::balance,
        "breaker::Handle::run" => rooms::breaker_run,
        "breaker::Handle::run_carrying" => rooms::breaker_run_carrying,
        "breaker::Handle::run_or_else" => rooms::breaker_run_or_else,
        "breaker::Handle::run_with" => rooms::breaker_run_with,
        "bulkhead::Acquire" => rooms::bulkhead_acquire,
        "bulkhead::Handle::run" => rooms::bulkhead_run,
        "client::Caller::call_traced" => client::traced,
        "client::Pending" => client::pending,
        "client::ResponseFuture" => client::response,
        "concurrency::Handle::run" => rooms::concurrency_run,
        "concurrency::Handle::run_carrying" => rooms::concurrency_run_carrying,
        "concurrency::Handle::run_with" => rooms::concurrency_run_with,
        "discovery::InMemory::deregister" => discovery::deregister,
        "discovery::InMemory::heartbeat" => discovery::heartbeat,
        "discovery::InMemory::instances" => discovery::instances,
        "discovery::InMemory::register" => discovery::register,
        "discovery::InMemory::update" => discovery::update,
        "discovery::InMemory::watch" => discovery::watch,
        "discovery::Next" => discovery::next,
        "discovery::Registration::close" => discovery::registration_close,
        "discovery::Registration::drain" => discovery::registration_drain,
        "discovery::Registration::new" => discovery::registration_new,
        "discovery::Registration::update" => discovery::registration_update,
        "discovery::health::Checked::deregister" => discovery::checked_deregister,
        "discovery::health::Checked::heartbeat" => discovery::checked_heartbeat,
        "discovery::health::Checked::instances" => discovery::checked_instances,
        "discovery::health::Checked::register" => discovery::checked_register,
        "discovery::health::Checked::update" => discovery::checked_update,
        "discovery::health::Checked::watch" => discovery::checked_watch,
        "fallback::AlternativeFuture" => again::fallback_layer,
        "fallback::Handle::run" => again::fallback_run,
        "fallback::Handle::run_for" => again::fallback_run_for,
        "fallback::Handle::run_with" => again::fallback_run_with,
        "fallback::Never" => again::never,
        "fallback::OrFuture" => again::fallback_chain,
        "fallback::ResponseFuture" => again::fallback_layer,
        "hedge::Handle::run" => again::hedge_run,
        "hedge::Handle::run_any" => again::hedge_run_any,
        "hedge::Handle::run_with" => again::hedge_run_with,
        "hedge::ResponseFuture" => again::hedge_layer,
        #[cfg(feature = "http")]
        "http::AttemptLimitFuture" => http::streamed_stack,
        #[cfg(feature = "http")]
        "http::BodyTimeoutFuture" => http::body_timeout,
        #[cfg(feature = "http")]
        "http::QueuedStreamedFuture" => http::streamed_queued,
        #[cfg(feature = "http")]
        "http::RespondFuture" => http::respond,
        #[cfg(feature = "http")]
        "http::StreamedFuture" => http::streamed,
        #[cfg(feature = "http")]
        "http::TransportFuture" => http::transport,
        "isolation::ResponseFuture" => fleet::isolation,
        "keyed::AcquireLevels" => rooms::levels_acquire,
        "keyed::Levels::run" => rooms::levels_run,
        "load_shed::Acquire" => rooms::load_shed_acquire,
        "load_shed::Handle::run" => rooms::load_shed_run,
        "load_shed::Handle::run_carrying" => rooms::load_shed_run_carrying,
        "load_shed::Handle::run_with" => rooms::load_shed_run_with,
        "load_shed::ShedUnreadyFuture" => rooms::shed_unready,
        "rate_limit::AcquireTurn" => rooms::rate_limit_acquire,
        "rate_limit::Handle::run" => rooms::rate_limit_run,
        "retry::Handle::run" => again::retry_run,
        "retry::Handle::run_any" => again::retry_run_any,
        "retry::Handle::run_by" => again::retry_run_by,
        "retry::Handle::run_with" => again::retry_run_with,
        "retry::ResponseFuture" => again::retry_layer,
        "stack::ResponseFuture" => again::stack,
        "Stack::run" => again::stack_run,
        "Stack::run_carrying" => again::stack_run_carrying,
        "timeout::Handle::run" => rooms::timeout_run,
        "timeout::Handle::run_carrying" => rooms::timeout_run_carrying,
        "timeout::ResponseFuture" => rooms::timeout,
    }
    services {
        "admission::Admission" => services::admission,
        "admission::Queued" => services::queued,
        "balance::Balance" => services::balance,
        "client::Caller" => services::caller,
        "contract::AnyMethod" => services::plain,
        #[cfg(feature = "http")]
        "discovery::health::HttpCheck" => http::check_service,
        "fallback::FallbackService" => services::fallback,
        "hedge::Hedge" => services::hedge,
        #[cfg(feature = "http")]
        "http::AttemptLimit" => http::plain_services,
        #[cfg(feature = "http")]
        "http::BodyTimeout" => http::plain_services,
        #[cfg(feature = "http")]
        "http::HttpInstance" => http::instance_service,
        #[cfg(feature = "http")]
        "http::HttpTransport" => http::transport_service,
        #[cfg(feature = "http")]
        "http::KeyedStreamed" => http::keyed_streamed_service,
        #[cfg(feature = "http")]
        "http::QueuedStreamed" => http::streamed_service,
        #[cfg(feature = "http")]
        "http::ReadDeadline" => http::plain_services,
        #[cfg(feature = "http")]
        "http::ReplayBodies" => http::plain_services,
        #[cfg(feature = "http")]
        "http::Respond" => http::streamed_service,
        #[cfg(feature = "http")]
        "http::SendDeadline" => http::plain_services,
        #[cfg(feature = "http")]
        "http::Streamed" => http::streamed_service,
        "isolation::Isolated" => services::isolated,
        "keyed::Keyed" => services::keyed,
        "keyed::QueuedKeyed" => services::keyed,
        "load_shed::Prioritized" => services::prioritized,
        "load_shed::ShedUnready" => services::shed_unready,
        "retry::Retry" => services::retry,
        "stack::StackService" => services::stack,
        "timeout::Timeout" => services::plain,
    }
    flows {
        #[cfg(feature = "discover")]
        "discovery::Changes" => flows::changes,
        #[cfg(feature = "discover")]
        "discovery::Watch" => flows::watch,
        #[cfg(feature = "http")]
        "http::LimitedBody" => http::body_timeout,
        #[cfg(feature = "http")]
        "http::ReplayBody" => http::replay_body,
        #[cfg(feature = "http")]
        "http::RespondBody" => http::respond,
        #[cfg(feature = "http")]
        "http::StreamedBody" => http::streamed,
    }
}
