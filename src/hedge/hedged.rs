use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{
    guarded::guarded,
    hedge::{
        core::{Core, End, Ticket},
        race::Race,
        rule::Judgement,
    },
    time::{Tick, instant_after},
};

/// Where further copies of a call come from.
pub(crate) trait Copies {
    /// What is sent again.
    type Request;
    /// A copy that runs.
    type Copy: Future;

    /// The request for the copy with this number, if there is one.
    fn request(&mut self, attempt: u32) -> Option<Self::Request>;

    /// The copy begins. [`Core::sent`] takes the ticket when the service is called.
    fn begin(&mut self, request: Self::Request, ticket: Ticket) -> Self::Copy;
}

pin_project! {
    /// A call and its further copies, until one of them has the answer.
    ///
    /// It is no future by itself: who polls it has what copies are made of, and lends it. So a service, a closure that
    /// runs and a stack can all have it inside of their own.
    pub(crate) struct Hedged<P, H, E> {
        #[pin]
        race: Race<P, H>,
        course: Course,
        // Made at the first wait, and used again for the next copy. In a box, so that moving the call costs nothing.
        timer: Option<Pin<Box<Sleep>>>,
        // How an earlier copy failed.
        failed: Option<E>,
    }
}

/// Where a call stands.
#[derive(Debug)]
struct Course {
    // The last copy that began: 1 is the first.
    attempt: u32,
    // No further copy is wanted.
    closed: bool,
    // The timer runs.
    timed: bool,
    // When the call began to wait.
    since: Option<Tick>,
    deadline: Tick,
}

impl<P, H, E> Hedged<P, H, E> {
    /// A call whose first copy runs. `wanted` is what [`Core::begin`] said; no copy is sent at or after `deadline`.
    #[inline]
    pub(crate) fn new(first: P, wanted: bool, deadline: Tick) -> Self {
        let course = Course { attempt: 1, closed: !wanted, timed: false, since: None, deadline };
        Self { race: Race::new(first), course, timer: None, failed: None }
    }

    /// The last copy that began: 1 is the first.
    pub(crate) fn attempt(&self) -> u32 {
        self.course.attempt
    }
}

impl<P, H, T, E> Hedged<P, H, E>
where
    P: Future<Output = Result<T, E>>,
    H: Future<Output = Result<T, E>>,
{
    /// The answer: the first good one, or the last failure. Whatever else runs is dropped before it is given.
    #[inline]
    pub(crate) fn poll<Q>(
        mut self: Pin<&mut Self>,
        core: &Core,
        judge: impl Fn(Result<&T, &E>) -> Judgement,
        copies: &mut Q,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>>
    where
        Q: Copies<Copy = H>,
    {
        // One that panics decides nothing, and the caller gets the result.
        let judge = |result: Result<&T, &E>| guarded("classifier", || judge(result)).unwrap_or(Judgement::Final);
        if self.course.since.is_none() && self.course.attempt == 1 {
            // Most calls come no further: looked at where it lies, and handed on whole, as in `retry`.
            let polled = self.as_mut().project().race.poll_first(cx);
            let Poll::Ready(result) = &polled else {
                return if self.as_mut().wait(core, copies, cx).is_ready() {
                    self.poll_all(core, judge, copies, cx)
                } else {
                    Poll::Pending
                };
            };
            let judgement = judge(result.as_ref());
            if judgement == Judgement::Final {
                return polled;
            }
            self.as_mut().project().race.end_first();
            let Poll::Ready(result) = polled else { return Poll::Pending };
            if let Some(answer) = self.as_mut().settle(core, (1, result, judgement), copies) {
                return Poll::Ready(answer);
            }
        }
        self.poll_all(core, judge, copies, cx)
    }

    fn poll_all<Q>(
        mut self: Pin<&mut Self>,
        core: &Core,
        judge: impl Fn(Result<&T, &E>) -> Judgement,
        copies: &mut Q,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>>
    where
        Q: Copies<Copy = H>,
    {
        loop {
            // The copies first: an answer that is there wins over a delay that has passed.
            while let Poll::Ready((attempt, result)) = self.as_mut().project().race.poll(cx) {
                let judgement = judge(result.as_ref());
                if let Some(answer) = self.as_mut().settle(core, (attempt, result, judgement), copies) {
                    return Poll::Ready(answer);
                }
            }
            ready!(self.as_mut().wait(core, copies, cx));
        }
    }

    /// No copy has an answer yet: ready when another one has begun.
    fn wait<Q>(mut self: Pin<&mut Self>, core: &Core, copies: &mut Q, cx: &mut Context<'_>) -> Poll<()>
    where
        Q: Copies<Copy = H>,
    {
        ready!(self.as_mut().poll_delay(core, cx));
        if self.send(core, copies) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A copy has ended and was dropped. `Some` with the answer when that ends the call.
    fn settle<Q>(
        mut self: Pin<&mut Self>,
        core: &Core,
        (attempt, result, judgement): (u32, Result<T, E>, Judgement),
        copies: &mut Q,
    ) -> Option<Result<T, E>>
    where
        Q: Copies<Copy = H>,
    {
        if judgement == Judgement::Final {
            let this = self.project();
            let (first_lost, since) = (this.race.first_runs(), this.course.since);
            let losers = this.race.end();
            core.ended(End { answered: attempt, good: result.is_ok(), losers, first_lost, since });
            return Some(result);
        }
        if judgement != Judgement::Failed {
            self.as_mut().project().course.closed = true;
        }
        let begun = judgement == Judgement::Failed && self.as_mut().send(core, copies);
        let this = self.project();
        if !begun && this.race.running() == 0 {
            // A policy that turned the last copy away hides how the service failed.
            let earlier = this.failed.take().filter(|_| judgement == Judgement::Rejected && result.is_err());
            return Some(earlier.map_or(result, Err));
        }
        // A failed answer ends here: it may hold a connection, or a permit that the next copy needs. An error is kept.
        if let (Err(error), true) = (result, judgement != Judgement::Rejected || this.failed.is_none()) {
            *this.failed = Some(error);
        }
        None
    }

    /// Begins the next copy, if there may be one. The delay to the one after it runs from now.
    fn send<Q>(self: Pin<&mut Self>, core: &Core, copies: &mut Q) -> bool
    where
        Q: Copies<Copy = H>,
    {
        let this = self.project();
        let course = this.course;
        if course.closed || !core.may_follow(course.attempt) {
            return false;
        }
        let attempt = course.attempt + 1;
        let ticket = course.waited().and_then(|waited| core.ticket(attempt, waited, |attempt| copies.request(attempt)));
        let Some((request, ticket)) = ticket else {
            course.closed = true;
            return false;
        };
        this.race.begin(attempt, copies.begin(request, ticket));
        course.attempt = attempt;
        course.timed = false;
        true
    }

    /// Ready when it is time for another copy. Pending, with nothing to wake the task, when there is none to come.
    fn poll_delay(self: Pin<&mut Self>, core: &Core, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let course = this.course;
        let wanted = !course.closed && core.may_follow(course.attempt);
        if course.since.is_none() && (wanted || core.measures()) {
            course.since = Some(Tick::now());
        }
        if !wanted {
            return Poll::Pending;
        }
        if !course.timed {
            let delay = core.delay(Tick::now());
            if delay.is_zero() {
                return Poll::Ready(());
            }
            match (&mut *this.timer, instant_after(delay)) {
                (_, None) => return Poll::Pending,
                (Some(timer), Some(end)) => timer.as_mut().reset(end),
                (timer, Some(end)) => *timer = Some(Box::pin(tokio::time::sleep_until(end))),
            }
            course.timed = true;
        }
        // Without tokio's cooperative budget, as for a timeout: a copy that uses it up is one to hedge.
        match this.timer {
            Some(timer) => pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Course {
    /// How long the call has waited; `None` when nobody waits any more.
    fn waited(&self) -> Option<Duration> {
        if self.since.is_none() && self.deadline == Tick::NEVER {
            return Some(Duration::ZERO);
        }
        let now = Tick::now();
        (now < self.deadline).then(|| self.since.map_or_else(Default::default, |since| now.since(since)))
    }
}

impl<P, H, E> fmt::Debug for Hedged<P, H, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedged").field("race", &self.race).field("course", &self.course).finish_non_exhaustive()
    }
}
