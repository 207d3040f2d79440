//! Who is next in the queue, and how many may run: pure rules.

use std::collections::BTreeMap;

use crate::{priority::Priority, settings::Ratio, time::Tick};

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    priority: Priority,
    number: u64,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    arrived: Tick,
    pub(super) what: T,
}

/// The waiting: by priority, and among equals in the order of arrival.
#[derive(Debug)]
pub(super) struct Line<T> {
    next: u64,
    // One for each priority, the highest first.
    waiting: [BTreeMap<u64, Waiter<T>>; 3],
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { next: 0, waiting: Default::default() }
    }
}

/// In the order of the rows.
pub(super) const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

pub(super) const fn row(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// How many calls may run at a time, of each priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rooms {
    pub(super) high: u32,
    pub(super) normal: u32,
    pub(super) low: u32,
}

impl Rooms {
    /// Shares of a limit, rounded down, and one place at least: nobody is locked out for ever.
    pub(super) fn new(limit: u32, normal: f64, low: f64) -> Self {
        let share = |share: f64| {
            let ratio = Ratio::of(share);
            let places = u64::from(limit) * u64::from(ratio.part()) / u64::from(ratio.whole().get());
            u32::try_from(places).unwrap_or(limit).max(1).min(limit)
        };
        Self { high: limit, normal: share(normal), low: share(low) }
    }

    pub(super) const fn of(&self, priority: Priority) -> u32 {
        match priority {
            Priority::High => self.high,
            Priority::Normal => self.normal,
            Priority::Low => self.low,
        }
    }
}

impl<T> Line<T> {
    pub(super) fn join(&mut self, priority: Priority, arrived: Tick, what: T) -> Ticket {
        let number = self.next;
        self.next += 1;
        self.waiting[row(priority)].insert(number, Waiter { arrived, what });
        Ticket { priority, number }
    }

    pub(super) fn get(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.waiting[row(ticket.priority)].get_mut(&ticket.number).map(|waiter| &mut waiter.what)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting[row(ticket.priority)].remove(&ticket.number).map(|waiter| waiter.what)
    }

    /// Whether somebody waits who goes before a newcomer of this priority.
    pub(super) fn is_ahead_of(&self, priority: Priority) -> bool {
        self.waiting[..=row(priority)].iter().any(|row| !row.is_empty())
    }

    /// When the one came who waits longest, of those that are not behind this priority.
    pub(super) fn oldest(&self, priority: Priority) -> Option<Tick> {
        self.waiting[..=row(priority)]
            .iter()
            .filter_map(|row| row.first_key_value())
            .map(|(_, waiter)| waiter.arrived)
            .min()
    }

    /// The one to be served next, if there is room for it beside those that run: of the highest priority, the newest or
    /// the oldest.
    pub(super) fn serve(
        &mut self,
        running: u32,
        rooms: &Rooms,
        newest_first: impl Fn(Priority) -> bool,
    ) -> Option<(Ticket, T)> {
        let (priority, row) = PRIORITIES.into_iter().zip(&mut self.waiting).find(|(_, row)| !row.is_empty())?;
        if running >= rooms.of(priority) {
            return None;
        }
        let (number, waiter) = if newest_first(priority) { row.pop_last() } else { row.pop_first() }?;
        Some((Ticket { priority, number }, waiter.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Tick {
        Tick::from_nanos(n)
    }

    const MANY: Rooms = Rooms { high: 9, normal: 9, low: 9 };

    fn served(newest_first: bool) -> Vec<&'static str> {
        let mut line = Line::default();
        for (n, (name, priority)) in [
            ("a", Priority::Normal),
            ("b", Priority::Low),
            ("c", Priority::High),
            ("d", Priority::Normal),
            ("e", Priority::High),
        ]
        .into_iter()
        .enumerate()
        {
            line.join(priority, at(n as u64), name);
        }
        std::iter::from_fn(|| line.serve(0, &MANY, |_| newest_first).map(|(_, name)| name)).collect()
    }

    #[test]
    fn the_high_ones_first_and_among_equals_the_oldest_or_the_newest() {
        assert_eq!(served(false), ["c", "e", "a", "d", "b"]);
        assert_eq!(served(true), ["e", "c", "d", "a", "b"]);
    }

    #[test]
    fn lower_priorities_have_less_room_and_some_at_least() {
        for (limit, normal, low) in [(10, 9, 7), (100, 90, 70), (64, 57, 44), (2, 1, 1), (1, 1, 1)] {
            let rooms = Rooms::new(limit, 0.9, 0.7);
            assert_eq!(rooms, Rooms { high: limit, normal, low });
        }
        assert_eq!(Rooms::new(10, 1.0, 1.0), Rooms { high: 10, normal: 10, low: 10 });
        assert_eq!(Rooms::new(u32::MAX, 1e-9, 0.0), Rooms { high: u32::MAX, normal: 4, low: 1 });
        let mut line = Line::default();
        line.join(Priority::Low, at(0), "low");
        let rooms = Rooms { high: 10, normal: 9, low: 7 };
        assert!(line.serve(7, &rooms, |_| false).is_none());
        line.join(Priority::High, at(1), "high");
        assert_eq!(line.serve(9, &rooms, |_| false).map(|(_, name)| name), Some("high"));
        assert_eq!(line.serve(6, &rooms, |_| false).map(|(_, name)| name), Some("low"));
    }

    #[test]
    fn who_waits_longest_is_known_of_those_that_go_first() {
        let mut line = Line::default();
        assert_eq!((line.oldest(Priority::Low), line.is_ahead_of(Priority::Low)), (None, false));
        let low = line.join(Priority::Low, at(5), ());
        line.join(Priority::High, at(7), ());
        assert_eq!([Priority::High, Priority::Normal].map(|it| line.oldest(it)), [Some(at(7)); 2]);
        assert_eq!(line.oldest(Priority::Low), Some(at(5)));
        assert!(line.is_ahead_of(Priority::High) && line.leave(low).is_some() && line.leave(low).is_none());
        assert_eq!(line.oldest(Priority::Low), Some(at(7)));
    }
}
