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
    admission::{Admitted, verdict},
    balance::{
        member::Tracked,
        pick::{Pick, Picker, Tried},
        service::{Parts, View, Waiter},
        steer::Steer,
    },
    error::{CarryRejection, Rejection},
    outcome::Classify,
    sync::atomic::Ordering::Relaxed,
    time::Moment,
    waiters::Place,
};

/// So many members are waited for at a time. Two would do where one is stuck; a third where they went together.
const TOGETHER: usize = 3;
/// So many more are looked at in case one of them is ready. All of a small set; of a large one that is busy everywhere,
/// not so many that looking is what keeps it busy.
const LOOKS: usize = 64;

pin_project! {
    /// The answer of a [`Balance`](crate::balance::Balance): an instance's, or a rejection when there is none.
    ///
    /// It is `Unpin` when the services' futures are. Dropping it gives back what the call holds.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered may panic.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Req>, Req, K: Picker, T, C> {
        #[pin]
        state: State<S, Req, K::Plan>,
        parts: Arc<Parts<S, K, T, C>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req, P> {
        Rejected { rejection: Option<Rejection> },
        Waiting { first: Option<Waiter<S>>, request: Option<(Req, Tried)>, more: Option<Box<More<S, S::Error, P>>> },
        Called { #[pin] future: S::Future, admitted: Admitted<Tracked<S>> },
    }
}

/// A call whose first member was not ready at once.
struct More<S, E, P> {
    view: Arc<View<S, P>>,
    waiting: Vec<Waiter<S>>,
    // How often a member was looked at in vain.
    looks: usize,
    // Members that were looked at, or left, and are not waited for: they are tried again when there is room.
    passed: Vec<u64>,
    // How the last that could not become ready failed.
    failed: Option<E>,
    // Told of members that come, as long as more may be waited for.
    place: Place,
}

impl<S: Service<Req>, Req, K: Picker, T, C> ResponseFuture<S, Req, K, T, C> {
    #[inline]
    pub(super) fn waiting(parts: Arc<Parts<S, K, T, C>>, first: Waiter<S>, request: (Req, Tried)) -> Self {
        Self { state: State::Waiting { first: Some(first), request: Some(request), more: None }, parts }
    }

    #[cold]
    pub(super) fn rejected(rejection: Rejection, parts: Arc<Parts<S, K, T, C>>) -> Self {
        Self { state: State::Rejected { rejection: Some(rejection) }, parts }
    }
}

impl<S, Req, K, T, C> Future for ResponseFuture<S, Req, K, T, C>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    K: Pick<Req>,
    T: Steer<Req>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Called { future, admitted } => {
                    let result = ready!(admitted.guard(|| future.poll(cx)));
                    admitted.settle(verdict(this.parts.classify(), result.as_ref()));
                    return Poll::Ready(result);
                }
                StateProjection::Waiting { first, request, more } => {
                    let ready = ready!(poll_ready(this.parts, (first, more), request, cx))?;
                    let (request, _) = request.take().expect("a request is handed over once");
                    let (future, admitted) = ready.call(this.parts.steer(), request);
                    this.state.set(State::Called { future, admitted });
                }
                StateProjection::Rejected { rejection } => {
                    let rejection = rejection.take().expect("polled again after it answered with a rejection");
                    return Poll::Ready(Err(S::Error::from_rejection(rejection)));
                }
            }
        }
    }
}

type Pending<'a, S, E, P> = (&'a mut Option<Waiter<S>>, &'a mut Option<Box<More<S, E, P>>>);

/// The member that gets the request.
#[inline]
fn poll_ready<S, Req, K, T, C>(
    parts: &Parts<S, K, T, C>,
    (first, more): Pending<'_, S, S::Error, K::Plan>,
    request: &mut Option<(Req, Tried)>,
    cx: &mut Context<'_>,
) -> Poll<Result<Waiter<S>, S::Error>>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
    K: Pick<Req>,
    T: Steer<Req>,
{
    let mut failed = None;
    if let Some(waiter) = first {
        match waiter.poll_ready(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(first.take().expect("it was just polled"))),
            Poll::Ready(Err(error)) => failed = Some(error),
            Poll::Pending => {}
        }
    }
    let (request, tried) = request.as_mut().expect("a call that waits has its request");
    let more = more.get_or_insert_with(|| Box::new(More::new(parts.view(&mut Moment::new()))));
    if let Some(waiter) = first.take() {
        tried.add(waiter.serial());
        more.begin(waiter, failed);
        // It was asked just now.
        let mut asked = more.waiting.len();
        more.let_go(&mut asked);
        return more.poll(parts, (request, tried), asked, cx);
    }
    more.poll(parts, (request, tried), 0, cx)
}

impl<S, E, P> More<S, E, P> {
    fn new(view: Arc<View<S, P>>) -> Self {
        let (waiting, passed) = (Vec::with_capacity(TOGETHER + 1), Vec::new());
        Self { view, waiting, looks: 0, passed, failed: None, place: Place::default() }
    }

    fn begin(&mut self, waiter: Waiter<S>, failed: Option<E>)
    where
        E: CarryRejection,
    {
        match failed {
            Some(error) => {
                waiter.failed(&error);
                self.failed = Some(error);
            }
            None => self.waiting.push(waiter),
        }
    }

    /// Polls those that are waited for, from `at` on, and begins to wait for others, until one is ready.
    fn poll<Req, K, T, C>(
        &mut self,
        parts: &Parts<S, K, T, C>,
        (request, tried): (&Req, &mut Tried),
        mut at: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Waiter<S>, E>>
    where
        S: Service<Req, Error = E> + Clone,
        E: CarryRejection,
        K: Pick<Req> + Picker<Plan = P>,
        T: Steer<Req>,
    {
        loop {
            if parts.is_old(&self.view) {
                self.view = parts.view(&mut Moment::new());
                self.let_go(&mut at);
            }
            if let Poll::Ready(ready) = self.poll_waiting(&mut at, cx) {
                self.place.leave();
                return Poll::Ready(Ok(ready));
            }
            if self.waiting.len() > TOGETHER {
                // Those that were asked first are the next in their queues.
                self.looks += 1;
                at = TOGETHER;
                self.passed.extend(self.waiting[TOGETHER..].iter().map(Waiter::serial));
                self.waiting.drain(TOGETHER..).for_each(Waiter::lost);
            }
            let mut now = Moment::new();
            if let Some(waiter) = self.another(parts, (request, tried), &mut now) {
                parts.core().hub.counts.picked_again.fetch_add(1, Relaxed);
                tried.add(waiter.serial());
                self.waiting.push(waiter);
            } else if self.waiting.is_empty() {
                let error = self.failed.take();
                return Poll::Ready(Err(error.unwrap_or_else(|| E::from_rejection(parts.core().nobody(&mut now)))));
            } else {
                self.place.wait(&parts.core().hub.waiters, cx);
                // A member that came or left before we were on the list wakes nobody.
                if !parts.is_old(&self.view) {
                    return Poll::Pending;
                }
            }
        }
    }

    /// Another member to wait for, or to look at.
    fn another<Req, K, T, C>(
        &mut self,
        parts: &Parts<S, K, T, C>,
        (request, tried): (&Req, &mut Tried),
        now: &mut Moment,
    ) -> Option<Waiter<S>>
    where
        S: Service<Req, Error = E> + Clone,
        K: Pick<Req> + Picker<Plan = P>,
        T: Steer<Req>,
    {
        let full = self.waiting.len() >= TOGETHER;
        if full && self.looks >= LOOKS {
            return None;
        }
        parts.begin(&self.view, request, tried, now).or_else(|| {
            if full || self.passed.is_empty() {
                return None;
            }
            // None is left but those that were not ready a while ago, and there is room to wait for them.
            self.passed.drain(..).for_each(|serial| tried.forget(serial));
            parts.begin(&self.view, request, tried, now)
        })
    }

    /// Gives up those that have left the set or get no calls any more: they might never become ready.
    fn let_go(&mut self, at: &mut usize) {
        while let Some(gone) = self.waiting.iter().position(|waiter| !self.view.has(waiter)) {
            let waiter = self.waiting.remove(gone);
            *at -= usize::from(gone < *at);
            self.passed.push(waiter.serial());
            waiter.lost();
        }
    }

    /// Polls those from `at` on. Those that fail go, and the first that is ready ends the wait of the others.
    fn poll_waiting<Req>(&mut self, at: &mut usize, cx: &mut Context<'_>) -> Poll<Waiter<S>>
    where
        S: Service<Req, Error = E>,
        E: CarryRejection,
    {
        while let Some(waiter) = self.waiting.get_mut(*at) {
            match waiter.poll_ready(cx) {
                Poll::Pending => *at += 1,
                Poll::Ready(Err(error)) => {
                    let waiter = self.waiting.remove(*at);
                    self.begin(waiter, Some(error));
                }
                Poll::Ready(Ok(())) => {
                    let ready = self.waiting.remove(*at);
                    self.waiting.drain(..).for_each(Waiter::lost);
                    return Poll::Ready(ready);
                }
            }
        }
        Poll::Pending
    }
}

impl<S: Service<Req>, Req, K: Picker, T, C> fmt::Debug for ResponseFuture<S, Req, K, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Rejected { .. } => "rejected",
            State::Waiting { .. } => "waiting",
            State::Called { .. } => "called",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        sync::Weak,
        task::Waker,
    };

    use super::*;
    use crate::{
        balance::{
            Balance, Candidates, Config, Handle,
            core::{Core, tests::instance},
        },
        contract::Instance,
        error::Error,
    };

    /// It answers with its number. The first leaves the set when it is asked whether it is ready.
    #[derive(Clone)]
    struct Node(u16, Weak<Core<Node>>);

    impl Service<u32> for Node {
        type Response = u16;
        type Error = Error<std::io::Error>;
        type Future = Ready<Result<u16, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            if self.0 > 0 {
                return Poll::Ready(Ok(()));
            }
            let core = self.1.upgrade().unwrap();
            assert!(core.locked(|state| Core::take_out(state, instance(0).id())));
            Poll::Pending
        }

        fn call(&mut self, _: u32) -> Self::Future {
            ready(Ok(self.0))
        }
    }

    struct First;

    impl Picker for First {
        type Plan = ();

        fn plan(&self, _: &[Arc<Instance>]) {}
    }

    impl Pick<u32> for First {
        fn pick(&self, _: &u32, (): &(), candidates: &impl Candidates) -> Option<usize> {
            (0..candidates.len()).find(|at| candidates.is_free(*at))
        }
    }

    #[test]
    fn when_one_leaves_while_it_is_asked_the_next_is_asked_at_once() {
        let handle = Handle::new("users", Config::new());
        for number in 0..2 {
            handle.insert(Arc::new(instance(number)), Node(number, Arc::downgrade(&handle.core)));
        }
        let mut answer = std::pin::pin!(Balance::new(&handle, First).call(7));
        let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(1))), "nobody would wake the call");
        assert_eq!(handle.core.hub.calls(), (2, 0));
    }
}
