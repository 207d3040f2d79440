use http::Request;

use crate::retry::Replay;

/// Sends a request again when its method may be sent twice: GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
///
/// A POST or PATCH that failed may have been carried out all the same; one that carries an `Idempotency-Key` says that
/// the server knows a request which it has seen, and is sent again too. The body has to be `Clone`, as a buffered one
/// is.
///
/// ```
/// use http::{Request, Response};
/// use mainstay::{BoxError, http::{Idempotent, StatusClassify}, retry::{Config, Handle, RetryLayer}};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let retry = Handle::new("shop", Config::http());
/// let layer = RetryLayer::new(retry.clone()).classify(StatusClassify::retryable()).replay(Idempotent);
/// let down = service_fn(async |_: Request<String>| {
///     Response::builder().status(503).body(()).map_err(BoxError::from)
/// });
/// let response = layer.layer(down).oneshot(Request::post("/orders").body(String::new())?).await?;
/// assert_eq!(response.status(), 503);
/// assert_eq!(retry.snapshot().not_replayed, 1);
/// # Ok::<(), BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Idempotent;

impl<B: Clone> Replay<Request<B>> for Idempotent {
    type Kept = Request<B>;

    fn keep(&self, request: &mut Request<B>) -> Option<Request<B>> {
        let may_be_sent_twice = request.method().is_idempotent() || request.headers().contains_key("idempotency-key");
        may_be_sent_twice.then(|| request.clone())
    }

    fn again(&self, kept: &Request<B>, _attempt: u32) -> Option<Request<B>> {
        Some(kept.clone())
    }
}
