//! The places of a shedder: taken and given back in one word, with a queue behind a lock that is touched only when all
//! places are taken.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::Sleep;

use crate::{
    admission::Entry,
    load_shed::{
        codel::{Bounds, Codel},
        config::Config,
        line::{Line, PRIORITIES, Rooms, Ticket, row},
    },
    priority::Priority,
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::{Moment, Tick},
    waiters::wake,
};

#[derive(Debug, Default)]
pub(super) struct Gate {
    // How many run, in the lower half, and how many wait, in the upper. While somebody waits, the word changes under
    // the lock only: so no place is given back past a waiter.
    word: AtomicU64,
    // How many may run, of each priority; 0 while there is no limit.
    high: AtomicU32,
    normal: AtomicU32,
    low: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    line: Line<Option<Waker>>,
    granted: HashSet<Ticket>,
    // One for each priority, of the calls that go before it and its own: what waits behind a call says nothing about
    // how long it will have to.
    codel: [Codel; 3],
    bounds: Bounds,
    max_queue: u32,
    rooms: Rooms,
}

/// A place that a call holds; none of ours while there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    counted: bool,
}

/// A place in the queue.
#[derive(Debug)]
pub struct Wait {
    ticket: Ticket,
    until: Tick,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// A limit that is none.
const NO_LIMIT: Rooms = Rooms { high: u32::MAX, normal: u32::MAX, low: u32::MAX };

const ONE_WAITS: u64 = 1 << 32;
const PLACE: Held = Held { counted: true };

fn running(word: u64) -> u32 {
    (word & u64::from(u32::MAX)) as u32
}

fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            line: Line::default(),
            granted: HashSet::new(),
            codel: Default::default(),
            bounds: Bounds::default(),
            max_queue: 0,
            rooms: NO_LIMIT,
        }
    }
}

impl Queue {
    /// Whether the queue stands, for each priority. For the lowest it does if it does for any.
    fn look(&mut self, now: Tick) -> [bool; 3] {
        PRIORITIES.map(|priority| self.codel[row(priority)].look(self.line.oldest(priority), now, &self.bounds))
    }
}

impl Gate {
    /// Takes over settings. Calls that run go on; with more places, those that wait get them, and are to be woken.
    #[must_use]
    pub(super) fn set(&self, config: &Config) -> Vec<Waker> {
        let mut queue = self.queue.lock();
        let rooms = config.in_flight.map(|limit| Rooms::new(limit, config.normal_share, config.low_share));
        let off = Rooms { high: 0, normal: 0, low: 0 };
        let Rooms { high, normal, low } = rooms.unwrap_or(off);
        self.high.store(high, Relaxed);
        self.normal.store(normal, Relaxed);
        self.low.store(low, Relaxed);
        queue.rooms = rooms.unwrap_or(NO_LIMIT);
        queue.max_queue = 0;
        if let Some(delay) = &config.queue_delay {
            queue.max_queue = delay.max_queue;
            queue.bounds = Bounds { target: delay.target, interval: delay.interval };
        }
        self.serve(queue)
    }

    pub(super) fn running(&self) -> u32 {
        running(self.word.load(Acquire))
    }

    pub(super) fn waiting(&self) -> u32 {
        waiting(self.word.load(Acquire))
    }

    /// Whether the queue stands, for the lowest priority at least.
    pub(super) fn stands(&self) -> bool {
        self.queue.lock().look(Tick::now())[row(Priority::Low)]
    }

    #[inline]
    fn room(&self, priority: Priority) -> u32 {
        match priority {
            Priority::High => self.high.load(Relaxed),
            Priority::Normal => self.normal.load(Relaxed),
            Priority::Low => self.low.load(Relaxed),
        }
    }

    /// Takes a place if there is one and nobody is ahead.
    #[inline]
    pub(super) fn take(&self, priority: Priority) -> Option<Held> {
        let room = self.room(priority);
        if room == 0 {
            return Some(Held { counted: false });
        }
        let mut word = self.word.load(Relaxed);
        while waiting(word) == 0 && running(word) < room {
            match self.word.compare_exchange_weak(word, word + 1, AcqRel, Relaxed) {
                Ok(_) => return Some(PLACE),
                Err(now) => word = now,
            }
        }
        (waiting(word) > 0 && self.take_past_lower(&self.queue.lock(), priority)).then_some(PLACE)
    }

    /// Takes a place that those who wait may not have, because they matter less.
    fn take_past_lower(&self, queue: &Queue, priority: Priority) -> bool {
        let may = |word| running(word) < queue.rooms.of(priority) && !queue.line.is_ahead_of(priority);
        self.word.fetch_update(AcqRel, Acquire, |word| may(word).then_some(word + 1)).is_ok()
    }

    /// Takes a place, or one in the queue; nothing when the queue is full too.
    pub(super) fn enter(&self, priority: Priority, now: &mut Moment) -> Option<Entry<Held, Wait>> {
        let room = self.room(priority);
        if room == 0 {
            return Some(Entry::Admitted(Held { counted: false }));
        }
        let word = self.word.load(Relaxed);
        let free = waiting(word) == 0 && running(word) < room;
        if free && self.word.compare_exchange(word, word + 1, AcqRel, Relaxed).is_ok() {
            return Some(Entry::Admitted(PLACE));
        }
        let mut queue = self.queue.lock();
        if self.take_past_lower(&queue, priority) {
            return Some(Entry::Admitted(PLACE));
        }
        let mut took = false;
        // In one step with the look at the places: one that is given back after it finds the waiter.
        let joined = self.word.fetch_update(AcqRel, Acquire, |word| {
            took = waiting(word) == 0 && running(word) < queue.rooms.of(priority);
            let step = if took { 1 } else { ONE_WAITS };
            (took || waiting(word) < queue.max_queue).then_some(word + step)
        });
        joined.ok()?;
        if took {
            return Some(Entry::Admitted(PLACE));
        }
        let now = now.tick();
        let standing = queue.look(now)[row(priority)];
        let until = now + queue.bounds.allowed(standing);
        let ticket = queue.line.join(priority, now, None);
        queue.look(now);
        Some(Entry::Queued(Wait { ticket, until, alarm: None }))
    }

    /// Waits for a place; nothing when the wait has been too long.
    pub(super) fn poll_wait(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Option<Held>> {
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
            return Poll::Ready(Some(PLACE));
        }
        if wait.poll_alarm(cx).is_pending() {
            return Poll::Pending;
        }
        // A place that was granted in the meantime wins over the limit.
        Poll::Ready(self.leave(wait).then_some(PLACE))
    }

    /// Leaves the queue; whether a place had been granted, which is then the caller's.
    fn leave(&self, wait: &Wait) -> bool {
        let mut queue = self.queue.lock();
        if queue.granted.remove(&wait.ticket) {
            return true;
        }
        let left = queue.line.leave(wait.ticket);
        if left.is_some() {
            self.word.fetch_sub(ONE_WAITS, AcqRel);
            queue.look(Tick::now());
        }
        drop(queue);
        drop(left);
        false
    }

    pub(super) fn abandon(&self, wait: &Wait) {
        if self.leave(wait) {
            self.give_back(PLACE);
        }
    }

    /// Gives a place back: to the next in the queue, or to whoever comes.
    #[inline]
    pub(super) fn give_back(&self, held: Held) {
        let free = |word| (waiting(word) == 0).then(|| word - 1);
        if held.counted && self.word.fetch_update(AcqRel, Acquire, free).is_err() {
            self.hand_over();
        }
    }

    #[cold]
    fn hand_over(&self) {
        let queue = self.queue.lock();
        self.word.fetch_sub(1, AcqRel);
        wake(self.serve(queue));
    }

    /// Grants free places to those that wait, who are to be woken under no lock.
    #[must_use]
    fn serve(&self, mut guard: MutexGuard<'_, Queue>) -> Vec<Waker> {
        let now = Tick::now();
        let queue = &mut *guard;
        let standing = queue.look(now);
        let newest_first = |priority| standing[row(priority)];
        let mut wakers = Vec::new();
        while let Some((ticket, waker)) = queue.line.serve(self.running(), &queue.rooms, newest_first) {
            // One waits less and one runs more: nobody else changes the word while somebody waits.
            self.word.fetch_sub(ONE_WAITS - 1, AcqRel);
            queue.granted.insert(ticket);
            wakers.extend(waker);
        }
        queue.look(now);
        wakers
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
