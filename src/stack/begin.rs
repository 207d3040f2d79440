//! How a call through a stack begins: let in, and its first attempt made.

use std::task::{Context, Poll, ready};

use tower::Service;

use crate::{
    admission::{Admitted, Entry, Gatekeeper, InQueue, Policy, Queue, guard_begin, guard_permit},
    deadline::Deadline,
    error::CarryRejection,
    fallback::Strategy,
    guarded::guarded,
    retry::Replay,
    stack::{
        alarm::Alarm,
        attempt::{Attempt, Due},
        future::{Call, OuterPermit, OuterWait, State, StateOf},
        policies::{Inner, Shared},
        round::Round,
        tries::Tries,
    },
    time::{Moment, Tick},
};

impl<H, S, Req> Call<H, S, Req>
where
    H: Shared,
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    H::Replay: Replay<Req>,
    H::Strategy: Strategy<Req, S::Response, S::Error>,
{
    /// Begins a call with a service that was asked whether it is ready.
    ///
    /// A call that nothing keeps from its first attempt is written down where it is to lie, in one piece: to build it
    /// in parts and to copy them together takes longer than all that the policies do.
    #[inline(always)]
    pub(super) fn begin(shared: H, Due { gate, service, mut request }: Due<'_, S, Req>) -> Self {
        let (policies, now) = (shared.policies(), &mut Moment::new());
        let kept = policies.fallback.core.keep(shared.strategy(), &mut request);
        let deadline = guarded("replay hook", || shared.replay().deadline(&request)).flatten().map(Deadline::at);
        let (alarm, until) = (Alarm::default(), Tick::NEVER);
        if !policies.lets_all_in() || policies.is_too_late(deadline, now) {
            let mut outer = None;
            let state = Self::ask_outer(&shared, Due { gate, service, request }, (deadline, now), &mut outer);
            return Self { state, kept, outer, alarm, until, deadline, over: false, shared };
        }
        let (spare, course, hedged) = Tries::prepare(&shared, (&*service, &mut request), deadline);
        if let Some(permit) = gate.at_once(&policies.inner, now) {
            let (future, permit) = guard_begin(&policies.inner, permit, || service.call(request));
            let attempt = Attempt::Called { future, permit: Some(permit), until };
            let state = State::Tries { tries: Tries::of(Round::of(attempt, hedged), spare, course) };
            return Self { state, kept, outer: None, alarm, until, deadline, over: false, shared };
        }
        let attempt = Attempt::enter(policies, Due { gate, service, request }, now);
        let state = State::Tries { tries: Tries::of(Round::of(attempt, hedged), spare, course) };
        Self { state, kept, outer: None, alarm, until, deadline, over: false, shared }
    }

    #[inline(never)]
    fn ask_outer(
        shared: &H,
        due: Due<'_, S, Req>,
        (deadline, now): (Option<Deadline>, &mut Moment),
        outer: &mut Option<OuterPermit>,
    ) -> StateOf<H, S, Req, H::Strategy> {
        let policies = shared.policies();
        let entry = match policies.outer.at_once(now) {
            Some(permit) => Ok(Entry::Admitted(permit)),
            None => policies.outer.enter(now),
        };
        match entry {
            Ok(Entry::Admitted(permit)) => {
                *outer = Some(permit);
                guard_permit(&policies.outer, outer, || first(shared, due, (deadline, now)))
            }
            Ok(Entry::Queued(wait)) => {
                let Due { gate, service, request } = due;
                // Left even when the clone panics.
                let place = InQueue::new(&policies.outer, wait);
                // The clone that was made ready is the one to be called; the next call gets a fresh one.
                let fresh = service.clone();
                let (service, gate) = (std::mem::replace(service, fresh), std::mem::replace(gate, Gatekeeper::new()));
                State::Queued { service, gate, request: Some(request), wait: place.into_wait() }
            }
            Err(rejection) => State::Refused { rejection: Some(rejection) },
        }
    }
}

/// The call was let in: the first attempt begins, unless it is too late for one.
#[inline]
fn first<H, S, Req, F>(
    shared: &H,
    due: Due<'_, S, Req>,
    (deadline, now): (Option<Deadline>, &mut Moment),
) -> StateOf<H, S, Req, F>
where
    H: Shared,
    H::Replay: Replay<Req>,
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    F: Strategy<Req, S::Response, S::Error>,
{
    let policies = shared.policies();
    if let (true, Some(limit)) = (policies.is_too_late(deadline, now), &policies.timeout) {
        return State::Refused { rejection: Some(limit.core().too_late()) };
    }
    State::Tries { tries: Tries::begin(shared, due, (deadline, now)) }
}

/// A call that waits for its turn begins its first attempt when it is there.
pub(super) fn let_in<H, S, Req, F>(
    shared: &H,
    (service, gate, request): (&mut S, &mut Gatekeeper<Inner>, &mut Option<Req>),
    (wait, outer, deadline): (&mut Option<OuterWait>, &mut Option<OuterPermit>, Option<Deadline>),
    cx: &mut Context<'_>,
) -> Poll<StateOf<H, S, Req, F>>
where
    H: Shared,
    H::Replay: Replay<Req>,
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    F: Strategy<Req, S::Response, S::Error>,
{
    let Some(place) = wait else { return Poll::Pending };
    let policies = shared.policies();
    let admitted = ready!(policies.outer.poll_wait(place, cx));
    *wait = None;
    Poll::Ready(match admitted {
        Ok(permit) => {
            let request = request.take().expect("a call waits with its request");
            let mut admitted = Admitted::with(&policies.outer, permit);
            let state =
                admitted.guard(|| first(shared, Due { gate, service, request }, (deadline, &mut Moment::new())));
            *outer = admitted.into_permit();
            state
        }
        Err(rejection) => State::Refused { rejection: Some(rejection) },
    })
}
