//! One call through a stack: let in, tried, cut off when it takes too long, and answered elsewhere if all fails.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    admission::{Admitted, Gatekeeper, Policy, Queue, guard_permit, settle_permit, verdict},
    deadline::Deadline,
    error::{CarryRejection, Rejection},
    fallback::{Strategy, falling::Falling},
    outcome::{Classify, Outcome},
    retry::{Judgement, Replay, Rule},
    stack::{
        alarm::{Alarm, Beat},
        begin::let_in,
        policies::{Inner, Outer, Parts, Policies, Shared},
        tries::{Judged, Tries},
    },
    time::{Moment, Tick},
};

pub(super) type OuterWait = <Outer as Queue>::Wait;
pub(super) type OuterPermit = <Outer as Policy>::Permit;

pin_project! {
    pub(super) struct Call<H, S, Req>
    where
        H: Shared,
        S: Service<Req>,
        H::Replay: Replay<Req>,
        H::Strategy: Strategy<Req, S::Response, S::Error>,
    {
        #[pin]
        pub(super) state: State<
            S,
            Req,
            <H::Replay as Replay<Req>>::Kept,
            H::Strategy,
        >,
        // What the fallback needs of the request.
        pub(super) kept: Option<<H::Strategy as Strategy<Req, S::Response, S::Error>>::Kept>,
        pub(super) outer: Option<OuterPermit>,
        pub(super) alarm: Alarm,
        // Cut off at this time, which is set when the call first has to wait.
        pub(super) until: Tick,
        pub(super) deadline: Option<Deadline>,
        // It has answered, and holds nothing.
        pub(super) over: bool,
        pub(super) shared: H,
    }

    impl<H, S, Req> PinnedDrop for Call<H, S, Req>
    where
        H: Shared,
        S: Service<Req>,
        H::Replay: Replay<Req>,
        H::Strategy: Strategy<Req, S::Response, S::Error>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !*this.over {
                give_back(this.state, this.outer, this.shared);
            }
        }
    }
}

pin_project! {
    #[project = StateProjection]
    pub(super) enum State<S: Service<Req>, Req, K, F: Strategy<Req, S::Response, S::Error>> {
        Refused { rejection: Option<Rejection> },
        Queued { service: S, gate: Gatekeeper<Inner>, request: Option<Req>, wait: Option<OuterWait> },
        Tries { #[pin] tries: Tries<S, Req, K> },
        Falling { #[pin] falling: Falling<Req, S::Response, S::Error, F> },
        Over,
    }
}

pub(super) type StateOf<H, S, Req, F> = State<S, Req, <<H as Shared>::Replay as Replay<Req>>::Kept, F>;

/// A call that is dropped gives back what it holds, after what it called is dropped.
#[cold]
fn give_back<H, S, Req, K, F>(mut state: Pin<&mut State<S, Req, K, F>>, outer: &mut Option<OuterPermit>, shared: &H)
where
    H: Shared,
    S: Service<Req>,
    F: Strategy<Req, S::Response, S::Error>,
{
    let policies = shared.policies();
    // Settled as cancelled when it is dropped, even if the drop of the call panics.
    let _outer = outer.take().map(|permit| Admitted::with(&policies.outer, permit));
    match state.as_mut().project() {
        StateProjection::Tries { tries } => tries.cancel(policies),
        StateProjection::Queued { wait, .. } => {
            if let Some(wait) = wait.take() {
                policies.outer.leave(wait);
            }
        }
        StateProjection::Refused { .. } | StateProjection::Falling { .. } | StateProjection::Over => {}
    }
    state.set(State::Over);
}

impl<H, S, Req> Future for Call<H, S, Req>
where
    H: Shared,
    S: Service<Req> + Clone,
    S::Error: CarryRejection + fmt::Display,
    H::Rule: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
    H::Replay: Replay<Req>,
    H::Strategy: Strategy<Req, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut beat = Beat::default();
        // The way of most calls: the one attempt has its answer, and that is the answer of the call. It is looked at
        // where it lies and handed on whole.
        let this = self.as_mut().project();
        let (StateProjection::Tries { tries }, None) = (this.state.project(), this.outer) else {
            return self.poll_on(None, beat, cx);
        };
        if !tries.are_one() {
            return self.poll_on(None, beat, cx);
        }
        let mut judgement = Judgement::Final;
        let polled = tries.poll_one(&*this.shared, &mut judgement, (&mut beat, &mut *cx));
        match &polled {
            Poll::Ready(result) if judgement == Judgement::Final => {
                match step(&*this.shared, this.kept, result.as_ref()) {
                    None => {
                        *this.over = true;
                        polled
                    }
                    Some(fallback) => self.fall(fallback, polled, cx),
                }
            }
            Poll::Ready(_) => self.poll_on(Some((polled, judgement)), beat, cx),
            Poll::Pending => self.wait(beat, cx),
        }
    }
}

impl<H, S, Req> Call<H, S, Req>
where
    H: Shared,
    S: Service<Req> + Clone,
    S::Error: CarryRejection + fmt::Display,
    H::Rule: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
    H::Replay: Replay<Req>,
    H::Strategy: Strategy<Req, S::Response, S::Error>,
{
    /// Waits for the one attempt, for as long as the call may take. Apart from the way on, which would take along the
    /// room of an answer that is not there.
    #[inline(never)]
    fn wait(mut self: Pin<&mut Self>, mut beat: Beat, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        let this = self.as_mut().project();
        let StateProjection::Tries { tries } = this.state.project() else { return Poll::Pending };
        if *this.until == Tick::NEVER {
            *this.until = end(this.shared.policies(), *this.deadline, &mut beat.now);
        }
        let at = tries.until().min(*this.until);
        beat = ready!(this.alarm.poll(at, &mut beat.now, cx));
        self.poll_on(None, beat, cx)
    }

    /// Polls a call wherever it stands. `one` is what was seen of its one attempt in this very poll.
    #[inline(never)]
    fn poll_on(
        mut self: Pin<&mut Self>,
        mut one: Option<Judged<S, Req>>,
        mut beat: Beat,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.as_mut().project();
        let (shared, policies) = (&*this.shared, this.shared.policies());
        let result = loop {
            match this.state.as_mut().project() {
                StateProjection::Tries { mut tries } => {
                    let polled = guard_permit(&policies.outer, this.outer, || {
                        tries.as_mut().poll((shared, *this.deadline), one.take(), (&mut beat, &mut *cx))
                    });
                    match polled {
                        Poll::Ready(result) => break result,
                        // Looked at after the service: an answer that comes with the end of the time wins.
                        Poll::Pending if beat.has_come(*this.until) => {
                            tries.cancel(policies);
                            this.state.set(State::Over);
                            let limit = policies.timeout.as_ref().expect("only a limit ends a call");
                            break Err(S::Error::from_rejection(limit.core().cut_off()));
                        }
                        Poll::Pending => {
                            if *this.until == Tick::NEVER {
                                *this.until = end(policies, *this.deadline, &mut beat.now);
                            }
                            let at = tries.until().min(*this.until);
                            beat = ready!(this.alarm.poll(at, &mut beat.now, cx));
                        }
                    }
                }
                StateProjection::Refused { rejection } => {
                    let rejection = rejection.take().expect("polled again after it answered with a rejection");
                    break Err(S::Error::from_rejection(rejection));
                }
                StateProjection::Queued { service, gate, request, wait } => {
                    let held = (&mut *wait, &mut *this.outer, *this.deadline);
                    let next = ready!(let_in(shared, (service, gate, request), held, cx));
                    this.state.set(next);
                }
                StateProjection::Falling { falling } => {
                    return falling.poll(&policies.fallback.core, shared.strategy(), cx);
                }
                StateProjection::Over => panic!("polled again after it was cut off"),
            }
        };
        settle_permit(&policies.outer, this.outer, || verdict(shared.rule(), result.as_ref()));
        match step(shared, this.kept, result.as_ref()) {
            None => {
                *this.over = true;
                Poll::Ready(result)
            }
            Some(fallback) => self.fall(fallback, Poll::Ready(result), cx),
        }
    }

    /// The call ends here, since its service may hold what the fallback needs; that answers in its place.
    #[cold]
    fn fall(
        mut self: Pin<&mut Self>,
        fallback: <H::Strategy as Strategy<Req, S::Response, S::Error>>::Future,
        failed: Poll<Result<S::Response, S::Error>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let result = ready!(failed);
        let mut this = self.as_mut().project();
        let kept = this.kept.take().expect("a fallback begins with what was kept for it");
        this.state.set(State::Falling { falling: Falling::new(fallback, kept, result) });
        self.poll_on(None, Beat::default(), cx)
    }
}

/// What answers in place of a call with this result, if anything does.
#[inline(always)]
fn step<H, Req, T, E>(
    shared: &H,
    kept: &mut Option<<H::Strategy as Strategy<Req, T, E>>::Kept>,
    result: Result<&T, &E>,
) -> Option<<H::Strategy as Strategy<Req, T, E>>::Future>
where
    H: Shared,
    H::Rule: Classify<T, E>,
    H::Strategy: Strategy<Req, T, E>,
    E: CarryRejection + fmt::Display,
{
    shared.policies().fallback.core.step(shared.strategy(), &Covered(shared.rule()), kept, result)
}

/// When a call is cut off that has to wait from now on.
#[inline]
fn end(policies: &Policies, deadline: Option<Deadline>, now: &mut Moment) -> Tick {
    let Some(limit) = &policies.timeout else { return Tick::NEVER };
    let own = now.tick() + limit.core().limit();
    deadline.map_or(own, |deadline| own.min(deadline.tick()))
}

/// What a fallback is for: what the stack's rule calls a failure, and whatever a policy turned away.
struct Covered<'a, C>(&'a C);

impl<T, E: CarryRejection, C: Classify<T, E>> Classify<T, E> for Covered<'_, C> {
    #[inline]
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result.err().and_then(E::rejection) {
            Some(_) => Outcome::Failure,
            None => self.0.classify(result),
        }
    }

    #[inline]
    fn takes_any_ok(&self) -> bool {
        self.0.takes_any_ok()
    }
}

pin_project! {
    /// The answer of a [`StackService`](super::StackService).
    ///
    /// It is `Unpin` when the service's future, and the fallback's, are. Dropping it ends the call: its place, its
    /// turn, its probe and what it took from a budget go back.
    ///
    /// # Panics
    ///
    /// When there is a wait and no tokio runtime with timers. Polling it again after it has answered may panic.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, F, R>
    where
        S: Service<Req>,
        R: Replay<Req>,
        F: Strategy<Req, S::Response, S::Error>,
    {
        #[pin]
        call: Call<Arc<Parts<C, F, R>>, S, Req>,
    }
}

impl<S, Req, C, F, R> ResponseFuture<S, Req, C, F, R>
where
    S: Service<Req>,
    R: Replay<Req>,
    F: Strategy<Req, S::Response, S::Error>,
{
    #[inline]
    pub(super) const fn new(call: Call<Arc<Parts<C, F, R>>, S, Req>) -> Self {
        Self { call }
    }
}

impl<S, Req, C, F, R> Future for ResponseFuture<S, Req, C, F, R>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection + fmt::Display,
    C: Classify<S::Response, S::Error> + Rule<S::Response, S::Error>,
    F: Strategy<Req, S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S, Req, C, F, R> fmt::Debug for ResponseFuture<S, Req, C, F, R>
where
    S: Service<Req>,
    R: Replay<Req>,
    F: Strategy<Req, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("stack", &self.call.shared.policies.name).finish_non_exhaustive()
    }
}
