use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    contract::ServiceName,
    discovery::{
        log::{Cursor, Read},
        topic::Topic,
        update::Update,
    },
    time::Tick,
    waiters::Place,
};

/// Follows one service: first all that is known, then every change, in order, none left out and none twice.
///
/// It can be read as rarely as one likes: a watch that fell so far behind that events are gone reads a fresh
/// [`Snapshot`](super::Snapshot), which says how many it [missed](super::Snapshot::missed). It keeps no backend alive:
/// when that is gone, the watch reads what there was and ends.
///
/// Leases run out on time also where nobody asks, as long as the watch is polled on a runtime, whose timer must be
/// enabled: it panics on one without, as all timers of tokio do. Where there is no runtime, it hears of them when
/// somebody asks.
pub struct Watch {
    topic: Arc<Topic>,
    cursor: Cursor,
    place: Place,
    // Set for when the next lease runs out, while the watch waits.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(topic: Arc<Topic>) -> Self {
        topic.count_watcher(true);
        Self { topic, cursor: None, place: Place::default(), alarm: None }
    }

    /// The service that is watched.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.topic.service()
    }

    /// The next update, `None` once the backend is gone.
    ///
    /// Cancel safe: a future that is dropped has taken nothing.
    #[expect(clippy::should_implement_trait, reason = "it waits, so it is no iterator")]
    pub fn next(&mut self) -> Next<'_> {
        Next { watch: self }
    }

    /// The next update, if there is one now.
    pub fn try_next(&mut self) -> Option<Update> {
        match self.read(Tick::now()).0 {
            Read::Update(update) => Some(update),
            Read::Nothing | Read::End => None,
        }
    }

    /// As [`next`](Self::next), for a future of one's own. A task that waits is woken once when something changes, and
    /// when a lease runs out, or would have without its heartbeats; by nothing else.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        // What this watch takes out itself must not wake its own task.
        self.rest();
        loop {
            let now = Tick::now();
            if let Some(end) = over(self.read(now).0) {
                return Poll::Ready(end);
            }
            self.place.wait(&self.topic.waiters, cx);
            // Again: a change may have come before there was anybody to wake.
            let (read, due) = self.read(now);
            if let Some(end) = over(read) {
                self.rest();
                return Poll::Ready(end);
            }
            if self.poll_alarm(due, cx).is_pending() {
                return Poll::Pending;
            }
            self.rest();
        }
    }

    fn read(&mut self, now: Tick) -> (Read, Tick) {
        let cursor = &mut self.cursor;
        let (read, due) = self.topic.with(now, |state| (state.log.read(cursor), state.next_due()));
        if let Read::Update(Update::Snapshot(snapshot)) = &read {
            if snapshot.missed > 0 {
                self.topic.tell_lag(snapshot.missed);
            }
        }
        (read, due)
    }

    /// Made anew for each wait: a watch may move to another runtime, and a timer of one that is gone panics.
    fn poll_alarm(&mut self, due: Tick, cx: &mut Context<'_>) -> Poll<()> {
        let on_a_runtime = tokio::runtime::Handle::try_current().is_ok();
        let Some(at) = due.to_instant().filter(|_| on_a_runtime && due != Tick::NEVER) else { return Poll::Pending };
        let alarm = self.alarm.insert(Box::pin(sleep_until(at)));
        // Without tokio's cooperative budget: with it used up, the alarm would wake the task for nothing.
        pin!(tokio::task::unconstrained(alarm.as_mut())).poll(cx)
    }

    /// Waits no more.
    fn rest(&mut self) {
        self.place.leave();
        self.alarm = None;
    }
}

/// What a poll gives out, unless there is nothing yet.
fn over(read: Read) -> Option<Option<Update>> {
    match read {
        Read::Update(update) => Some(Some(update)),
        Read::End => Some(None),
        Read::Nothing => None,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.topic.count_watcher(false);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("service", self.service()).field("next", &self.cursor).finish_non_exhaustive()
    }
}

/// The future of [`Watch::next`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Next<'a> {
    watch: &'a mut Watch,
}

impl Future for Next<'_> {
    type Output = Option<Update>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.watch.poll_next(cx)
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.watch.rest();
    }
}
