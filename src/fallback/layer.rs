use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    fallback::{
        cover::{AnyError, Classified},
        handle::Handle,
        service::FallbackService,
    },
    own::Fork,
};

/// A fallback, where its answers come from, and who decides what a result means for it.
pub(super) struct Parts<F, C> {
    pub(super) handle: Handle,
    pub(super) strategy: Arc<F>,
    pub(super) classify: Arc<C>,
}

impl<F, C> Fork for Parts<F, C> {
    fn fork(&self) -> Arc<Self> {
        let (strategy, classify) = (Arc::clone(&self.strategy), Arc::clone(&self.classify));
        Arc::new(Self { handle: self.handle.clone(), strategy, classify })
    }
}

/// Answers in place of a service that fails.
///
/// All state is in the handle and in the strategy: a host may call `layer` as often as it likes.
///
/// ```
/// use mainstay::fallback::{Fallback, FallbackLayer, Handle};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let fallback = Handle::new("user-db");
/// let mut users = ServiceBuilder::new()
///     .layer(FallbackLayer::new(fallback.clone(), Fallback::value("guest")))
///     .service(service_fn(async |id: u32| if id == 1 { Ok("Ada") } else { Err("down") }));
/// assert_eq!(users.ready().await?.call(1).await?, "Ada");
/// assert_eq!(users.ready().await?.call(2).await?, "guest");
/// assert_eq!(fallback.snapshot().used, 1);
/// # Ok::<(), &str>(())
/// # }).unwrap();
/// ```
pub struct FallbackLayer<F, C = AnyError> {
    parts: Arc<Parts<F, C>>,
}

impl<F> FallbackLayer<F> {
    /// A layer that answers in place of every error.
    #[must_use]
    pub fn new(handle: Handle, strategy: F) -> Self {
        Self { parts: Arc::new(Parts { handle, strategy: Arc::new(strategy), classify: Arc::new(AnyError) }) }
    }
}

impl<F, C> FallbackLayer<F, C> {
    /// The same layer with another say in what a failure is: a type that implements
    /// [`Classify`](crate::Classify), or a closure. A response can be one, such as an HTTP status of 503. What it calls
    /// ignored, a bad request say, goes to the caller as it is. Rejections by policies are covered whatever it says.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> FallbackLayer<F, Classified<D>> {
        let (handle, strategy) = (self.parts.handle.clone(), Arc::clone(&self.parts.strategy));
        FallbackLayer { parts: Arc::new(Parts { handle, strategy, classify: Arc::new(Classified(classify)) }) }
    }

    /// The fallback.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }

    /// Where its answers come from.
    #[must_use]
    pub fn strategy(&self) -> &F {
        &self.parts.strategy
    }
}

impl<S, F, C> Layer<S> for FallbackLayer<F, C> {
    type Service = FallbackService<S, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        FallbackService::new(inner, Arc::clone(&self.parts))
    }
}

impl<F, C> Clone for FallbackLayer<F, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<F, C> fmt::Debug for FallbackLayer<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("handle", &self.parts.handle).finish_non_exhaustive()
    }
}
