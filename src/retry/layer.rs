use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    outcome::OnError,
    own::Fork,
    replay::Cloned,
    retry::{
        handle::Handle,
        rule::{Classified, Exhausted, OnExhausted},
        service::Retry,
    },
};

/// A retry, who decides what a result means for it, and how requests are sent again.
pub(super) struct Parts<C, R> {
    pub(super) handle: Handle,
    pub(super) rule: Arc<C>,
    pub(super) replay: Arc<R>,
}

impl<C, R> Fork for Parts<C, R> {
    fn fork(&self) -> Arc<Self> {
        let (rule, replay) = (Arc::clone(&self.rule), Arc::clone(&self.replay));
        Arc::new(Self { handle: self.handle.clone(), rule, replay })
    }
}

/// Puts a [`Handle`] in front of a service.
///
/// All state is in the handle: a host may call `layer` as often as it likes, and all the services it makes share one
/// budget.
///
/// ```
/// use mainstay::{Error, retry::{Config, Handle, RetryLayer}};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let mut users = ServiceBuilder::new()
///     .layer(RetryLayer::new(Handle::new("user-db", Config::new())))
///     .map_err(Error::Inner)
///     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
/// assert_eq!(users.ready().await?.call(7).await?, "user 7");
/// # Ok::<(), Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
pub struct RetryLayer<C = Classified<OnError>, R = Cloned> {
    parts: Arc<Parts<C, R>>,
}

impl RetryLayer {
    /// A layer that tries again after every error, except other policies' rejections, and clones the request to do so.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { parts: Arc::new(Parts { handle, rule: Arc::new(Classified(OnError)), replay: Arc::new(Cloned) }) }
    }
}

impl<C, R> RetryLayer<C, R> {
    /// The same layer with another classifier: a type that implements [`Classify`](crate::Classify), or a closure.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<Classified<D>, R> {
        self.rule(Classified(classify))
    }

    /// The same layer with another [`Rule`](super::Rule).
    #[must_use]
    pub fn rule<D>(self, rule: D) -> RetryLayer<D, R> {
        let (handle, replay) = (self.parts.handle.clone(), Arc::clone(&self.parts.replay));
        RetryLayer { parts: Arc::new(Parts { handle, rule: Arc::new(rule), replay }) }
    }

    /// The same layer with another way to send requests again: a [`Replay`](super::Replay), or a closure
    /// `Fn(&Req) -> Option<Req>`.
    #[must_use]
    pub fn replay<Q>(self, replay: Q) -> RetryLayer<C, Q> {
        let (handle, rule) = (self.parts.handle.clone(), Arc::clone(&self.parts.rule));
        RetryLayer { parts: Arc::new(Parts { handle, rule, replay: Arc::new(replay) }) }
    }

    /// The same layer with a say in what the caller gets when the retries are used up. The type stays the same, so what
    /// is possible depends on it: a variant of an enum of yours, or, with boxed errors, an
    /// [`ExhaustedError`](super::ExhaustedError) around the last one:
    ///
    /// ```
    /// use mainstay::{BoxError, retry::{Config, Exhausted, ExhaustedError, Handle, RetryLayer}};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # tokio_test::block_on(async {
    /// let layer = RetryLayer::new(Handle::new("user-db", Config::new().attempts(2)))
    ///     .exhausted(|error: BoxError, how: Exhausted| how.with_source(error).into());
    /// let service = layer.layer(service_fn(async |_: u32| Err::<(), BoxError>("down".into())));
    /// let error = service.oneshot(1).await.unwrap_err();
    /// assert_eq!(error.downcast_ref::<ExhaustedError>().unwrap().how().attempts, 2);
    /// assert_eq!(error.to_string(), "gave up after 2 attempts, the most there are: down");
    /// # });
    /// ```
    #[must_use]
    pub fn exhausted<E, F: Fn(E, Exhausted) -> E>(self, hook: F) -> RetryLayer<OnExhausted<C, F>, R> {
        let rule = Arc::clone(&self.parts.rule);
        self.rule(OnExhausted { rule, hook })
    }

    /// The retry this layer puts in front.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.parts.handle
    }
}

impl<S, C, R> Layer<S> for RetryLayer<C, R> {
    type Service = Retry<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, Arc::clone(&self.parts))
    }
}

impl<C, R> Clone for RetryLayer<C, R> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<C, R> fmt::Debug for RetryLayer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("handle", &self.parts.handle).finish_non_exhaustive()
    }
}
