//! The `http` feature: what a status means, rejections as responses, bodies judged at their end.

mod classify;
mod client_stack;
mod limits;
mod replay_body;
mod respond;
mod server;
mod stream;
mod streamed_stack;
mod transport;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use crate::support::*;

/// What a body does when it is polled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Data(&'static str),
    Trailers,
    Wait,
    Fail,
    Panic,
}

/// A body that takes one step each time it is polled.
#[derive(Debug)]
pub(crate) struct Steps {
    left: VecDeque<Step>,
    tells_its_end: bool,
}

impl Steps {
    /// A body that says when nothing is left.
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { left: steps.into_iter().collect(), tells_its_end: true }
    }

    /// A body whose end is only known by asking for another frame, as that of a stream.
    pub(crate) fn silent(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { tells_its_end: false, ..Self::new(steps) }
    }
}

pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

impl Body for Steps {
    type Data = Bytes;
    type Error = Boom;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Boom>>> {
        Poll::Ready(match self.left.pop_front() {
            Some(Step::Data(text)) => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
            Some(Step::Trailers) => Some(Ok(Frame::trailers(trailers()))),
            Some(Step::Fail) => Some(Err(Boom)),
            Some(Step::Panic) => panic!("in the body"),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.tells_its_end && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(
            self.left.iter().map(|step| if let Step::Data(text) = step { text.len() as u64 } else { 0 }).sum(),
        );
        hint
    }
}
