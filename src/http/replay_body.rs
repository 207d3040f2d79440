use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    deadline::{Deadline, DeadlineOf},
    error::BoxError,
    http::{
        Idempotent, RequestDeadline,
        replay::may_be_sent_twice,
        tape::{Reader, Tape},
    },
    retry::Replay,
    time::Tick,
};

/// Lets requests whose bodies stream be sent again: a body is recorded while it is sent, up to a limit.
///
/// Put it over a retry with [`Idempotent`], or over [`Stack::http_client`](crate::Stack::http_client). A request that
/// is never sent twice is not recorded, and one without a body costs nothing. What was recorded is not copied.
///
/// Another attempt sends what was recorded and then goes on with what no attempt has read. A body that was read past
/// the limit, or that broke off, cannot be sent again: the answer of the attempt stands, and the retry counts it as a
/// [request that cannot be sent again](crate::observe::GiveUp::Request). One that is larger than the limit, but was not
/// read so far when the attempt failed, is sent again.
///
/// ```
/// use http::{Request, Response};
/// use mainstay::{Error, Stack, http::ReplayBodyLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// # use {http_body_util::BodyExt, mainstay::http::ReplayBody, axum::body::Body};
/// # let client = service_fn(async |request: Request<ReplayBody<Body>>| -> Result<_, mainstay::BoxError> {
/// #     Ok(Response::new(request.into_body().collect().await?.to_bytes()))
/// # });
/// let stack = Stack::http_client("files");
/// let files = ServiceBuilder::new()
///     .layer(ReplayBodyLayer::new(16 * 1024)) // 64 KiB by default
///     .layer(stack.layer())
///     .map_err(Error::Inner)
///     .service(client);
/// let upload = Body::from("as long as you like, and no `Clone`");
/// let answer = files.oneshot(Request::put("/files/7").body(upload).unwrap()).await?;
/// # Ok::<(), Error<mainstay::BoxError>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayBodyLayer {
    limit: u64,
}

impl ReplayBodyLayer {
    /// Records so many bytes of a body at most. Trailers do not count.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit }
    }
}

/// 64 KiB for each request that is on its way.
impl Default for ReplayBodyLayer {
    fn default() -> Self {
        Self::new(64 * 1024)
    }
}

impl<S> Layer<S> for ReplayBodyLayer {
    type Service = ReplayBodies<S>;

    fn layer(&self, inner: S) -> ReplayBodies<S> {
        ReplayBodies { inner, limit: self.limit }
    }
}

/// A service the bodies of whose requests can be sent again.
#[derive(Debug, Clone)]
pub struct ReplayBodies<S> {
    inner: S,
    limit: u64,
}

impl<S, B> Service<Request<B>> for ReplayBodies<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> S::Future {
        self.inner.call(request.map(|body| ReplayBody::new(body, self.limit)))
    }
}

pin_project! {
    /// The body of a request that may be sent again. Made by [`ReplayBodyLayer`].
    pub struct ReplayBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<B> {
        // Nobody wants it recorded so far.
        Plain { #[pin] body: B, limit: u64 },
        Recorded { reader: Reader<B> },
        Empty,
    }
}

/// What is kept of a request while an attempt runs: its head, and what is read of its body.
pub struct KeptRequest<B> {
    head: Parts,
    // None when there is no body.
    tape: Option<Arc<Tape<B>>>,
}

impl<B: Body> ReplayBody<B> {
    /// A body of which so many bytes may be recorded.
    pub fn new(body: B, limit: u64) -> Self {
        let source = if body.is_end_stream() { Source::Empty } else { Source::Plain { body, limit } };
        Self { source }
    }

    /// Has what is read from now on recorded.
    fn record(&mut self) -> Option<Arc<Tape<B>>> {
        let plain = std::mem::replace(&mut self.source, Source::Empty);
        let tape = match plain {
            Source::Empty => return None,
            Source::Plain { body, limit } => Arc::new(Tape::new(body, limit)),
            // By another retry further out: whoever records is the same.
            Source::Recorded { reader } => reader.into_tape(),
        };
        self.source = Source::Recorded { reader: Reader::new(Arc::clone(&tape)) };
        Some(tape)
    }
}

/// A copy of all but the body.
fn head<B>(request: &Request<B>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}

impl<B: Body> Replay<Request<ReplayBody<B>>> for Idempotent {
    type Kept = KeptRequest<B>;

    fn keep(&self, request: &mut Request<ReplayBody<B>>) -> Option<KeptRequest<B>> {
        if !may_be_sent_twice(request) {
            return None;
        }
        let tape = request.body_mut().record();
        Some(KeptRequest { head: head(request), tape })
    }

    fn again(&self, kept: &KeptRequest<B>, _attempt: u32) -> Option<Request<ReplayBody<B>>> {
        let source = match &kept.tape {
            None => Source::Empty,
            Some(tape) if tape.is_whole() => Source::Recorded { reader: Reader::new(Arc::clone(tape)) },
            Some(_) => return None,
        };
        Some(Request::from_parts(kept.head.clone(), ReplayBody { source }))
    }

    fn deadline(&self, request: &Request<ReplayBody<B>>) -> Option<Tick> {
        RequestDeadline.deadline(request).map(Deadline::tick)
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().source.project() {
            SourceProjection::Plain { body, .. } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            SourceProjection::Recorded { reader } => reader.poll_frame(cx),
            SourceProjection::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Plain { body, .. } => body.is_end_stream(),
            Source::Recorded { reader } => reader.is_end_stream(),
            Source::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Plain { body, .. } => body.size_hint(),
            Source::Recorded { reader } => reader.size_hint(),
            Source::Empty => SizeHint::with_exact(0),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Plain { .. } => "plain",
            Source::Recorded { .. } => "recorded",
            Source::Empty => "empty",
        };
        f.debug_struct("ReplayBody").field("source", &source).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for KeptRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRequest")
            .field("method", &self.head.method)
            .field("uri", &self.head.uri)
            .finish_non_exhaustive()
    }
}
