//! The gateway: asks three upstreams for every page. This is where mainstay comes in.

use std::time::Duration;

use http_body_util::Full;
use hyper::{
    Response, StatusCode, Uri,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use mainstay::{
    BoxError, Error,
    breaker::{self, Config},
    timeout,
};

use crate::http::{Answer, Client};

/// Names the first part that a page had to do without. A page without this header is whole.
pub const MISSING: HeaderName = HeaderName::from_static("x-missing");

/// How long the protected gateway waits for one call. The slowest upstream usually needs 20 ms.
const CALL_LIMIT: Duration = Duration::from_millis(250);

/// The settings of each breaker. A busy shop knows within a second that something is wrong, so the window and the open
/// period are short; ten failures in a row are enough even when few calls come in.
fn breaker_config() -> Config {
    Config::new()
        .time_window(Duration::from_secs(1))
        .failure_rate(0.5)
        .consecutive_failures(10)
        .open_for(Duration::from_secs(1))
        .probes(3)
}

/// One upstream, as the gateway sees it.
pub struct Part {
    name: &'static str,
    uri: Uri,
    // None in the unprotected run: this is all that the two runs differ in.
    protection: Option<Protection>,
}

struct Protection {
    breaker: breaker::Handle,
    limit: timeout::Handle,
}

impl Part {
    pub fn new(name: &'static str, uri: Uri, protected: bool) -> Self {
        let protection = protected.then(|| Protection {
            breaker: breaker::Handle::new(name, breaker_config()),
            limit: timeout::Handle::new(name, CALL_LIMIT),
        });
        Self { name, uri, protection }
    }

    pub fn breaker(&self) -> Option<&breaker::Handle> {
        self.protection.as_ref().map(|protection| &protection.breaker)
    }

    /// Asks the upstream for its part of the page.
    async fn fetch(&self, client: &Client) -> Result<Bytes, BoxError> {
        let Some(Protection { breaker, limit }) = &self.protection else {
            // The naive way: waits for as long as it takes.
            return self.call(client).await;
        };
        // The breaker goes around the time limit, so that a call which runs into it counts as a failure.
        breaker.run_carrying(limit.run(self.call(client))).await.map_err(Error::into_boxed)
    }

    async fn call(&self, client: &Client) -> Result<Bytes, BoxError> {
        let response = client.get(&self.uri).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(format!("{} answered {status}", self.name).into()),
        }
    }
}

/// Everything a page is made of.
pub struct Gateway {
    pub client: Client,
    pub users: Part,
    pub orders: Part,
    pub recommendations: Part,
}

impl Gateway {
    pub fn parts(&self) -> [&Part; 3] {
        [&self.users, &self.orders, &self.recommendations]
    }

    /// One page: all three parts at the same time, a placeholder for each that could not be had.
    pub async fn page(&self) -> Answer {
        let [a, b, c] = self.parts();
        let (body_a, body_b, body_c) =
            tokio::join!(a.fetch(&self.client), b.fetch(&self.client), c.fetch(&self.client));
        render([(a, body_a), (b, body_b), (c, body_c)])
    }
}

fn render(parts: [(&Part, Result<Bytes, BoxError>); 3]) -> Answer {
    let mut page = String::new();
    let mut missing = Vec::new();
    let all = parts.len();
    for (part, fetched) in parts {
        match fetched {
            Ok(body) => page += &String::from_utf8_lossy(&body),
            Err(error) => {
                missing.push(part.name);
                page += &format!("<section>not available: {error}</section>\n");
            }
        }
    }
    let mut answer = Response::new(Full::from(page));
    if missing.len() == all {
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
    }
    if let Some(name) = missing.first() {
        answer.headers_mut().insert(MISSING, HeaderValue::from_static(name));
    }
    answer
}
