//! The auto traits of every public type, at compile time: `Send`, `Sync` and `Unpin` over what is all of these. The
//! list is compared with the public face by `tests/architecture.rs`, so that no type is forgotten; what they are over
//! something that is not, `traits` shows.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use mainstay::{
    Error, OnError, admission, balance, breaker, bulkhead, client, concurrency, contract, discovery, fallback, hedge,
    isolation, keyed, load_shed, observe, rate_limit, registry, retry, stack, time, timeout, window,
};
use tower::Service;

use crate::support::Boom;

type E = Error<Boom>;
type Fut = Ready<Result<u32, E>>;
#[cfg(feature = "http")]
type Full = http_body_util::Full<bytes::Bytes>;

/// A service that is all of them, and has a future that is.
#[derive(Debug, Clone)]
pub(crate) struct Svc;

impl<Req> Service<Req> for Svc {
    type Response = u32;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Fut {
        ready(Ok(1))
    }
}

/// Each with the traits that it has, where it has not all of them: a box for any future of the user's is not `Sync`,
/// and an event is on its way and nowhere else.
macro_rules! list {
    (types { $($(#[$on:meta])* $path:literal => $type:ty $(as $($bound:ident)+)?,)* }) => {
        #[allow(dead_code, reason = "it is compiled, and that is all")]
        fn every_type() {
            $($(#[$on])* { list!(@one [$($($bound)+)?] $type); })*
        }
    };
    (@one [] $type:ty) => {
        fn is<T: Send + Sync + Unpin>() {}
        is::<$type>();
    };
    (@one [$first:ident $($bound:ident)*] $type:ty) => {
        fn is<T: $first $(+ $bound)*>() {}
        is::<$type>();
    };
}

#[rustfmt::skip]
list! {
    types {
        "BoxError" => mainstay::BoxError,
        "Deadline" => mainstay::Deadline,
        "Error" => Error<Boom>,
        "Name" => mainstay::Name,
        "NoDeadline" => mainstay::NoDeadline,
        "OnError" => OnError,
        "OnOverload" => mainstay::OnOverload,
        "Outcome" => mainstay::Outcome,
        "Priority" => mainstay::Priority,
        "Reason" => mainstay::Reason,
        "Rejection" => mainstay::Rejection,
        "admission::Admission" => admission::Admission<Svc, bulkhead::Handle>,
        "admission::AdmissionLayer" => admission::AdmissionLayer<bulkhead::Handle>,
        "admission::Entry" => admission::Entry<u8, u8>,
        "admission::Gate" => admission::Gate,
        "admission::PairWait" => admission::PairWait<u8, u8, u8>,
        "admission::Queued" => admission::Queued<Svc, bulkhead::Handle>,
        "admission::QueuedFuture" => admission::QueuedFuture<Svc, u32, bulkhead::Handle, OnError>,
        "admission::QueuedLayer" => admission::QueuedLayer<bulkhead::Handle>,
        "admission::Readiness" => admission::Readiness,
        "admission::ResponseFuture" => admission::ResponseFuture<Fut, breaker::Handle, OnError>,
        "admission::Verdict" => admission::Verdict,
        "balance::Balance" => balance::Balance<Svc, balance::RoundRobin>,
        "balance::Config" => balance::Config,
        "balance::ConsistentHash" => balance::ConsistentHash<fn()>,
        "balance::Handle" => balance::Handle<Svc>,
        "balance::KeyHasher" => balance::KeyHasher,
        "balance::LeastLoaded" => balance::LeastLoaded,
        "balance::MemberSnapshot" => balance::MemberSnapshot,
        "balance::MemberState" => balance::MemberState,
        "balance::Mode" => balance::Mode,
        "balance::NoSteer" => balance::NoSteer,
        "balance::Outlier" => balance::Outlier,
        "balance::PeakEwma" => balance::PeakEwma,
        "balance::Random" => balance::Random,
        "balance::ResponseFuture" => balance::ResponseFuture<Svc, u32, balance::RoundRobin, balance::NoSteer, OnError>,
        "balance::RingPlan" => balance::RingPlan,
        "balance::RoundRobin" => balance::RoundRobin,
        "balance::SlowStart" => balance::SlowStart,
        "balance::Snapshot" => balance::Snapshot,
        "balance::Weighted" => balance::Weighted,
        "breaker::Config" => breaker::Config,
        "breaker::Handle" => breaker::Handle,
        "breaker::IllegalTransition" => breaker::IllegalTransition,
        "breaker::Permit" => breaker::Permit,
        "breaker::Saved" => breaker::Saved,
        "breaker::Ticket" => breaker::Ticket,
        "breaker::Waiting" => breaker::Waiting,
        "breaker::Window" => breaker::Window,
        "bulkhead::Acquire" => bulkhead::Acquire,
        "bulkhead::Config" => bulkhead::Config,
        "bulkhead::Handle" => bulkhead::Handle,
        "bulkhead::Held" => bulkhead::Held,
        "bulkhead::Join" => bulkhead::Join,
        "bulkhead::Permit" => bulkhead::Permit,
        "bulkhead::Places" => bulkhead::Places,
        "bulkhead::Snapshot" => bulkhead::Snapshot,
        "bulkhead::Take" => bulkhead::Take,
        "bulkhead::Wait" => bulkhead::Wait,
        "bulkhead::Waiting" => bulkhead::Waiting,
        "client::Answer" => client::Answer<u32>,
        "client::ByConfig" => client::ByConfig,
        "client::Call" => client::Call<u32>,
        "client::Caller" => client::Caller<u32, u32, E>,
        "client::Client" => client::Client<u32, u32, E>,
        "client::ClientBuilder" => client::ClientBuilder<discovery::InMemory, Svc>,
        "client::Config" => client::Config,
        "client::Configured" => client::Configured,
        "client::Fixed" => client::Fixed<balance::RoundRobin>,
        "client::Metadata" => client::Metadata,
        "client::Metrics" => client::Metrics,
        "client::Pending" => client::Pending<u32, E>,
        "client::PickBy" => client::PickBy,
        "client::ResponseFuture" => client::ResponseFuture<u32, E> as Send Unpin,
        "client::ServiceHealth" => client::ServiceHealth,
        "client::ServiceMetrics" => client::ServiceMetrics,
        "client::ServiceSnapshot" => client::ServiceSnapshot,
        "client::Trace" => client::Trace,
        "concurrency::Aimd" => concurrency::Aimd,
        "concurrency::Config" => concurrency::Config,
        "concurrency::Drops" => concurrency::Drops,
        "concurrency::Gradient" => concurrency::Gradient,
        "concurrency::Handle" => concurrency::Handle,
        "concurrency::Permit" => concurrency::Permit,
        "concurrency::Rule" => concurrency::Rule,
        "concurrency::Sample" => concurrency::Sample,
        "concurrency::Snapshot" => concurrency::Snapshot,
        "concurrency::Sum" => concurrency::Sum,
        "concurrency::Tallies" => concurrency::Tallies,
        "concurrency::Ticket" => concurrency::Ticket,
        "concurrency::Vegas" => concurrency::Vegas,
        "contract::AnyMethod" => contract::AnyMethod<Svc>,
        "contract::Capability" => contract::Capability,
        "contract::Contract" => contract::Contract,
        "contract::Endpoint" => contract::Endpoint,
        "contract::Health" => contract::Health,
        "contract::HealthStatus" => contract::HealthStatus,
        "contract::Instance" => contract::Instance,
        "contract::Invocation" => contract::Invocation<u32>,
        "contract::Method" => contract::Method,
        "contract::Parameter" => contract::Parameter,
        "contract::Protocol" => contract::Protocol,
        "contract::Response" => contract::Response,
        "contract::ServiceName" => contract::ServiceName,
        "contract::Version" => contract::Version,
        "discovery::BackendSnapshot" => discovery::BackendSnapshot,
        "discovery::Change" => discovery::Change,
        #[cfg(feature = "discover")]
        "discovery::Changes" => discovery::Changes<fn()>,
        "discovery::Config" => discovery::Config,
        "discovery::DiscoveryError" => discovery::DiscoveryError,
        "discovery::Event" => discovery::Event,
        "discovery::Gone" => discovery::Gone,
        "discovery::InMemory" => discovery::InMemory,
        "discovery::Lease" => discovery::Lease,
        "discovery::Next" => discovery::Next<'static>,
        "discovery::Publisher" => discovery::Publisher,
        "discovery::Registration" => discovery::Registration<discovery::InMemory>,
        "discovery::Snapshot" => discovery::Snapshot,
        "discovery::Stale" => discovery::Stale,
        "discovery::Update" => discovery::Update,
        "discovery::Watch" => discovery::Watch,
        "discovery::health::Checked" => discovery::health::Checked<discovery::InMemory>,
        "discovery::health::CheckedSnapshot" => discovery::health::CheckedSnapshot,
        #[cfg(feature = "http")]
        "discovery::health::HttpCheck" => discovery::health::HttpCheck,
        #[cfg(feature = "http")]
        "discovery::health::HttpCheckError" => discovery::health::HttpCheckError,
        "fallback::Alternative" => fallback::Alternative<Svc>,
        "fallback::AlternativeFuture" => fallback::AlternativeFuture<Svc, u32>,
        "fallback::AnyError" => fallback::AnyError,
        "fallback::CacheConfig" => fallback::CacheConfig,
        "fallback::Cached" => fallback::Cached<fallback::LastGood<u8, u8>, fn()>,
        "fallback::Classified" => fallback::Classified<OnError>,
        "fallback::Cloned" => fallback::Cloned,
        "fallback::Fallback" => fallback::Fallback<fallback::Value<u32>>,
        "fallback::FallbackLayer" => fallback::FallbackLayer<fallback::NoFallback>,
        "fallback::FallbackService" => fallback::FallbackService<Svc, fallback::NoFallback>,
        "fallback::Handle" => fallback::Handle,
        "fallback::LastGood" => fallback::LastGood<u8, u8>,
        "fallback::Never" => fallback::Never<u32>,
        "fallback::NoFallback" => fallback::NoFallback,
        "fallback::OfRequest" => fallback::OfRequest<fn(), fn()>,
        "fallback::On" => fallback::On<u8>,
        "fallback::Or" => fallback::Or<u8, u8>,
        "fallback::OrFuture" => fallback::OrFuture<Fut, Fut>,
        "fallback::OrKept" => fallback::OrKept<u8, u8>,
        "fallback::ResponseFuture" => fallback::ResponseFuture<Svc, u32, fallback::NoFallback, OnError>,
        "fallback::Run" => fallback::Run<fn()>,
        "fallback::Snapshot" => fallback::Snapshot,
        "fallback::Value" => fallback::Value<u8>,
        "fallback::When" => fallback::When<u8, fn()>,
        "fallback::With" => fallback::With<fn()>,
        "fallback::WithResult" => fallback::WithResult<fn()>,
        "hedge::Budget" => hedge::Budget,
        "hedge::BudgetConfig" => hedge::BudgetConfig,
        "hedge::Config" => hedge::Config,
        "hedge::Handle" => hedge::Handle,
        "hedge::Hedge" => hedge::Hedge<Svc>,
        "hedge::HedgeLayer" => hedge::HedgeLayer,
        "hedge::Reservation" => hedge::Reservation,
        "hedge::ResponseFuture" => hedge::ResponseFuture<Svc, u32, OnError, retry::Cloned>,
        "hedge::Snapshot" => hedge::Snapshot,
        #[cfg(feature = "http")]
        "http::AttemptLimit" => mainstay::http::AttemptLimit<Svc>,
        #[cfg(feature = "http")]
        "http::AttemptLimitFuture" => mainstay::http::AttemptLimitFuture<Fut>,
        #[cfg(feature = "http")]
        "http::BodyTimeout" => mainstay::http::BodyTimeout<Svc>,
        #[cfg(feature = "http")]
        "http::BodyTimeoutFuture" => mainstay::http::BodyTimeoutFuture<Fut>,
        #[cfg(feature = "http")]
        "http::BodyTimeoutLayer" => mainstay::http::BodyTimeoutLayer,
        #[cfg(feature = "http")]
        "http::DeadlineLayer" => mainstay::http::DeadlineLayer,
        #[cfg(feature = "http")]
        "http::HttpInstance" => mainstay::http::HttpInstance<Full>,
        #[cfg(feature = "http")]
        "http::HttpTransport" => mainstay::http::HttpTransport<Full>,
        #[cfg(feature = "http")]
        "http::Idempotent" => mainstay::http::Idempotent,
        #[cfg(feature = "http")]
        "http::KeptRequest" => mainstay::http::KeptRequest<Full>,
        #[cfg(feature = "http")]
        "http::KeyedStreamed" => mainstay::http::KeyedStreamed<Svc, keyed::Handle<u32, bulkhead::Handle>>,
        #[cfg(feature = "http")]
        "http::KeyedStreamedLayer" => mainstay::http::KeyedStreamedLayer<keyed::Handle<u32, bulkhead::Handle>>,
        #[cfg(feature = "http")]
        "http::LimitedBody" => mainstay::http::LimitedBody<Full>,
        #[cfg(feature = "http")]
        "http::QueuedStreamed" => mainstay::http::QueuedStreamed<Svc, bulkhead::Handle>,
        #[cfg(feature = "http")]
        "http::QueuedStreamedFuture" => mainstay::http::QueuedStreamedFuture<Svc, u32, bulkhead::Handle, OnError>,
        #[cfg(feature = "http")]
        "http::QueuedStreamedLayer" => mainstay::http::QueuedStreamedLayer<bulkhead::Handle>,
        #[cfg(feature = "http")]
        "http::ReadDeadline" => mainstay::http::ReadDeadline<Svc>,
        #[cfg(feature = "http")]
        "http::ReplayBodies" => mainstay::http::ReplayBodies<Svc>,
        #[cfg(feature = "http")]
        "http::ReplayBody" => mainstay::http::ReplayBody<Full>,
        #[cfg(feature = "http")]
        "http::ReplayBodyLayer" => mainstay::http::ReplayBodyLayer,
        #[cfg(feature = "http")]
        "http::RequestDeadline" => mainstay::http::RequestDeadline,
        #[cfg(feature = "http")]
        "http::Respond" => mainstay::http::Respond<Svc>,
        #[cfg(feature = "http")]
        "http::RespondBody" => mainstay::http::RespondBody<Full>,
        #[cfg(feature = "http")]
        "http::RespondFuture" => mainstay::http::RespondFuture<Fut, fn()>,
        #[cfg(feature = "http")]
        "http::RespondLayer" => mainstay::http::RespondLayer,
        #[cfg(feature = "http")]
        "http::SendDeadline" => mainstay::http::SendDeadline<Svc>,
        #[cfg(feature = "http")]
        "http::SendDeadlineLayer" => mainstay::http::SendDeadlineLayer,
        #[cfg(feature = "http")]
        "http::StatusClassify" => mainstay::http::StatusClassify,
        #[cfg(feature = "http")]
        "http::Streamed" => mainstay::http::Streamed<Svc, bulkhead::Handle>,
        #[cfg(feature = "http")]
        "http::StreamedBody" => mainstay::http::StreamedBody<Full, bulkhead::Handle, OnError>,
        #[cfg(feature = "http")]
        "http::StreamedFuture" => mainstay::http::StreamedFuture<Fut, bulkhead::Handle, OnError>,
        #[cfg(feature = "http")]
        "http::StreamedLayer" => mainstay::http::StreamedLayer<bulkhead::Handle>,
        #[cfg(feature = "http")]
        "http::StreamedStackLayer" => mainstay::http::StreamedStackLayer,
        #[cfg(feature = "http")]
        "http::TransportError" => mainstay::http::TransportError,
        #[cfg(feature = "http")]
        "http::TransportFuture" => mainstay::http::TransportFuture<Full>,
        "isolation::CircuitBreaker" => isolation::CircuitBreaker,
        "isolation::Config" => isolation::Config,
        "isolation::FallbackConfig" => isolation::FallbackConfig<u32, u32, E>,
        "isolation::Isolated" => isolation::Isolated<u32, u32, E>,
        "isolation::IsolationError" => isolation::IsolationError,
        "isolation::IsolationManager" => isolation::IsolationManager<u32, u32, E>,
        "isolation::Level" => isolation::Level,
        "isolation::Levels" => isolation::Levels,
        "isolation::ResponseFuture" => isolation::ResponseFuture<u32, u32, E> as Send Unpin,
        "isolation::ServiceInfo" => isolation::ServiceInfo,
        "isolation::Stats" => isolation::Stats,
        "isolation::Statuses" => isolation::Statuses,
        "keyed::AcquireLevels" => keyed::AcquireLevels,
        "keyed::ByOperation" => keyed::ByOperation,
        "keyed::ByTenant" => keyed::ByTenant,
        "keyed::Chosen" => keyed::Chosen<u32, bulkhead::Handle>,
        "keyed::Config" => keyed::Config<u32, bulkhead::Config>,
        "keyed::Handle" => keyed::Handle<u32, bulkhead::Handle>,
        "keyed::KeySnapshot" => keyed::KeySnapshot<u32, u8>,
        "keyed::Keyed" => keyed::Keyed<Svc, keyed::Handle<u32, bulkhead::Handle>>,
        "keyed::KeyedLayer" => keyed::KeyedLayer<keyed::Handle<u32, bulkhead::Handle>>,
        "keyed::Levels" => keyed::Levels,
        "keyed::LevelsConfig" => keyed::LevelsConfig,
        "keyed::LevelsPermit" => keyed::LevelsPermit,
        "keyed::LevelsSnapshot" => keyed::LevelsSnapshot,
        "keyed::PerKey" => keyed::PerKey<u32, bulkhead::Handle, fn()>,
        "keyed::QueuedKeyed" => keyed::QueuedKeyed<Svc, keyed::Handle<u32, bulkhead::Handle>>,
        "keyed::QueuedKeyedLayer" => keyed::QueuedKeyedLayer<keyed::Handle<u32, bulkhead::Handle>>,
        "keyed::Snapshot" => keyed::Snapshot<u8>,
        "keyed::Standing" => keyed::Standing,
        "keyed::StrKey" => keyed::StrKey<fn()>,
        "load_shed::Acquire" => load_shed::Acquire,
        "load_shed::Config" => load_shed::Config,
        "load_shed::Handle" => load_shed::Handle,
        "load_shed::Held" => load_shed::Held,
        "load_shed::Permit" => load_shed::Permit,
        "load_shed::Prioritized" => load_shed::Prioritized<Svc, fn()>,
        "load_shed::PrioritizedLayer" => load_shed::PrioritizedLayer<load_shed::LoadShedLayer, fn()>,
        "load_shed::QueueDelay" => load_shed::QueueDelay,
        "load_shed::Shed" => load_shed::Shed,
        "load_shed::ShedUnready" => load_shed::ShedUnready<Svc>,
        "load_shed::ShedUnreadyFuture" => load_shed::ShedUnreadyFuture<Fut, E>,
        "load_shed::ShedUnreadyLayer" => load_shed::ShedUnreadyLayer,
        "load_shed::Snapshot" => load_shed::Snapshot,
        "load_shed::Throttle" => load_shed::Throttle,
        "load_shed::Wait" => load_shed::Wait,
        "observe::Cause" => observe::Cause,
        "observe::CircuitState" => observe::CircuitState,
        "observe::Ejection" => observe::Ejection<'static>,
        "observe::EjectionCause" => observe::EjectionCause,
        "observe::Event" => observe::Event<'static> as Unpin,
        "observe::GiveUp" => observe::GiveUp,
        "observe::LastTransition" => observe::LastTransition,
        "observe::Latency" => observe::Latency,
        "observe::Retry" => observe::Retry<'static> as Unpin,
        "observe::Snapshot" => observe::Snapshot,
        "observe::Totals" => observe::Totals,
        "observe::Transition" => observe::Transition<'static>,
        "rate_limit::AcquireTurn" => rate_limit::AcquireTurn,
        "rate_limit::Config" => rate_limit::Config,
        "rate_limit::Handle" => rate_limit::Handle,
        "rate_limit::Paid" => rate_limit::Paid,
        "rate_limit::Snapshot" => rate_limit::Snapshot,
        "rate_limit::Turn" => rate_limit::Turn,
        "registry::PoliciesSnapshot" => registry::PoliciesSnapshot,
        "registry::Registration" => registry::Registration,
        "registry::Registry" => registry::Registry,
        "registry::RegistryError" => registry::RegistryError,
        "registry::Service" => registry::Service,
        "registry::ServiceSnapshot" => registry::ServiceSnapshot,
        "registry::Snapshot" => registry::Snapshot,
        "retry::AnyError" => retry::AnyError,
        "retry::Backoff" => retry::Backoff,
        "retry::ByKind" => retry::ByKind<u8, fn()>,
        "retry::Classified" => retry::Classified,
        "retry::Config" => retry::Config,
        "retry::Exhausted" => retry::Exhausted,
        "retry::ExhaustedError" => retry::ExhaustedError,
        "retry::Handle" => retry::Handle,
        "retry::Jitter" => retry::Jitter,
        "retry::Judgement" => retry::Judgement,
        "retry::OnExhausted" => retry::OnExhausted<OnError, fn()>,
        "retry::ResponseFuture" => retry::ResponseFuture<Svc, u32, OnError, retry::Cloned>,
        "retry::Retry" => retry::Retry<Svc>,
        "retry::RetryLayer" => retry::RetryLayer,
        "retry::Snapshot" => retry::Snapshot,
        "ConfigError" => mainstay::ConfigError,
        "stack::Config" => stack::Config,
        "stack::Hook" => stack::Hook<stack::Once>,
        "stack::Judges" => stack::Judges<OnError, OnError>,
        "stack::Once" => stack::Once,
        "stack::Part" => stack::Part<u8, u8>,
        "stack::ResponseFuture" => stack::ResponseFuture<Svc, u32, OnError, fallback::NoFallback, retry::Cloned>,
        "stack::Snapshot" => stack::Snapshot,
        "Stack" => stack::Stack,
        "stack::StackBuilder" => stack::StackBuilder,
        "stack::StackLayer" => stack::StackLayer,
        "stack::StackService" => stack::StackService<Svc>,
        "time::Moment" => time::Moment,
        "time::Tick" => time::Tick,
        "timeout::Handle" => timeout::Handle,
        "timeout::ResponseFuture" => timeout::ResponseFuture<Fut>,
        "timeout::Snapshot" => timeout::Snapshot,
        "timeout::Timeout" => timeout::Timeout<Svc>,
        "timeout::TimeoutLayer" => timeout::TimeoutLayer,
        "window::CountWindow" => window::CountWindow,
        "window::Counts" => window::Counts,
        "window::Kind" => window::Kind,
        "window::Seat" => window::Seat,
        "window::SlidingWindow" => window::SlidingWindow,
        "window::TimeWindow" => window::TimeWindow,
    }
}
