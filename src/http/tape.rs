//! The body of a request as it was read, for all who read it: the attempt that is sent first, and those after it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::{
    error::BoxError,
    sync::Mutex,
    waiters::{Place, Waiters},
};

/// A body, and what was read of it. Whoever wants more than is recorded reads on, for all.
///
/// The body stays with the record and not with one of its readers: an attempt that has failed may be kept by its
/// connection for a while, and the next one need not wait for that.
pub(super) struct Tape<B> {
    record: Mutex<Record<B>>,
    limit: u64,
    waiters: Waiters,
    // Wakes the waiters. The body knows but one task, and that of an attempt which has failed may never ask again.
    waker: Waker,
}

struct Record<B> {
    pieces: Vec<Piece>,
    // How many pieces and bytes were read, recorded or not.
    read: usize,
    bytes: u64,
    state: State,
    // None while somebody reads it, and after its end. In a box, so that it can be taken out to be read.
    body: Option<Pin<Box<B>>>,
    // What the body says of the rest.
    rest: SizeHint,
    // Somebody wanted to read while the body was out.
    missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is more to read.
    Open,
    /// Read to its end.
    Ended,
    /// It broke off.
    Failed,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

/// Why an attempt cannot read what an earlier one has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Gone {
    #[error("the request's body is longer than what is kept of it, and another attempt has read on")]
    TooLong,
    #[error("the request's body broke off in another attempt")]
    Failed,
}

/// What a reader finds at its place.
enum Found<B> {
    Piece(Piece),
    Body(Pin<Box<B>>),
    End,
    Gone(Gone),
    Wait,
}

struct Ring(Waiters);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.0.wake_all();
    }
}

impl<B: Body> Tape<B> {
    pub(super) fn new(body: B, limit: u64) -> Self {
        let rest = body.size_hint();
        let body = Some(Box::pin(body));
        let record = Record { pieces: Vec::new(), read: 0, bytes: 0, state: State::Open, body, rest, missed: false };
        let waiters = Waiters::default();
        let waker = Waker::from(Arc::new(Ring(waiters.clone())));
        Self { record: Mutex::new(record), limit, waiters, waker }
    }
}

impl<B> Tape<B> {
    /// Whether all that was read is still there.
    pub(super) fn is_whole(&self) -> bool {
        let record = self.record.lock();
        record.pieces.len() == record.read && record.state != State::Failed
    }
}

impl<B> Record<B> {
    fn has_to_be_read(&self, at: usize) -> bool {
        at >= self.read && self.state == State::Open
    }

    fn find(&mut self, at: usize) -> Found<B> {
        if at < self.read {
            // Either all pieces are there or none.
            return self.pieces.get(at).map_or(Found::Gone(Gone::TooLong), |piece| Found::Piece(piece.clone()));
        }
        match self.state {
            State::Ended => Found::End,
            State::Failed => Found::Gone(Gone::Failed),
            State::Open => match self.body.take() {
                Some(body) => Found::Body(body),
                None => {
                    self.missed = true;
                    Found::Wait
                }
            },
        }
    }

    /// A piece was read. Past the limit nothing is kept, and what was is handed out to be dropped.
    fn add(&mut self, piece: Piece, limit: u64) -> Vec<Piece> {
        // Nobody misses a piece of nothing, and many of them would grow the record past its limit.
        if piece.is_nothing() {
            return Vec::new();
        }
        let whole = self.pieces.len() == self.read;
        self.read += 1;
        self.bytes += piece.len();
        if whole && self.bytes <= limit {
            self.pieces.push(piece);
            return Vec::new();
        }
        std::mem::take(&mut self.pieces)
    }
}

impl Piece {
    fn of(frame: &Frame<Bytes>) -> Self {
        match frame.data_ref() {
            Some(data) => Self::Data(data.clone()),
            // There are but two kinds.
            None => Self::Trailers(Box::new(frame.trailers_ref().cloned().unwrap_or_default())),
        }
    }

    fn len(&self) -> u64 {
        if let Self::Data(data) = self { data.len() as u64 } else { 0 }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Data(data) if data.is_empty())
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(*trailers),
        }
    }
}

/// One who reads a body from its beginning.
pub(super) struct Reader<B> {
    tape: Arc<Tape<B>>,
    at: usize,
    bytes: u64,
    // An error was told: nothing comes after it.
    broken: bool,
    place: Place,
}

impl<B> Reader<B> {
    pub(super) fn new(tape: Arc<Tape<B>>) -> Self {
        Self { tape, at: 0, bytes: 0, broken: false, place: Place::default() }
    }

    pub(super) fn into_tape(self) -> Arc<Tape<B>> {
        self.tape
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let record = self.tape.record.lock();
        self.broken || record.state == State::Ended && self.at == record.read
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.broken {
            return SizeHint::with_exact(0);
        }
        let record = self.tape.record.lock();
        let recorded = record.bytes.saturating_sub(self.bytes);
        let mut hint = SizeHint::new();
        if let Some(upper) = record.rest.upper() {
            hint.set_upper(upper.saturating_add(recorded));
        }
        hint.set_lower(record.rest.lower().saturating_add(recorded));
        hint
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B: Body<Data = Bytes>> Reader<B>
where
    B::Error: Into<BoxError>,
{
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.broken {
            return Poll::Ready(None);
        }
        if self.tape.record.lock().has_to_be_read(self.at) {
            // Before looking: who has the body out may give it back at any moment.
            self.place.wait(&self.tape.waiters, cx);
        }
        let found = self.tape.record.lock().find(self.at);
        if !matches!(found, Found::Body(_) | Found::Wait) {
            self.place.leave();
        }
        match found {
            Found::Piece(piece) => {
                self.at += 1;
                self.bytes += piece.len();
                Poll::Ready(Some(Ok(piece.into_frame())))
            }
            Found::End => Poll::Ready(None),
            Found::Gone(why) => {
                self.broken = true;
                Poll::Ready(Some(Err(why.into())))
            }
            Found::Wait => Poll::Pending,
            Found::Body(body) => self.read_on(body),
        }
    }

    /// Reads a piece that nobody has read yet.
    fn read_on(&mut self, body: Pin<Box<B>>) -> Polled {
        let mut out = Out { tape: &self.tape, body: Some(body) };
        let body = out.body.as_mut().expect("it was just put there");
        let polled = body.as_mut().poll_frame(&mut Context::from_waker(&self.tape.waker));
        let rest = body.size_hint();
        if polled.is_pending() {
            out.give_back(rest);
            return Poll::Pending;
        }
        // All others are woken, and not the one who has what it waited for.
        self.place.leave();
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                out.end(State::Ended);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.broken = true;
                out.end(State::Failed);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let piece = Piece::of(&frame);
                self.at += usize::from(!piece.is_nothing());
                self.bytes += piece.len();
                out.add(piece, rest);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

/// A body that is being read. A panic in it is its end.
struct Out<'a, B: Body> {
    tape: &'a Tape<B>,
    body: Option<Pin<Box<B>>>,
}

impl<B: Body> Out<'_, B> {
    /// There was nothing to read.
    fn give_back(mut self, rest: SizeHint) {
        let mut record = self.tape.record.lock();
        record.body = self.body.take();
        record.rest = rest;
        let missed = std::mem::take(&mut record.missed);
        drop(record);
        // Who came meanwhile may have come too late for the body's wake-up.
        if missed {
            self.tape.waiters.wake_all();
        }
    }

    /// A piece was read; the body may say that it was the last.
    fn add(mut self, piece: Piece, rest: SizeHint) {
        let body = self.body.take().filter(|body| !body.is_end_stream());
        let mut record = self.tape.record.lock();
        let dropped = record.add(piece, self.tape.limit);
        if body.is_none() {
            record.state = State::Ended;
        }
        record.body = body;
        record.rest = rest;
        record.missed = false;
        drop(record);
        drop(dropped);
        self.tape.waiters.wake_all();
    }

    fn end(mut self, state: State) {
        let over = self.body.take();
        let mut record = self.tape.record.lock();
        record.state = state;
        record.rest = SizeHint::with_exact(0);
        drop(record);
        drop(over);
        self.tape.waiters.wake_all();
    }
}

impl<B: Body> Drop for Out<'_, B> {
    fn drop(&mut self) {
        if self.body.is_none() {
            return;
        }
        let mut record = self.tape.record.lock();
        record.state = State::Failed;
        record.rest = SizeHint::with_exact(0);
        drop(record);
        self.tape.waiters.wake_all();
    }
}

impl<B> fmt::Debug for Reader<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("pieces", &self.at).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Tape<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("limit", &self.limit).finish_non_exhaustive()
    }
}
