use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::hedge::{core::Ticket, handle::Handle};

pin_project! {
    /// A further copy of a request, to a clone of the service, which is made ready first. It is sent, and so counted
    /// and paid for, when the service is called.
    pub(super) struct Sending<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
        handle: Handle,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Req, F> {
        Waiting { service: S, letter: Option<(Req, Ticket)> },
        Called { #[pin] future: F },
    }
}

impl<S: Service<Req>, Req> Sending<S, Req> {
    pub(super) fn new(service: S, request: Req, ticket: Ticket, handle: Handle) -> Self {
        Self { state: State::Waiting { service, letter: Some((request, ticket)) }, handle }
    }
}

impl<S: Service<Req>, Req> Future for Sending<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Waiting { service, letter } => {
                    ready!(service.poll_ready(cx))?;
                    let (request, ticket) = letter.take().expect("a copy that ended is not polled again");
                    let future = service.call(request);
                    this.handle.core.sent(ticket);
                    this.state.set(State::Called { future });
                }
                StateProjection::Called { future } => return future.poll(cx),
            }
        }
    }
}
