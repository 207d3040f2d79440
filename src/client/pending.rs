use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::JoinHandle;

use crate::{
    client::trail::{Metadata, Trail},
    contract::{Method, ServiceName},
    error::{CarryRejection, Reason, Rejection},
};

/// A good answer, and what became of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub response: T,
    /// Which instance gave it, after how many attempts, in which time.
    pub metadata: Metadata,
}

/// A call that runs by itself: see [`Client::call_async`](super::Client::call_async).
///
/// Awaiting it gives the [`Answer`], or the call's error: for what became of that one, take a [trace](Self::trace)
/// first. Dropping it ends the call, unless it was [detached](Self::detach).
#[must_use = "dropping it ends the call"]
pub struct Pending<T, E> {
    // None once it gave its answer, or was detached.
    task: Option<JoinHandle<Result<T, E>>>,
    trace: Trace,
}

/// Looks at a call while it runs and afterwards. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    service: ServiceName,
    method: Method,
    trail: Arc<Trail>,
}

impl Trace {
    pub(super) const fn new(service: ServiceName, method: Method, trail: Arc<Trail>) -> Self {
        Self { service, method, trail }
    }

    /// What became of the call so far.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.trail.metadata(&self.service, &self.method)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metadata().fmt(f)
    }
}

impl<T, E> Pending<T, E> {
    pub(super) const fn new(task: JoinHandle<Result<T, E>>, trace: Trace) -> Self {
        Self { task: Some(task), trace }
    }

    /// What became of the call so far.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.trace.metadata()
    }

    /// Looks at the call when this is gone.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Ends the call, unless it has ended. What it held goes back, and awaiting this gives a rejection with
    /// [`Reason::Aborted`].
    pub fn abort(&self) {
        self.task.iter().for_each(JoinHandle::abort);
    }

    /// Whether the call has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the call run on by itself; nobody gets its answer.
    pub fn detach(mut self) {
        self.task = None;
    }
}

impl<T, E: CarryRejection> Future for Pending<T, E> {
    type Output = Result<Answer<T>, E>;

    /// # Panics
    ///
    /// With the panic of the service, if it did; and when it is polled again after it gave its answer.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("polled again after it gave its answer");
        let joined = ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(match joined {
            Ok(Ok(response)) => Ok(Answer { response, metadata: self.metadata() }),
            Ok(Err(error)) => Err(error),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(E::from_rejection(Rejection::new(Reason::Aborted, self.trace.service.policy_name()))),
        })
    }
}

impl<T, E> Drop for Pending<T, E> {
    fn drop(&mut self) {
        self.abort();
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("call", &self.trace).field("finished", &self.is_finished()).finish()
    }
}
