//! The attempts of one call: the first, its hedges, and those a retry makes after it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    admission::Gatekeeper,
    deadline::Deadline,
    error::CarryRejection,
    guarded::guarded,
    outcome::Classify,
    rare::Rare,
    retry::{Core, Course, Judgement, Next, Replay, Rule, Step},
    stack::{
        alarm::Beat,
        attempt::Due,
        policies::{Inner, Policies, Shared},
        round::{Answer, Round, Spare},
    },
    time::{Moment, Tick},
};

pin_project! {
    /// Like an attempt, this is handed the policies it is held by, and has to be [cancelled](Tries::cancel).
    pub(super) struct Tries<S: Service<Req>, Req, K> {
        #[pin]
        round: Round<S, Req>,
        // Between two rounds.
        waiting: Rare<Box<Waiting<Req>>>,
        // None when the request is sent once only.
        spare: Option<Spare<S, K>>,
        course: Course,
    }
}

/// An attempt as it was polled, and what its result means for the retry.
pub(super) type Judged<S, Req> = (Poll<Answer<S, Req>>, Judgement);

/// A failed call that will be made again, once it is time and the service is ready.
struct Waiting<Req> {
    next: Option<Next<Req>>,
    gate: Gatekeeper<Inner>,
    until: Tick,
}

impl<S, Req, K> Tries<S, Req, K>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
{
    /// Begins the first attempt with a service that was asked whether it is ready.
    pub(super) fn begin<H: Shared<Replay: Replay<Req, Kept = K>>>(
        shared: &H,
        mut due: Due<'_, S, Req>,
        (deadline, now): (Option<Deadline>, &mut Moment),
    ) -> Self {
        let (spare, course, hedged) = Self::prepare(shared, (&*due.service, &mut due.request), deadline);
        Self::of(Round::start(shared.policies(), due, hedged, now), spare, course)
    }

    /// Before the first attempt: what further ones are made from, where the retry stands, and whether copies may be
    /// wanted.
    #[inline(always)]
    pub(super) fn prepare<H: Shared<Replay: Replay<Req, Kept = K>>>(
        shared: &H,
        (service, request): (&S, &mut Req),
        deadline: Option<Deadline>,
    ) -> (Option<Spare<S, K>>, Course, bool) {
        let policies = shared.policies();
        let mut until = deadline.map_or(Tick::NEVER, Deadline::tick);
        let mut again = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.hedges());
        if let Some(retry) = &policies.retry {
            let core = retry.core();
            until = core.begin(until);
            again |= core.tries_again();
        }
        let spare = if again { keep(shared.replay(), request, service) } else { None };
        let hedged = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.begin(spare.is_some()));
        (spare, Course::new(until), hedged)
    }

    #[inline(always)]
    pub(super) fn of(round: Round<S, Req>, spare: Option<Spare<S, K>>, course: Course) -> Self {
        Self { round, waiting: Rare::default(), spare, course }
    }
}

/// What is kept of a request that may be sent again.
#[inline]
fn keep<S: Clone, Req, R: Replay<Req>>(replay: &R, request: &mut Req, service: &S) -> Option<Spare<S, R::Kept>> {
    let kept = guarded("replay hook", || replay.keep(request)).flatten()?;
    Some(Spare { service: service.clone(), kept })
}

impl<S, Req, K> Tries<S, Req, K>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
{
    /// Whether there is one attempt so far, and no copy of it: so it is with nearly every call, when it is polled.
    #[inline]
    pub(super) fn are_one(&self) -> bool {
        self.waiting.is_none() && self.round.is_alone() && self.course.is_at_first()
    }

    /// Polls that one attempt, and says what its result means for the retry.
    #[inline(always)]
    pub(super) fn poll_one<H>(
        self: Pin<&mut Self>,
        shared: &H,
        judgement: &mut Judgement,
        (beat, cx): (&mut Beat, &mut Context<'_>),
    ) -> Poll<Answer<S, Req>>
    where
        H: Shared,
        H::Rule: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
    {
        let policies = shared.policies();
        let polled = self.project().round.poll_alone(policies, shared.rule(), (beat, cx));
        if let (Poll::Ready(result), Some(_)) = (&polled, &policies.retry) {
            *judgement = Core::judge(shared.rule(), result.as_ref());
        }
        polled
    }

    /// Polls whatever there is. `one` is what [`poll_one`](Self::poll_one) has seen in this very poll, if it was asked.
    pub(super) fn poll<H>(
        self: Pin<&mut Self>,
        (shared, deadline): (&H, Option<Deadline>),
        mut one: Option<Judged<S, Req>>,
        (beat, cx): (&mut Beat, &mut Context<'_>),
    ) -> Poll<Answer<S, Req>>
    where
        H: Shared,
        H::Rule: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
        H::Replay: Replay<Req, Kept = K>,
    {
        let policies = shared.policies();
        let mut this = self.project();
        loop {
            if this.waiting.is_none() {
                let (polled, judgement) = one.take().unwrap_or_else(|| {
                    let polled = this.round.as_mut().poll((shared, this.spare.as_ref(), deadline), beat, cx);
                    let judgement = match (&polled, &policies.retry) {
                        (Poll::Ready(result), Some(_)) => Core::judge(shared.rule(), result.as_ref()),
                        _ => Judgement::Final,
                    };
                    (polled, judgement)
                });
                let (Poll::Ready(result), Some(retry)) = (&polled, &policies.retry) else { return polled };
                let judged = (shared.rule(), result.as_ref());
                let spare = this.spare.as_ref();
                let replay = |attempt| shared.replay().again(&spare?.kept, attempt);
                match retry.core().follow(judgement, this.course, judged, replay) {
                    Step::Final => return polled,
                    Step::GiveUp(how) => return polled.map_err(|error| shared.rule().exhausted(error, how)),
                    Step::Again(next) => {
                        let until = if next.wait.is_zero() { Tick::default() } else { Tick::now() + next.wait };
                        **this.waiting = Some(Box::new(Waiting { next: Some(next), gate: Gatekeeper::new(), until }));
                        // The failed answer and its future end before the wait: they may hold a connection.
                        this.round.as_mut().clear();
                        drop(polled);
                    }
                }
            }
            let spare = this.spare.as_mut().expect("a request is only made again from a spare");
            let Some(waiting) = &mut **this.waiting else { continue };
            let due = match ready!(waiting.poll(spare, policies, beat, cx)) {
                Ok(due) => due,
                Err(error) => return Poll::Ready(Err(error)),
            };
            // Counted as a call, and paid for, in the first round.
            let hedged = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.hedges());
            this.round.set(Round::start(policies, due, hedged, &mut Moment::new()));
            **this.waiting = None;
        }
    }
}

impl<Req> Waiting<Req> {
    /// Waits until the next attempt may begin.
    fn poll<'a, S, K>(
        &'a mut self,
        Spare { service, .. }: &'a mut Spare<S, K>,
        policies: &Policies,
        beat: &mut Beat,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Due<'a, S, Req>, S::Error>>
    where
        S: Service<Req>,
        S::Error: CarryRejection,
    {
        if self.until != Tick::default() {
            if !beat.has_come(self.until) {
                return Poll::Pending;
            }
            self.until = Tick::default();
        }
        let gate = &mut self.gate;
        if let Err(error) = ready!(gate.poll_ready(&policies.inner, cx, |cx| service.poll_ready(cx))) {
            // What it took from the budget goes back with the answer, and not when this is dropped.
            self.next = None;
            return Poll::Ready(Err(error));
        }
        let next = self.next.take().expect("polled again after a service that could not become ready");
        let retry = policies.retry.as_ref().expect("only a retry waits");
        let request = retry.core().attempt(next);
        Poll::Ready(Ok(Due { gate, service, request }))
    }
}

impl<S: Service<Req>, Req, K> Tries<S, Req, K> {
    /// When they have to be polled, if nothing wakes them before.
    #[inline]
    pub(super) fn until(&self) -> Tick {
        match &*self.waiting {
            None => self.round.until(),
            // Then it waits for the readiness of the service.
            Some(waiting) if waiting.until == Tick::default() => Tick::NEVER,
            Some(waiting) => waiting.until,
        }
    }

    /// Gives back what the attempts hold. Their calls are dropped first.
    pub(super) fn cancel(self: Pin<&mut Self>, policies: &Policies) {
        self.project().round.cancel(policies);
    }
}
