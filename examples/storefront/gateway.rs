//! The gateway: asks three upstreams for every page. This is where mainstay comes in.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Response, StatusCode, Uri,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use mainstay::{
    BoxError, OnError, Stack,
    breaker::{self, Config},
    bulkhead,
    fallback::Strategy,
    retry::{self, Backoff, BudgetConfig, Classified, Cloned},
};
use tokio::sync::watch;

use crate::{
    http::{Answer, Client},
    incident::{Phase, Tally},
};

/// Names the first part that a page had to do without. A page without this header is whole.
pub const MISSING: HeaderName = HeaderName::from_static("x-missing");

/// How often a call is made that fails: by either gateway.
const ATTEMPTS: u32 = 3;

/// How long the protected gateway waits for one attempt. The slowest upstream usually needs 20 ms.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(250);

/// And for all of them, and the waits between them: well before a visitor loses patience.
const CALL_LIMIT: Duration = Duration::from_millis(600);

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

/// A tenth of the calls may be made again, and few are saved for later: when a service begins to fail, it is not to
/// get all at once what was not needed while it was well.
fn retry_config() -> retry::Config {
    retry::Config::new()
        .attempts(ATTEMPTS)
        .backoff(Backoff::exponential(Duration::from_millis(20), 2.0))
        .budget(BudgetConfig::new().ratio(0.1).min_per_second(1).cap(10))
}

/// A part of a page.
enum Section {
    There(Bytes),
    /// Why there is none.
    Missing(String),
}

impl Section {
    fn instead(why: &BoxError) -> Self {
        Self::Missing(format!("<section>not available: {why}</section>\n"))
    }
}

/// Answers every failed call with a section that says so.
struct Placeholder;

impl Strategy<(), Section, BoxError> for Placeholder {
    type Kept = ();
    type Future = Ready<Result<Section, BoxError>>;

    fn keep(&self, (): &mut ()) {}

    fn fall_back(&self, (): &mut (), failed: Result<&Section, &BoxError>) -> Option<Self::Future> {
        failed.err().map(|why| ready(Ok(Section::instead(why))))
    }
}

type Protection = Stack<Classified<OnError>, Placeholder, Cloned>;

/// The whole protection of one upstream. Each upstream has its own, so that one cannot take another one's places.
fn protection(name: &str, rate: u32) -> Protection {
    Stack::builder(name)
        .fallback(Placeholder)
        .timeout(CALL_LIMIT)
        .retry(retry_config())
        .breaker(breaker_config())
        // As many as can be under way when every attempt takes all the time that it may.
        .bulkhead(bulkhead::Config::new((ATTEMPT_LIMIT * rate).as_secs_f64().ceil() as u32))
        .attempt_timeout(ATTEMPT_LIMIT)
        .build()
}

/// One upstream, as the gateway sees it.
pub struct Part {
    name: &'static str,
    uri: Uri,
    asks: Tally,
    // None in the unprotected run: this is all that the two runs differ in.
    protection: Option<Protection>,
}

impl Part {
    /// For `protected` pages a second, if it is to be protected.
    pub fn new(name: &'static str, uri: Uri, protected: Option<u32>, phase: watch::Receiver<Phase>) -> Self {
        Self { name, uri, asks: Tally::new(phase), protection: protected.map(|rate| protection(name, rate)) }
    }

    pub fn breaker(&self) -> Option<&breaker::Handle> {
        self.protection.as_ref()?.breaker()
    }

    /// How many pages wanted this part.
    pub fn asks(&self) -> &Tally {
        &self.asks
    }

    /// Asks the upstream for its part of the page.
    async fn fetch(&self, client: &Client) -> Section {
        self.asks.count();
        let section = match &self.protection {
            Some(stack) => stack.run_carrying(|| self.call(client)).await,
            None => self.naive(client).await,
        };
        section.unwrap_or_else(|why| Section::instead(&why))
    }

    /// What one writes at first: again at once when it fails, and otherwise waits for as long as it takes.
    async fn naive(&self, client: &Client) -> Result<Section, BoxError> {
        for _ in 1..ATTEMPTS {
            if let Ok(section) = self.call(client).await {
                return Ok(section);
            }
        }
        self.call(client).await
    }

    async fn call(&self, client: &Client) -> Result<Section, BoxError> {
        let response = client.get(&self.uri).await?;
        match response.status() {
            StatusCode::OK => Ok(Section::There(response.into_body())),
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
        let (section_a, section_b, section_c) =
            tokio::join!(a.fetch(&self.client), b.fetch(&self.client), c.fetch(&self.client));
        render([(a, section_a), (b, section_b), (c, section_c)])
    }
}

fn render(parts: [(&Part, Section); 3]) -> Answer {
    let mut page = String::new();
    let mut missing = Vec::new();
    let all = parts.len();
    for (part, section) in parts {
        match section {
            Section::There(body) => page += &String::from_utf8_lossy(&body),
            Section::Missing(instead) => {
                missing.push(part.name);
                page += &instead;
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
