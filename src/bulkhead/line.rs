//! Who is next: the pure rule of the queue.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::priority::Priority;

/// A place in the line. Orders by priority, then by arrival.
pub(super) type Ticket = (Reverse<Priority>, u64);

/// The waiting, in the order in which they are served.
#[derive(Debug)]
pub(super) struct Line<T> {
    next: u64,
    waiting: BTreeMap<Ticket, T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }
}

/// How many calls of a priority may run, of `limit` with `reserve` kept for the high ones.
#[inline]
pub(super) fn room(limit: u32, reserve: u32, priority: Priority) -> u32 {
    match priority {
        Priority::High => limit,
        // A limit that was lowered to the reserve or below leaves one place: nobody is locked out for ever.
        Priority::Normal | Priority::Low => limit.saturating_sub(reserve).max(1).min(limit),
    }
}

impl<T> Line<T> {
    pub(super) fn join(&mut self, priority: Priority, waiter: T) -> Ticket {
        let ticket = (Reverse(priority), self.next);
        self.next += 1;
        self.waiting.insert(ticket, waiter);
        ticket
    }

    pub(super) fn get(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.waiting.get_mut(&ticket)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting.remove(&ticket)
    }

    /// Whether somebody waits who goes before a newcomer of this priority.
    pub(super) fn is_ahead_of(&self, priority: Priority) -> bool {
        self.waiting.first_key_value().is_some_and(|((Reverse(first), _), _)| *first >= priority)
    }

    /// The one to be served next, if there is room for it beside those that run.
    pub(super) fn serve(&mut self, running: u32, limit: u32, reserve: u32) -> Option<(Ticket, T)> {
        let (Reverse(priority), _) = *self.waiting.first_key_value()?.0;
        (running < room(limit, reserve, priority)).then(|| self.waiting.pop_first())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_ones_first_and_among_equals_who_came_first() {
        let mut line = Line::default();
        for (name, priority) in [
            ("a", Priority::Normal),
            ("b", Priority::Low),
            ("c", Priority::High),
            ("d", Priority::Normal),
            ("e", Priority::High),
        ] {
            line.join(priority, name);
        }
        let served: Vec<&str> = std::iter::from_fn(|| line.serve(0, 1, 0).map(|(_, name)| name)).collect();
        assert_eq!(served, ["c", "e", "a", "d", "b"]);
    }

    #[test]
    fn the_reserve_is_for_the_high_ones() {
        let mut line = Line::default();
        line.join(Priority::Normal, "normal");
        assert!(line.serve(8, 10, 2).is_none());
        line.join(Priority::High, "high");
        assert_eq!(line.serve(8, 10, 2).map(|(_, name)| name), Some("high"));
        assert_eq!(line.serve(7, 10, 2).map(|(_, name)| name), Some("normal"));
        assert_eq!((room(10, 2, Priority::Low), room(2, 2, Priority::Low), room(10, 2, Priority::High)), (8, 1, 10));
    }

    #[test]
    fn nobody_is_overtaken_by_an_equal() {
        let mut line = Line::default();
        assert!(!line.is_ahead_of(Priority::Low));
        let ticket = line.join(Priority::Normal, ());
        assert!(line.is_ahead_of(Priority::Normal) && line.is_ahead_of(Priority::Low));
        assert!(!line.is_ahead_of(Priority::High));
        assert!(line.leave(ticket).is_some() && line.leave(ticket).is_none());
    }
}
