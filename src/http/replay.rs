use http::Request;

use crate::{
    deadline::{Deadline, DeadlineOf},
    http::RequestDeadline,
    retry::Replay,
    time::Tick,
};

/// Sends a request again when its method may be sent twice: GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
///
/// A POST or PATCH that failed may have been carried out all the same; one that carries an `Idempotency-Key` says that
/// the server knows a request which it has seen, and is sent again too. The body has to be `Clone`, as a buffered one
/// is, or one that is [recorded](crate::http::ReplayBodyLayer) while it is sent. A [deadline](crate::Deadline) in the
/// request's extensions is known: no wait is begun that passes it.
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

pub(super) fn may_be_sent_twice<B>(request: &Request<B>) -> bool {
    request.method().is_idempotent() || request.headers().contains_key("idempotency-key")
}

impl<B: Clone> Replay<Request<B>> for Idempotent {
    type Kept = Request<B>;

    fn keep(&self, request: &mut Request<B>) -> Option<Request<B>> {
        may_be_sent_twice(request).then(|| request.clone())
    }

    fn again(&self, kept: &Request<B>, _attempt: u32) -> Option<Request<B>> {
        Some(kept.clone())
    }

    fn deadline(&self, request: &Request<B>) -> Option<Tick> {
        RequestDeadline.deadline(request).map(Deadline::tick)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready, time::Duration};

    use http::{Response, StatusCode, header::RETRY_AFTER};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        error::BoxError,
        http::StatusClassify,
        retry::{Config, Handle, RetryLayer},
        time::Tick,
    };

    /// How often a request is sent to a server that always answers with this status, and in how many seconds.
    async fn sent(request: http::request::Builder, status: u16, retry_after: &str) -> (u32, u64) {
        let (calls, start) = (Cell::new(0), Tick::now());
        let below = service_fn(|_: Request<&str>| {
            calls.set(calls.get() + 1);
            ready(Response::builder().status(status).header(RETRY_AFTER, retry_after).body(()).map_err(BoxError::from))
        });
        let layer = RetryLayer::new(Handle::new("x", Config::http()));
        let service = layer.classify(StatusClassify::retryable()).replay(Idempotent).layer(below);
        let response = service.oneshot(request.body("body").unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "the answer is untouched");
        (calls.get(), Tick::now().since(start).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn statuses_that_pass_are_tried_again_and_others_are_not() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(sent(Request::get("/"), status, "2").await, (3, 4), "{status}");
        }
        for status in [200, 204, 301, 400, 401, 404, 409, 501, 505, 511] {
            assert_eq!(sent(Request::get("/"), status, "2").await, (1, 0), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_capped_and_garbage_is_as_good_as_none() {
        assert_eq!(sent(Request::get("/"), 503, "60").await, (3, 120));
        assert_eq!(sent(Request::get("/"), 503, "61").await, (1, 0));
        assert_eq!(sent(Request::get("/"), 503, "99999999999999999999").await, (1, 0));
        for garbage in ["1e10", "-1", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            let (calls, seconds) = sent(Request::get("/"), 503, garbage).await;
            assert!(calls == 3 && Duration::from_secs(seconds) < Duration::from_secs(2), "{garbage}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_be_sent_twice_is_sent_twice() {
        for (method, calls) in [
            ("GET", 3),
            ("HEAD", 3),
            ("OPTIONS", 3),
            ("TRACE", 3),
            ("PUT", 3),
            ("DELETE", 3),
            ("POST", 1),
            ("PATCH", 1),
        ] {
            assert_eq!(sent(Request::builder().method(method), 503, "1").await.0, calls, "{method}");
        }
        assert_eq!(sent(Request::post("/").header("Idempotency-Key", "7"), 503, "1").await.0, 3);
    }
}
