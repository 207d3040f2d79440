//! Bodies that pass through, and know who keeps whom waiting.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mainstay::{BoxError, http::ReplayBody};
use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, Sleep, sleep},
};

/// The body of a request as the client sends it. A small one can be sent to another server too.
pub type FromClient = ReplayBody<Incoming>;

/// The body of a request on its way to a server.
pub struct Upload<B> {
    body: B,
    pace: Arc<Pace>,
}

/// How an upload goes. A slow or broken client must not be held against the server.
pub struct Pace {
    // Most requests have no body, and nothing that could move.
    streams: bool,
    client: AtomicU8,
    moved: Notify,
}

const ON_TIME: u8 = 0;
const AWAITED: u8 = 1;
const FAILED: u8 = 2;

impl<B> Upload<B> {
    pub fn new(body: B) -> Self
    where
        B: Body,
    {
        let pace = Pace { streams: !body.is_end_stream(), client: AtomicU8::new(ON_TIME), moved: Notify::new() };
        Self { body, pace: Arc::new(pace) }
    }

    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }
}

impl Pace {
    /// Whether the next piece has to come from the client.
    pub fn awaits_client(&self) -> bool {
        self.client.load(Relaxed) == AWAITED
    }

    /// Whether the client broke off, or sent what is no body.
    pub fn client_failed(&self) -> bool {
        self.client.load(Relaxed) == FAILED
    }

    /// Whether there is a body, of which pieces can move.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// A piece of the body went from the client to the server.
    pub fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        let client = match &poll {
            Poll::Pending => AWAITED,
            // Another error is that of a body which another attempt has read, and of which too little was kept.
            Poll::Ready(Some(Err(why))) if why.is::<hyper::Error>() => FAILED,
            Poll::Ready(_) => ON_TIME,
        };
        self.pace.client.store(client, Relaxed);
        if poll.is_ready() {
            self.pace.moved.notify_one();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response on its way to the client. It fails when the server is silent for too long.
pub struct Download {
    body: Incoming,
    limit: Duration,
    // Made when the server lets us wait for the first time. Most bodies are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Download {
    pub fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, alarm: None, waiting: false }
    }

    /// Whether the server has been silent for too long. Only time in which the client wanted more is counted.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !self.waiting {
            self.waiting = true;
            alarm.as_mut().reset(Instant::now() + self.limit);
        }
        alarm.as_mut().poll(cx)
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.poll_alarm(cx).map(|()| Some(Err("the server fell silent in the middle of its answer".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
