use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    error::{CarryRejection, Rejection},
    load_shed::{Handle, core::Cause},
};

/// Sheds the calls for which the service behind is not ready, in place of having their callers wait.
///
/// For any Tower service that says by its readiness that it has enough: a limit by tower, a buffer, a pool. It looks at
/// nothing else; whether it is switched on in the handle's settings does not matter. The policies of this crate turn
/// calls away by themselves and need none of this.
///
/// A service that is not ready may have put itself on a list, to be handed what is free next. That clone is thrown away
/// with the call that is shed, and a fresh one takes its place: an idle clone on such a list would be handed a permit
/// that it does not use, and keep all others out. A service that only becomes ready while somebody waits for it (one
/// that connects in `poll_ready`, say) does not belong behind this; put a buffer in between.
///
/// ```
/// use mainstay::{BoxError, load_shed::{Config, Handle, ShedUnreadyLayer}};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let shedder = Handle::new("search", Config::new());
/// let mut search = ServiceBuilder::new()
///     .layer(ShedUnreadyLayer::new(shedder.clone()))
///     .concurrency_limit(1)
///     .service(service_fn(async |text: &str| Ok::<_, BoxError>(text.len())));
/// let first = search.ready().await?.call("a call that runs");
/// let error = search.ready().await?.call("one too many").await.unwrap_err();
/// assert_eq!(error.to_string(), "\"search\" is overloaded");
/// assert_eq!((first.await?, shedder.snapshot().shed.not_ready), (16, 1));
/// # Ok::<(), BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ShedUnreadyLayer {
    handle: Handle,
}

impl ShedUnreadyLayer {
    /// Sheds in the name of this handle, which counts and tells it.
    #[must_use]
    pub const fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

impl<S> Layer<S> for ShedUnreadyLayer {
    type Service = ShedUnready<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ShedUnready { inner, handle: self.handle.clone(), ready: false }
    }
}

/// A service whose calls are shed when it is not ready. Made by [`ShedUnreadyLayer`].
pub struct ShedUnready<S> {
    inner: S,
    handle: Handle,
    // What the service said when it was asked last, for the next call.
    ready: bool,
}

impl<S> ShedUnready<S> {
    /// Asks the service whether it is ready; a clone that is not is on somebody's list now, and is replaced.
    fn ask<Req>(&mut self, cx: &mut Context<'_>) -> Result<bool, S::Error>
    where
        S: Service<Req> + Clone,
    {
        // Without tokio's cooperative budget: a task that has used it up finds everything not ready, which says nothing
        // about load.
        let asked = pin!(tokio::task::unconstrained(poll_fn(|cx| self.inner.poll_ready(cx)))).poll(cx);
        match asked {
            Poll::Ready(answer) => answer.map(|()| true),
            Poll::Pending => {
                let fresh = self.inner.clone();
                self.inner = fresh;
                Ok(false)
            }
        }
    }
}

impl<S, Req> Service<Req> for ShedUnready<S>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejection,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ShedUnreadyFuture<S::Future, S::Error>;

    /// Ready at once, whether the service is or not. Its errors are passed on.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.ready = false;
        Poll::Ready(self.ask(cx).map(|ready| self.ready = ready))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // Asked again if it was not ready: it may be by now, and nobody is to be woken for a call that is there.
        let ready = std::mem::take(&mut self.ready) || {
            match self.ask(&mut Context::from_waker(Waker::noop())) {
                Ok(ready) => ready,
                Err(error) => {
                    // To the caller the call has failed, and not the service: it gets a fresh one, since an error of
                    // its readiness was the last word of this.
                    let fresh = self.inner.clone();
                    self.inner = fresh;
                    return ShedUnreadyFuture { state: State::Failed { error: Some(error) } };
                }
            }
        };
        let state = if ready {
            State::Called { future: self.inner.call(request) }
        } else {
            State::Shed { rejection: Some(self.handle.core.shed(Cause::NotReady)) }
        };
        ShedUnreadyFuture { state }
    }
}

impl<S: Clone> Clone for ShedUnready<S> {
    fn clone(&self) -> Self {
        // A clone is not ready, even when this one is.
        Self { inner: self.inner.clone(), handle: self.handle.clone(), ready: false }
    }
}

impl<S: fmt::Debug> fmt::Debug for ShedUnready<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShedUnready").field("inner", &self.inner).field("handle", &self.handle).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`ShedUnready`]: the service's, or a rejection.
    ///
    /// `Unpin` when the service's future is.
    ///
    /// # Panics
    ///
    /// Polling it again after it has answered without the service panics.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct ShedUnreadyFuture<F, E> {
        #[pin]
        state: State<F, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, E> {
        Shed { rejection: Option<Rejection> },
        Failed { error: Option<E> },
        Called { #[pin] future: F },
    }
}

impl<F, T, E> Future for ShedUnreadyFuture<F, E>
where
    F: Future<Output = Result<T, E>>,
    E: CarryRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Shed { rejection } => {
                let rejection = rejection.take().expect("polled again after it answered with a rejection");
                Poll::Ready(Err(E::from_rejection(rejection)))
            }
            StateProjection::Failed { error } => {
                Poll::Ready(Err(error.take().expect("polled again after it answered with an error")))
            }
            StateProjection::Called { future } => future.poll(cx),
        }
    }
}
