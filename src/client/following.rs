use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use crate::{
    contract::ServiceName,
    discovery::{Change, Snapshot},
    sync::Mutex,
    time::Tick,
    waiters::{Place, Waiters},
};

/// How it stands with the instances of a service: whether they are known, and since when they are not heard of.
#[derive(Debug)]
pub(super) struct Following {
    service: ServiceName,
    // A task keeps the members up to date.
    runs: AtomicBool,
    found: AtomicBool,
    open: AtomicBool,
    callers: Waiters,
    stale: Mutex<Option<Stale>>,
}

#[derive(Debug, Clone)]
struct Stale {
    since: Tick,
    why: String,
}

impl Following {
    pub(super) fn new(service: ServiceName) -> Self {
        let flag = || AtomicBool::new(false);
        let (callers, stale) = (Waiters::default(), Mutex::new(None));
        Self { service, runs: flag(), found: flag(), open: flag(), callers, stale }
    }

    pub(super) const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Whether somebody has to begin to follow: true once, until the one who was told so stops.
    pub(super) fn is_to_begin(&self) -> bool {
        !self.runs.load(Acquire) && !self.runs.swap(true, AcqRel)
    }

    /// Nobody follows, although it was to begin.
    pub(super) fn did_not_begin(&self) {
        self.runs.store(false, Release);
    }

    pub(super) fn found(&self, snapshot: &Snapshot) {
        self.found.store(true, Release);
        self.set_stale(snapshot.stale.as_ref().map(|stale| stale.why.as_str()));
    }

    pub(super) fn has_found(&self) -> bool {
        self.found.load(Acquire)
    }

    /// What is neither an addition nor a change nor a removal.
    pub(super) fn told(&self, change: &Change) {
        match change {
            Change::Stale(stale) => self.set_stale(Some(&stale.why)),
            Change::Fresh => self.set_stale(None),
            _ => {}
        }
    }

    pub(super) fn lost(&self, why: &str) {
        self.set_stale(Some(why));
    }

    fn set_stale(&self, why: Option<&str>) {
        let mut stale = self.stale.lock();
        let since = stale.as_ref().map(|stale| stale.since);
        *stale = why.map(|why| Stale { since: since.unwrap_or_else(Tick::now), why: why.to_owned() });
    }

    /// How long the members have been what was last heard, and why.
    pub(super) fn stale(&self) -> Option<(Duration, String)> {
        let stale = self.stale.lock().clone()?;
        Some((Tick::now().since(stale.since), stale.why))
    }

    /// The first callers need not wait any more.
    pub(super) fn open(&self) {
        if !self.open.swap(true, AcqRel) {
            self.callers.wake_all();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Waits until the first set is there, so long at most; not when there are members already.
    pub(super) async fn first(&self, limit: Duration, has_members: impl Fn() -> bool) {
        if self.is_open() || has_members() {
            return;
        }
        let mut place = Place::default();
        let opened = poll_fn(|cx| {
            if !self.is_open() {
                place.wait(&self.callers, cx);
            }
            if self.is_open() { Poll::Ready(()) } else { Poll::Pending }
        });
        // In time or not, the balancer says whether there is an instance; and who comes later has been waited for.
        if tokio::time::timeout(limit, opened).await.is_err() {
            self.open();
        }
    }
}

/// Somebody follows while this lives.
pub(super) struct Running(Arc<Following>);

impl Running {
    pub(super) fn of(following: &Arc<Following>) -> Self {
        Self(Arc::clone(following))
    }

    pub(super) fn following(&self) -> &Following {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What is known grows old from now on: who comes next waits for news, unless there are instances to call.
        self.0.open.store(false, Release);
        self.0.did_not_begin();
    }
}
