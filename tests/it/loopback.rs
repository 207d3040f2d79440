//! A real server and real clients, on the loopback interface and in real time.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, body::Bytes};
use http_body_util::{BodyExt, Empty};
use hyper::{Response, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) type Client<C = HttpConnector> = legacy::Client<C, Empty<Bytes>>;

/// A client that opens its connections through `connector`.
pub(crate) fn client<C: legacy::connect::Connect + Clone>(connector: C) -> Client<C> {
    legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// Nothing here waits for a fixed time. This only turns a test that would hang into one that fails.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes to an end")
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    listen().await.1
}

pub(crate) fn uri(address: SocketAddr, path: &str) -> Uri {
    format!("http://{address}{path}").parse().unwrap()
}

/// An axum server; it is gone when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    client: Client,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(app: Router) -> Self {
        let (listener, address) = listen().await;
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, client: client(HttpConnector::new()), task }
    }

    pub(crate) fn uri(&self, path: &str) -> Uri {
        uri(self.address, path)
    }

    /// The head, with the body still to come.
    pub(crate) async fn open(&self, path: &str) -> Response<Incoming> {
        within(self.client.get(self.uri(path))).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Bytes> {
        let (head, body) = self.open(path).await.into_parts();
        Response::from_parts(head, within(body.collect()).await.unwrap().to_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
