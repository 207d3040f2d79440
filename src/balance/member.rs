//! One member of the set: its service, and what its calls came to. What all threads write is in one cache line with the
//! reference count that a call takes anyway.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    admission::{Admitted, Gate, Holds, Policy, Sealed, Verdict},
    balance::{
        core::Core,
        ewma::{AtomicEwma, Ewma},
        hub::Hub,
        outlier::Period,
    },
    breaker,
    contract::{Instance, InstanceId},
    error::Rejection,
    observe::EjectionCause,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::{Moment, Tick},
};

/// A member as it stands in one set: what is said of it, which changes, and what it is, which does not.
pub(super) struct Entry<S> {
    pub(super) instance: Arc<Instance>,
    pub(super) member: Arc<Member<S>>,
}

impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        Self { instance: Arc::clone(&self.instance), member: Arc::clone(&self.member) }
    }
}

pub(super) struct Member<S> {
    // First, so that it lies beside the reference counts.
    pub(super) vitals: Vitals,
    pub(super) breaker: Option<breaker::Handle>,
    pub(super) service: S,
    pub(super) id: InstanceId,
    // Tells it from another that had or has the same id.
    pub(super) serial: u64,
    pub(super) hub: Arc<Hub>,
    pub(super) core: Weak<Core<S>>,
}

/// What the calls to a member came to.
#[derive(Debug)]
pub(super) struct Vitals {
    // Calls that run in the lower bits, calls that ended and count above: the beginning and the end of a call are one
    // addition each, and both numbers are always of one moment.
    word: AtomicU64,
    cost: AtomicEwma,
    // Failures, each of which fades.
    doubt: AtomicEwma,
    failures: AtomicU64,
    in_a_row: AtomicU32,
    // Changes with each ejection and readmission: results of calls from before decide nothing.
    generation: AtomicU32,
    ignored: AtomicU64,
    cancelled: AtomicU64,
    late: AtomicU64,
    // When an ejection is over; 0 for none.
    out_until: AtomicU64,
    by_hand: AtomicBool,
    ejections: AtomicU32,
    // Since when it starts slowly.
    since: AtomicU64,
    // What had been counted at the last sweep.
    seen_ended: AtomicU64,
    seen_failures: AtomicU64,
}

const RUNNING_BITS: u32 = 24;
const ONE_ENDED: u64 = 1 << RUNNING_BITS;

/// What is left of a failure after three times the decay.
const FORGOTTEN: f64 = 0.05;
/// However often it fails, it is tried again some eight times the decay later.
const MOST_DOUBT: f64 = 100.0;

/// What a call holds.
#[derive(Debug)]
pub(super) struct Ticket {
    generation: u32,
    began: Tick,
    breaker: Option<<breaker::Handle as Policy>::Permit>,
}

/// The calls of a member since it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pending: u32,
    pub(super) ended: u64,
    pub(super) failures: u64,
    pub(super) ignored: u64,
    pub(super) cancelled: u64,
    pub(super) late: u64,
}

impl Vitals {
    pub(super) fn new(initial_latency: Duration, now: Tick) -> Self {
        Self {
            word: AtomicU64::new(0),
            cost: AtomicEwma::new(initial_latency.as_secs_f64(), now),
            doubt: AtomicEwma::new(0.0, now),
            failures: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            ignored: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            late: AtomicU64::new(0),
            out_until: AtomicU64::new(0),
            by_hand: AtomicBool::new(false),
            ejections: AtomicU32::new(0),
            since: AtomicU64::new(now.as_nanos()),
            seen_ended: AtomicU64::new(0),
            seen_failures: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn pending(&self) -> u32 {
        (self.word.load(Relaxed) & (ONE_ENDED - 1)) as u32
    }

    /// Seconds that a call takes lately, with what failures add.
    #[inline]
    pub(super) fn cost(&self, now: Tick, decay: Duration) -> f64 {
        self.cost.get(now, decay)
    }

    /// How many calls the failures of late weigh; none when they are nearly forgotten, so that an idle set tries it
    /// again. Reads the clock only when there were any.
    #[inline]
    pub(super) fn doubt(&self, now: impl FnOnce() -> Tick, decay: Duration) -> f64 {
        if self.doubt.is_zero() {
            return 0.0;
        }
        let doubt = self.doubt.get(now(), decay);
        if doubt < FORGOTTEN { 0.0 } else { doubt }
    }

    pub(super) fn counts(&self) -> Counts {
        let word = self.word.load(Relaxed);
        Counts {
            pending: (word & (ONE_ENDED - 1)) as u32,
            ended: word >> RUNNING_BITS,
            failures: self.failures.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }

    /// Until when it is ejected by the rules.
    pub(super) fn ejected_until(&self) -> Option<Tick> {
        Some(Tick::from_nanos(self.out_until.load(Acquire))).filter(|until| *until != Tick::default())
    }

    pub(super) fn is_out_by_hand(&self) -> bool {
        self.by_hand.load(Acquire)
    }

    pub(super) fn since(&self) -> Tick {
        Tick::from_nanos(self.since.load(Acquire))
    }

    pub(super) fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    // What follows is called under the lock of the set.

    /// Counts an ejection, before it is known how long it takes.
    pub(super) fn count_ejection(&self) -> u32 {
        self.ejections.fetch_add(1, Relaxed).saturating_add(1)
    }

    pub(super) fn eject(&self, until: Tick) {
        self.out_until.store(until.as_nanos().max(1), Release);
        self.generation.fetch_add(1, AcqRel);
    }

    pub(super) fn eject_by_hand(&self) -> bool {
        let before = self.by_hand.swap(true, AcqRel);
        self.generation.fetch_add(u32::from(!before), AcqRel);
        !before
    }

    /// Takes it back, whoever has ejected it; whether it was out.
    pub(super) fn readmit(&self, now: Tick) -> bool {
        let was_out = self.ejected_until().is_some() | self.by_hand.swap(false, AcqRel);
        if was_out {
            self.come_back(now);
        }
        was_out
    }

    /// An ejection by the rules is over; whether it is back, and not kept out by hand.
    pub(super) fn end_ejection(&self, now: Tick) -> bool {
        self.come_back(now);
        !self.is_out_by_hand()
    }

    fn come_back(&self, now: Tick) {
        self.out_until.store(0, Release);
        self.in_a_row.store(0, Relaxed);
        self.since.store(now.as_nanos(), Release);
        self.generation.fetch_add(1, AcqRel);
        self.take_period();
    }

    /// What was counted is held against it no more.
    pub(super) fn begin_anew(&self) {
        self.in_a_row.store(0, Relaxed);
        self.take_period();
    }

    /// A sweep found nothing wrong with it.
    pub(super) fn forgive(&self) {
        let _ = self.ejections.fetch_update(Relaxed, Relaxed, |ejections| ejections.checked_sub(1));
    }

    /// What was counted since this was last asked.
    pub(super) fn take_period(&self) -> Period {
        // Failures are counted after the end of their calls: in this order there are never more failures than calls.
        let failures = self.failures.load(Acquire);
        let ended = self.word.load(Acquire) >> RUNNING_BITS;
        let since = |seen: &AtomicU64, count: u64| count.wrapping_sub(seen.swap(count, Relaxed));
        let calls = since(&self.seen_ended, ended) & (u64::MAX >> RUNNING_BITS);
        let failures = since(&self.seen_failures, failures);
        Period { calls, failures: failures.min(calls) }
    }
}

impl<S> Member<S> {
    /// Until when its circuit lets nobody in; none when it does, or there is none.
    #[inline]
    pub(super) fn shut_until(&self, now: &mut Moment) -> Option<Tick> {
        self.breaker.as_ref().and_then(|breaker| breaker.shut_until(now))
    }

    fn record(&self, generation: u32, failed: bool, now: &mut Moment) {
        let vitals = &self.vitals;
        if vitals.generation.load(Acquire) != generation {
            vitals.word.fetch_sub(1, Relaxed);
            vitals.late.fetch_add(1, Relaxed);
            return;
        }
        if failed {
            if self.hub.unwatched.load(Relaxed) {
                self.begin_watch(now.tick());
            }
            vitals.word.fetch_add(ONE_ENDED - 1, Release);
            vitals.failures.fetch_add(1, Release);
            self.failed(now.tick());
        } else {
            if vitals.in_a_row.load(Relaxed) != 0 {
                vitals.in_a_row.store(0, Relaxed);
            }
            vitals.word.fetch_add(ONE_ENDED - 1, Release);
        }
    }

    #[cold]
    fn begin_watch(&self, now: Tick) {
        if let Some(core) = self.core.upgrade() {
            core.begin_watch(now);
        }
    }

    #[cold]
    fn failed(&self, now: Tick) {
        let decay = self.hub.pace().decay;
        let more = |past: Ewma, now| Ewma::new((past.get(now, decay) + 1.0).min(MOST_DOUBT), now);
        self.vitals.doubt.update(now, more);
        let in_a_row = self.vitals.in_a_row.fetch_add(1, Relaxed).wrapping_add(1);
        let most = self.hub.consecutive_failures.load(Relaxed);
        // Each so many, so that one which may not be ejected now is looked at again.
        if most > 0 && in_a_row % most == 0 {
            if let Some(core) = self.core.upgrade() {
                core.eject_outlier(self, EjectionCause::ConsecutiveFailures, now);
            }
        }
    }
}

/// A member, as the policy of one call to it: what it counts, and its breaker inside of that. A pair would take two
/// reference counts where this takes one.
pub(super) struct Tracked<S>(pub(super) Arc<Member<S>>);

impl<S> Tracked<S> {
    /// Lets a call in; `timed` when it is to be measured.
    #[inline]
    pub(super) fn begin(self, timed: bool, now: &mut Moment) -> Result<Admitted<Self>, Rejection> {
        let ticket = self.ticket(timed, now)?;
        Ok(Admitted::with(self, ticket))
    }

    #[inline]
    fn ticket(&self, timed: bool, now: &mut Moment) -> Result<Ticket, Rejection> {
        let member = &*self.0;
        let breaker = member.breaker.admit(now)?;
        member.vitals.word.fetch_add(1, Relaxed);
        member.hub.begun();
        let began = if timed { now.tick() } else { Tick::NEVER };
        Ok(Ticket { generation: member.vitals.generation.load(Acquire), began, breaker })
    }
}

impl<S> Clone for Tracked<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Holds for Tracked<S> {
    type Policy = Self;

    #[inline]
    fn policy(&self) -> &Self {
        self
    }
}

impl<S> Sealed for Tracked<S> {}

impl<S> Policy for Tracked<S> {
    type Permit = Ticket;
    type Waiting = ();

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        self.ticket(true, now)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, verdict: Verdict, now: &mut Moment) {
        let (member, vitals) = (&*self.0, &self.0.vitals);
        member.breaker.settle(ticket.breaker, verdict, now);
        member.hub.over();
        if ticket.began != Tick::NEVER && verdict != Verdict::Unused {
            let (pace, tick) = (member.hub.pace(), now.tick());
            let took = tick.since(ticket.began);
            vitals.cost.update(tick, |past, now| pace.after(past, verdict, took, now));
        }
        match verdict {
            Verdict::Success => member.record(ticket.generation, false, now),
            Verdict::Failure { .. } => member.record(ticket.generation, true, now),
            Verdict::Ignored => {
                vitals.word.fetch_sub(1, Relaxed);
                vitals.ignored.fetch_add(1, Relaxed);
            }
            Verdict::Cancelled | Verdict::BrokenOff { .. } => {
                vitals.word.fetch_sub(1, Relaxed);
                vitals.cancelled.fetch_add(1, Relaxed);
            }
            Verdict::Unused => {
                vitals.word.fetch_sub(1, Relaxed);
            }
        }
    }

    fn poll_gate(&self, (): &mut (), _: &mut Context<'_>) -> Poll<Gate> {
        Poll::Ready(Gate::Open)
    }

    fn watch(&self, (): &mut (), _: &mut Context<'_>) {}
}

impl<S> fmt::Debug for Tracked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracked").field(&self.0.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{
        Config,
        core::tests::{FAILURE, SECOND, begin, handle, instance, member},
    };

    #[test]
    fn no_clock_is_read_for_failures_that_there_were_none_of() {
        let (now, decay) = (Tick::from_nanos(0) + SECOND * 5, SECOND * 10);
        let vitals = Vitals::new(SECOND, now);
        assert_eq!(vitals.doubt(|| unreachable!("the clock is read"), decay), 0.0);
        vitals.doubt.update(now, |_, now| Ewma::new(1.0, now));
        assert_eq!(vitals.doubt(|| now, decay), 1.0);
        assert_eq!(vitals.doubt(|| now + decay * 3, decay), 0.0, "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_an_ejection_by_hand_counts_for_nothing() {
        let handle = handle(Config::new(), 2);
        let (mut before, id) = (begin(&handle, 0), instance(0).id().clone());
        assert!(handle.eject(&id));
        let mut during = begin(&handle, 0);
        before.settle(FAILURE);
        assert!(!handle.eject(&id), "it is out already, and nothing changes");
        during.settle(Verdict::Success);
        let counts = member(&handle, 0).0.vitals.counts();
        assert_eq!((counts.late, counts.failures, counts.ended, counts.pending), (1, 0, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_out_by_hand_and_by_the_rules_comes_back_from_both() {
        let vitals = Vitals::new(SECOND, Tick::now());
        vitals.eject(Tick::now() + SECOND);
        assert!(vitals.eject_by_hand());
        assert!(vitals.readmit(Tick::now()));
        assert_eq!((vitals.ejected_until(), vitals.is_out_by_hand()), (None, false));
        assert!(!vitals.readmit(Tick::now()), "it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_timed_says_nothing_of_how_long_calls_take() {
        let handle = handle(Config::new(), 1);
        let (tracked, decay) = (member(&handle, 0), SECOND * 10);
        let before = tracked.0.vitals.cost(Tick::now(), decay);
        begin(&handle, 0).settle(FAILURE);
        assert_eq!(tracked.0.vitals.cost(Tick::now(), decay), before);
        tracked.clone().begin(true, &mut Moment::new()).unwrap().settle(FAILURE);
        assert!(tracked.0.vitals.cost(Tick::now(), decay) > 4.0, "one that is timed does");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_ended_runs_no_more() {
        let handle = handle(Config::new(), 2);
        let (mut first, second) = (begin(&handle, 0), begin(&handle, 1));
        assert_eq!(handle.core.hub.calls(), (2, 2));
        first.settle(Verdict::Success);
        assert_eq!(handle.core.hub.calls(), (2, 1));
        drop(second);
        assert_eq!(handle.core.hub.calls(), (2, 0), "given up");
    }
}
