//! One bulkhead: its places, and a queue behind a lock that is touched only when all places are taken.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Sleep;

use crate::{
    admission::Readiness,
    bulkhead::{
        config::Config,
        line::{Line, Ticket, room},
        places::{Join, Places, Take},
    },
    error::{Reason, Rejection},
    name::Name,
    observe::{Event, Sink},
    priority::Priority,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Tick, nanos},
    waiters::{Waiters, wake},
};

#[derive(Debug)]
pub(super) struct Core {
    places: Places,
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

/// How many calls of the lowest priority may run.
fn lowest(config: &Config) -> u32 {
    room(config.limit, config.reserve, Priority::Low)
}

/// Whether idle places may lie in the lanes of threads. Not where callers wait to be ready: each that is given back is
/// looked for then, and not only by those who find none.
fn may_lease(config: &Config) -> bool {
    config.readiness == Readiness::Reject
}

impl Core {
    pub(super) fn new(name: Name, config: &Config) -> Self {
        let core = Self {
            places: Places::new(lowest(config), may_lease(config)),
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
        let queue = self.queue.lock();
        self.limit.store(config.limit, Relaxed);
        self.reserve.store(config.reserve, Relaxed);
        self.max_queue.store(config.max_queue, Relaxed);
        self.max_wait.store(nanos(config.max_wait), Relaxed);
        self.unready.store(config.readiness == Readiness::Unready, Relaxed);
        self.places.set(lowest(config), may_lease(config));
        self.serve(queue);
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
        self.places.running()
    }

    pub(super) fn waiting(&self) -> u32 {
        self.places.waiting()
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
        match self.look(priority) {
            Take::Taken => Ok(()),
            Take::Full => Err(self.refuse()),
            _ => self.take_or_refuse(priority),
        }
    }

    #[cold]
    fn take_or_refuse(&self, priority: Priority) -> Result<(), Rejection> {
        // Again while it is not one or the other: whoever was ahead in one look may be served before the next, and to
        // be refused by both would be for want of a place that was free all the time.
        loop {
            let may = match self.take_past_waiting(priority) {
                Some(may) => may,
                None => match self.take_again(priority, self.places.take(self.room(priority))) {
                    Take::Behind => continue,
                    came => came == Take::Taken,
                },
            };
            return if may { Ok(()) } else { Err(self.refuse()) };
        }
    }

    /// Whether a place was taken that those who wait may not have; none when nobody waits.
    fn take_past_waiting(&self, priority: Priority) -> Option<bool> {
        if self.waiting() == 0 {
            return None;
        }
        let queue = self.queue.lock();
        (self.waiting() > 0).then(|| self.take_past_lower(&queue, priority))
    }

    /// Takes a place if one is free and nobody waits.
    #[inline]
    pub(super) fn take_free(&self, priority: Priority) -> bool {
        self.look(priority) == Take::Taken
    }

    // Only the way through a lane is inlined where it is called, all others are functions; as in `give_back`.
    #[inline]
    fn look(&self, priority: Priority) -> Take {
        match self.places.take(self.room(priority)) {
            came @ (Take::Unswept | Take::Stray) => self.take_again(priority, came),
            came => came,
        }
    }

    /// Takes a place where a first look has not shown whether there is one.
    #[cold]
    fn take_again(&self, priority: Priority, mut came: Take) -> Take {
        loop {
            match came {
                Take::Taken | Take::Full | Take::Behind => return came,
                Take::Unswept => {
                    let _queue = self.queue.lock();
                    self.places.sweep();
                }
                Take::Stray => self.give_past_lanes(),
            }
            came = self.places.take(self.room(priority));
        }
    }

    /// Takes a place that those who wait may not have, because they matter less.
    fn take_past_lower(&self, queue: &Queue, priority: Priority) -> bool {
        !queue.line.is_ahead_of(priority) && self.places.take_past(self.room(priority))
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
        if self.take_free(priority) {
            return Ok(None);
        }
        let mut queue = self.queue.lock();
        if self.take_past_lower(&queue, priority) {
            return Ok(None);
        }
        loop {
            match self.places.take_or_join(self.room(priority), self.max_queue.load(Relaxed)) {
                Join::Took => return Ok(None),
                Join::Joined => break,
                Join::TurnedAway => {
                    drop(queue);
                    return Err(self.refuse());
                }
                Join::Unswept => self.places.sweep(),
            }
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
            self.places.leave();
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
        let left = self.places.give();
        self.given(left);
    }

    /// Gives a place back that was found in a lane and does not belong there.
    fn give_past_lanes(&self) {
        let left = self.places.give_to_word(1);
        self.given(left);
    }

    #[inline]
    fn given(&self, left: u32) {
        if left > 0 {
            self.hand_over(left);
        }
        // Only callers in unready mode wait for this; looking for them costs a fence.
        if self.unready.load(Relaxed) {
            self.waiters.wake_all();
        }
    }

    #[cold]
    fn hand_over(&self, places: u32) {
        let queue = self.queue.lock();
        self.places.hand_back(places);
        self.serve(queue);
    }

    /// Bytes on the heap, while nobody waits.
    pub(super) fn heap_size(&self) -> usize {
        self.places.heap_size()
    }

    /// Grants free places to those that wait, and wakes them after the lock.
    fn serve(&self, mut queue: MutexGuard<'_, Queue>) {
        let (limit, reserve) = (self.limit.load(Relaxed), self.reserve.load(Relaxed));
        let mut wakers = Vec::new();
        while let Some((ticket, waker)) = queue.line.serve(self.places.taken(), limit, reserve) {
            // One waits less and one runs more: nobody else changes the word while somebody waits.
            self.places.grant();
            queue.granted.insert(ticket);
            wakers.extend(waker);
        }
        drop(queue);
        wake(wakers);
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
