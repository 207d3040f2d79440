use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::Service;

use crate::{
    replay::Replay,
    retry::{
        core::{Core, Next, Step},
        layer::Parts,
        plan::Course,
        rule::{Judgement, Rule},
    },
    time::{Tick, instant_after},
};

/// What further attempts are made with.
pub(super) struct Spare<S, K> {
    pub(super) service: S,
    pub(super) kept: K,
}

pin_project! {
    /// The answer of a [`Retry`](super::Retry): that of the last attempt.
    ///
    /// It is `Unpin` when the service's future is. Dropping it ends the call: a retry that had not begun goes back into
    /// the budget and is not counted.
    ///
    /// # Panics
    ///
    /// When there is a wait and no tokio runtime with timers. Polling it again after it has answered does what the
    /// service's future does then.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, R>
    where
        S: Service<Req>,
        R: Replay<Req>,
    {
        #[pin]
        state: State<S::Future, Req>,
        // None when the request is sent once only.
        spare: Option<Spare<S, R::Kept>>,
        course: Course,
        // Made at the first wait, and used again at the next.
        timer: Option<Pin<Box<Sleep>>>,
        parts: Arc<Parts<C, R>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, Req> {
        Called { #[pin] future: F },
        Waiting { next: Option<Next<Req>>, timed: bool },
    }
}

impl<S, Req, C, R> ResponseFuture<S, Req, C, R>
where
    S: Service<Req>,
    R: Replay<Req>,
{
    #[inline]
    pub(super) fn new(
        future: S::Future,
        spare: Option<Spare<S, R::Kept>>,
        deadline: Tick,
        parts: Arc<Parts<C, R>>,
    ) -> Self {
        Self { state: State::Called { future }, spare, course: Course::new(deadline), timer: None, parts }
    }
}

impl<S, Req, C, R> Future for ResponseFuture<S, Req, C, R>
where
    S: Service<Req>,
    C: Rule<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Called { future } => {
                    // Looked at where it lies, and handed on whole: to take it out of the poll and put it back costs
                    // more than all the rest of a call that succeeds.
                    let polled = future.poll(cx);
                    let Poll::Ready(result) = &polled else { return Poll::Pending };
                    let (parts, spare) = (&**this.parts, this.spare.as_ref());
                    let judgement = Core::judge(&*parts.rule, result.as_ref());
                    // Before what the way on needs is laid out.
                    if judgement == Judgement::Final && this.course.is_at_first() {
                        return polled;
                    }
                    let replay = |attempt| parts.replay.again(&spare?.kept, attempt);
                    let judged = (&*parts.rule, result.as_ref());
                    match parts.handle.core.follow(judgement, this.course, judged, replay) {
                        Step::Final => return polled,
                        Step::GiveUp(how) => return polled.map_err(|error| parts.rule.exhausted(error, how)),
                        Step::Again(next) => {
                            let timed = set_timer(this.timer, next.wait);
                            // The failed answer and its future end before the wait: they may hold a connection, or a
                            // permit of a limit further in.
                            this.state.set(State::Waiting { next: Some(next), timed });
                            drop(polled);
                        }
                    }
                }
                StateProjection::Waiting { next, timed } => {
                    if let Some(timer) = this.timer.as_mut().filter(|_| *timed) {
                        ready!(timer.as_mut().poll(cx));
                        *timed = false;
                    }
                    let spare = this.spare.as_mut().expect("a request is only made again from a spare");
                    if let Err(error) = ready!(spare.service.poll_ready(cx)) {
                        // It never begins: what it took from the budget goes back with the answer.
                        *next = None;
                        return Poll::Ready(Err(error));
                    }
                    let next = next.take().expect("polled again after a service that could not become ready");
                    let request = this.parts.handle.core.attempt(next);
                    let future = spare.service.call(request);
                    this.state.set(State::Called { future });
                }
            }
        }
    }
}

/// Sets the timer. False when there is nothing to wait for.
fn set_timer(timer: &mut Option<Pin<Box<Sleep>>>, wait: Duration) -> bool {
    if wait.is_zero() {
        return false;
    }
    match (timer, instant_after(wait)) {
        (Some(timer), Some(end)) => timer.as_mut().reset(end),
        (timer, _) => *timer = Some(Box::pin(sleep(wait))),
    }
    true
}

impl<S, Req, C, R> fmt::Debug for ResponseFuture<S, Req, C, R>
where
    S: Service<Req>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("handle", &self.parts.handle)
            .field("attempt", &self.course.attempt)
            .finish_non_exhaustive()
    }
}
