//! Through a real axum server, with real clients.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body as AxumBody,
    routing::{get, post},
};
use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::connect::HttpConnector;
use mainstay::{
    Error, Rejection,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    http::{RespondLayer, StatusClassify},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, layer::layer_fn};

use super::{Step, Steps};
use crate::{
    loopback::{Server, client, uri, within},
    support::*,
};

/// What an axum router takes as a layer of ours.
macro_rules! stack {
    ($breaker:expr) => {
        ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(CircuitBreakerLayer::new($breaker.clone()).classify(StatusClassify::new()).until_body_end())
            .map_err(Error::Inner)
    };
}

/// A half-open breaker, in real time.
fn probing() -> Handle {
    let breaker = Handle::new("shop", consecutive(1));
    breaker.open_for(ms(60_000));
    breaker.transition_to(State::HalfOpen).unwrap();
    breaker
}

fn answer(code: u16, body: impl Into<AxumBody>) -> Response<AxumBody> {
    Response::builder().status(code).body(body.into()).unwrap()
}

async fn broken() -> Response<AxumBody> {
    answer(500, "broken")
}

async fn fine() -> &'static str {
    "fine"
}

fn assert_turned_away(answer: &Response<Bytes>) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers()[CONTENT_LENGTH], answer.body().len().to_string());
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((&body["error"], &body["policy"]), (&json!("circuit_open"), &json!("shop")));
    let seconds: u64 = answer.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert_eq!(seconds, body["retry_after_ms"].as_u64().unwrap().div_ceil(1_000), "the header rounds up");
    assert!((1..=10).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn an_open_circuit_answers_by_itself_and_closes_when_the_service_is_well_again() {
    let breaker = Handle::new("shop", consecutive(2));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let handler =
        move || async move { if seen.fetch_add(1, SeqCst) < 2 { broken().await } else { answer(200, "fine") } };
    let server = Server::start(Router::new().route("/", get(handler)).layer(stack!(breaker))).await;

    for _ in 0..2 {
        let answer = server.get("/").await;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (500, &b"broken"[..]));
    }
    for _ in 0..3 {
        assert_turned_away(&server.get("/").await);
    }
    assert_eq!(calls.load(SeqCst), 2, "the handler has its quiet");

    breaker.transition_to(State::HalfOpen).unwrap();
    let answer = server.get("/").await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"fine"[..]));
    assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::Closed, 0));
    assert_eq!(server.get("/").await.status(), 200);
}

#[tokio::test]
async fn the_open_period_ends_in_real_time_too() {
    let breaker = Handle::new("shop", consecutive(1).open_for(ms(50)).wake_up(true));
    let (told, mut states) = mpsc::unbounded_channel();
    breaker.observe(move |event: &mainstay::observe::Event<'_>| {
        if let mainstay::observe::Event::Transition(change) = event {
            let _ = told.send(change.to);
        }
    });
    let calls = Arc::new(AtomicUsize::new(0));
    let handler =
        move || async move { if calls.fetch_add(1, SeqCst) < 1 { broken().await } else { answer(200, "fine") } };
    let server = Server::start(Router::new().route("/", get(handler)).layer(stack!(breaker))).await;
    assert_eq!(server.get("/").await.status(), 500);
    assert_eq!(within(states.recv()).await, Some(State::Open));
    assert_eq!(within(states.recv()).await, Some(State::HalfOpen));
    assert_eq!(server.get("/").await.status(), 200);
    assert_eq!(within(states.recv()).await, Some(State::Closed));
}

/// Counts how often axum asks for a service.
fn counted<L>(layer: L) -> (impl Layer<axum::routing::Route, Service = L::Service> + Clone, Arc<AtomicUsize>)
where
    L: Layer<axum::routing::Route> + Clone,
{
    let times = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&times);
    let counting = layer_fn(move |route| {
        seen.fetch_add(1, SeqCst);
        layer.layer(route)
    });
    (counting, times)
}

#[tokio::test]
async fn however_often_axum_asks_for_a_service_there_is_one_circuit() {
    let breaker = Handle::new("shop", consecutive(6));
    let (layer, times) = counted(stack!(breaker));
    let app = Router::new()
        .route("/a", get(broken))
        .route("/b", get(broken).post(broken))
        .nest("/in", Router::new().route("/c", post(fine).get(broken)))
        .layer(layer);
    // A router without a server makes its services anew for each request.
    for path in ["/a", "/b", "/in/c"] {
        let answer = app.clone().oneshot(Request::get(path).body(AxumBody::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
    }
    assert!(times.load(SeqCst) > 3, "more services than routes: {times:?}");
    let server = Server::start(app).await;
    for path in ["/a", "/b", "/in/c"] {
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(server.get(path).await.status(), 500);
    }
    assert_eq!(breaker.state(), State::Open);
    for path in ["/a", "/b", "/in/c"] {
        assert_turned_away(&server.get(path).await);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_runs_gives_the_probe_back() {
    let breaker = probing();
    let (started, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starts, goes) = (Arc::clone(&started), Arc::clone(&gone));
    let handler = move || async move {
        let _told = TellWhenDropped(goes);
        starts.notify_one();
        pending::<&'static str>().await
    };
    let server = Server::start(Router::new().route("/", get(handler)).layer(stack!(breaker))).await;
    let request = tokio::spawn(client(HttpConnector::new()).get(server.uri("/")));
    within(started.notified()).await;
    assert_eq!(breaker.snapshot().probes_running, 1);
    request.abort();
    // On this one thread, the future that the handler is part of has been dropped as a whole when we hear of it.
    within(gone.notified()).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.probes_running, snapshot.totals.cancelled), (0, 1));
    assert_eq!(snapshot.state, State::HalfOpen);
    assert_eq!(server.get("/missing").await.status(), 404, "the server is well");
}

struct TellWhenDropped(Arc<Notify>);

impl Drop for TellWhenDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One frame, and then nothing for ever.
struct Hanging {
    first: Option<Bytes>,
    _told: TellWhenDropped,
}

impl Body for Hanging {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.first.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_body_streams_gives_the_probe_back() {
    let breaker = probing();
    let gone = Arc::new(Notify::new());
    let goes = Arc::clone(&gone);
    let handler = move || {
        let body = Hanging { first: Some(Bytes::from_static(b"part")), _told: TellWhenDropped(Arc::clone(&goes)) };
        async move { answer(200, AxumBody::new(body)) }
    };
    let server = Server::start(Router::new().route("/", get(handler)).layer(stack!(breaker))).await;
    let mut body = server.open("/").await.into_body();
    assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "part");
    assert_eq!(breaker.snapshot().probes_running, 1, "the head was sent long ago; the probe still runs");
    assert_turned_away_while_probing(&server.get("/").await);
    drop(body);
    within(gone.notified()).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.probes_running, snapshot.totals.cancelled), (0, 1));
}

fn assert_turned_away_while_probing(answer: &Response<Bytes>) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((answer.status(), &body["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("circuit_probing")));
}

/// What a circuit makes of a probe that is answered like this, and what comes over the wire.
async fn probe(answer: impl Fn() -> Response<AxumBody> + Clone + Send + Sync + 'static) -> (State, Bytes) {
    let breaker = probing();
    let route = get(move || async move { answer() });
    let server = Server::start(Router::new().route("/", route).layer(stack!(breaker))).await;
    let body = server.get("/").await.into_body();
    assert_eq!(breaker.snapshot().probes_running, 0);
    (breaker.state(), body)
}

#[tokio::test]
async fn a_body_that_was_sent_whole_is_a_success_however_its_end_is_told() {
    let two = || [Step::Data("ab"), Step::Wait, Step::Data("cde")];
    let closed = |text: &'static str| (State::Closed, Bytes::from_static(text.as_bytes()));
    // By the body itself, as the few bytes of most handlers do.
    assert_eq!(probe(|| answer(200, "abcde")).await, closed("abcde"));
    assert_eq!(probe(move || answer(200, AxumBody::new(Steps::new(two())))).await, closed("abcde"));
    // By the end of a stream.
    assert_eq!(probe(move || answer(200, AxumBody::new(Steps::silent(two())))).await, closed("abcde"));
    // By its length, as file servers and proxies do; the host does not ask for another frame then.
    let sized = move || {
        let mut answer = answer(200, AxumBody::new(Steps::silent(two())));
        answer.headers_mut().insert(CONTENT_LENGTH, 5.into());
        answer
    };
    assert_eq!(probe(sized).await, closed("abcde"));
    assert_eq!(probe(|| answer(204, AxumBody::empty())).await, closed(""));
}

#[tokio::test]
async fn a_body_that_breaks_off_on_the_wire_is_a_failure() {
    let breaker = probing();
    let route = get(async || answer(200, AxumBody::new(Steps::silent([Step::Data("ab"), Step::Fail]))));
    let server = Server::start(Router::new().route("/", route).layer(stack!(breaker))).await;
    // The client may see it before the head has been sent.
    let whole = match within(client(HttpConnector::new()).get(server.uri("/"))).await {
        Ok(answer) => within(answer.into_body().collect()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole);
    assert_eq!((breaker.state(), breaker.snapshot().probes_running), (State::Open, 0));
}

#[tokio::test]
async fn a_handler_that_panics_is_a_failure() {
    let breaker = probing();
    let route = get(async || -> &'static str { panic!("in the handler") });
    let server = Server::start(Router::new().route("/", route).layer(stack!(breaker))).await;
    assert!(within(client(HttpConnector::new()).get(server.uri("/"))).await.is_err());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.probes_running, snapshot.totals.cancelled), (State::Open, 0, 0));
    assert_turned_away(&server.get("/").await);
}

#[tokio::test]
async fn the_same_stack_stands_in_front_of_a_client() {
    let server = Server::start(Router::new().route("/fine", get(fine)).route("/broken", get(broken))).await;
    let breaker = Handle::new("shop", consecutive(2));
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new()).until_body_end();
    let mut service = ServiceBuilder::new().layer(layer).map_err(Error::Inner).service(client(HttpConnector::new()));
    let mut get = async |path: &str| {
        let request = Request::get(server.uri(path)).body(Empty::new()).unwrap();
        let (head, body) = within(service.ready().await?.call(request)).await?.into_parts();
        Ok::<_, Error<_>>((head.status.as_u16(), within(body.collect()).await.unwrap().to_bytes()))
    };
    assert_eq!(get("/fine").await.unwrap(), (200, Bytes::from_static(b"fine")));
    assert_eq!(get("/missing").await.unwrap().0, 404);
    for _ in 0..2 {
        assert_eq!(get("/broken").await.unwrap(), (500, Bytes::from_static(b"broken")));
    }
    assert!(get("/fine").await.unwrap_err().is_rejection());
    let totals = breaker.snapshot().totals;
    assert_eq!((totals.calls.success, totals.calls.failure, totals.ignored, totals.rejected), (1, 2, 1, 1));

    breaker.reset();
    let nobody = uri(crate::loopback::nobody().await, "/");
    for _ in 0..2 {
        let error =
            within(service.ready().await.unwrap().call(Request::get(&nobody).body(Empty::new()).unwrap())).await;
        assert!(matches!(error, Err(Error::Inner(error)) if error.is_connect()));
    }
    let rejected = service.ready().await.unwrap().call(Request::get(&nobody).body(Empty::new()).unwrap()).await;
    let rejection: Rejection = rejected
        .err()
        .and_then(|error| match error {
            Error::Rejected(rejection) => Some(rejection),
            Error::Inner(_) => None,
        })
        .unwrap();
    assert_eq!((rejection.policy(), breaker.state()), ("shop", State::Open));
}

#[tokio::test]
async fn a_disabled_circuit_is_not_in_the_way_of_a_server() {
    let breaker = Handle::new("shop", Config::new());
    breaker.disable();
    let server = Server::start(Router::new().route("/", get(broken)).layer(stack!(breaker))).await;
    for _ in 0..30 {
        assert_eq!(server.get("/").await.status(), 500);
    }
    assert_eq!((breaker.state(), breaker.snapshot().totals.calls.failures()), (State::Disabled, 0));
}
