//! One hedge: where calls begin, when another copy may be sent, and what it came to.

use std::time::Duration;

use crate::{
    budget::{Budget, Reservation},
    guarded::guarded,
    hedge::{
        config::Config,
        meter::{Count, Meter},
        pace::Pace,
    },
    lanes::Seat,
    name::Name,
    observe::{Event, Sink},
    time::{Moment, Tick},
};

#[derive(Debug)]
pub(crate) struct Core {
    pub(super) meter: Meter,
    pub(super) pace: Pace,
    pub(super) budget: Option<Budget>,
    // Whether the calls are counted here and add nothing to the budget: it is somebody else's, or there is none.
    pub(super) counts_calls: bool,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

/// Leave to send a copy. Dropping it gives the budget back what it took.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Which copy: 2 is the first that is sent beside the call itself.
    pub(crate) attempt: u32,
    /// How long the call has waited.
    delay: Duration,
    reservation: Reservation,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// The copy that answered, and whether its answer was good.
    pub(crate) answered: u32,
    pub(crate) good: bool,
    /// How many others ran, and whether the first was one of them.
    pub(crate) losers: usize,
    pub(crate) first_lost: bool,
    /// When the call began to wait, if it did.
    pub(crate) since: Option<Tick>,
}

impl Core {
    pub(super) fn new(name: Name, config: Config, budget: Option<Budget>, is_shared: bool) -> Self {
        let counts_calls = is_shared || budget.is_none();
        Self { meter: Meter::new(), pace: Pace::new(config), budget, counts_calls, sink: Sink::default(), name }
    }

    /// A call begins. `replayed` says whether its request can be sent again. Gives back whether another copy may be
    /// wanted at all.
    #[inline]
    pub(crate) fn begin(&self, replayed: bool) -> bool {
        let seat = Seat::here();
        if self.counts_calls {
            self.meter.count(seat, Count::Calls);
        } else if let Some(budget) = &self.budget {
            budget.deposit_in(seat);
        }
        let wanted = self.pace.attempts() > 1;
        if wanted && !replayed {
            self.meter.count(seat, Count::NotReplayed);
        }
        wanted && replayed
    }

    /// Whether calls get further copies.
    #[inline]
    pub(crate) fn hedges(&self) -> bool {
        self.pace.attempts() > 1
    }

    #[inline]
    pub(crate) fn may_follow(&self, attempt: u32) -> bool {
        attempt < self.pace.attempts()
    }

    pub(crate) fn delay(&self, now: Tick) -> Duration {
        self.pace.delay(now)
    }

    pub(crate) fn measures(&self) -> bool {
        self.pace.measures()
    }

    /// Leave to send a copy with the request that `request` makes, unless that has none, or the budget none left. The
    /// budget comes last: what another reason forbids costs nothing.
    pub(crate) fn ticket<Q>(
        &self,
        attempt: u32,
        waited: Duration,
        request: impl FnOnce(u32) -> Option<Q>,
    ) -> Option<(Q, Ticket)> {
        let Some(request) = guarded("replay hook", || request(attempt)).flatten() else {
            self.meter.count(Seat::here(), Count::NotReplayed);
            return None;
        };
        let reservation = match &self.budget {
            None => Reservation::free(),
            Some(budget) => match budget.reserve_at(&mut Moment::new()) {
                Some(reservation) => reservation,
                None => {
                    self.meter.count(Seat::here(), Count::OverBudget);
                    return None;
                }
            },
        };
        Some((request, Ticket { attempt, delay: waited, reservation }))
    }

    /// The copy is sent: it is paid for, counted and told.
    pub(crate) fn sent(&self, ticket: Ticket) {
        let Ticket { attempt, delay, reservation } = ticket;
        reservation.spend();
        self.meter.count(Seat::here(), Count::Hedges);
        let operation = self.name.as_str();
        tracing::debug!(operation, attempt, ?delay, "another copy of a call is sent");
        self.sink.tell(&self.name, || Event::Hedged { policy: operation, attempt, delay });
    }

    /// A call has its answer.
    pub(crate) fn ended(&self, end: End) {
        let seat = Seat::here();
        if end.answered > 1 && end.good {
            self.meter.count(seat, Count::Won);
        }
        if end.losers > 0 {
            self.meter.add(seat, Count::Cancelled, end.losers as u64);
        }
        // A first copy that was beaten would have taken longer still. Left out, it would make the calls look faster
        // than they are, the next delay shorter, and so on until every call is sent twice.
        let measured = end.good && (end.answered == 1 || end.first_lost);
        if let Some(since) = end.since.filter(|_| measured && self.pace.measures()) {
            let now = Tick::now();
            self.pace.record(now, now.nanos_since(since));
        }
    }
}
