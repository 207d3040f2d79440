//! The moment until which an answer is of use: it travels with a request, and each limit on the way takes the smaller
//! of its own and what is left.

use std::time::Duration;

use crate::time::{Moment, Tick};

/// The moment until which the caller can use an answer.
///
/// Put into the extensions of an HTTP request, or wherever a request of yours has room for it.
///
/// ```
/// use std::time::Duration;
/// use mainstay::Deadline;
///
/// let deadline = Deadline::within(Duration::from_millis(250));
/// assert!(deadline.left() <= Duration::from_millis(250));
/// assert_eq!(deadline.earlier(Deadline::within(Duration::ZERO)).left(), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Tick);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self(Tick::now() + limit)
    }

    /// At this tick.
    #[must_use]
    pub const fn at(tick: Tick) -> Self {
        Self(tick)
    }

    /// The tick.
    #[must_use]
    pub const fn tick(self) -> Tick {
        self.0
    }

    /// What is left of it, nothing once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.since(Tick::now())
    }

    /// The earlier of two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }

    /// Whether nothing is left.
    pub(crate) fn has_passed(self, now: &mut Moment) -> bool {
        now.tick() >= self.0
    }
}

/// Knows the deadline of a request.
///
/// A closure does, through [`deadline_fn`].
pub trait DeadlineOf<Req> {
    /// The deadline, if the request has one.
    fn deadline(&self, request: &Req) -> Option<Deadline>;

    /// No request has one, and no code of anybody's is asked: a call need not be guarded against it. Not a constant,
    /// for a trait that has one has no objects.
    #[doc(hidden)]
    #[inline]
    fn has_none(&self) -> bool {
        false
    }
}

/// No request has a deadline: the default, which needs to know nothing of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoDeadline;

impl<Req> DeadlineOf<Req> for NoDeadline {
    #[inline]
    fn deadline(&self, _request: &Req) -> Option<Deadline> {
        None
    }

    #[inline]
    fn has_none(&self) -> bool {
        true
    }
}

impl<Req, F: Fn(&Req) -> Option<Deadline>> DeadlineOf<Req> for F {
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        self(request)
    }
}

/// Gives a closure the signature that [`DeadlineOf`] needs, so that the compiler need not be told it.
pub fn deadline_fn<Req, F: Fn(&Req) -> Option<Deadline>>(deadline: F) -> F {
    deadline
}
