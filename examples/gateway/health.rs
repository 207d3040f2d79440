//! `GET /-/health`: what the breakers know, without asking anybody.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use mainstay::{
    breaker::{Handle, State},
    observe::Snapshot,
};
use serde::Serialize;

use crate::pool::is_open;

pub const PATH: &str = "/-/health";

#[derive(Serialize)]
struct Report {
    status: Status,
    breakers: Vec<Snapshot>,
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
    fn of(breakers: &[Snapshot]) -> Self {
        if breakers.iter().all(|breaker| breaker.state == State::Closed) {
            Self::Ok
        } else if breakers.iter().all(|breaker| is_open(breaker.state)) {
            Self::Down
        } else {
            Self::Degraded
        }
    }
}

pub fn report<'a>(breakers: impl Iterator<Item = &'a Handle>) -> Response<Bytes> {
    let breakers: Vec<_> = breakers.map(Handle::snapshot).collect();
    let status = Status::of(&breakers);
    let code = if status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let (code, json) = match serde_json::to_vec(&Report { status, breakers }) {
        Ok(json) => (code, json),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
