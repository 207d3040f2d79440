//! One breaker: how calls are let in and settled. How results are counted is in [`count`](super::count), how it changes
//! its state in [`switch`](super::switch).

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    admission::{Readiness, Verdict},
    breaker::{
        cold::{Cold, Notice},
        config::Config,
        limits::Limits,
        probing::Decision,
        review::Review,
        row::Row,
        word::Word,
    },
    error::{Reason, Rejection},
    lanes::Seat,
    name::Name,
    observe::{CircuitState, Event, Meter, Sink, Tally},
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
    time::{Moment, Tick, nanos},
    waiters::Waiters,
    window::{Kind, SlidingWindow},
};

#[derive(Debug)]
pub(super) struct Core {
    // Read by every call, written by transitions only.
    pub(super) word: AtomicU64,
    pub(super) limits: Limits,
    pub(super) review: Review,
    pub(super) row: Row,
    pub(super) window: SlidingWindow,
    pub(super) meter: Meter,
    // When the open period is over; means something while the circuit is open.
    pub(super) reopen_at: AtomicU64,
    // The latest time until which a failed call asked to be left alone.
    pub(super) asked_until: AtomicU64,
    pub(super) honors_retry_after: AtomicBool,
    pub(super) unready: AtomicBool,
    pub(super) cold: Mutex<Cold>,
    pub(super) waiters: Waiters,
    pub(super) sink: Sink,
    pub(super) name: Name,
    // For the task that turns the circuit half-open on time.
    pub(super) me: Weak<Core>,
}

/// What a call through a breaker holds: the generation it was let in, when it began, and its place if it is a probe.
#[derive(Debug)]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) began: Tick,
    // 0: no probe.
    pub(super) probe: u32,
}

impl Ticket {
    /// How long the call took, unless nobody wanted to know as it began.
    #[inline]
    pub(super) fn took(&self, now: &mut Moment) -> Option<u64> {
        (self.began != Tick::NEVER).then(|| now.tick().nanos_since(self.began))
    }
}

/// When a generation is reviewed first: a predicate may want to open whatever happens, thresholds cannot before
/// something fails.
pub(super) fn first_review(has_predicate: bool) -> Tick {
    if has_predicate { Tick::default() } else { Tick::NEVER }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The task knows the breaker weakly, but would keep its memory until the open period is over.
        if let Some(alarm) = self.cold.get_mut().alarm.take() {
            alarm.abort();
        }
    }
}

impl Core {
    pub(super) fn new(name: Name, config: Config) -> Arc<Self> {
        // The first reading of the clock may take a while: see there. Better now than in somebody's call.
        let _first = Tick::now();
        Arc::new_cyclic(|me| Self {
            word: AtomicU64::new(Word::new(0, CircuitState::Closed).0),
            limits: Limits::new(&config),
            review: Review::new(first_review(config.predicate.is_some())),
            row: Row::default(),
            window: config.window.build(),
            meter: Meter::new(),
            reopen_at: AtomicU64::new(0),
            asked_until: AtomicU64::new(0),
            honors_retry_after: AtomicBool::new(config.honor_retry_after.is_some()),
            unready: AtomicBool::new(config.readiness == Readiness::Unready),
            cold: Mutex::new(Cold::new(config)),
            waiters: Waiters::default(),
            sink: Sink::default(),
            name,
            me: Weak::clone(me),
        })
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    #[inline]
    pub(super) fn admit(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        let word = self.word();
        match self.pass(word, now) {
            Some(ticket) => Ok(ticket),
            None => self.admit_shut(word, now),
        }
    }

    /// Lets a call through a circuit that is not in the way.
    #[inline]
    pub(super) fn pass(&self, word: Word, now: &mut Moment) -> Option<Ticket> {
        word.passes().then(|| {
            let began = if self.limits.is_timed() { now.tick() } else { Tick::NEVER };
            Ticket { generation: word.generation(), began, probe: 0 }
        })
    }

    /// Turns a call away, unless it may be a probe. The rejection is made where the caller wants it: to make it first
    /// and to hand it on costs as much as all the rest.
    #[inline(never)]
    fn admit_shut(&self, word: Word, now: &mut Moment) -> Result<Ticket, Rejection> {
        match self.left_open(word, now) {
            Some(left) => {
                self.meter.tally(Tally::Rejected);
                if self.sink.is_heard() {
                    self.tell_rejected(&self.open(left));
                }
                Err(self.open(left))
            }
            None => self.admit_probe(now).inspect_err(|rejection| {
                self.meter.tally(Tally::Rejected);
                self.tell_rejected(rejection);
            }),
        }
    }

    /// Tells the observers of a rejection.
    #[cold]
    fn tell_rejected(&self, rejection: &Rejection) {
        self.sink.tell(&self.name, || Event::Rejected(rejection));
    }

    /// A rejection by a circuit that is open for so many nanoseconds yet.
    #[inline]
    pub(super) fn open(&self, left: u64) -> Rejection {
        Rejection::new(Reason::CircuitOpen, self.name.clone()).with_retry_nanos(left)
    }

    /// The rejection of a caller who is to come again at once.
    pub(super) fn come_again(&self) -> Rejection {
        let rejection = self.open(0);
        self.meter.tally(Tally::Rejected);
        self.tell_rejected(&rejection);
        rejection
    }

    fn admit_probe(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        let mut cold = self.cold.lock();
        let now = now.tick();
        let notice = self.turn_half_open_if_due(&mut cold, now);
        let word = self.word();
        let ticket = match word.state() {
            CircuitState::HalfOpen => {
                let rules = cold.config.probe_rules();
                let probe = cold.probing.take(now, &rules);
                probe.map(|probe| Ticket { generation: word.generation(), began: now, probe })
            }
            _ if word.passes() => Some(Ticket { generation: word.generation(), began: now, probe: 0 }),
            _ => None,
        };
        drop(cold);
        self.publish(notice);
        ticket.ok_or_else(|| self.rejection(word))
    }

    /// How long the circuit is open yet, if it is and not due; all ones when it is held open, and nobody knows.
    #[inline]
    fn left_open(&self, word: Word, now: &mut Moment) -> Option<u64> {
        match word.state() {
            CircuitState::Open => {
                let until = self.reopen_at.load(Acquire);
                let left = until.saturating_sub(now.tick().as_nanos());
                // Never: a transition is on its way, and the word we have seen is over.
                (left > 0 && until != u64::MAX).then_some(left)
            }
            CircuitState::ForcedOpen => Some(u64::MAX),
            _ => None,
        }
    }

    /// The clock is read anew: an open period may have begun while we waited for the lock, and ends no later for that.
    fn rejection(&self, word: Word) -> Rejection {
        match word.state() {
            CircuitState::HalfOpen => Rejection::new(Reason::CircuitProbing, self.name.clone()),
            _ => self.open(self.left_open(word, &mut Moment::new()).unwrap_or(u64::MAX)),
        }
    }

    /// Whether the next call would be turned away, and when that may change by itself.
    pub(super) fn shut_until(&self, now: &mut Moment) -> Option<Tick> {
        match self.word().state() {
            CircuitState::Open => {
                let until = Tick::from_nanos(self.reopen_at.load(Acquire));
                (until > now.tick()).then_some(until)
            }
            CircuitState::ForcedOpen => Some(Tick::NEVER),
            CircuitState::HalfOpen => {
                let cold = self.cold.lock();
                let rules = cold.config.probe_rules();
                let shut = self.word().state() == CircuitState::HalfOpen && !cold.probing.has_place(now.tick(), &rules);
                shut.then(|| cold.probing.next_place(&rules))
            }
            CircuitState::Closed | CircuitState::MetricsOnly | CircuitState::Disabled => None,
        }
    }

    #[inline]
    pub(super) fn settle(&self, ticket: &Ticket, verdict: Verdict, now: &mut Moment) {
        if verdict == Verdict::Success && ticket.probe == 0 {
            return self.succeed(ticket.generation, ticket.began, now);
        }
        let took = ticket.took(now);
        self.settle_otherwise(ticket, verdict, took, now);
    }

    pub(super) fn settle_otherwise(&self, ticket: &Ticket, verdict: Verdict, took: Option<u64>, now: &mut Moment) {
        match verdict {
            Verdict::Success => self.record(ticket, false, took, now),
            Verdict::Failure { retry_after } => {
                if let Some(wait) = retry_after.filter(|_| self.honors_retry_after.load(Relaxed)) {
                    self.remember_retry_after(ticket, wait, now);
                }
                self.record(ticket, true, took, now);
            }
            Verdict::Cancelled if took.is_some_and(|took| self.limits.counts_cancelled(took)) => {
                self.record(ticket, true, took, now);
            }
            Verdict::BrokenOff { waited } if self.limits.counts_cancelled(nanos(waited)) => {
                self.record(ticket, true, took, now);
            }
            Verdict::Ignored => self.give_back(ticket, Some(Tally::Ignored)),
            Verdict::Cancelled | Verdict::BrokenOff { .. } => self.give_back(ticket, Some(Tally::Cancelled)),
            Verdict::Unused => self.give_back(ticket, None),
        }
    }

    /// Under the lock, so that what a late result asks for is not taken for the wish of the generation after its own.
    #[cold]
    fn remember_retry_after(&self, ticket: &Ticket, wait: Duration, now: &mut Moment) {
        let cold = self.cold.lock();
        let in_time = self.word().generation() == ticket.generation;
        if in_time && (ticket.probe == 0 || cold.probing.holds(ticket.probe)) {
            self.asked_until.fetch_max((now.tick() + wait).as_nanos(), Relaxed);
        }
    }

    /// A call ended and says nothing about the service.
    fn give_back(&self, ticket: &Ticket, tally: Option<Tally>) {
        let mut in_time = self.word().generation() == ticket.generation;
        if ticket.probe != 0 {
            let mut cold = self.cold.lock();
            in_time = self.word().generation() == ticket.generation && cold.probing.give_back(ticket.probe);
            drop(cold);
            self.waiters.wake_all();
        }
        if tally == Some(Tally::Ignored) && !in_time {
            return self.stale();
        }
        if let Some(tally) = tally.filter(|_| self.word().state() != CircuitState::Disabled) {
            self.meter.tally(tally);
        }
    }

    #[cold]
    pub(super) fn report_probe(&self, ticket: &Ticket, kind: Kind, took: Option<u64>, now: &mut Moment) {
        let mut cold = self.cold.lock();
        if self.word().generation() != ticket.generation {
            drop(cold);
            return self.stale();
        }
        let rules = cold.config.probe_rules();
        let decision = cold.probing.report(ticket.probe, kind, &rules);
        let notice = self.follow(decision, &mut cold, now);
        drop(cold);
        if decision == Decision::TooLate {
            return self.stale();
        }
        self.measure(Seat::here(), kind, took, now);
        match notice {
            Some(notice) => self.publish(Some(notice)),
            None => self.waiters.wake_all(),
        }
    }

    /// Does what the results of the probes lead to.
    pub(super) fn follow(&self, decision: Decision, cold: &mut Cold, now: &mut Moment) -> Option<Notice> {
        match decision {
            Decision::Undecided | Decision::TooLate => None,
            Decision::Close => Some(self.close_after_probes(cold, now.tick())),
            Decision::Reopen => Some(self.reopen(cold, now.tick())),
        }
    }

    /// Tells what a transition was, after all locks are released.
    pub(super) fn publish(&self, notice: Option<Notice>) {
        let Some(notice) = notice else { return };
        self.waiters.wake_all();
        notice.log(&self.name);
        self.sink.tell(&self.name, || notice.event(&self.name));
    }

    pub(super) fn asked_period(&self, config: &Config, now: Tick) -> Option<Duration> {
        let cap = config.honor_retry_after?;
        let asked = self.asked_until.load(Relaxed).saturating_sub(now.as_nanos());
        (asked > 0).then(|| Duration::from_nanos(asked.min(nanos(cap))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_circuit_that_has_closed_by_the_time_of_the_lock_lets_a_call_in_that_is_no_probe() {
        let core = Core::new(Name::new("x").expect("a name"), Config::new());
        let ticket = core.admit_probe(&mut Moment::new()).expect("it is closed");
        assert_eq!((ticket.probe, ticket.generation), (0, core.word().generation()));
        core.settle(&ticket, Verdict::Success, &mut Moment::new());
        assert_eq!(core.window.counts(&mut Moment::new()).success, 1);
    }
}
