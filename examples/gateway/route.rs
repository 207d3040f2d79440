//! The way to one server: what a call needs to get there, and what is made of its answer. Nothing here protects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, ResponseFuture, connect::HttpConnector};
use mainstay::BoxError;

use crate::{
    body::{Download, Pace, Upload},
    headers,
};

pub type Client<B> = legacy::Client<HttpConnector, Upload<B>>;

/// What comes from a server, or what we say in its place because of the client.
pub type FromServer = Either<Download, Full<Bytes>>;

/// Why there is no answer, when nobody turned the call away.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the call failed")]
    Call(#[from] legacy::Error),
    #[error("the server switched protocols without being asked to")]
    Switched,
}

/// One server, and how it is called.
pub struct Route<B> {
    client: Client<B>,
    to: Authority,
    host: HeaderValue,
    idle: Duration,
}

impl<B> Route<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub fn new(client: Client<B>, to: Authority, idle: Duration) -> Self {
        let host = HeaderValue::from_str(to.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { client, to, host, idle }
    }

    /// Calls the server. None when no server can be asked for this.
    pub fn call(&self, request: Request<B>) -> Option<(ResponseFuture, Arc<Pace>)> {
        let mut request = request.map(Upload::new);
        let pace = request.body().pace();
        *request.uri_mut() = self.address(request.uri())?;
        request.headers_mut().insert(HOST, self.host.clone());
        Some((self.client.request(request), pace))
    }

    /// Where to ask for what the client asked for.
    fn address(&self, asked: &Uri) -> Option<Uri> {
        let path = asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Uri::builder().scheme(Scheme::HTTP).authority(self.to.clone()).path_and_query(path).build().ok()
    }

    /// What is handed on of what came back.
    pub fn answer(
        &self,
        came: Result<Response<Incoming>, legacy::Error>,
        pace: &Pace,
    ) -> Result<Response<FromServer>, Failure> {
        match came {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(Failure::Switched),
            Ok(response) => Ok(self.receive(response)),
            // Not the server's failure, and 4xx says so to the breaker. Hardly anyone will read it.
            Err(_) if pace.client_failed() => Ok(refusal(StatusCode::BAD_REQUEST)),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&self, response: Response<Incoming>) -> Response<FromServer> {
        let (mut head, body) = response.into_parts();
        headers::prepare_response(&mut head);
        Response::from_parts(head, Either::Left(Download::new(body, self.idle)))
    }
}

/// What the client gets when it is its own fault.
pub fn refusal(status: StatusCode) -> Response<FromServer> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
}
