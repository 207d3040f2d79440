//! What the http feature adds: answers whose bodies are part of the call.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{
        Client as Pooled,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use mainstay::{
    Error, Stack,
    breaker::CircuitBreakerLayer,
    bulkhead::{self, BulkheadLayer},
    contract::Invocation,
    http::{
        BodyTimeoutLayer, DeadlineLayer, HttpInstance, HttpTransport, Idempotent, ReplayBody, ReplayBodyLayer,
        RespondLayer, SendDeadlineLayer,
    },
    keyed::{self, KeyedLayer, key_fn},
    retry::Replay,
};
use tower::{Layer, Service, ServiceExt};

use super::{
    Case, Failure, Lab, Work, fleet, lab,
    rooms::{bulkhead, of_bulkhead},
    services::{gauge, idle},
    sweep_all,
};
use crate::support::*;

/// A body of two pieces, with a wait before each, counted while it is there.
struct Pieces {
    left: VecDeque<Option<&'static str>>,
    there: Arc<AtomicU64>,
}

impl Pieces {
    fn new(there: &Arc<AtomicU64>) -> Self {
        there.fetch_add(1, SeqCst);
        Self { left: VecDeque::from([None, Some("one"), None, Some("two")]), there: Arc::clone(there) }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Boom;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Boom>>> {
        match self.left.pop_front() {
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            piece => Poll::Ready(piece.flatten().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.there.fetch_sub(1, SeqCst);
    }
}

/// The lab, with answers that have a body.
#[derive(Clone)]
struct Head {
    lab: Lab,
    bodies: Arc<AtomicU64>,
}

impl Head {
    fn new(lab: &Lab) -> Self {
        Self { lab: lab.clone(), bodies: Arc::default() }
    }
}

impl<Req> Service<Req> for Head {
    type Response = Response<Pieces>;
    type Error = Failure;
    type Future = Heading;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Service::<Req>::poll_ready(&mut self.lab, cx)
    }

    fn call(&mut self, request: Req) -> Heading {
        Heading(self.lab.call(request), Arc::clone(&self.bodies))
    }
}

struct Heading(lab::Working, Arc<AtomicU64>);

impl Future for Heading {
    type Output = Result<Response<Pieces>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.map(|_| Response::new(Pieces::new(&self.1))))
    }
}

/// Calls, and reads the body to its end.
fn read<S, B>(service: S) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<(), Failure>>>> + 'static
where
    S: Service<Request<()>, Response = Response<B>> + Clone + 'static,
    B: Body,
{
    move || {
        let service = service.clone();
        Box::pin(async move {
            let mut body =
                Box::pin(service.oneshot(Request::new(())).await.map_err(|_| Error::Inner(Boom))?.into_body());
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                frame.map_err(|_| Error::Inner(Boom))?;
            }
            Ok(())
        })
    }
}

fn of_head(case: Case, head: &Head) -> Case {
    let bodies = Arc::clone(&head.bodies);
    case.gauge("bodies", move || bodies.load(SeqCst))
}

/// The place is held to the end of the body.
pub(super) async fn streamed() {
    sweep_all(async |work| {
        let (lab, places) = (Lab::new(work), bulkhead());
        let head = Head::new(&lab);
        let call = read(BulkheadLayer::new(places.clone()).until_body_end().layer(head.clone()));
        of_head(of_bulkhead(Case::new(&lab, call), &places), &head)
    })
    .await;
    sweep_all(async |work| {
        let (lab, breaker) = (Lab::new(work), super::rooms::breaker());
        let head = Head::new(&lab);
        let call = read(CircuitBreakerLayer::new(breaker.clone()).until_body_end().layer(head.clone()));
        let case = Case::new(&lab, call).check(move |end| {
            let totals = breaker.snapshot().totals;
            let good = u64::from(end.done && end.work != Work::Fails);
            let bad = u64::from(end.done && end.work == Work::Fails);
            assert_eq!((totals.calls.successes(), totals.calls.failures()), (good, bad), "{end:?}");
            assert_eq!(totals.cancelled, end.begun - good - bad, "{end:?}");
        });
        of_head(case, &head)
    })
    .await;
}

pub(super) async fn streamed_queued() {
    sweep_all(async |work| {
        let (lab, places) = (Lab::new(work), bulkhead());
        let (head, held) = (Head::new(&lab), places.try_acquire().unwrap());
        let call = read(BulkheadLayer::new(places.clone()).queued().until_body_end().layer(head.clone()));
        of_head(of_bulkhead(Case::new(&lab, call).holding(held), &places), &head)
    })
    .await;
}

pub(super) async fn streamed_stack() {
    sweep_all(async |work| {
        let (lab, places) = (Lab::new(work), bulkhead());
        let (head, held) = (Head::new(&lab), places.try_acquire().unwrap());
        let stack = Stack::builder("x").bulkhead(places.clone()).attempt_timeout(ms(300)).once().build();
        let call = read(stack.until_body_end().layer(head.clone()));
        of_head(of_bulkhead(Case::new(&lab, call).holding(held), &places), &head)
    })
    .await;
}

pub(super) async fn body_timeout() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let head = Head::new(&lab);
        let limits = BodyTimeoutLayer::idle(ms(50)).unwrap().total(ms(500)).unwrap();
        of_head(Case::new(&lab, read(limits.layer(head.clone()))), &head)
    })
    .await;
}

pub(super) async fn respond() {
    sweep_all(async |work| {
        let (lab, places) = (Lab::new(work), bulkhead());
        let head = Head::new(&lab);
        let call = read(RespondLayer::new().layer(BulkheadLayer::new(places.clone()).layer(head.clone())));
        of_head(of_bulkhead(Case::new(&lab, call), &places), &head)
    })
    .await;
}

/// One attempt reads so much and is dropped; the next reads all.
pub(super) async fn replay_body() {
    for polls in 0..8 {
        let there = Arc::new(AtomicU64::new(0));
        let mut request = Request::put("/").body(ReplayBody::new(Pieces::new(&there), 100)).unwrap();
        let kept = Idempotent.keep(&mut request).unwrap();
        let mut body = Box::pin(request.into_body());
        for _ in 0..polls {
            let _ = body.as_mut().poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        }
        drop(body);
        let next: Option<Request<ReplayBody<Pieces>>> = Idempotent.again(&kept, 2);
        let mut again = Box::pin(next.unwrap().into_body());
        let mut all = String::new();
        while let Some(frame) = poll_fn(|cx| again.as_mut().poll_frame(cx)).await {
            all.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
        assert_eq!(all, "onetwo", "after {polls}");
        drop((again, kept));
        assert_eq!(there.load(SeqCst), 0, "after {polls}");
    }
}

/// A connection in memory, to a server that answers.
struct Pipe(TokioIo<tokio::io::DuplexStream>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects in memory. Each call of the server is one of the lab's.
#[derive(Clone)]
struct Connector(Lab);

impl Service<Uri> for Connector {
    type Response = Pipe;
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<Pipe>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let ((here, there), lab) = (tokio::io::duplex(1_024), self.0.clone());
        let answer = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
            let work = lab.work_on();
            async move { work.await.map(|_| Response::new(Full::<Bytes>::from("ok"))).map_err(|_| Boom) }
        });
        let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(there), answer);
        tokio::spawn(server);
        std::future::ready(Ok(Pipe(TokioIo::new(here))))
    }
}

type Pool = HttpTransport<Full<Bytes>, Connector>;

fn pool(lab: &Lab) -> Pool {
    HttpTransport::with_pool(
        Pooled::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(Connector(lab.clone())),
    )
}

async fn reached(lab: &Lab) -> HttpInstance<Full<Bytes>, Connector> {
    pool(lab).oneshot((*fleet::instance(1)).clone()).await.unwrap()
}

fn invocation() -> Invocation<Request<Full<Bytes>>> {
    Invocation::of("get", Request::new(Full::default())).unwrap()
}

pub(super) async fn transport() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let service = reached(&lab).await;
        Case::new(&lab, move || service.clone().oneshot(invocation()))
    })
    .await;
}

pub(super) async fn instance_service() {
    let lab = Lab::new(Work::Ok);
    idle(&lab, reached(&lab).await, invocation, Vec::new()).await;
}

pub(super) async fn transport_service() {
    let lab = Lab::new(Work::Ok);
    idle(&lab, pool(&lab), || (*fleet::instance(1)).clone(), Vec::new()).await;
    assert_eq!(lab.counts(), (0, 0), "nobody was called");
}

pub(super) async fn streamed_service() {
    let (lab, places) = (Lab::new(Work::Ok), bulkhead());
    let running = || {
        let places = places.clone();
        vec![gauge("running", move || places.running())]
    };
    let layer = BulkheadLayer::new(places.clone());
    idle(&lab, layer.clone().until_body_end().layer(Head::new(&lab)), || (), running()).await;
    idle(&lab, layer.clone().queued().until_body_end().layer(Head::new(&lab)), || (), running()).await;
    idle(&lab, RespondLayer::new().layer(layer.layer(Head::new(&lab))), || (), running()).await;
}

pub(super) async fn keyed_streamed_service() {
    let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
    let (lab, one) = (Lab::new(Work::Ok), keys.get(7_u32));
    let layer = KeyedLayer::new(keys.by(key_fn(|(): &()| Some(7_u32)))).until_body_end();
    idle(&lab, layer.layer(Head::new(&lab)), || (), vec![gauge("running", move || one.running())]).await;
}

pub(super) async fn plain_services() {
    let lab = Lab::new(Work::Ok);
    let request = || Request::new(());
    idle(&lab, DeadlineLayer.layer(lab.clone()), request, Vec::new()).await;
    idle(&lab, SendDeadlineLayer.layer(lab.clone()), request, Vec::new()).await;
    idle(&lab, BodyTimeoutLayer::idle(ms(50)).unwrap().layer(Head::new(&lab)), request, Vec::new()).await;
    let body = || Request::new(Full::<Bytes>::default());
    idle(&lab, ReplayBodyLayer::new(100).layer(lab.clone()), body, Vec::new()).await;
    let stack = Stack::builder("x").attempt_timeout(ms(300)).once().build();
    idle(&lab, stack.until_body_end().layer(Head::new(&lab)), request, Vec::new()).await;
}

/// Health checks over HTTP go to real sockets, which `discovery::http` does: here they are only asked.
pub(super) async fn check_service() {
    let mut check = mainstay::discovery::health::HttpCheck::new("/health").unwrap();
    for _ in 0..1_000 {
        assert!(super::poll_ready(&mut check).is_ready());
    }
    let call = check.call(fleet::instance(1));
    drop(check);
    drop(call);
}
