//! What a client sends, to be sent on more than once: a server that fails in the middle of a request has taken a part
//! of its body with it, and the next one wants the whole.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mainstay::{BoxError, retry::Replay};

use crate::body::Upload;

/// No more of a body than this is kept for another attempt; what is larger streams by and is sent once.
const KEPT: usize = 64 * 1024;

/// Somebody else reads the body by now.
#[derive(Debug, thiserror::Error)]
#[error("the body is being sent again")]
pub struct Superseded;

/// Reads the body of a request from its beginning, whoever has read some of it before.
pub struct Source {
    shared: Arc<Mutex<Shared>>,
    reader: u32,
    // How many of the pieces that were kept this reader has read.
    read: usize,
}

struct Shared {
    body: Incoming,
    // The pieces so far, while all of them are kept.
    kept: Option<Vec<Bytes>>,
    room: usize,
    // A connection may still hold the body of an attempt that was given up. It must not take what belongs to the next.
    reader: u32,
    // How many attempts wait for their answer.
    underway: u32,
}

impl Source {
    pub fn new(body: Incoming) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared { body, kept: None, room: KEPT, reader: 1, underway: 0 })),
            reader: 1,
            read: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is read from now on, unless it is known to be too much.
    fn keep(&mut self) -> Option<Recording> {
        let mut shared = self.lock();
        if shared.body.size_hint().lower() > KEPT as u64 {
            return None;
        }
        shared.kept = Some(Vec::new());
        Some(Recording(Arc::clone(&self.shared)))
    }

    /// An attempt is under way until this is dropped.
    pub fn begin(&self) -> Underway {
        self.lock().underway += 1;
        Underway(Arc::clone(&self.shared))
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = shared.kept.as_ref().and_then(|kept| kept.get(self.read)) {
            self.read += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if shared.reader != self.reader && !shared.body.is_end_stream() {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        let poll = Pin::new(&mut shared.body).poll_frame(cx);
        if let Poll::Ready(Some(frame)) = &poll {
            shared.note(frame.as_ref().ok().and_then(Frame::data_ref));
            self.read += 1;
        }
        poll.map_err(Into::into)
    }

    pub fn is_end_stream(&self) -> bool {
        let shared = self.lock();
        shared.unread(self.read) == 0 && shared.body.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        let (to_come, unread) = (shared.body.size_hint(), shared.unread(self.read));
        let mut hint = SizeHint::new();
        hint.set_lower(to_come.lower() + unread);
        if let Some(upper) = to_come.upper() {
            hint.set_upper(upper + unread);
        }
        hint
    }
}

impl Shared {
    /// Keeps another piece. What is no data, or is too much, cannot be sent again.
    fn note(&mut self, piece: Option<&Bytes>) {
        let Some(mut kept) = self.kept.take() else { return };
        let Some((piece, room)) = piece.and_then(|piece| Some((piece, self.room.checked_sub(piece.len())?))) else {
            return;
        };
        kept.push(piece.clone());
        (self.kept, self.room) = (Some(kept), room);
    }

    /// How many bytes are kept that such a reader has not read.
    fn unread(&self, read: usize) -> u64 {
        let kept = self.kept.as_ref().and_then(|kept| kept.get(read..)).unwrap_or_default();
        kept.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// An attempt that waits for its answer.
pub struct Underway(Arc<Mutex<Shared>>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).underway -= 1;
    }
}

/// What is kept of a body.
pub struct Recording(Arc<Mutex<Shared>>);

impl Recording {
    /// The body from its beginning, if all of it is still there. As long as more is to come it has one reader: the one
    /// before reads no more, unless its attempt is under way, as when a hedge asks. Then there is no other.
    fn again(&self) -> Option<Source> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.kept.as_ref().filter(|_| shared.underway == 0 || shared.body.is_end_stream())?;
        shared.reader += 1;
        Some(Source { reader: shared.reader, shared: Arc::clone(&self.0), read: 0 })
    }
}

/// Sends again what may be carried out twice, with a body of which enough can be kept.
pub struct Resend;

impl Replay<Request<Upload>> for Resend {
    type Kept = (request::Parts, Recording);

    fn keep(&self, request: &mut Request<Upload>) -> Option<Self::Kept> {
        if !request.method().is_idempotent() && !request.headers().contains_key("idempotency-key") {
            return None;
        }
        let body = request.body_mut().source().keep()?;
        let mut head = Request::new(()).into_parts().0;
        (head.method, head.uri) = (request.method().clone(), request.uri().clone());
        (head.version, head.headers) = (request.version(), request.headers().clone());
        Some((head, body))
    }

    fn again(&self, (head, body): &Self::Kept, _attempt: u32) -> Option<Request<Upload>> {
        Some(Request::from_parts(head.clone(), body.again()?.into()))
    }
}
