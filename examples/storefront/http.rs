//! The little HTTP that everybody here needs: a server with one page, and a client that keeps its connections.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use mainstay::BoxError;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// What every handler answers with.
pub type Answer = Response<Full<Bytes>>;

/// A server on a free port of the loopback interface.
pub struct Server {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start<H, F>(handler: H) -> io::Result<Self>
    where
        H: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, handler, stopped));
        Ok(Self { addr, stop, accepting })
    }

    pub fn uri(&self) -> Result<Uri, BoxError> {
        Ok(format!("http://{}/", self.addr).parse()?)
    }

    /// Closes the port and every connection. When it returns no task of the server is left.
    pub async fn stop(self) {
        // Either fails only if the server has stopped by itself.
        let _ = self.stop.send(());
        let _ = self.accepting.await;
    }
}

async fn accept<H, F>(listener: TcpListener, handler: H, mut stopped: oneshot::Receiver<()>)
where
    H: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, handler.clone()));
                }
                // Most likely the process may open no more sockets: some will be closed in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    connections.shutdown().await;
}

async fn serve<H, F>(stream: TcpStream, handler: H)
where
    H: Fn() -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(move |_: Request<Incoming>| {
        let answer = handler();
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // Both fail when the client has gone away, which is its right; hyper then drops the handler's future.
    let _ = stream.set_nodelay(true);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A client that keeps its connections for the next call. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Client(legacy::Client<HttpConnector, Empty<Bytes>>);

impl Client {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(legacy::Client::builder(TokioExecutor::new()).build(connector))
    }

    /// The whole response, whatever its status.
    pub async fn get(&self, uri: &Uri) -> Result<Response<Bytes>, BoxError> {
        let (head, body) = self.0.get(uri.clone()).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}
