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
use mainstay::{BoxError, bulkhead::Permit};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

use crate::source::{Source, Superseded};

/// The body of a request on its way to a server.
pub struct Upload {
    source: Source,
    pace: Arc<Pace>,
}

/// How an upload goes. A slow or broken client must not be held against the server.
#[derive(Default)]
pub struct Pace {
    client: AtomicU8,
    moved: Notify,
}

const ON_TIME: u8 = 0;
const AWAITED: u8 = 1;
const FAILED: u8 = 2;

impl Upload {
    pub fn new(body: Incoming) -> Self {
        Self::from(Source::new(body))
    }

    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// Where it comes from, to be sent again from the beginning.
    pub fn source(&mut self) -> &mut Source {
        &mut self.source
    }
}

impl From<Source> for Upload {
    fn from(source: Source) -> Self {
        Self { source, pace: Arc::default() }
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

    /// A piece of the body went from the client to the server.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let poll = self.source.poll_frame(cx);
        let client = match &poll {
            Poll::Pending => AWAITED,
            Poll::Ready(Some(Err(why))) if !why.is::<Superseded>() => FAILED,
            Poll::Ready(_) => ON_TIME,
        };
        self.pace.client.store(client, Relaxed);
        if poll.is_ready() {
            self.pace.moved.notify_one();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// The body of a response on its way to the client. It fails when the server is silent for too long.
pub struct Download {
    body: Incoming,
    limit: Duration,
    // Made when the server lets us wait for the first time. Most bodies are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    // The server is busy with the answer until its end.
    _place: Option<Permit>,
}

impl Download {
    pub fn new(body: Incoming, limit: Duration, place: Option<Permit>) -> Self {
        Self { body, limit, alarm: None, waiting: false, _place: place }
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
