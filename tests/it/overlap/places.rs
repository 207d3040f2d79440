//! What a bulkhead is, in plain words: so many run, the others wait in a row, and who matters more goes first.

use std::cmp::Reverse;

use mainstay::Priority;

/// Settings; times are milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) limit: u32,
    pub(crate) reserve: u32,
    pub(crate) max_queue: u32,
    pub(crate) max_wait: Option<u64>,
}

/// The places and the row.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) set: Set,
    pub(crate) running: u32,
    pub(crate) line: Vec<(Priority, usize)>,
    pub(crate) rejected: u64,
    pub(crate) queued: u64,
    pub(crate) waited_too_long: u64,
    pub(crate) left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    In,
    Waits,
    Refused,
}

impl Places {
    pub(crate) fn new(set: Set) -> Self {
        Self { set, running: 0, line: Vec::new(), rejected: 0, queued: 0, waited_too_long: 0, left: 0 }
    }

    pub(crate) fn room(&self, priority: Priority) -> u32 {
        match priority {
            Priority::High => self.set.limit,
            _ => self.set.limit.saturating_sub(self.set.reserve).max(1).min(self.set.limit),
        }
    }

    fn is_free(&self, priority: Priority) -> bool {
        self.running < self.room(priority) && self.line.iter().all(|(other, _)| *other < priority)
    }

    /// A call that does not wait.
    pub(crate) fn take(&mut self, priority: Priority) -> Came {
        if self.is_free(priority) {
            self.running += 1;
            return Came::In;
        }
        self.rejected += 1;
        Came::Refused
    }

    /// A call that waits if it must.
    pub(crate) fn enter(&mut self, priority: Priority, id: usize) -> Came {
        if self.is_free(priority) || self.line.len() >= self.set.max_queue as usize {
            return self.take(priority);
        }
        self.queued += 1;
        self.line.push((priority, id));
        Came::Waits
    }

    /// One that waited for too long goes.
    pub(crate) fn too_long(&mut self, id: usize) {
        self.line.retain(|(_, other)| *other != id);
        self.waited_too_long += 1;
        self.rejected += 1;
    }

    /// One gives up, whether or not its turn has come meanwhile; those whose turn comes by it.
    pub(crate) fn leave(&mut self, id: usize) -> Vec<usize> {
        let waits = self.line.iter().any(|(_, other)| *other == id);
        self.line.retain(|(_, other)| *other != id);
        self.left += 1;
        if waits { vec![] } else { self.give_back() }
    }

    /// One ends; those whose turn comes by it.
    pub(crate) fn give_back(&mut self) -> Vec<usize> {
        self.running -= 1;
        self.serve()
    }

    /// Those whose turn has come.
    pub(crate) fn serve(&mut self) -> Vec<usize> {
        let mut served = Vec::new();
        while let Some(&(priority, id)) = self.line.iter().min_by_key(|(priority, _)| Reverse(*priority)) {
            if self.running >= self.room(priority) {
                break;
            }
            self.running += 1;
            self.line.retain(|(_, other)| *other != id);
            served.push(id);
        }
        served
    }
}
