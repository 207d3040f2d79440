//! Isolation: levels, fallbacks and health that change under traffic, and what is told of it.

mod edges;
mod fallback;
mod gone;
mod levels;
mod register;
mod storm;
mod tells;

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use mainstay::{
    Error, Reason,
    contract::{AnyMethod, Invocation, Method},
    isolation::{FallbackConfig, IsolationManager},
};
use tower::Service;

use crate::support::*;

pub(crate) type Manager = IsolationManager<u32, String, Error<Boom>>;
pub(crate) type Fallbacks = FallbackConfig<u32, String, Error<Boom>>;
type Result<T = String> = std::result::Result<T, Error<Boom>>;

pub(crate) fn get() -> Method {
    Method::new("get").unwrap()
}

pub(crate) fn none() -> Fallbacks {
    FallbackConfig::none()
}

pub(crate) fn reason(answer: Result) -> Reason {
    match answer {
        Err(Error::Rejected(rejection)) => rejection.reason(),
        other => panic!("no rejection: {other:?}"),
    }
}

/// A service that does as it is told, counts, and answers with its name and the request.
#[derive(Clone)]
pub(crate) struct Lab(Arc<Bench>);

pub(crate) struct Bench {
    name: String,
    mode: AtomicU32,
    delay: AtomicU64,
    calls: AtomicU32,
    running: AtomicU32,
    gone: Arc<AtomicU32>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.gone.fetch_add(1, SeqCst);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Answers,
    Fails,
    Hangs,
    Panics,
    PanicsAtOnce,
    NeverReady,
    NotReady,
}

const MODES: [Mode; 7] =
    [Mode::Answers, Mode::Fails, Mode::Hangs, Mode::Panics, Mode::PanicsAtOnce, Mode::NeverReady, Mode::NotReady];

/// One that runs, counted until it is dropped.
struct Running(Lab);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, SeqCst);
    }
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(Bench {
            name: name.to_owned(),
            mode: AtomicU32::new(0),
            delay: AtomicU64::new(0),
            calls: AtomicU32::new(0),
            running: AtomicU32::new(0),
            gone: Arc::default(),
        }))
    }

    pub(crate) fn that(name: &str, mode: Mode) -> Self {
        let lab = Self::new(name);
        lab.set(mode);
        lab
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.mode.store(mode as u32, SeqCst);
    }

    /// Each call takes so long.
    pub(crate) fn takes(self, millis: u64) -> Self {
        self.0.delay.store(millis, SeqCst);
        self
    }

    fn mode(&self) -> Mode {
        MODES[self.0.mode.load(SeqCst) as usize]
    }

    pub(crate) fn calls(&self) -> u32 {
        self.0.calls.load(SeqCst)
    }

    pub(crate) fn running(&self) -> u32 {
        self.0.running.load(SeqCst)
    }

    /// Counts up when the last clone is dropped.
    pub(crate) fn gone(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.0.gone)
    }
}

impl Service<Invocation<u32>> for Lab {
    type Response = String;
    type Error = Error<Boom>;
    type Future = Pin<Box<dyn Future<Output = Result> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        match self.mode() {
            Mode::NeverReady => Poll::Pending,
            Mode::NotReady => Poll::Ready(Err(Error::Inner(Boom))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, call: Invocation<u32>) -> Self::Future {
        let mode = self.mode();
        assert!(mode != Mode::PanicsAtOnce, "over the call");
        self.0.calls.fetch_add(1, SeqCst);
        self.0.running.fetch_add(1, SeqCst);
        let running = Running(self.clone());
        let delay = Duration::from_millis(self.0.delay.load(SeqCst));
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            match mode {
                Mode::Fails => Err(Error::Inner(Boom)),
                Mode::Hangs => pending().await,
                Mode::Panics => panic!("in the answer"),
                _ => Ok(format!("{}:{}:{}", running.0.0.name, call.method, call.request)),
            }
        })
    }
}

/// A service for plain requests, of another type.
pub(crate) fn plain() -> AnyMethod<impl Service<u32, Response = String, Error = Error<Boom>, Future: Send> + Clone> {
    AnyMethod(tower::service_fn(async |n: u32| Ok::<_, Error<Boom>>(format!("plain:{n}"))))
}
