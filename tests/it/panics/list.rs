//! The traits that users implement, and who makes them panic. `tests/architecture.rs` compares the paths with the
//! public face. Those that are sealed, or have no code of the user's, say so.

use super::{Entry, again, fleet, hooks, keys, reentrancy, services, strategies, wakers};

macro_rules! list {
    (
        traits { $($(#[$on_trait:meta])* $trait:literal => $panic:path,)* }
        others { $($other:literal => $other_panics:path,)* }
    ) => {
        pub(super) const TRAITS: &[(&str, Entry)] = &[$($(#[$on_trait])* ($trait, || Box::pin($panic())),)*];
        pub(super) const OTHERS: &[(&str, Entry)] = &[$(($other, || Box::pin($other_panics())),)*];
    };
}

/// Only the crate implements it.
async fn sealed() {}

/// Blanket, or made of others that are tried.
async fn made_of_others() {}

/// Users call it, and are given one by the crate.
async fn given_to_users() {}

#[rustfmt::skip]
list! {
    traits {
        "CarryRejection" => hooks::carry_rejection,
        "Classify" => hooks::classify,
        "DeadlineOf" => keys::deadline_of,
        "PriorityOf" => keys::priority_of,
        "admission::Policy" => sealed,
        "admission::Queue" => sealed,
        "balance::Candidates" => given_to_users,
        "balance::HashKey" => fleet::pickers,
        "balance::Pick" => fleet::pickers,
        "balance::Picker" => fleet::pickers,
        "balance::Steer" => fleet::pickers,
        "client::PickerOf" => sealed,
        "concurrency::Algorithm" => hooks::algorithm,
        "contract::AsMethod" => fleet::contracts,
        "contract::ServiceContract" => fleet::contracts,
        "discovery::Discovery" => fleet::discovery,
        "fallback::Replay" => again::replay,
        "fallback::Store" => strategies::store,
        "fallback::Strategy" => strategies::strategy,
        #[cfg(feature = "http")]
        "http::TakeRejection" => fleet::take_rejection,
        "keyed::Choose" => sealed,
        "keyed::HasOperation" => keys::has_tenant,
        "keyed::HasTenant" => keys::has_tenant,
        "keyed::Key" => keys::key,
        "keyed::KeyOf" => keys::key_of,
        "keyed::KeyedConfig" => sealed,
        "keyed::KeyedPolicy" => sealed,
        "keyed::Lookup" => keys::lookup,
        "keyed::Select" => made_of_others,
        "observe::Observer" => hooks::observer,
        "registry::Policies" => fleet::contracts,
        "retry::Rule" => again::rule,
        "stack::Resend" => sealed,
    }
    others {
        "the service, in every layer that lets calls in" => services::every_layer,
        "the service, in every layer that calls it again or elsewhere" => services::every_layer_that_calls_again,
        "the service, in a stack" => services::a_stack,
        "the clone of a request" => again::clone_of_the_request,
        "a backoff" => again::backoff,
        "the predicate of a breaker" => hooks::predicate,
        "the closures of a fallback" => strategies::fallback_closures,
        "a waker that is woken" => wakers::wake,
        "a waker that ends" => wakers::dropped,
        "a transport" => fleet::transport,
        "a health check" => fleet::health_check,
        "the hook for kinds of errors" => fleet::error_kind,
        "a service and its fallback at each level" => fleet::isolation,
        "every method of every handle, from every callback" => reentrancy::from_observers,
        "every method of every handle, from wakers" => reentrancy::from_wakers,
        "every method of every handle, from keys, predicates and algorithms" => reentrancy::from_hooks,
    }
}
