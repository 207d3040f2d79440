use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    admission,
    fallback::NoFallback,
    http::{
        attempt_limit::AttemptLimit,
        streamed_body::StreamedBody,
        streamed_queued::{QueuedStreamed, QueuedStreamedLayer},
    },
    outcome::OnError,
    retry::{Classified, Cloned},
    stack::{Innermost, Stack, StackService},
    timeout,
};

/// A service behind a stack that sees bodies to their end. Made by a [`StreamedStackLayer`].
pub type StreamedStack<S, C = Classified<OnError>, F = NoFallback, R = Cloned> =
    StackService<QueuedStreamed<AttemptLimit<S>, Innermost, C>, C, F, R>;

/// The body of an answer that came through a [`StreamedStack`]. A fallback makes one of any body with `into()`.
pub type StackBody<B, C = Classified<OnError>> = StreamedBody<B, Innermost, C>;

impl<C, F, R> Stack<C, F, R> {
    /// This stack for HTTP services, whose breaker, bulkhead and adaptive limit hold what they gave until the body of
    /// the response has ended, and judge the call then, as
    /// [`AdmissionLayer::until_body_end`](crate::admission::AdmissionLayer::until_body_end) says.
    ///
    /// All its policies are those of this stack, which sees and switches them as ever. The limits of time end with the
    /// head of the response, and so do the load shedder and the retry; for a body that stops half-way there is
    /// [`BodyTimeoutLayer`](crate::http::BodyTimeoutLayer).
    ///
    /// The classifier has to be one for responses with any body, as [`StatusClassify`](crate::http::StatusClassify)
    /// and [`OnError`] are: it is asked about what the service answers, and about what the stack makes of that.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use mainstay::{Error, Stack, bulkhead, http::RespondLayer};
    /// use tower::ServiceBuilder;
    ///
    /// let stack = Stack::builder("downloads").bulkhead(bulkhead::Config::new(8).max_queue(32)).build();
    /// let app: Router = Router::new().route("/", get(async || "as long as you like")).layer(
    ///     ServiceBuilder::new().layer(RespondLayer::new()).layer(stack.until_body_end()).map_err(Error::Inner),
    /// );
    /// ```
    #[must_use]
    pub fn until_body_end(&self) -> StreamedStackLayer<C, F, R> {
        let (rest, innermost, classify, limit) = self.apart();
        let attempts = QueuedStreamedLayer::new(Arc::new(admission::Parts { policy: innermost, classify }));
        StreamedStackLayer { rest, attempts, limit }
    }
}

/// Puts a [`Stack`] in front of an HTTP service, and settles each attempt at the end of its response's body.
///
/// Made by [`Stack::until_body_end`].
pub struct StreamedStackLayer<C = Classified<OnError>, F = NoFallback, R = Cloned> {
    rest: Stack<C, F, R>,
    attempts: QueuedStreamedLayer<Innermost, C>,
    limit: Option<timeout::Handle>,
}

impl<S, C, F, R> Layer<S> for StreamedStackLayer<C, F, R> {
    type Service = StreamedStack<S, C, F, R>;

    fn layer(&self, inner: S) -> Self::Service {
        self.rest.service(self.attempts.layer(AttemptLimit::new(inner, self.limit.clone())))
    }
}

impl<C, F, R> Clone for StreamedStackLayer<C, F, R> {
    fn clone(&self) -> Self {
        Self { rest: self.rest.clone(), attempts: self.attempts.clone(), limit: self.limit.clone() }
    }
}

impl<C, F, R> fmt::Debug for StreamedStackLayer<C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedStackLayer")
            .field("rest", &self.rest)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
