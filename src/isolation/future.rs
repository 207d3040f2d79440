use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower::Service;

use crate::{
    contract::Invocation,
    error::{CarryRejection, Rejection},
    fallback::NoFallback,
    isolation::{
        erased::{Again, Answer, Inner},
        meter::Count,
        plan::{Calls, Plan, Rule},
        strategy::Counting,
    },
    stack::{self, Hook},
};

type Stacked<Req, T, E, F> = stack::ResponseFuture<Inner<Req, T, E>, Invocation<Req>, Rule, F, Hook<Again<Req>>>;

/// The answer of a service behind an [`IsolationManager`](super::IsolationManager).
///
/// The call has begun, under the rules that held then; a switch does not change them. It is `Unpin`. Dropping it ends
/// the call: its place, its turn, its probe and what it took from a budget go back.
///
/// # Panics
///
/// When there is a wait and no tokio runtime with timers. Polling it again after it has answered panics.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, T, E> {
    // Dropped before the ticket: what it holds belongs to a call that is in flight until then.
    state: State<Req, T, E>,
    ticket: Option<Ticket<Req, T, E>>,
}

enum State<Req, T, E> {
    Direct(Answer<T, E>),
    Bare(Stacked<Req, T, E, NoFallback>),
    Covered(Stacked<Req, T, E, Counting<Req, T, E>>),
    Unknown(Rejection),
    Over,
}

/// A call that has begun, and is counted once when it ends.
struct Ticket<Req, T, E> {
    plan: Arc<Plan<Req, T, E>>,
    end: Count,
}

impl<Req, T, E> Ticket<Req, T, E> {
    fn new(plan: Arc<Plan<Req, T, E>>) -> Self {
        plan.entry.meters.count(Count::Begun);
        Self { plan, end: Count::Dropped }
    }
}

impl<Req, T, E> Drop for Ticket<Req, T, E> {
    fn drop(&mut self) {
        self.plan.entry.meters.count(self.end);
    }
}

impl<Req, T, E: CarryRejection + fmt::Display> ResponseFuture<Req, T, E> {
    pub(super) fn begin(plan: Arc<Plan<Req, T, E>>, call: Invocation<Req>) -> Self {
        // First, so that a service that panics over its call, or over being cloned, is counted.
        let ticket = Ticket::new(plan);
        let state = match &ticket.plan.calls {
            Calls::Direct => State::Direct(ticket.plan.targets.service.invoke(call)),
            Calls::Bare { service, stack } => State::Bare(stack.service(service.clone()).call(call)),
            Calls::Covered { service, stack } => State::Covered(stack.service(service.clone()).call(call)),
        };
        Self { state, ticket: Some(ticket) }
    }
}

impl<Req, T, E> ResponseFuture<Req, T, E> {
    pub(super) fn unknown(rejection: Rejection) -> Self {
        Self { state: State::Unknown(rejection), ticket: None }
    }
}

impl<Req, T, E: CarryRejection + fmt::Display> Future for ResponseFuture<Req, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = &mut *self;
        let result = match &mut this.state {
            State::Direct(answer) => ready!(answer.as_mut().poll(cx)),
            State::Bare(answer) => ready!(Pin::new(answer).poll(cx)),
            State::Covered(answer) => ready!(Pin::new(answer).poll(cx)),
            State::Unknown(rejection) => Err(E::from_rejection(rejection.clone())),
            State::Over => panic!("polled again after it answered"),
        };
        // Before the ticket: the service may be dropped with the last call of it.
        this.state = State::Over;
        if let Some(mut ticket) = this.ticket.take() {
            ticket.end = if result.is_ok() { Count::Answered } else { Count::Failed };
        }
        Poll::Ready(result)
    }
}

impl<Req, T, E> fmt::Debug for ResponseFuture<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.ticket.as_ref().map(|ticket| &ticket.plan.entry.name);
        f.debug_struct("ResponseFuture").field("service", &service).finish_non_exhaustive()
    }
}
