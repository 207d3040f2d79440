use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    breaker, bulkhead, concurrency, fallback,
    fallback::NoFallback,
    hedge, load_shed,
    name::Name,
    observe::{self, ForMany, Observer},
    outcome::OnError,
    rate_limit,
    retry::{self, Classified, Cloned},
    stack::{
        builder::StackBuilder,
        config::Config,
        layer::{StackLayer, StackService},
        policies::Parts,
    },
    timeout,
};

/// Policies around a service or a closure, in an order that is right: see [the folder](super).
///
/// Cheap to clone; all clones are one stack: they share its breaker, its places, its budget.
pub struct Stack<C = Classified<OnError>, F = NoFallback, R = Cloned> {
    pub(super) parts: Arc<Parts<C, F, R>>,
}

/// A stack at one moment: what each of its policies knows. What is not part of the stack is `None`.
#[non_exhaustive]
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The name of the stack.
    pub stack: Name,
    /// How often the fallback answered.
    pub fallback: fallback::Snapshot,
    /// The load shedder.
    pub load_shed: Option<load_shed::Snapshot>,
    /// The rate limit.
    pub rate_limit: Option<rate_limit::Snapshot>,
    /// The limit of a call.
    pub timeout: Option<timeout::Snapshot>,
    /// The retry.
    pub retry: Option<retry::Snapshot>,
    /// The hedge.
    pub hedge: Option<hedge::Snapshot>,
    /// The breaker.
    pub breaker: Option<observe::Snapshot>,
    /// The adaptive limit.
    pub concurrency: Option<concurrency::Snapshot>,
    /// The bulkhead.
    pub bulkhead: Option<bulkhead::Snapshot>,
    /// The limit of an attempt.
    pub attempt_timeout: Option<timeout::Snapshot>,
}

impl Stack {
    /// Good for any service that is called over a network: see [`Config::standard`].
    ///
    /// # Panics
    ///
    /// When the name is none: see [`Name::new`]. For names from outside, [build](Config::builder) one.
    #[must_use]
    #[track_caller]
    pub fn standard(name: &str) -> Self {
        Self::of(name, Config::standard())
    }

    /// Good for a database: see [`Config::database`].
    ///
    /// # Panics
    ///
    /// When the name is none.
    #[must_use]
    #[track_caller]
    pub fn database(name: &str) -> Self {
        Self::of(name, Config::database())
    }

    /// Good for a cache: see [`Config::cache`].
    ///
    /// # Panics
    ///
    /// When the name is none.
    #[must_use]
    #[track_caller]
    pub fn cache(name: &str) -> Self {
        Self::of(name, Config::cache())
    }

    #[track_caller]
    fn of(name: &str, config: Config) -> Self {
        let Stack { parts } = config.builder(name).build();
        Self { parts }
    }

    /// A stack made to measure.
    pub fn builder(name: &str) -> StackBuilder {
        StackBuilder::new(name)
    }
}

impl<C, F, R> Stack<C, F, R> {
    /// Puts the stack in front of a service.
    #[must_use]
    pub fn service<S>(&self, service: S) -> StackService<S, C, F, R> {
        StackService::new(service, Arc::clone(&self.parts))
    }

    /// The stack as a layer, for a `ServiceBuilder` or a router.
    #[must_use]
    pub fn layer(&self) -> StackLayer<C, F, R> {
        StackLayer::new(Arc::clone(&self.parts))
    }

    /// A stack of all but what lets each attempt in; that; who judges an attempt, and the limit of its time. For a skin
    /// that lets go of an attempt later than at its answer.
    #[cfg(feature = "http")]
    pub(crate) fn apart(&self) -> (Self, crate::stack::Innermost, Arc<C>, Option<timeout::Handle>) {
        let mut parts = Parts::clone(&self.parts);
        let innermost = std::mem::take(&mut parts.policies.inner);
        let limit = parts.policies.attempt_timeout.take();
        let rule = Arc::clone(&parts.rule);
        (Self { parts: Arc::new(parts) }, innermost, rule, limit)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.parts.policies.name
    }

    /// The fallback.
    #[must_use]
    pub fn fallback(&self) -> &fallback::Handle {
        &self.parts.policies.fallback
    }

    /// The load shedder, if it has one.
    #[must_use]
    pub fn load_shed(&self) -> Option<&load_shed::Handle> {
        self.parts.policies.outer.0.as_ref()
    }

    /// The rate limit, if it has one.
    #[must_use]
    pub fn rate_limit(&self) -> Option<&rate_limit::Handle> {
        self.parts.policies.outer.1.as_ref()
    }

    /// The limit of a call, if it has one.
    #[must_use]
    pub fn timeout(&self) -> Option<&timeout::Handle> {
        self.parts.policies.timeout.as_ref()
    }

    /// The retry, if it has one.
    #[must_use]
    pub fn retry(&self) -> Option<&retry::Handle> {
        self.parts.policies.retry.as_ref()
    }

    /// The hedge, if it has one.
    #[must_use]
    pub fn hedge(&self) -> Option<&hedge::Handle> {
        self.parts.policies.hedge.as_ref()
    }

    /// The breaker, if it has one.
    #[must_use]
    pub fn breaker(&self) -> Option<&breaker::Handle> {
        self.parts.policies.inner.0.as_ref()
    }

    /// The adaptive limit, if it has one.
    #[must_use]
    pub fn concurrency(&self) -> Option<&concurrency::Handle> {
        self.parts.policies.inner.1.0.as_ref()
    }

    /// The bulkhead, if it has one.
    #[must_use]
    pub fn bulkhead(&self) -> Option<&bulkhead::Handle> {
        self.parts.policies.inner.1.1.as_ref()
    }

    /// The limit of an attempt, if it has one.
    #[must_use]
    pub fn attempt_timeout(&self) -> Option<&timeout::Handle> {
        self.parts.policies.attempt_timeout.as_ref()
    }

    /// Has an observer told of what happens to any of the policies, those that the stack was given among them.
    pub fn observe(&self, observer: impl Observer) {
        let observer = ForMany::new(observer);
        self.fallback().observe(observer.clone());
        self.load_shed().inspect(|policy| policy.observe(observer.clone()));
        self.rate_limit().inspect(|policy| policy.observe(observer.clone()));
        self.timeout().inspect(|policy| policy.observe(observer.clone()));
        self.retry().inspect(|policy| policy.observe(observer.clone()));
        self.hedge().inspect(|policy| policy.observe(observer.clone()));
        self.breaker().inspect(|policy| policy.observe(observer.clone()));
        self.concurrency().inspect(|policy| policy.observe(observer.clone()));
        self.bulkhead().inspect(|policy| policy.observe(observer.clone()));
        self.attempt_timeout().inspect(|policy| policy.observe(observer));
    }

    /// What all its policies know now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            stack: self.name().clone(),
            fallback: self.fallback().snapshot(),
            load_shed: self.load_shed().map(load_shed::Handle::snapshot),
            rate_limit: self.rate_limit().map(rate_limit::Handle::snapshot),
            timeout: self.timeout().map(timeout::Handle::snapshot),
            retry: self.retry().map(retry::Handle::snapshot),
            hedge: self.hedge().map(hedge::Handle::snapshot),
            breaker: self.breaker().map(breaker::Handle::snapshot),
            concurrency: self.concurrency().map(concurrency::Handle::snapshot),
            bulkhead: self.bulkhead().map(bulkhead::Handle::snapshot),
            attempt_timeout: self.attempt_timeout().map(timeout::Handle::snapshot),
        }
    }
}

impl<C, F, R> Clone for Stack<C, F, R> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<C, F, R> fmt::Debug for Stack<C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("policies", &self.parts.policies).finish_non_exhaustive()
    }
}
