//! `GET /-/health`: what the policies know, without asking anybody.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use mainstay::{breaker::State, observe, stack};
use serde::Serialize;

use crate::upstream::Upstream;

pub const PATH: &str = "/-/health";

#[derive(Serialize)]
struct Report {
    status: Status,
    breakers: Vec<observe::Snapshot>,
    /// With `--config`: all that the file asks for.
    #[serde(flatten)]
    stacks: Option<Stacks>,
}

#[derive(Serialize)]
struct Stacks {
    /// What stands in front of all servers.
    stack: stack::Snapshot,
    /// What stands in front of each.
    servers: Vec<stack::Snapshot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Every circuit is closed.
    Ok,
    /// Some are not.
    Degraded,
    /// All are open: no call gets through.
    Down,
}

impl Status {
    fn of(breakers: &[observe::Snapshot]) -> Self {
        if breakers.iter().all(|breaker| breaker.state == State::Closed) {
            Self::Ok
        } else if breakers.iter().all(|breaker| matches!(breaker.state, State::Open | State::ForcedOpen)) {
            Self::Down
        } else {
            Self::Degraded
        }
    }
}

pub fn report(stack: Option<stack::Snapshot>, upstreams: &[Upstream]) -> Response<Bytes> {
    let servers: Vec<_> = upstreams.iter().map(Upstream::snapshot).collect();
    let breakers: Vec<_> = servers.iter().filter_map(|server| server.breaker.clone()).collect();
    let stacks = stack.map(|stack| Stacks { stack, servers });
    let status = Status::of(&breakers);
    let code = if status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let (code, json) = match serde_json::to_vec(&Report { status, breakers, stacks }) {
        Ok(json) => (code, json),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
