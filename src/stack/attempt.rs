//! One attempt: let in by the inner policies, perhaps after a wait in a queue, called, cut off when it takes too long,
//! and judged.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    admission::{Admitted, Entered, Gatekeeper, Policy, Queue, guard_begin, guard_permit, settle_permit, verdict},
    error::{CarryRejection, Rejection},
    outcome::Classify,
    stack::{
        alarm::Beat,
        policies::{Inner, Policies},
    },
    time::{Moment, Tick},
};

/// A call that may be made: of a service that was asked whether it is ready, unless the policies were shut then.
pub(super) struct Due<'a, S, Req> {
    pub(super) gate: &'a mut Gatekeeper<Inner>,
    pub(super) service: &'a mut S,
    pub(super) request: Req,
}

type Permit = <Inner as Policy>::Permit;
type Wait = <Inner as Queue>::Wait;

pin_project! {
    /// An attempt does not know the policies it is held by: whoever holds it hands them in, and calls [`cancel`] before
    /// it is dropped. So a call has one reference count for all that it holds.
    ///
    /// [`cancel`]: Attempt::cancel
    #[project = AttemptProjection]
    pub(super) enum Attempt<S: Service<Req>, Req> {
        Refused { rejection: Option<Rejection> },
        Queued { service: S, request: Option<Req>, wait: Option<Wait> },
        // Cut off at this time, which is set when it first has to wait.
        Called { #[pin] future: S::Future, permit: Option<Permit>, until: Tick },
        Over,
    }
}

impl<S: Service<Req>, Req> Attempt<S, Req> {
    /// Asks the policies and calls the service.
    #[inline(always)]
    pub(super) fn start(policies: &Policies, due: Due<'_, S, Req>, now: &mut Moment) -> Self
    where
        S: Clone,
        S::Error: CarryRejection,
    {
        let Due { gate, service, request } = due;
        if let Some(permit) = gate.at_once(&policies.inner, now) {
            let (future, permit) = guard_begin(&policies.inner, permit, || service.call(request));
            return Self::Called { future, permit: Some(permit), until: Tick::NEVER };
        }
        Self::enter(policies, Due { gate, service, request }, now)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn enter(policies: &Policies, due: Due<'_, S, Req>, now: &mut Moment) -> Self
    where
        S: Clone,
        S::Error: CarryRejection,
    {
        let Due { gate, service, request } = due;
        match gate.enter(&policies.inner, |cx| service.poll_ready(cx), |inner| inner.enter(now)) {
            Ok(Entered::Admitted(mut admitted)) => {
                let future = admitted.guard(|| service.call(request));
                Attempt::Called { future, permit: admitted.into_permit(), until: Tick::NEVER }
            }
            Ok(Entered::Queued(place)) => {
                // The clone that was made ready is the one to be called; the next call gets a fresh one.
                let fresh = service.clone();
                let ready = std::mem::replace(service, fresh);
                Attempt::Queued { service: ready, request: Some(request), wait: place.into_wait() }
            }
            Err(rejection) => Attempt::Refused { rejection: Some(rejection) },
        }
    }

    #[inline(always)]
    pub(super) fn poll<C>(
        self: Pin<&mut Self>,
        policies: &Policies,
        rule: &C,
        (beat, cx): (&mut Beat, &mut Context<'_>),
    ) -> Poll<Result<S::Response, S::Error>>
    where
        S::Error: CarryRejection,
        C: Classify<S::Response, S::Error>,
    {
        let mut state = self;
        loop {
            let AttemptProjection::Called { future, permit, until } = state.as_mut().project() else {
                match ready!(state.as_mut().poll_before(policies, cx)) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            };
            let polled = guard_permit(&policies.inner, permit, || future.poll(cx));
            if let Poll::Ready(result) = &polled {
                settle_permit(&policies.inner, permit, || verdict(rule, result.as_ref()));
                return polled;
            }
            let Some(limit) = &policies.attempt_timeout else { return Poll::Pending };
            if *until == Tick::NEVER {
                *until = beat.now.tick() + limit.core().limit();
            }
            if !beat.has_come(*until) {
                return Poll::Pending;
            }
            let error = S::Error::from_rejection(limit.core().cut_off());
            let permit = permit.take();
            return Poll::Ready(Err(cut_off(state, policies, permit, rule, error)));
        }
    }

    /// Polls an attempt whose service was not called yet. It is called now, unless there is an error.
    #[cold]
    fn poll_before(mut self: Pin<&mut Self>, policies: &Policies, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S::Error: CarryRejection,
    {
        let next = match self.as_mut().project() {
            AttemptProjection::Queued { service, request, wait } => {
                let Some(place) = wait else { return Poll::Pending };
                let admitted = ready!(policies.inner.poll_wait(place, cx));
                *wait = None;
                match admitted {
                    Ok(permit) => {
                        let request = request.take().expect("a call waits with its request");
                        let mut admitted = Admitted::with(&policies.inner, permit);
                        let future = admitted.guard(|| service.call(request));
                        Attempt::Called { future, permit: admitted.into_permit(), until: Tick::NEVER }
                    }
                    Err(rejection) => {
                        // The clone and the request end here, whatever else of the call runs on.
                        self.set(Self::Refused { rejection: None });
                        return Poll::Ready(Err(S::Error::from_rejection(rejection)));
                    }
                }
            }
            AttemptProjection::Refused { rejection } => {
                let rejection = rejection.take().expect("polled again after it answered with a rejection");
                return Poll::Ready(Err(S::Error::from_rejection(rejection)));
            }
            AttemptProjection::Called { .. } => return Poll::Ready(Ok(())),
            AttemptProjection::Over => panic!("polled again after it was cut off"),
        };
        self.set(next);
        Poll::Ready(Ok(()))
    }

    /// When it has to be polled, if nothing wakes it before.
    #[inline]
    pub(super) fn until(&self) -> Tick {
        if let Self::Called { until, .. } = self { *until } else { Tick::NEVER }
    }

    /// Gives back what the attempt holds, if it is not over. Its call is dropped first.
    pub(super) fn cancel(self: Pin<&mut Self>, policies: &Policies) {
        let mut state = self;
        match state.as_mut().project() {
            AttemptProjection::Called { permit, .. } => {
                // Held while the call is dropped, so that the permit comes back even when that panics.
                let admitted = permit.take().map(|permit| Admitted::with(&policies.inner, permit));
                state.set(Attempt::Over);
                drop(admitted);
            }
            AttemptProjection::Queued { wait, .. } => {
                if let Some(wait) = wait.take() {
                    policies.inner.leave(wait);
                }
            }
            AttemptProjection::Refused { .. } | AttemptProjection::Over => {}
        }
    }
}

/// The call is dropped, and the policies are told what its end means.
#[cold]
fn cut_off<S: Service<Req>, Req, C: Classify<S::Response, S::Error>>(
    mut state: Pin<&mut Attempt<S, Req>>,
    policies: &Policies,
    permit: Option<Permit>,
    rule: &C,
    error: S::Error,
) -> S::Error {
    let mut admitted = permit.map(|permit| Admitted::with(&policies.inner, permit));
    state.set(Attempt::Over);
    if let Some(admitted) = &mut admitted {
        admitted.settle(verdict(rule, Err(&error)));
    }
    error
}
