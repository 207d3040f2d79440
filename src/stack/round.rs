//! One round of attempts: the first, and the copies that a hedge sends beside it.
//!
//! The same rule as that of the [hedge](crate::hedge) as a layer, over attempts that do not know the policies they are
//! held by, and with the one alarm of the call.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    deadline::Deadline,
    error::CarryRejection,
    guarded::guarded,
    hedge::{
        core::{Core, End},
        rule::{Judgement, judge},
    },
    outcome::Classify,
    rare::Rare,
    retry::Replay,
    stack::{
        alarm::Beat,
        attempt::{Attempt, Due},
        copy::Copy,
        policies::{Policies, Shared},
    },
    time::{Moment, Tick},
};

/// What further attempts are made with.
pub(super) struct Spare<S, K> {
    pub(super) service: S,
    pub(super) kept: K,
}

pin_project! {
    /// Like an [`Attempt`], this is handed the policies it is held by, and has to be [cancelled](Round::cancel).
    pub(super) struct Round<S: Service<Req>, Req> {
        #[pin]
        first: Attempt<S, Req>,
        // Whether copies may be wanted.
        hedged: bool,
        // Made when the first attempt has to wait, or has failed.
        race: Rare<Box<Race<S, Req>>>,
    }
}

/// Which copy it is: 2 is the first that is sent beside the first attempt.
type Numbered<S, Req> = (u32, Pin<Box<Copy<S, Req>>>);

/// Where a round with copies stands.
struct Race<S: Service<Req>, Req> {
    copies: Vec<Numbered<S, Req>>,
    first_over: bool,
    // The last copy that began: 1 is the first attempt.
    attempt: u32,
    // No further copy is wanted.
    closed: bool,
    // When the round began to wait.
    since: Option<Tick>,
    // When the next copy is due, once that is known.
    due: Tick,
    // How an earlier copy failed.
    failed: Option<S::Error>,
}

pub(super) type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

impl<S: Service<Req>, Req> Round<S, Req> {
    #[inline(always)]
    pub(super) fn start(policies: &Policies, due: Due<'_, S, Req>, hedged: bool, now: &mut Moment) -> Self
    where
        S: Clone,
        S::Error: CarryRejection,
    {
        Self::of(Attempt::start(policies, due, now), hedged)
    }

    #[inline(always)]
    pub(super) fn of(first: Attempt<S, Req>, hedged: bool) -> Self {
        Self { first, hedged, race: Rare::default() }
    }

    pub(super) fn poll<H, K>(
        self: Pin<&mut Self>,
        (shared, spare, deadline): (&H, Option<&Spare<S, K>>, Option<Deadline>),
        beat: &mut Beat,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>>
    where
        S: Clone,
        S::Error: CarryRejection,
        H: Shared,
        H::Rule: Classify<S::Response, S::Error>,
        H::Replay: Replay<Req, Kept = K>,
    {
        let policies = shared.policies();
        match (&policies.hedge, spare) {
            (Some(hedge), Some(spare)) if self.hedged => {
                self.poll_hedged((&hedge.core, deadline), (shared, spare), beat, cx)
            }
            _ => self.project().first.poll(policies, shared.rule(), (beat, cx)),
        }
    }

    /// Polls the attempt of a round that sends no copies.
    #[inline(always)]
    pub(super) fn poll_alone<C>(
        self: Pin<&mut Self>,
        policies: &Policies,
        rule: &C,
        (beat, cx): (&mut Beat, &mut Context<'_>),
    ) -> Poll<Answer<S, Req>>
    where
        S::Error: CarryRejection,
        C: Classify<S::Response, S::Error>,
    {
        self.project().first.poll(policies, rule, (beat, cx))
    }

    /// Whether there are no copies, and will be none.
    #[inline]
    pub(super) const fn is_alone(&self) -> bool {
        !self.hedged
    }

    fn poll_hedged<H, K>(
        self: Pin<&mut Self>,
        (core, deadline): (&Core, Option<Deadline>),
        (shared, spare): (&H, &Spare<S, K>),
        beat: &mut Beat,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>>
    where
        S: Clone,
        S::Error: CarryRejection,
        H: Shared,
        H::Rule: Classify<S::Response, S::Error>,
        H::Replay: Replay<Req, Kept = K>,
    {
        let (policies, rule) = (shared.policies(), shared.rule());
        let mut this = self.project();
        // One that panics decides nothing, and the caller gets the result.
        let judged = |result: &Answer<S, Req>| {
            guarded("classifier", || judge(rule, result.as_ref())).unwrap_or(Judgement::Final)
        };
        let again = |attempt| shared.replay().again(&spare.kept, attempt);
        let mut ended = None;
        if this.race.is_none() {
            // Most calls come no further.
            let polled = this.first.as_mut().poll(policies, rule, (&mut *beat, &mut *cx));
            if matches!(&polled, Poll::Ready(result) if judged(result) == Judgement::Final) {
                return polled;
            }
            let race = this.race.insert(Box::new(Race::new()));
            let Poll::Ready(result) = polled else {
                race.is_due(core, beat);
                return Poll::Pending;
            };
            race.end_first(this.first.as_mut(), policies);
            ended = Some((1, result));
        }
        let Some(race) = &mut **this.race else { return Poll::Pending };
        loop {
            // The copies first: an answer that is there wins over a delay that has passed.
            while let Some((attempt, result)) =
                ended.take().or_else(|| race.poll(this.first.as_mut(), (core, shared), beat, cx))
            {
                let judgement = judged(&result);
                if judgement == Judgement::Final {
                    race.end(core, this.first.as_mut(), policies, (attempt, result.is_ok()));
                    return Poll::Ready(result);
                }
                let begun = judgement == Judgement::Failed && race.send((core, deadline), again, &spare.service);
                if let Some(answer) = race.settle(result, judgement, begun) {
                    return Poll::Ready(answer);
                }
            }
            if !race.is_due(core, beat) || !race.send((core, deadline), again, &spare.service) {
                return Poll::Pending;
            }
        }
    }

    /// Drops what has ended.
    pub(super) fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        **this.race = None;
        this.first.set(Attempt::Over);
    }

    /// When it has to be polled, if nothing wakes it before.
    #[inline]
    pub(super) fn until(&self) -> Tick {
        let first = self.first.until();
        self.race.as_ref().map_or(first, |race| first.min(race.until()))
    }

    /// Gives back what the attempts hold. Their calls are dropped first.
    pub(super) fn cancel(self: Pin<&mut Self>, policies: &Policies) {
        let this = self.project();
        // Before what may panic on the way: each of them is cancelled even then.
        let _copies = this.race.as_mut().map(|race| Cancelled(&mut race.copies, policies));
        this.first.cancel(policies);
    }
}

/// Cancels copies when it is dropped.
struct Cancelled<'a, S: Service<Req>, Req>(&'a mut Vec<Numbered<S, Req>>, &'a Policies);

impl<S: Service<Req>, Req> Drop for Cancelled<'_, S, Req> {
    fn drop(&mut self) {
        if let Some((_, mut copy)) = self.0.pop() {
            let _others = Cancelled(self.0, self.1);
            copy.as_mut().cancel(self.1);
        }
    }
}

impl<S: Service<Req>, Req> Race<S, Req> {
    fn new() -> Self {
        Self {
            copies: Vec::new(),
            first_over: false,
            attempt: 1,
            closed: false,
            since: None,
            due: Tick::NEVER,
            failed: None,
        }
    }

    /// Polls all that run, in the order in which they began. One that has ended is dropped, and its number and result
    /// given back.
    fn poll<H>(
        &mut self,
        mut first: Pin<&mut Attempt<S, Req>>,
        (core, shared): (&Core, &H),
        beat: &mut Beat,
        cx: &mut Context<'_>,
    ) -> Option<(u32, Answer<S, Req>)>
    where
        S: Clone,
        S::Error: CarryRejection,
        H: Shared,
        H::Rule: Classify<S::Response, S::Error>,
    {
        let (policies, rule) = (shared.policies(), shared.rule());
        if !self.first_over {
            if let Poll::Ready(result) = first.as_mut().poll(policies, rule, (&mut *beat, &mut *cx)) {
                self.end_first(first, policies);
                return Some((1, result));
            }
        }
        for at in 0..self.copies.len() {
            let polled = self.copies[at].1.as_mut().poll((core, policies), rule, (&mut *beat, &mut *cx));
            if let Poll::Ready(result) = polled {
                let (number, copy) = self.copies.remove(at);
                drop(copy);
                return Some((number, result));
            }
        }
        None
    }

    fn end_first(&mut self, first: Pin<&mut Attempt<S, Req>>, policies: &Policies) {
        self.first_over = true;
        first.cancel(policies);
    }

    /// There is an answer: whatever else runs is cancelled.
    fn end(
        &mut self,
        core: &Core,
        first: Pin<&mut Attempt<S, Req>>,
        policies: &Policies,
        (answered, good): (u32, bool),
    ) {
        let first_lost = !self.first_over;
        let losers = self.copies.len() + usize::from(first_lost);
        drop(Cancelled(&mut self.copies, policies));
        self.end_first(first, policies);
        core.ended(End { answered, good, losers, first_lost, since: self.since });
    }

    /// A copy has failed, and was dropped; `begun` says whether another began for it. `Some` with the answer when that
    /// ends the round.
    fn settle(&mut self, result: Answer<S, Req>, judgement: Judgement, begun: bool) -> Option<Answer<S, Req>> {
        if judgement != Judgement::Failed {
            self.closed = true;
        }
        if !begun && self.first_over && self.copies.is_empty() {
            // A policy that turned the last copy away hides how the service failed.
            let earlier = self.failed.take().filter(|_| judgement == Judgement::Rejected && result.is_err());
            return Some(earlier.map_or(result, Err));
        }
        // A failed answer ends here: it may hold a connection, or a permit that the next copy needs. An error is kept.
        if let (Err(error), true) = (result, judgement != Judgement::Rejected || self.failed.is_none()) {
            self.failed = Some(error);
        }
        None
    }

    /// Whether it is time for another copy. The first question sets the time.
    fn is_due(&mut self, core: &Core, beat: &mut Beat) -> bool {
        let wanted = !self.closed && core.may_follow(self.attempt);
        if self.since.is_none() && (wanted || core.measures()) {
            self.since = Some(beat.now.tick());
        }
        if !wanted {
            self.due = Tick::NEVER;
        } else if self.due == Tick::NEVER {
            let now = beat.now.tick();
            self.due = now + core.delay(now);
        }
        beat.has_come(self.due)
    }

    /// Begins the next copy, if there may be one. The delay to the one after it runs from now.
    fn send(
        &mut self,
        (core, deadline): (&Core, Option<Deadline>),
        again: impl Fn(u32) -> Option<Req>,
        service: &S,
    ) -> bool
    where
        S: Clone,
    {
        self.due = Tick::NEVER;
        if self.closed || !core.may_follow(self.attempt) {
            return false;
        }
        let ticket = self.waited(deadline).and_then(|waited| core.ticket(self.attempt + 1, waited, again));
        let Some((request, ticket)) = ticket else {
            self.closed = true;
            return false;
        };
        self.attempt += 1;
        self.copies.push((self.attempt, Box::pin(Copy::new(service.clone(), (request, ticket)))));
        true
    }

    /// How long the round has waited; `None` when nobody waits any more.
    fn waited(&self, deadline: Option<Deadline>) -> Option<Duration> {
        let mut now = Moment::new();
        let in_vain = deadline.is_some_and(|deadline| deadline.has_passed(&mut now));
        (!in_vain).then(|| self.since.map(|since| now.tick().since(since)).unwrap_or_default())
    }

    fn until(&self) -> Tick {
        self.copies.iter().map(|(_, copy)| copy.until()).fold(self.due, Tick::min)
    }
}
