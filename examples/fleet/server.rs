//! One instance of a service: an HTTP server on a port of its own, which tells discovery that it is there.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mainstay::{
    BoxError,
    contract::{Instance, Version},
    discovery::{InMemory, Registration},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How long discovery believes in an instance that gives no sign.
pub const LEASE: Duration = Duration::from_secs(2);

/// How long a call usually takes.
const WORK: Duration = Duration::from_millis(5);

/// How an instance behaves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Well,
    /// Takes so long for each call.
    Slow(Duration),
    /// Answers with status 500.
    Failing,
}

/// A running instance.
pub struct Server {
    id: String,
    mode: watch::Sender<Mode>,
    calls: Arc<AtomicU64>,
    registration: Registration<InMemory>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Opens a port and registers it.
    pub async fn start(discovery: &InMemory, service: &str, id: &str) -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address: SocketAddr = listener.local_addr()?;
        let (mode, calls) = (watch::Sender::new(Mode::Well), Arc::new(AtomicU64::new(0)));
        let desk = Desk { id: id.to_owned(), mode: mode.subscribe(), calls: Arc::clone(&calls) };
        let accepting = tokio::spawn(accept(listener, desk));
        let instance =
            Instance::new(service, id, &address.ip().to_string(), address.port())?.with_version(Version::new(1, 0, 0));
        let registration = Registration::new(discovery.clone(), instance, LEASE).await?;
        Ok(Self { id: id.to_owned(), mode, calls, registration, accepting })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many calls have reached it.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Dies as a process does that is killed: its connections break, its port is closed, and nobody tells discovery.
    pub async fn kill(self) -> u64 {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.registration.abandon();
        self.calls.load(Relaxed)
    }

    /// Goes as a process does that is told to: discovery hears of it first.
    pub async fn stop(self) -> Result<u64, BoxError> {
        self.registration.close().await?;
        self.accepting.abort();
        let _ = self.accepting.await;
        Ok(self.calls.load(Relaxed))
    }
}

/// What a call needs to know.
#[derive(Clone)]
struct Desk {
    id: String,
    mode: watch::Receiver<Mode>,
    calls: Arc<AtomicU64>,
}

impl Desk {
    async fn answer(&self) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Relaxed);
        let mode = *self.mode.borrow();
        let work = match mode {
            Mode::Well => WORK,
            Mode::Slow(work) => work,
            Mode::Failing => Duration::ZERO,
        };
        tokio::time::sleep(work).await;
        let mut answer = Response::new(Full::from(self.id.clone()));
        if mode == Mode::Failing {
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        answer
    }
}

async fn accept(listener: TcpListener, desk: Desk) {
    // Dropped with this future, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, desk.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

async fn serve(stream: TcpStream, desk: Desk) {
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer().await) }
    });
    // Both fail when the client has gone away, which is its right.
    let _ = stream.set_nodelay(true);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
