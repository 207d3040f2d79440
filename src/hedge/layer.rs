use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    hedge::{handle::Handle, service::Hedge},
    outcome::OnError,
    own::Fork,
    replay::Cloned,
};

/// A hedge, who decides what a result means for it, and how requests are sent again.
pub(super) struct Parts<C, R> {
    pub(super) handle: Handle,
    pub(super) classify: Arc<C>,
    pub(super) replay: Arc<R>,
}

impl<C, R> Fork for Parts<C, R> {
    fn fork(&self) -> Arc<Self> {
        let (classify, replay) = (Arc::clone(&self.classify), Arc::clone(&self.replay));
        Arc::new(Self { handle: self.handle.clone(), classify, replay })
    }
}

/// Puts a [`Handle`] in front of a service.
///
/// All state is in the handle: a host may call `layer` as often as it likes, and all the services it makes share one
/// budget and one measure of latencies.
///
/// ```
/// use mainstay::{Error, hedge::{Config, Handle, HedgeLayer}};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let mut users = ServiceBuilder::new()
///     .layer(HedgeLayer::new(Handle::new("user-db", Config::new())))
///     .map_err(Error::Inner)
///     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
/// assert_eq!(users.ready().await?.call(7).await?, "user 7");
/// # Ok::<(), Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
pub struct HedgeLayer<C = OnError, R = Cloned> {
    parts: Arc<Parts<C, R>>,
}

impl HedgeLayer {
    /// A layer that sends another copy of every request that takes too long or fails, and clones the request to do so.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { parts: Arc::new(Parts { handle, classify: Arc::new(OnError), replay: Arc::new(Cloned) }) }
    }
}

impl<C, R> HedgeLayer<C, R> {
    /// The same layer with another classifier: a type that implements [`Classify`](crate::Classify), or a closure. What
    /// it calls a failure is worth another copy; everything else ends the call at once, bad or good.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> HedgeLayer<D, R> {
        let (handle, replay) = (self.parts.handle.clone(), Arc::clone(&self.parts.replay));
        HedgeLayer { parts: Arc::new(Parts { handle, classify: Arc::new(classify), replay }) }
    }

    /// The same layer with another way to send requests again: a [`Replay`](super::Replay), or a closure
    /// `Fn(&Req) -> Option<Req>`. It also says which requests may be sent twice: over HTTP, `Idempotent` of the feature
    /// `http` does.
    #[must_use]
    pub fn replay<Q>(self, replay: Q) -> HedgeLayer<C, Q> {
        let (handle, classify) = (self.parts.handle.clone(), Arc::clone(&self.parts.classify));
        HedgeLayer { parts: Arc::new(Parts { handle, classify, replay: Arc::new(replay) }) }
    }

    /// The hedge this layer puts in front.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }
}

impl<S, C, R> Layer<S> for HedgeLayer<C, R> {
    type Service = Hedge<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(inner, Arc::clone(&self.parts))
    }
}

impl<C, R> Clone for HedgeLayer<C, R> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<C, R> fmt::Debug for HedgeLayer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer").field("handle", &self.parts.handle).finish_non_exhaustive()
    }
}
