//! Bodies that are recorded while they are sent, so that they can be sent again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{pending, poll_fn, ready},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use allocation_counter::measure;
use axum::{Router, body, extract::State, routing::put};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use mainstay::{
    BoxError, Error, Stack,
    http::{Idempotent, KeptRequest, ReplayBody, ReplayBodyLayer},
    retry::{self, Replay, RetryLayer},
    stack::Config,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_test::task;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use super::{Step, Steps, trailers};
use crate::{
    loopback::{Server, within},
    support::*,
};

/// The first copy of a PUT with this body, and what is kept of it.
fn first<B: Body>(body: B, limit: u64) -> (ReplayBody<B>, KeptRequest<B>) {
    let mut request = Request::put("/").header("x-id", "7").body(ReplayBody::new(body, limit)).unwrap();
    let kept = Idempotent.keep(&mut request).expect("a PUT may be sent twice");
    (request.into_body(), kept)
}

fn again<B: Body>(kept: &KeptRequest<B>) -> Option<ReplayBody<B>> {
    let request: Request<ReplayBody<B>> = Idempotent.again(kept, 2)?;
    assert_eq!((request.method(), request.headers()["x-id"].as_bytes()), (&Method::PUT, &b"7"[..]));
    Some(request.into_body())
}

/// The next frame, as text.
async fn frame<B>(body: &mut B) -> Option<String>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    Some(match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
        Ok(frame) if frame.is_data() => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
        Ok(frame) => {
            assert_eq!(frame.into_trailers().unwrap(), trailers());
            "trailers".to_owned()
        }
        Err(error) => error.to_string(),
    })
}

/// All that is left.
async fn rest<B>(mut body: B) -> Vec<String>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut frames = Vec::new();
    while !body.is_end_stream() {
        match frame(&mut body).await {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    frames
}

const WHOLE: [Step; 5] = [Step::Data("one"), Step::Wait, Step::Data("two"), Step::Data("three"), Step::Trailers];
const READ: [&str; 4] = ["one", "two", "three", "trailers"];

#[tokio::test]
async fn another_attempt_reads_all_wherever_the_one_before_stopped() {
    for silent in [false, true] {
        for stop in 0..=READ.len() {
            for dropped in [false, true] {
                let body = if silent { Steps::silent(WHOLE) } else { Steps::new(WHOLE) };
                let (mut one, kept) = first(body, 100);
                for text in &READ[..stop] {
                    assert_eq!(frame(&mut one).await.as_deref(), Some(*text));
                }
                // A body may stay with its connection when the attempt is over: nobody waits for that.
                let kept_alive = (!dropped).then_some(one);
                let two = again(&kept).unwrap();
                assert_eq!(rest(two).await, READ);
                assert_eq!(rest(again(&kept).unwrap()).await, READ, "and another");
                if let Some(one) = kept_alive {
                    assert_eq!(rest(one).await, READ[stop..]);
                }
            }
        }
    }
}

#[tokio::test]
async fn two_attempts_at_a_time_read_the_same() {
    let (mut one, kept) = first(Steps::silent(WHOLE), 100);
    let mut two = again(&kept).unwrap();
    for text in READ {
        assert_eq!(frame(&mut one).await.as_deref(), Some(text));
        assert_eq!(frame(&mut two).await.as_deref(), Some(text));
    }
    assert_eq!((frame(&mut two).await, frame(&mut one).await), (None, None));
}

#[tokio::test]
async fn what_is_read_past_the_limit_cannot_be_sent_again() {
    for (limit, stop, whole) in [
        (11, 4, true),
        (10, 4, false),
        (10, 3, false),
        // Longer than the limit, but not read so far.
        (10, 2, true),
        (0, 1, false),
    ] {
        let (mut one, kept) = first(Steps::new(WHOLE), limit);
        let mut two = again(&kept).unwrap();
        for text in &READ[..stop] {
            assert_eq!(frame(&mut one).await.as_deref(), Some(*text));
        }
        assert_eq!(again(&kept).is_some(), whole, "{limit}, {stop}");
        // The one that reads is not concerned; one that is behind is told.
        let told = frame(&mut two).await.unwrap();
        assert_eq!(told == "one", whole, "{told}");
        if !whole {
            assert!(two.is_end_stream());
            assert_eq!(frame(&mut two).await, None);
        }
        assert_eq!(rest(one).await, READ[stop..]);
    }
    let (_, kept) = first(Steps::new(WHOLE), 0);
    assert_eq!(rest(again(&kept).unwrap()).await, READ, "nobody had read it");
    assert!(again(&kept).is_none());
}

#[tokio::test]
async fn a_body_that_broke_off_cannot_be_sent_again() {
    let (mut one, kept) = first(Steps::silent([Step::Data("one"), Step::Fail]), 100);
    let mut two = again(&kept).unwrap();
    assert_eq!(rest(&mut one).await, ["one", "boom"]);
    assert!(one.is_end_stream());
    assert!(again(&kept).is_none());
    assert_eq!(rest(&mut two).await, ["one", "the request's body broke off in another attempt"]);

    let (one, kept) = first(Steps::silent([Step::Panic]), 100);
    let (mut one, mut two) = (Box::new(one), again(&kept).unwrap());
    assert!(panics(|| poll_once(&mut Box::pin(frame(&mut one)))));
    assert!(again(&kept).is_none());
    assert_eq!(frame(&mut two).await.as_deref(), Some("the request's body broke off in another attempt"));
}

#[tokio::test]
async fn it_says_how_much_is_left_and_whether_it_is_over() {
    let hint = |body: &ReplayBody<Full<Bytes>>| (body.size_hint().exact(), body.is_end_stream());
    let plain = ReplayBody::new(Full::from("12345"), 100);
    assert_eq!(hint(&plain), (Some(5), false));
    for limit in [100, 2] {
        let (mut one, kept) = first(Full::from("12345"), limit);
        let mut two = again(&kept).unwrap();
        assert_eq!((hint(&one), hint(&two)), ((Some(5), false), (Some(5), false)));
        assert_eq!(frame(&mut one).await.as_deref(), Some("12345"));
        assert_eq!((hint(&one), hint(&two)), ((Some(0), true), (Some(5), false)));
        assert!(frame(&mut two).await.is_some());
        assert_eq!(hint(&two), (Some(0), true));
    }
    // A body that knows no upper bound, and says nothing of its end.
    let bounds = |body: &ReplayBody<Steps>| {
        let hint: SizeHint = body.size_hint();
        (hint.lower(), hint.upper(), body.is_end_stream())
    };
    let (mut one, kept) = first(Steps::silent([Step::Data("one"), Step::Data("three")]), 100);
    assert_eq!(bounds(&one), (8, None, false));
    assert!(frame(&mut one).await.is_some());
    let mut two = again(&kept).unwrap();
    assert_eq!((bounds(&one), bounds(&two)), ((5, None, false), (8, None, false)));
    assert!(frame(&mut two).await.is_some());
    assert_eq!(bounds(&two), (5, None, false));
    while frame(&mut two).await.is_some() {}
    assert_eq!(bounds(&two), (0, Some(0), true));
    assert_eq!(bounds(&one), (5, Some(5), false));
    // A broken one.
    let (mut one, _) = first(Steps::silent([Step::Fail]), 100);
    assert!(frame(&mut one).await.is_some());
    assert_eq!(bounds(&one), (0, Some(0), true));
}

#[tokio::test]
async fn pieces_of_nothing_are_passed_on_and_not_kept() {
    let (mut one, kept) = first(Steps::silent([Step::Data(""), Step::Data("one"), Step::Data("")]), 3);
    let mut two = again(&kept).unwrap();
    assert_eq!(frame(&mut one).await.as_deref(), Some(""));
    assert_eq!(frame(&mut two).await.as_deref(), Some("one"));
    assert_eq!(rest(one).await, ["one", ""]);
    assert_eq!(rest(two).await, Vec::<String>::new());
    assert_eq!(rest(again(&kept).unwrap()).await, ["one"]);
}

#[test]
fn no_body_costs_nothing_and_data_is_not_copied() {
    assert_eq!(measure(|| drop(ReplayBody::new(Empty::<Bytes>::new(), 100))).count_total, 0);
    let (empty, kept) = first(Empty::<Bytes>::new(), 100);
    assert!(empty.is_end_stream() && again(&kept).unwrap().is_end_stream());
    // Nor does a request that is sent once.
    let data = Bytes::from(vec![7; 1_000]);
    let mut request = Request::post("/").body(()).unwrap().map(|()| Full::new(data.clone()));
    let plain = measure(|| {
        let mut post = std::mem::take(&mut request).map(|body| ReplayBody::new(body, 100));
        *post.method_mut() = Method::POST;
        assert!(Idempotent.keep(&mut post).is_none());
    });
    assert_eq!(plain.count_total, 0);
    let (mut one, kept) = first(Full::new(data.clone()), 1_000);
    let mut two = again(&kept).unwrap();
    for body in [&mut one, &mut two] {
        let Poll::Ready(Some(Ok(frame))) = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) else {
            panic!("it is there")
        };
        assert_eq!(frame.data_ref().unwrap().as_ptr(), data.as_ptr());
    }
}

/// A body whose pieces come when the test says so.
struct Pieces(UnboundedReceiver<&'static str>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Boom;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Boom>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
    }
}

#[test]
fn all_who_wait_are_woken_whoever_asked_last() {
    let (sender, pieces) = unbounded_channel();
    let (mut one, kept) = first(Pieces(pieces), 100);
    let mut two = again(&kept).unwrap();
    let mut first_waits = task::spawn(frame(&mut one));
    let mut second_waits = task::spawn(frame(&mut two));
    assert!(first_waits.poll().is_pending() && second_waits.poll().is_pending() && first_waits.poll().is_pending());
    assert!(!first_waits.is_woken() && !second_waits.is_woken());
    sender.send("one").unwrap();
    assert!(first_waits.is_woken() && second_waits.is_woken());
    // The first never asks again: its connection has no room for more.
    assert_eq!(second_waits.poll(), Poll::Ready(Some("one".to_owned())));
    drop(second_waits);
    let mut second_waits = task::spawn(frame(&mut two));
    assert!(second_waits.poll().is_pending());
    drop(first_waits);
    drop(one);
    sender.send("two").unwrap();
    assert!(second_waits.is_woken());
    assert_eq!(second_waits.poll(), Poll::Ready(Some("two".to_owned())));
    drop(sender);
    drop(second_waits);
    assert_eq!(poll_once(&mut pin!(frame(&mut two))), Poll::Ready(None));
}

/// A body that has the other attempt look for more while it is itself being read.
struct Entangled(Rc<RefCell<Option<ReplayBody<Entangled>>>>, Arc<Woken>, VecDeque<&'static str>);

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Body for Entangled {
    type Data = Bytes;
    type Error = Boom;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Boom>>> {
        if let Some(other) = self.0.borrow_mut().as_mut() {
            let waker = Waker::from(Arc::clone(&self.1));
            assert!(Pin::new(other).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        }
        match self.2.pop_front() {
            Some("") => Poll::Pending,
            piece => Poll::Ready(piece.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
        }
    }
}

#[test]
fn who_comes_while_the_body_is_being_read_is_told_when_it_is_back() {
    for (piece, found) in [("", Poll::Ready(Some("two".to_owned()))), ("one", Poll::Ready(Some("one".to_owned())))] {
        let (other, woken) = (Rc::default(), Arc::<Woken>::default());
        let body = Entangled(Rc::clone(&other), Arc::clone(&woken), VecDeque::from([piece, "two"]));
        let (mut one, kept) = first(body, 100);
        *other.borrow_mut() = again(&kept);
        let mut waits = task::spawn(frame(&mut one));
        assert_eq!(waits.poll().is_pending(), piece.is_empty());
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(waits.is_woken(), piece.is_empty(), "who has what it waited for is not woken");
        let mut two = other.take().unwrap();
        assert_eq!(poll_once(&mut pin!(frame(&mut two))), found);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_off_half_way_leaves_the_rest_to_the_next() {
    for by_hand in [false, true] {
        let calls = AtomicU32::new(0);
        let service = service_fn(|request: Request<ReplayBody<Steps>>| {
            let attempt = calls.fetch_add(1, SeqCst);
            let mut body = request.into_body();
            async move {
                if attempt == 0 {
                    assert_eq!(frame(&mut body).await.as_deref(), Some("one"));
                    return pending().await;
                }
                Ok::<_, Error<Boom>>(Response::new(rest(body).await))
            }
        });
        let stack = Stack::http_client("files");
        let request = Request::put("/").body(Steps::new(WHOLE)).unwrap();
        let answer = if by_hand {
            let retry = RetryLayer::new(stack.retry().unwrap().clone()).replay(Idempotent);
            let limit = mainstay::timeout::TimeoutLayer::new(ms(100));
            ReplayBodyLayer::default().layer(retry.layer(limit.layer(service))).oneshot(request).await
        } else {
            ReplayBodyLayer::default().layer(stack.service(service)).oneshot(request).await
        };
        assert_eq!(answer.unwrap().into_body(), READ);
        assert_eq!(calls.load(SeqCst), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn rt_04_a_replay_buffer_of_200_bytes_is_overflowed_by_500() {
    // (bytes, read by each attempt, attempts)
    for (bytes, reads, attempts) in [(100, true, 4), (200, true, 4), (201, true, 1), (500, true, 1), (500, false, 4)] {
        let config = retry::Config::new().attempts(4).backoff(retry::Backoff::fixed(ms(10)));
        let handle = retry::Handle::new("x", config);
        let retry = RetryLayer::new(handle.clone()).replay(Idempotent);
        let calls = AtomicU32::new(0);
        let below = service_fn(|request: Request<ReplayBody<Full<Bytes>>>| {
            calls.fetch_add(1, SeqCst);
            async move {
                if reads {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(body, vec![7; bytes], "requests are replayed whole");
                }
                Err::<(), _>(Error::Inner(Boom))
            }
        });
        let request = Request::put("/").body(Full::from(vec![7; bytes])).unwrap();
        let service = ReplayBodyLayer::new(200).layer(retry.layer(below));
        assert_eq!(service.oneshot(request).await, Err(Error::Inner(Boom)));
        assert_eq!(calls.load(SeqCst), attempts, "{bytes} bytes");
        assert_eq!(handle.snapshot().not_replayed, u64::from(attempts == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn methods_count_as_they_do_without_a_record() {
    let stack = Stack::http_client("files");
    let calls = AtomicU32::new(0);
    let below = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| {
        calls.fetch_add(1, SeqCst);
        ready(Err::<Response<()>, _>(Error::Inner(Boom)))
    });
    let service = ReplayBodyLayer::default().layer(stack.service(below));
    for (method, keyed, attempts) in
        [(Method::POST, false, 1), (Method::POST, true, 3), (Method::PUT, false, 3), (Method::GET, false, 3)]
    {
        calls.store(0, SeqCst);
        let mut request = Request::new(Full::from("body"));
        *request.method_mut() = method;
        if keyed {
            request.headers_mut().insert("idempotency-key", "7".parse().unwrap());
        }
        assert_eq!(service.clone().oneshot(request).await.unwrap_err(), Error::Inner(Boom));
        assert_eq!(calls.load(SeqCst), attempts);
    }
}

/// Fails the first request, with its body read or not, and says what was in the second.
async fn put_file(
    State((calls, reads)): State<(Arc<AtomicU32>, bool)>,
    headers: HeaderMap,
    request: body::Body,
) -> (StatusCode, String) {
    if calls.fetch_add(1, SeqCst) == 0 {
        if reads {
            request.collect().await.unwrap();
        }
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    // A body that was read to its end has a length now.
    let length = headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
    let body = request.collect().await.unwrap().to_bytes();
    assert!(body.chunks(1_000).enumerate().all(|(n, chunk)| chunk.iter().all(|byte| *byte == n as u8)));
    assert!(length.is_none_or(|length: usize| length == body.len()));
    (StatusCode::OK, body.len().to_string())
}

/// Pieces of a thousand bytes each, of which nobody knows how many there are.
fn upload(pieces: usize) -> body::Body {
    let (sender, receiver) = unbounded_channel();
    (0..pieces).for_each(|n| sender.send(vec![n as u8; 1_000]).unwrap());
    body::Body::new(Upload(receiver))
}

struct Upload(UnboundedReceiver<Vec<u8>>);

impl Body for Upload {
    type Data = Bytes;
    type Error = Boom;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Boom>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

#[tokio::test]
async fn an_upload_is_sent_again_to_a_server_that_failed_first() {
    let mut config = Config::http_client();
    config.retry = Some(retry::Config::http().backoff(retry::Backoff::fixed(ms(1))));
    for (pieces, limit, reads, status) in [
        (0, 1_000, true, 200),
        (5, 5_000, true, 200),
        (5, 4_999, true, 503),
        (900, 1_000_000, true, 200),
        (900, 64 * 1_024, true, 503),
        // Answered before the body was read.
        (5, 5_000, false, 200),
        (900, 1_000_000, false, 200),
    ] {
        let app = Router::new().route("/", put(put_file)).with_state((Arc::default(), reads));
        let server = Server::start(app).await;
        let stack = config.clone().builder("files").http().build();
        let client =
            legacy::Client::builder(TokioExecutor::new()).build::<_, ReplayBody<body::Body>>(HttpConnector::new());
        let service = ServiceBuilder::new()
            .layer(ReplayBodyLayer::new(limit))
            .layer(stack.layer())
            .map_err(Error::Inner)
            .service(client);
        let request = Request::put(server.uri("/")).body(upload(pieces)).unwrap();
        let answer = within(service.oneshot(request)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{pieces} pieces, {limit}");
        let retry = stack.snapshot().retry.unwrap();
        if status == 200 {
            let text = within(answer.into_body().collect()).await.unwrap().to_bytes();
            assert_eq!(text, (pieces * 1_000).to_string());
            assert_eq!((retry.retries, retry.recovered), (1, 1));
        } else {
            assert_eq!((retry.retries, retry.not_replayed), (0, 1));
        }
    }
}
