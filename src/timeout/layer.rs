use std::{sync::Arc, time::Duration};

use tower::Layer;

use crate::{
    deadline::NoDeadline,
    timeout::{Handle, Timeout},
};

/// Cuts calls off that take too long.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{Error, Reason, timeout::TimeoutLayer};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error<std::io::Error>> {
/// let mut service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_millis(250)))
///     .map_err(Error::Inner)
///     .service(service_fn(async |wait: Duration| {
///         tokio::time::sleep(wait).await;
///         Ok::<_, std::io::Error>("done")
///     }));
/// assert_eq!(service.ready().await?.call(Duration::from_millis(200)).await?, "done");
/// let error = service.ready().await?.call(Duration::from_secs(60)).await.unwrap_err();
/// assert!(matches!(error, Error::Rejected(rejection) if rejection.reason() == Reason::TimedOut));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TimeoutLayer<D = NoDeadline> {
    handle: Handle,
    deadline: Arc<D>,
}

impl TimeoutLayer {
    /// A limit of this length under the name `timeout`.
    ///
    /// # Panics
    ///
    /// When the limit is not from 1 ms to a year.
    #[must_use]
    #[track_caller]
    pub fn new(limit: Duration) -> Self {
        Self::with(Handle::new("timeout", limit))
    }

    /// The limit of a handle, which names it, counts what is cut off, and can change it.
    #[must_use]
    pub fn with(handle: Handle) -> Self {
        Self { handle, deadline: Arc::new(NoDeadline) }
    }
}

impl<D> TimeoutLayer<D> {
    /// Cuts a call off at the deadline of its request too, if that is nearer: a type that implements
    /// [`DeadlineOf`](crate::DeadlineOf), or a closure. A call whose deadline has passed already is not made.
    #[must_use]
    pub fn deadline<E>(self, deadline: E) -> TimeoutLayer<E> {
        TimeoutLayer { handle: self.handle, deadline: Arc::new(deadline) }
    }

    /// The limit.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<S, D> Layer<S> for TimeoutLayer<D> {
    type Service = Timeout<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(inner, self.handle.clone(), Arc::clone(&self.deadline))
    }
}
