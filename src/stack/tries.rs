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
    retry::{Course, Next, Replay, Rule, Step},
    stack::{
        alarm::Beat,
        attempt::Due,
        policies::{Policies, Shared},
        round::{Round, Spare},
    },
    time::{Moment, Tick},
};

pin_project! {
    /// Like an attempt, this is handed the policies it is held by, and has to be [cancelled](Tries::cancel).
    pub(super) struct Tries<S: Service<Req>, Req, K> {
        #[pin]
        state: State<S, Req>,
        // None when the request is sent once only.
        spare: Option<Spare<S, K>>,
        course: Course,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req> {
        Round { #[pin] round: Round<S, Req> },
        Waiting { next: Option<Next<Req>>, until: Tick },
    }
}

impl<S, Req, K> Tries<S, Req, K>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
{
    /// Begins the first attempt with a service that was asked whether it is ready.
    #[inline]
    pub(super) fn begin<H: Shared<Replay: Replay<Req, Kept = K>>>(
        shared: &H,
        mut due: Due<'_, S, Req>,
        (deadline, now): (Option<Deadline>, &mut Moment),
    ) -> Self {
        let policies = shared.policies();
        let mut course = Course::new(deadline.map_or(Tick::NEVER, Deadline::tick));
        let mut again = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.hedges());
        if let Some(retry) = &policies.retry {
            let core = retry.core();
            course = Course::new(core.begin(course.deadline()));
            again |= core.tries_again();
        }
        let spare = if again { keep(shared.replay(), &mut due.request, &*due.service) } else { None };
        let hedged = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.begin(spare.is_some()));
        let round = Round::start(policies, due, hedged, now);
        Self { state: State::Round { round }, spare, course }
    }
}

/// What is kept of a request that may be sent again.
#[inline]
fn keep<S: Clone, Req, R: Replay<Req>>(replay: &R, request: &mut Req, service: &S) -> Option<Spare<S, R::Kept>> {
    let kept = guarded("replay hook", || replay.keep(request)).flatten()?;
    Some(Spare { service: service.clone(), gate: Gatekeeper::new(), kept })
}

impl<S, Req, K> Tries<S, Req, K>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
{
    #[inline]
    pub(super) fn poll<H>(
        self: Pin<&mut Self>,
        (shared, deadline): (&H, Option<Deadline>),
        beat: &mut Beat,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>>
    where
        H: Shared,
        H::Rule: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
        H::Replay: Replay<Req, Kept = K>,
    {
        let policies = shared.policies();
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Round { round } => {
                    let polled = round.poll((shared, this.spare.as_ref(), deadline), beat, cx);
                    let (Poll::Ready(result), Some(retry)) = (&polled, &policies.retry) else { return polled };
                    let spare = this.spare.as_ref();
                    let replay = |attempt| shared.replay().again(&spare?.kept, attempt);
                    match retry.core().step(shared.rule(), this.course, result.as_ref(), replay) {
                        Step::Final => return polled,
                        Step::GiveUp(how) => return polled.map_err(|error| shared.rule().exhausted(error, how)),
                        Step::Again(next) => {
                            let until = if next.wait.is_zero() { Tick::default() } else { Tick::now() + next.wait };
                            // The failed answer and its future end before the wait: they may hold a connection.
                            this.state.set(State::Waiting { next: Some(next), until });
                            drop(polled);
                        }
                    }
                }
                StateProjection::Waiting { next, until } => {
                    if *until != Tick::default() {
                        if !beat.has_come(*until) {
                            return Poll::Pending;
                        }
                        *until = Tick::default();
                    }
                    let Spare { service, gate, .. } =
                        this.spare.as_mut().expect("a request is only made again from a spare");
                    if let Err(error) = ready!(gate.poll_ready(&policies.inner, cx, |cx| service.poll_ready(cx))) {
                        // What it took from the budget goes back with the answer, and not when this is dropped.
                        *next = None;
                        return Poll::Ready(Err(error));
                    }
                    let next = next.take().expect("polled again after a service that could not become ready");
                    let retry = policies.retry.as_ref().expect("only a retry waits");
                    let request = retry.core().attempt(next);
                    // Counted as a call, and paid for, in the first round.
                    let hedged = policies.hedge.as_ref().is_some_and(|hedge| hedge.core.hedges());
                    let due = Due { gate, service, request };
                    let round = Round::start(policies, due, hedged, &mut Moment::new());
                    this.state.set(State::Round { round });
                }
            }
        }
    }
}

impl<S: Service<Req>, Req, K> Tries<S, Req, K> {
    /// When they have to be polled, if nothing wakes them before.
    #[inline]
    pub(super) fn until(&self) -> Tick {
        match &self.state {
            State::Round { round } => round.until(),
            // Then it waits for the readiness of the service.
            State::Waiting { until, .. } if *until == Tick::default() => Tick::NEVER,
            State::Waiting { until, .. } => *until,
        }
    }

    /// Gives back what the attempts hold. Their calls are dropped first.
    pub(super) fn cancel(self: Pin<&mut Self>, policies: &Policies) {
        if let StateProjection::Round { round } = self.project().state.project() {
            round.cancel(policies);
        }
    }
}
