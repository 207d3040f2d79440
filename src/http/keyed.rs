use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use http_body::Body;
use tower::{Layer, Service};

use crate::{
    admission::{Front, Parts},
    error::CarryRejection,
    http::{streamed::StreamedFuture, streamed_body::StreamedBody},
    keyed::{Choose, Chooser, KeyedLayer, Select, admit},
    outcome::{Classify, OnError},
};

impl<S: Choose, C> KeyedLayer<S, C> {
    /// Holds what the policy of the key gave until the body of the response has ended, and judges the call then: as
    /// [`until_body_end`](crate::admission::AdmissionLayer::until_body_end) does for a single policy.
    #[must_use]
    pub fn until_body_end(self) -> KeyedStreamedLayer<S, C> {
        KeyedStreamedLayer { parts: Arc::clone(self.parts()) }
    }
}

/// Puts a policy for each key in front of an HTTP service, and settles each call at the end of its response's body.
///
/// Made by [`KeyedLayer::until_body_end`].
pub struct KeyedStreamedLayer<S, C = OnError> {
    parts: Arc<Parts<Chooser<S>, C>>,
}

impl<T, S: Choose, C> Layer<T> for KeyedStreamedLayer<S, C> {
    type Service = KeyedStreamed<T, S, C>;

    fn layer(&self, inner: T) -> Self::Service {
        KeyedStreamed { inner, front: Front::new(Arc::clone(&self.parts)) }
    }
}

impl<S, C> Clone for KeyedStreamedLayer<S, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for KeyedStreamedLayer<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStreamedLayer").field("select", &self.parts.policy).finish_non_exhaustive()
    }
}

/// An HTTP service behind a policy for each key that sees bodies to their end.
pub struct KeyedStreamed<T, S: Choose, C = OnError> {
    inner: T,
    front: Front<Chooser<S>, C>,
}

impl<T, S, C, Req, B> Service<Req> for KeyedStreamed<T, S, C>
where
    T: Service<Req, Response = Response<B>>,
    T::Error: CarryRejection,
    B: Body,
    S: Select<Req>,
    C: Classify<Response<B>, T::Error>,
{
    type Response = Response<StreamedBody<B, Chooser<S>, C>>;
    type Error = T::Error;
    type Future = StreamedFuture<T::Future, Chooser<S>, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let admitted = admit(&mut self.front, &request);
        StreamedFuture::new(admitted, || self.inner.call(request))
    }
}

impl<T: Clone, S: Choose, C> Clone for KeyedStreamed<T, S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: self.front.clone() }
    }
}

impl<T: fmt::Debug, S: Choose + fmt::Debug, C> fmt::Debug for KeyedStreamed<T, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStreamed").field("inner", &self.inner).field("front", &self.front).finish()
    }
}
