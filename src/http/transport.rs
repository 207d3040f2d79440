use std::{
    fmt,
    future::{Future, Ready, ready},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready as ready_or_pending},
};

use http::{
    Request, Uri, Version,
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper_util::{
    client::legacy::{
        self, Client as Pooled,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    contract::{Instance, Invocation, Protocol},
    error::{BoxError, Error},
};

/// Why an HTTP call has no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The instance is not spoken to over HTTP.
    #[error("the instance speaks {0}, not http or https")]
    Protocol(Protocol),
    /// The instance's address, or the request's path, makes no URI.
    #[error("no URI can be made for the request: {0}")]
    Uri(#[source] http::Error),
    /// Connecting, sending or receiving failed.
    #[error("{}", Chain(.0))]
    Http(#[source] legacy::Error),
}

impl TransportError {
    /// Whether no connection could be made: the request was not sent.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_connect())
    }
}

/// An error with all that is behind it: hyper's own text says only "client error".
struct Chain<'a>(&'a legacy::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The HTTP transport of a [client](crate::client): makes a service for each instance, all over one pool of
/// connections (HTTP/1, hyper-util's client).
///
/// The URI of a request says the path; host, port and scheme are the instance's, and the HTTP version is the
/// connection's, whatever the request has. A `Host` header is set if there is none. The
/// [method](crate::contract::Method) of a call is not sent: it is a name for metrics.
///
/// ```
/// use http::Request;
/// use mainstay::{client::Client, discovery::InMemory, http::HttpTransport};
///
/// # async fn calls(discovery: InMemory) -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::http(discovery, HttpTransport::new()).build();
/// let request = Request::get("/users/7").body(String::new())?;
/// let response = client.call("users", "get_user", request).await?;
/// # Ok(())
/// # }
/// ```
pub struct HttpTransport<B, C = HttpConnector> {
    pool: Pooled<C, B>,
}

impl<B> HttpTransport<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Connections without delay (`TCP_NODELAY`), kept for 90 s when idle.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Pooled::builder(TokioExecutor::new());
        Self::with_pool(builder.pool_timer(TokioTimer::new()).build(connector))
    }
}

impl<B, C> HttpTransport<B, C> {
    /// Over a pool with settings and a connector of its own: for TLS one that knows it, as hyper-rustls has.
    #[must_use]
    pub const fn with_pool(pool: Pooled<C, B>) -> Self {
        Self { pool }
    }
}

impl<B> Default for HttpTransport<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<B, C: Clone> Clone for HttpTransport<B, C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<B, C> fmt::Debug for HttpTransport<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

impl<B, C: Clone> Service<Instance> for HttpTransport<B, C> {
    type Response = HttpInstance<B, C>;
    type Error = TransportError;
    type Future = Ready<Result<HttpInstance<B, C>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        let scheme = match instance.protocol() {
            Protocol::Http => Scheme::HTTP,
            Protocol::Https => Scheme::HTTPS,
            other => return ready(Err(TransportError::Protocol(other))),
        };
        let authority = instance.authority().parse::<Authority>();
        ready(match authority {
            Ok(authority) => Ok(HttpInstance { pool: self.pool.clone(), scheme, authority }),
            Err(error) => Err(TransportError::Uri(error.into())),
        })
    }
}

/// HTTP to one instance. Made by [`HttpTransport`].
pub struct HttpInstance<B, C = HttpConnector> {
    pool: Pooled<C, B>,
    scheme: Scheme,
    authority: Authority,
}

impl<B, C: Clone> Clone for HttpInstance<B, C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), scheme: self.scheme.clone(), authority: self.authority.clone() }
    }
}

impl<B, C> fmt::Debug for HttpInstance<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpInstance").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl<B, C> HttpInstance<B, C> {
    fn uri(&self, asked: &Uri) -> Result<Uri, http::Error> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let root = || PathAndQuery::from_static("/");
        parts.path_and_query = Some(asked.path_and_query().cloned().unwrap_or_else(root));
        Ok(Uri::from_parts(parts)?)
    }
}

/// The response as the pool has it.
type Answer<B, C> = <Pooled<C, B> as Service<Request<B>>>::Response;

impl<B, C> Service<Invocation<Request<B>>> for HttpInstance<B, C>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Answer<B, C>;
    type Error = Error<TransportError>;
    type Future = TransportFuture<B, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The pool is always ready: a connection is found or made in the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: Invocation<Request<B>>) -> Self::Future {
        let mut request = invocation.request;
        let (sent, refused) = match self.uri(request.uri()) {
            Ok(uri) => {
                *request.uri_mut() = uri;
                // That of the connection on which a gateway got the request would be asked of this one.
                *request.version_mut() = Version::default();
                (Some(self.pool.request(request)), None)
            }
            Err(error) => (None, Some(error)),
        };
        TransportFuture { sent, refused, pool: PhantomData }
    }
}

pin_project! {
    /// The response of an instance, on its way.
    pub struct TransportFuture<B, C = HttpConnector> {
        #[pin]
        sent: Option<legacy::ResponseFuture>,
        refused: Option<http::Error>,
        pool: PhantomData<fn(B, C)>,
    }
}

impl<B, C> Future for TransportFuture<B, C>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = Result<Answer<B, C>, Error<TransportError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(error) = this.refused.take() {
            return Poll::Ready(Err(Error::Inner(TransportError::Uri(error))));
        }
        let sent = this.sent.as_pin_mut().expect("polled again after it answered");
        let answer = ready_or_pending!(sent.poll(cx));
        Poll::Ready(answer.map_err(|error| Error::Inner(TransportError::Http(error))))
    }
}

impl<B, C> fmt::Debug for TransportFuture<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportFuture").finish_non_exhaustive()
    }
}
