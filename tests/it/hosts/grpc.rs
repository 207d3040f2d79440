//! tonic: generated clients over our service, and a server behind our layers.

use std::pin::Pin;

use bytes::{Buf, BufMut};
use mainstay::{
    BoxError, CarryRejection,
    breaker::State,
    http::{RespondLayer, StatusClassify},
};
use tokio::task::JoinHandle;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::{Channel, Endpoint, server::TcpIncoming},
};
use tower::{ServiceBuilder, service_fn};

use super::*;
use crate::loopback::{listen, nobody, within};

/// Messages that are nothing but their bytes.
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
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<tonic::body::Body>> for Echo {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let echo = service_fn(async |request: tonic::Request<Bytes>| match request.into_inner() {
            message if message == "fail" => Err(Status::not_found("no such thing")),
            message => Ok(tonic::Response::new(message)),
        });
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(echo, request).await) })
    }
}

/// A client as tonic generates it: the bounds are those of its `impl` block.
struct EchoClient<T>(tonic::client::Grpc<T>);

impl<T, B> EchoClient<T>
where
    T: Service<http::Request<tonic::body::Body>, Response = Response<B>>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync + 'static>> + Send,
{
    fn new(channel: T) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    async fn echo(&mut self, message: &'static str) -> Result<Bytes, Status> {
        self.0.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = tonic::Request::new(Bytes::from_static(message.as_bytes()));
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Echo");
        Ok(within(self.0.unary(request, path, Raw)).await?.into_inner())
    }
}

fn channel(address: std::net::SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A tonic server behind a layer. A macro, so that nothing but tonic itself says what the layer must be.
macro_rules! serve {
    ($layer:expr) => {{
        let (listener, address) = listen().await;
        let server = tonic::transport::Server::builder().layer($layer).add_service(Echo);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        (Stopping(task), channel(address))
    }};
}

struct Stopping(JoinHandle<()>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client whose circuit opens, rejects and closes.
async fn assert_guarded_client<T, B>(breaker: &Handle, mut echo: EchoClient<T>)
where
    T: Service<http::Request<tonic::body::Body>, Response = Response<B>>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync + 'static>> + Send,
{
    assert_eq!(echo.echo("hello").await.unwrap(), "hello");
    assert_eq!(breaker.snapshot().totals.calls.success, 1);
    breaker.force_open();
    let status = BoxError::from(echo.echo("hello").await.unwrap_err());
    assert_eq!(status.rejection().unwrap().policy(), "shop", "the rejection is found in tonic's status");
    breaker.open_for(ms(60_000));
    breaker.transition_to(State::HalfOpen).unwrap();
    assert_eq!(echo.echo("again").await.unwrap(), "again");
    assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::Closed, 0));
}

#[tokio::test]
async fn a_generated_client_takes_our_service_with_typed_and_with_boxed_errors() {
    let (_server, channel) = serve!(tower::layer::util::Identity::new());
    let (breaker, layer) = breaker();
    let typed = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(channel.clone());
    assert_guarded_client(&breaker, EchoClient::new(typed)).await;
    let (breaker, layer) = super::breaker();
    let boxed = ServiceBuilder::new().layer(layer).map_err(BoxError::from).service(channel.clone());
    assert_guarded_client(&breaker, EchoClient::new(boxed)).await;
    // And with the whole answer, trailers and all, watched to its end.
    let (breaker, layer) = super::breaker();
    let streamed = layer.classify(StatusClassify::new()).until_body_end();
    let streamed = ServiceBuilder::new().layer(streamed).map_err(Error::Inner).service(channel.clone());
    assert_guarded_client(&breaker, EchoClient::new(streamed)).await;
    // A whole stack, whose requests are no `Clone`.
    let (breaker, layer) = stack();
    let typed = ServiceBuilder::new().layer(layer.clone()).map_err(Error::Inner).service(channel.clone());
    assert_guarded_client(&breaker, EchoClient::new(typed)).await;
    let (breaker, layer) = stack();
    let boxed = ServiceBuilder::new().layer(layer.clone()).map_err(BoxError::from).service(channel.clone());
    assert_guarded_client(&breaker, EchoClient::new(boxed)).await;
    let streamed = all().once().build();
    let service = ServiceBuilder::new().layer(streamed.until_body_end()).map_err(Error::Inner).service(channel);
    assert_guarded_client(streamed.breaker().unwrap(), EchoClient::new(service)).await;
    assert_eq!(streamed.bulkhead().unwrap().running(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_opens_the_clients_circuit() {
    let (breaker, layer) = breaker();
    let service = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(channel(nobody().await));
    let mut echo = EchoClient::new(service);
    for _ in 0..2 {
        assert!(BoxError::from(echo.echo("hello").await.unwrap_err()).rejection().is_none());
    }
    assert_eq!(breaker.state(), State::Open);
    assert!(BoxError::from(echo.echo("hello").await.unwrap_err()).rejection().is_some());
}

/// What callers of a server see whose circuit opens and closes.
async fn assert_guarded_server(breaker: &Handle, channel: Channel) {
    let mut echo = EchoClient::new(channel);
    assert_eq!(echo.echo("hello").await.unwrap(), "hello");
    assert_eq!(echo.echo("fail").await.unwrap_err().code(), Code::NotFound);
    breaker.force_open();
    let status = echo.echo("hello").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "circuit breaker \"shop\" is open"));
    breaker.open_for(ms(60_000));
    breaker.transition_to(State::HalfOpen).unwrap();
    assert_eq!(echo.echo("again").await.unwrap(), "again");
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.probes_running, snapshot.totals.cancelled), (State::Closed, 0, 0));
}

#[tokio::test]
async fn a_server_turns_rejections_into_a_status() {
    let respond =
        || RespondLayer::with(|rejection: &mainstay::Rejection| Status::unavailable(rejection.to_string()).into_http());
    let (breaker, layer) = breaker();
    let heads = ServiceBuilder::new().layer(respond()).layer(layer).map_err(Error::Inner);
    let (_server, channel) = serve!(heads);
    assert_guarded_server(&breaker, channel).await;

    let (breaker, layer) = super::breaker();
    let streamed = layer.classify(StatusClassify::new()).until_body_end();
    let bodies = ServiceBuilder::new().layer(respond()).layer(streamed).map_err(Error::Inner);
    let (_server, channel) = serve!(bodies);
    assert_guarded_server(&breaker, channel).await;

    let (breaker, layer) = stack();
    let (_server, channel) = serve!(ServiceBuilder::new().layer(respond()).layer(layer).map_err(Error::Inner));
    assert_guarded_server(&breaker, channel).await;

    let streamed = all().once().build();
    let bodies = ServiceBuilder::new().layer(respond()).layer(streamed.until_body_end()).map_err(Error::Inner);
    let (_server, channel) = serve!(bodies);
    assert_guarded_server(streamed.breaker().unwrap(), channel).await;
}

#[tokio::test]
async fn the_usual_response_reaches_grpc_clients_but_is_not_made_for_them() {
    let (breaker, layer) = breaker();
    let (_server, channel) =
        serve!(ServiceBuilder::new().layer(RespondLayer::new()).layer(layer).map_err(Error::Inner));
    let mut echo = EchoClient::new(channel);
    assert_eq!(echo.echo("hello").await.unwrap(), "hello");
    breaker.force_open();
    let status = echo.echo("hello").await.unwrap_err();
    assert!(status.message().contains("503"), "not a broken connection: {status:?}");
}
