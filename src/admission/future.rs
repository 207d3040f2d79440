use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    admission::{Policy, Running},
    error::{CarryRejection, Rejection},
    outcome::Classify,
};

pin_project! {
    /// The answer of an [`Admission`](crate::admission::Admission): the service's, or a rejection.
    ///
    /// It is `Unpin` when the service's future is. Dropping it gives back what the policy gave.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered with a rejection panics; after the service's answer it does what the
    /// service's future does.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct ResponseFuture<F, P: Policy, C> {
        #[pin]
        state: State<F, P, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, P: Policy, C> {
        Rejected { rejection: Option<Rejection> },
        Called { #[pin] future: F, admitted: Running<P, C> },
    }
}

impl<F, P: Policy, C> ResponseFuture<F, P, C> {
    #[inline]
    pub(crate) fn running(future: F, admitted: Running<P, C>) -> Self {
        Self { state: State::Called { future, admitted } }
    }

    #[inline]
    pub(crate) fn rejected(rejection: Rejection) -> Self {
        Self { state: State::Rejected { rejection: Some(rejection) } }
    }
}

impl<F, P, C, T, E> Future for ResponseFuture<F, P, C>
where
    F: Future<Output = Result<T, E>>,
    P: Policy,
    C: Classify<T, E>,
    E: CarryRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Rejected { rejection } => {
                let rejection = rejection.take().expect("polled again after it answered with a rejection");
                Poll::Ready(Err(E::from_rejection(rejection)))
            }
            StateProjection::Called { future, admitted } => {
                let result = ready!(admitted.guard(|| future.poll(cx)));
                admitted.judge(result.as_ref());
                Poll::Ready(result)
            }
        }
    }
}
