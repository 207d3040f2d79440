//! Which keys may leave, and which of them goes first: the pure rule.

use std::time::Duration;

/// What would be lost if a policy were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A circuit that is open or was set by hand, a quota that is used: it stays.
    Stays,
    /// A circuit that waits for its probes. It leaves when nobody has asked for it for long, never for others: else a
    /// flood of keys whose circuits open, and which never come back, would hold all the room for ever.
    Recovers,
    /// A closed circuit with failures in its window: it goes after those that remember nothing.
    Remembers,
    /// Nothing: a new one in its place would decide the same.
    AsNew,
}

/// The order in which keys go; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It was not asked for for so long that it goes anyway.
    Idle,
    AsNew,
    Remembers,
}

/// When a key goes, if it may go at all.
pub(super) fn rank(standing: Standing, unused_for: Duration, idle_for: Duration) -> Option<Rank> {
    match standing {
        Standing::Stays => None,
        _ if unused_for >= idle_for => Some(Rank::Idle),
        Standing::Recovers => None,
        Standing::Remembers => Some(Rank::Remembers),
        Standing::AsNew => Some(Rank::AsNew),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_and_in_which_order() {
        let idle_for = Duration::from_secs(10);
        let (short, long) = (Duration::from_millis(9_999), Duration::from_secs(10));
        for (standing, used, unused) in [
            (Standing::Stays, None, None),
            (Standing::Recovers, None, Some(Rank::Idle)),
            (Standing::Remembers, Some(Rank::Remembers), Some(Rank::Idle)),
            (Standing::AsNew, Some(Rank::AsNew), Some(Rank::Idle)),
        ] {
            assert_eq!((rank(standing, short, idle_for), rank(standing, long, idle_for)), (used, unused));
        }
        assert!(Rank::Idle < Rank::AsNew && Rank::AsNew < Rank::Remembers);
    }
}
