//! Bodies that are judged at their end, and readers who leave before it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use mainstay::{
    Error,
    breaker::{CircuitBreakerLayer, Config, Handle},
    http::StatusClassify,
    observe::Totals,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{advance, ms, poll_once};

/// A body whose pieces come when the test says so.
struct Pieces(UnboundedReceiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

type Answered = Response<Box<dyn Body<Data = Bytes, Error = Infallible> + Unpin>>;

/// A call that was given up counts as a failure after a second.
fn breaker() -> Handle {
    Handle::new("files", Config::new().count_cancelled_after(ms(1_000)))
}

/// A call whose head has come, and the hand that sends the pieces of its body.
async fn call(breaker: &Handle) -> (UnboundedSender<Bytes>, Answered) {
    let (sender, pieces) = unbounded_channel();
    let service = service_fn(async |pieces| Ok::<_, Error<Infallible>>(Response::new(Pieces(pieces))));
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end();
    let response = layer.layer(service).oneshot(pieces).await.unwrap();
    (sender, response.map(|body| Box::new(body) as Box<_>))
}

/// Asks for the next piece once.
fn read(response: &mut Answered) -> Poll<Option<Bytes>> {
    let body = response.body_mut();
    let mut frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    poll_once(&mut frame).map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
}

fn failed_and_cancelled(breaker: &Handle) -> (u64, u64) {
    let Totals { calls, cancelled, .. } = breaker.snapshot().totals;
    (calls.failures(), cancelled)
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_who_leaves_is_not_the_services_failure() {
    let breaker = breaker();
    let (sender, mut response) = call(&breaker).await;
    sender.send(Bytes::from_static(b"a piece")).unwrap();
    sender.send(Bytes::from_static(b"and another")).unwrap();
    assert!(read(&mut response).is_ready());
    // The next piece is there. The reader takes an hour over the first one, and then has enough.
    advance(ms(3_600_000)).await;
    drop(response);
    assert_eq!(failed_and_cancelled(&breaker), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_reader_of_an_endless_stream_may_leave_at_any_time() {
    let breaker = breaker();
    let (sender, mut response) = call(&breaker).await;
    for _ in 0..10 {
        assert!(read(&mut response).is_pending());
        advance(ms(900)).await;
        sender.send(Bytes::from_static(b"tick")).unwrap();
        assert!(read(&mut response).is_ready());
    }
    assert!(read(&mut response).is_pending());
    advance(ms(1_000)).await;
    drop(response);
    assert_eq!(failed_and_cancelled(&breaker), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_falls_silent_in_its_answer_has_failed_when_the_reader_gives_up() {
    let breaker = breaker();
    let (sender, mut response) = call(&breaker).await;
    sender.send(Bytes::from_static(b"half")).unwrap();
    assert!(read(&mut response).is_ready());
    assert!(read(&mut response).is_pending());
    advance(ms(600)).await;
    // To ask again does not start the wait anew.
    assert!(read(&mut response).is_pending());
    advance(ms(401)).await;
    drop(response);
    assert_eq!(failed_and_cancelled(&breaker), (1, 0));
}
