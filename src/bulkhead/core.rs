//! One bulkhead: places taken and given back in one word, and a queue behind a lock that is touched only when all
//! places are taken.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::{
    admission::Readiness,
    bulkhead::{
        config::Config,
        line::{Line, Ticket, room},
    },
    error::{Reason, Rejection},
    name::Name,
    observe::{Event, Sink},
    priority::Priority,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::{Tick, nanos},
    waiters::Waiters,
};

#[derive(Debug)]
pub(super) struct Core {
    // How many run, in the lower half, and how many wait, in the upper. While somebody waits, the word changes under
    // the lock only: so no place is given back past a waiter.
    word: AtomicU64,
    limit: AtomicU32,
    reserve: AtomicU32,
    max_queue: AtomicU32,
    max_wait: AtomicU64,
    queue: Mutex<Queue>,
    pub(super) counts: Counters,
    pub(super) unready: AtomicBool,
    pub(super) waiters: Waiters,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

#[derive(Debug, Default)]
struct Queue {
    line: Line<Option<Waker>>,
    granted: HashSet<Ticket>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rejected: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) waited_too_long: AtomicU64,
    pub(super) left: AtomicU64,
}

/// A place in the queue.
#[derive(Debug)]
pub struct Wait {
    ticket: Ticket,
    until: Tick,
    alarm: Option<Pin<Box<Sleep>>>,
}

const ONE_WAITS: u64 = 1 << 32;

#[inline]
fn running(word: u64) -> u32 {
    (word & u64::from(u32::MAX)) as u32
}

#[inline]
fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Core {
    pub(super) fn new(name: Name, config: &Config) -> Self {
        let core = Self {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(0),
            reserve: AtomicU32::new(0),
            max_queue: AtomicU32::new(0),
            max_wait: AtomicU64::new(0),
            queue: Mutex::new(Queue::default()),
            counts: Counters::default(),
            unready: AtomicBool::new(false),
            waiters: Waiters::default(),
            sink: Sink::default(),
            name,
        };
        core.set(config);
        core
    }

    /// Takes over settings. Calls that run go on; with more places, those that wait get them.
    pub(super) fn set(&self, config: &Config) {
        self.limit.store(config.limit, Relaxed);
        self.reserve.store(config.reserve, Relaxed);
        self.max_queue.store(config.max_queue, Relaxed);
        self.max_wait.store(nanos(config.max_wait), Relaxed);
        self.unready.store(config.readiness == Readiness::Unready, Relaxed);
        self.serve_waiting();
        self.waiters.wake_all();
    }

    pub(super) fn config(&self) -> Config {
        let unready = self.unready.load(Relaxed);
        Config {
            limit: self.limit.load(Relaxed),
            reserve: self.reserve.load(Relaxed),
            max_queue: self.max_queue.load(Relaxed),
            max_wait: Duration::from_nanos(self.max_wait.load(Relaxed)),
            readiness: if unready { Readiness::Unready } else { Readiness::Reject },
        }
    }

    pub(super) fn running(&self) -> u32 {
        running(self.word.load(Acquire))
    }

    pub(super) fn waiting(&self) -> u32 {
        waiting(self.word.load(Acquire))
    }

    #[inline]
    fn room(&self, priority: Priority) -> u32 {
        room(self.limit.load(Relaxed), self.reserve.load(Relaxed), priority)
    }

    /// Whether a call would get a place now.
    pub(super) fn has_place(&self, priority: Priority) -> bool {
        self.running() < self.room(priority)
    }

    /// Takes a place if there is one and nobody is ahead.
    #[inline]
    pub(super) fn take(&self, priority: Priority) -> Result<(), Rejection> {
        if self.take_free(priority) {
            return Ok(());
        }
        if self.waiting() > 0 && self.take_past_lower(&self.queue.lock(), priority) {
            return Ok(());
        }
        Err(self.refuse())
    }

    /// Takes a place if one is free and nobody waits.
    #[inline]
    pub(super) fn take_free(&self, priority: Priority) -> bool {
        let mut word = self.word.load(Relaxed);
        while waiting(word) == 0 && running(word) < self.room(priority) {
            match self.word.compare_exchange_weak(word, word + 1, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes a place that those who wait may not have, because they matter less.
    fn take_past_lower(&self, queue: &Queue, priority: Priority) -> bool {
        let may = |word| running(word) < self.room(priority) && !queue.line.is_ahead_of(priority);
        self.word.fetch_update(AcqRel, Acquire, |word| may(word).then_some(word + 1)).is_ok()
    }

    #[cold]
    pub(super) fn refuse(&self) -> Rejection {
        self.counts.rejected.fetch_add(1, Relaxed);
        let rejection = Rejection::new(Reason::BulkheadFull, self.name.clone());
        self.sink.tell(&self.name, || Event::Rejected(&rejection));
        rejection
    }

    /// Takes a place, or one in the queue.
    pub(super) fn enter(&self, priority: Priority) -> Result<Option<Wait>, Rejection> {
        let word = self.word.load(Relaxed);
        let free = waiting(word) == 0 && running(word) < self.room(priority);
        if free && self.word.compare_exchange(word, word + 1, AcqRel, Relaxed).is_ok() {
            return Ok(None);
        }
        let mut queue = self.queue.lock();
        if self.take_past_lower(&queue, priority) {
            return Ok(None);
        }
        let max_queue = self.max_queue.load(Relaxed);
        let mut took = false;
        // In one step with the look at the places: one that is given back after it finds the waiter.
        let joined = self.word.fetch_update(AcqRel, Acquire, |word| {
            took = waiting(word) == 0 && running(word) < self.room(priority);
            let step = if took { 1 } else { ONE_WAITS };
            (took || waiting(word) < max_queue).then_some(word + step)
        });
        if joined.is_err() {
            drop(queue);
            return Err(self.refuse());
        }
        if took {
            return Ok(None);
        }
        let ticket = queue.line.join(priority, None);
        drop(queue);
        self.counts.queued.fetch_add(1, Relaxed);
        let until = Tick::now() + Duration::from_nanos(self.max_wait.load(Relaxed));
        Ok(Some(Wait { ticket, until, alarm: None }))
    }

    pub(super) fn poll_wait(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        // Cloned before the lock and dropped after it: both may run code of the task.
        let mut waker = Some(cx.waker().clone());
        let granted = {
            let mut queue = self.queue.lock();
            let granted = queue.granted.remove(&wait.ticket);
            if let Some(waiting) = queue.line.get(wait.ticket) {
                std::mem::swap(waiting, &mut waker);
            }
            granted
        };
        if granted {
            return Poll::Ready(Ok(()));
        }
        if wait.poll_alarm(cx).is_pending() {
            return Poll::Pending;
        }
        // A place that was granted in the meantime wins over the limit.
        if self.leave(wait.ticket) {
            return Poll::Ready(Ok(()));
        }
        self.counts.waited_too_long.fetch_add(1, Relaxed);
        Poll::Ready(Err(self.refuse()))
    }

    /// Leaves the queue; whether a place had been granted, which is then the caller's.
    fn leave(&self, ticket: Ticket) -> bool {
        let mut queue = self.queue.lock();
        if queue.granted.remove(&ticket) {
            return true;
        }
        let left = queue.line.leave(ticket);
        if left.is_some() {
            self.word.fetch_sub(ONE_WAITS, AcqRel);
        }
        drop(queue);
        drop(left);
        false
    }

    pub(super) fn abandon(&self, wait: &Wait) {
        self.counts.left.fetch_add(1, Relaxed);
        if self.leave(wait.ticket) {
            self.give_back();
        }
    }

    /// Gives a place back: to the next in the queue, or to whoever comes.
    #[inline]
    pub(super) fn give_back(&self) {
        let free = |word| (waiting(word) == 0).then(|| word - 1);
        if self.word.fetch_update(AcqRel, Acquire, free).is_err() {
            self.hand_over();
        }
        // Only callers in unready mode wait for this; looking for them costs a fence.
        if self.unready.load(Relaxed) {
            self.waiters.wake_all();
        }
    }

    #[cold]
    fn hand_over(&self) {
        let queue = self.queue.lock();
        self.word.fetch_sub(1, AcqRel);
        self.serve(queue);
    }

    fn serve_waiting(&self) {
        self.serve(self.queue.lock());
    }

    /// Grants free places to those that wait, and wakes them after the lock.
    fn serve(&self, mut queue: parking_lot::MutexGuard<'_, Queue>) {
        let (limit, reserve) = (self.limit.load(Relaxed), self.reserve.load(Relaxed));
        let mut wakers = Vec::new();
        while let Some((ticket, waker)) = queue.line.serve(self.running(), limit, reserve) {
            // One waits less and one runs more: nobody else changes the word while somebody waits.
            self.word.fetch_sub(ONE_WAITS - 1, AcqRel);
            queue.granted.insert(ticket);
            wakers.extend(waker);
        }
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wait {
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        if self.alarm.is_none() {
            self.alarm = until.to_instant().map(|at| Box::pin(tokio::time::sleep_until(at)));
        }
        self.alarm.as_mut().map_or(Poll::Pending, |alarm| alarm.as_mut().poll(cx))
    }
}
