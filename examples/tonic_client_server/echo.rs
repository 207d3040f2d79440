//! Stands for what tonic generates from a `.proto` file: a service and its client. Messages are just their bytes.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use http::Response;
use mainstay::BoxError;
use tonic::{
    Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
};
use tower::{Service, service_fn};

#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A unary service as tonic generates it: answers with what it was sent, or with an error to "fail".
#[derive(Clone)]
pub struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "example.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = service_fn(async |request: tonic::Request<Bytes>| match request.into_inner() {
            message if message == "fail" => Err(Status::unavailable("the echo is away")),
            message => Ok(tonic::Response::new(message)),
        });
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(echo, request).await) })
    }
}

/// A client as tonic generates it: the bounds are those of its `impl` block.
pub struct EchoClient<T>(tonic::client::Grpc<T>);

impl<T, B> EchoClient<T>
where
    T: Service<http::Request<Body>, Response = Response<B>>,
    T::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    pub fn new(channel: T) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    pub async fn echo(&mut self, message: &'static str) -> Result<Bytes, Status> {
        self.0.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = tonic::Request::new(Bytes::from_static(message.as_bytes()));
        let path = http::uri::PathAndQuery::from_static("/example.Echo/Echo");
        Ok(self.0.unary(request, path, Raw).await?.into_inner())
    }
}
