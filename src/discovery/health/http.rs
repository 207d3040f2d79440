//! A check by a path over HTTP.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body::{Body, Frame};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::Service;

use crate::{
    contract::{Instance, Protocol},
    settings::ConfigError,
};

/// So much of an answer is read, so that the instance sees it taken; what is longer is cut off.
const LONGEST_BODY: usize = 64 * 1024;

/// Asks each instance for a path with `GET`; a status of 200 to 299 is healthy, if the body comes in time too (the
/// first 64 KiB of it; the rest is not read).
///
/// Each check opens a connection of its own, as a new caller would: one that is kept open says nothing about an
/// instance that accepts no more. Over plain HTTP; where instances speak TLS, check with a service of your own. The
/// time limit is that of the [checks](super::Config::timeout).
///
/// ```
/// use mainstay::discovery::{InMemory, health::{Checked, Config, HttpCheck}};
///
/// let fleet = Checked::new(InMemory::new(), HttpCheck::new("/healthz")?, Config::new());
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct HttpCheck {
    client: Client<HttpConnector, Nothing>,
    path: PathAndQuery,
}

impl HttpCheck {
    /// A check by this path, which may have a query.
    ///
    /// # Errors
    ///
    /// When it is no path, or does not begin with `/`.
    pub fn new(path: &str) -> Result<Self, ConfigError> {
        let refuse = |why| ConfigError::new("path", format_args!("\"{}\"", path.escape_debug()), why);
        if !path.starts_with('/') {
            return Err(refuse("must begin with \"/\""));
        }
        let path = path.parse().map_err(|_| refuse("must be a path of a URI"))?;
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Self { client, path })
    }
}

/// Why an instance failed its check.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum HttpCheckError {
    /// It answered with another status than 200 to 299.
    #[error("it answered with {0}")]
    Status(StatusCode),
    /// It could not be asked.
    #[error("it could not be asked: {0}")]
    Request(#[from] Error),
    /// It speaks something else than HTTP, or has no address that a URI may hold.
    #[error("it cannot be asked over HTTP")]
    NoHttp,
}

impl Service<Arc<Instance>> for HttpCheck {
    type Response = StatusCode;
    type Error = HttpCheckError;
    type Future = Pin<Box<dyn Future<Output = Result<StatusCode, HttpCheckError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpCheckError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Arc<Instance>) -> Self::Future {
        let (client, path) = (self.client.clone(), self.path.clone());
        Box::pin(async move {
            let request = request(&instance, path).ok_or(HttpCheckError::NoHttp)?;
            let answer = client.request(request).await?;
            let status = answer.status();
            drain(answer.into_body()).await;
            if status.is_success() { Ok(status) } else { Err(HttpCheckError::Status(status)) }
        })
    }
}

fn request(instance: &Instance, path: PathAndQuery) -> Option<Request<Nothing>> {
    if instance.protocol() == Protocol::Https {
        return None;
    }
    let uri = Uri::builder().scheme("http").authority(instance.authority()).path_and_query(path).build().ok()?;
    let agent = concat!("mainstay/", env!("CARGO_PKG_VERSION"));
    Request::get(uri).header(header::CONNECTION, "close").header(header::USER_AGENT, agent).body(Nothing).ok()
}

/// Reads an answer to its end, if that is near. How it ends does not matter: the status was there.
async fn drain<B: Body + Unpin>(mut body: B) {
    let mut read = 0;
    while read < LONGEST_BODY {
        let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { return };
        read += frame.data_ref().map_or(0, Buf::remaining);
    }
}

/// The body of a request that has none.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

impl fmt::Debug for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCheck").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many pieces of a kibibyte; how many of them were read.
    struct Pieces(usize, usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.1 == self.0 {
                return Poll::Ready(None);
            }
            self.1 += 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1_024])))))
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_if_that_is_near() {
        let longest = LONGEST_BODY / 1_024;
        for (pieces, read) in [(0, 0), (3, 3), (longest, longest), (longest * 2, longest)] {
            let mut body = Pieces(pieces, 0);
            drain(&mut body).await;
            assert_eq!(body.1, read, "of {pieces}");
        }
    }
}
