//! A copy of an attempt that a hedge sends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    admission::Gatekeeper,
    error::CarryRejection,
    hedge::core::{Core, Ticket},
    outcome::Classify,
    stack::{
        alarm::Beat,
        attempt::{Attempt, Due},
        policies::{Inner, Policies},
    },
    time::{Moment, Tick},
};

pin_project! {
    /// It makes its service ready, and then is an [`Attempt`]. Until the service is called, it gives the budget back
    /// what it took when it is dropped.
    #[project = CopyProjection]
    pub(super) enum Copy<S: Service<Req>, Req> {
        Readying { service: S, gate: Gatekeeper<Inner>, sent: Option<(Req, Ticket)> },
        Runs { #[pin] attempt: Attempt<S, Req> },
    }
}

impl<S: Service<Req>, Req> Copy<S, Req> {
    pub(super) fn new(service: S, sent: (Req, Ticket)) -> Self {
        Self::Readying { service, gate: Gatekeeper::new(), sent: Some(sent) }
    }

    pub(super) fn poll<C>(
        mut self: Pin<&mut Self>,
        (core, policies): (&Core, &Policies),
        rule: &C,
        (beat, cx): (&mut Beat, &mut Context<'_>),
    ) -> Poll<Result<S::Response, S::Error>>
    where
        S: Clone,
        S::Error: CarryRejection,
        C: Classify<S::Response, S::Error>,
    {
        loop {
            match self.as_mut().project() {
                CopyProjection::Readying { service, gate, sent } => {
                    if let Err(error) = ready!(gate.poll_ready(&policies.inner, cx, |cx| service.poll_ready(cx))) {
                        return Poll::Ready(Err(error));
                    }
                    let (request, ticket) = sent.take().expect("polled again after it could not become ready");
                    core.sent(ticket);
                    let due = Due { gate, service, request };
                    let attempt = Attempt::start(policies, due, &mut Moment::new());
                    self.set(Self::Runs { attempt });
                }
                CopyProjection::Runs { attempt } => return attempt.poll(policies, rule, (beat, cx)),
            }
        }
    }

    pub(super) fn until(&self) -> Tick {
        match self {
            Self::Readying { .. } => Tick::NEVER,
            Self::Runs { attempt } => attempt.until(),
        }
    }

    pub(super) fn cancel(self: Pin<&mut Self>, policies: &Policies) {
        if let CopyProjection::Runs { attempt } = self.project() {
            attempt.cancel(policies);
        }
    }
}
