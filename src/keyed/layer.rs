use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service};

use crate::{
    admission::{self, Admitted, Entered, Entry, Front, InQueue, Parts, QueuedFuture, Running},
    error::{CarryRejection, Rejection},
    keyed::select::{Choose, Chooser, Select},
    outcome::{Classify, OnError},
    time::Moment,
};

/// Puts in front of a service the policy that each request gets.
///
/// It takes what a keyed [`Handle`](super::Handle) is [`by`](super::Handle::by) a key, a pair of such, or a pair with a
/// policy for all. All state is in the handles: a host may call `layer` as often as it likes.
///
/// ```
/// use mainstay::{Error, breaker, bulkhead, keyed::{Config, Handle, KeyedLayer, key_fn}};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// struct Query { shard: u32 }
///
/// # tokio_test::block_on(async {
/// let shards = Handle::new("users", Config::new(breaker::Config::basic()));
/// let all = bulkhead::Handle::new("users", bulkhead::Config::new(64));
/// let mut users = ServiceBuilder::new()
///     .layer(KeyedLayer::new((shards.by(key_fn(|query: &Query| Some(query.shard))), all)))
///     .map_err(Error::Inner)
///     .service(service_fn(async |query: Query| Ok::<_, std::io::Error>(query.shard)));
/// assert_eq!(users.ready().await?.call(Query { shard: 7 }).await?, 7);
/// assert_eq!(shards.keys(), [7]);
/// # Ok::<(), Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
pub struct KeyedLayer<S, C = OnError> {
    parts: Arc<Parts<Chooser<S>, C>>,
}

impl<S: Choose> KeyedLayer<S> {
    /// A layer that takes every error for a failure of the service, except other policies' rejections: see [`OnError`].
    #[must_use]
    pub fn new(select: S) -> Self {
        Self { parts: Arc::new(Parts { policy: Chooser(select), classify: Arc::new(OnError) }) }
    }
}

impl<S: Choose, C> KeyedLayer<S, C> {
    /// The same layer with another classifier: a type that implements [`Classify`], or a closure.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> KeyedLayer<S, D> {
        KeyedLayer { parts: Arc::new(Parts { policy: self.parts.policy.clone(), classify: Arc::new(classify) }) }
    }

    /// Has calls wait in the queues of their policies when they cannot be let in at once, instead of turning them away.
    /// The service must be `Clone`, because the one that was made ready waits with the call.
    ///
    /// Of a pair, the first is waited for first, and its place is held while the second is waited for: put the
    /// narrower limit first, so that who waits for it holds nothing that others need.
    #[must_use]
    pub fn queued(self) -> QueuedKeyedLayer<S, C> {
        QueuedKeyedLayer { parts: self.parts }
    }

    /// What gives each request its policy.
    #[must_use]
    pub fn select(&self) -> &S {
        &self.parts.policy.0
    }

    #[cfg(feature = "http")]
    pub(crate) fn parts(&self) -> &Arc<Parts<Chooser<S>, C>> {
        &self.parts
    }
}

impl<T, S: Choose, C> Layer<T> for KeyedLayer<S, C> {
    type Service = Keyed<T, S, C>;

    fn layer(&self, inner: T) -> Self::Service {
        Keyed { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<S, C> Clone for KeyedLayer<S, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for KeyedLayer<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("select", &self.parts.policy).finish_non_exhaustive()
    }
}

/// The answer of a [`Keyed`].
pub type ResponseFuture<F, S, C = OnError> = admission::ResponseFuture<F, Chooser<S>, C>;

/// The answer of a [`QueuedKeyed`].
pub type QueuedResponseFuture<T, Req, S, C = OnError> = QueuedFuture<T, Req, Chooser<S>, C>;

/// What a call holds on to.
type Held<S, C> = Arc<Parts<Chooser<S>, C>>;

/// Chooses the policy of a request, and has it let the call in.
#[inline]
pub(crate) fn admit<Req, S: Select<Req>, C>(
    front: &mut Front<Chooser<S>, C>,
    request: &Req,
) -> Result<Running<Chooser<S>, C>, Rejection> {
    let parts = front.parts_of_call();
    let mut now = Moment::new();
    let choice = parts.policy.0.select(request, &mut now);
    let permit = parts.policy.admit_to(choice, &mut now)?;
    Ok(Admitted::with(parts, permit))
}

/// Like [`admit`], or queues the call.
fn enter<Req, S: Select<Req>, C>(
    front: &mut Front<Chooser<S>, C>,
    request: &Req,
) -> Result<Entered<Held<S, C>>, Rejection> {
    let parts = front.parts_of_call();
    let mut now = Moment::new();
    let choice = parts.policy.0.select(request, &mut now);
    Ok(match parts.policy.enter_to(choice, &mut now)? {
        Entry::Admitted(permit) => Entered::Admitted(Admitted::with(parts, permit)),
        Entry::Queued(wait) => Entered::Queued(InQueue::new(parts, wait)),
    })
}

/// A service behind a policy for each key.
///
/// It is `Clone`, `Send`, `Sync` and `Unpin` when the service inside is. It is ready when the service is: which policy
/// a call meets is not known before the call.
pub struct Keyed<T, S: Choose, C = OnError> {
    inner: T,
    front: Front<Chooser<S>, C>,
}

impl<T, S: Choose, C> Keyed<T, S, C> {
    /// The service behind the policies.
    #[must_use]
    pub const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The service behind the policies. Calling it goes round them.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes the policies off.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, S, C, Req> Service<Req> for Keyed<T, S, C>
where
    T: Service<Req>,
    T::Error: CarryRejection,
    S: Select<Req>,
    C: Classify<T::Response, T::Error>,
{
    type Response = T::Response;
    type Error = T::Error;
    type Future = ResponseFuture<T::Future, S, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match admit(&mut self.front, &request) {
            Ok(mut admitted) => {
                let future = admitted.guard(|| self.inner.call(request));
                ResponseFuture::running(future, admitted)
            }
            Err(rejection) => ResponseFuture::rejected(rejection),
        }
    }
}

impl<T: Clone, S: Choose, C> Clone for Keyed<T, S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<T: fmt::Debug, S: Choose + fmt::Debug, C> fmt::Debug for Keyed<T, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("inner", &self.inner).field("front", &self.front).finish()
    }
}

/// Like [`KeyedLayer`], for calls that wait. Made by [`KeyedLayer::queued`].
pub struct QueuedKeyedLayer<S, C = OnError> {
    parts: Arc<Parts<Chooser<S>, C>>,
}

impl<T, S: Choose, C> Layer<T> for QueuedKeyedLayer<S, C> {
    type Service = QueuedKeyed<T, S, C>;

    fn layer(&self, inner: T) -> Self::Service {
        QueuedKeyed { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<S, C> Clone for QueuedKeyedLayer<S, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for QueuedKeyedLayer<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedKeyedLayer").field("select", &self.parts.policy).finish_non_exhaustive()
    }
}

/// A service behind a policy for each key, whose calls wait for it.
pub struct QueuedKeyed<T, S: Choose, C = OnError> {
    inner: T,
    front: Front<Chooser<S>, C>,
}

impl<T, S, C, Req> Service<Req> for QueuedKeyed<T, S, C>
where
    T: Service<Req> + Clone,
    T::Error: CarryRejection,
    S: Select<Req>,
    C: Classify<T::Response, T::Error>,
{
    type Response = T::Response;
    type Error = T::Error;
    type Future = QueuedResponseFuture<T, Req, S, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let entered = enter(&mut self.front, &request);
        QueuedFuture::new(&mut self.inner, request, entered)
    }
}

impl<T: Clone, S: Choose, C> Clone for QueuedKeyed<T, S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<T: fmt::Debug, S: Choose + fmt::Debug, C> fmt::Debug for QueuedKeyed<T, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedKeyed").field("inner", &self.inner).field("front", &self.front).finish()
    }
}
