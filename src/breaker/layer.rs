use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Sleep;

use crate::{
    admission::{self, Admission, AdmissionLayer, Entry, Gate, Policy, Queue, Sealed, Verdict},
    breaker::{Handle, core::Ticket},
    error::Rejection,
    outcome::OnError,
    sync::atomic::Ordering::Relaxed,
    time::{Moment, Tick},
    waiters::Place,
};

/// Puts a [`Handle`] in front of a service.
///
/// ```
/// use mainstay::{Error, breaker::{CircuitBreakerLayer, Config, Handle}};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let breaker = Handle::new("user-db", Config::new());
/// let mut users = ServiceBuilder::new()
///     .layer(CircuitBreakerLayer::new(breaker.clone()))
///     .map_err(Error::Inner)
///     .service(service_fn(async |id: u32| Ok::<_, std::io::Error>(format!("user {id}"))));
/// assert_eq!(users.ready().await?.call(7).await?, "user 7");
/// # Ok::<(), Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
pub type CircuitBreakerLayer<C = OnError> = AdmissionLayer<Handle, C>;

/// A service behind a circuit breaker.
pub type CircuitBreaker<S, C = OnError> = Admission<S, Handle, C>;

/// The answer of a [`CircuitBreaker`].
pub type ResponseFuture<F, C = OnError> = admission::ResponseFuture<F, Handle, C>;

/// What a clone of the service remembers while it waits to be ready.
#[derive(Default)]
pub struct Waiting {
    place: Place,
    // Made when first needed: a service may be built where there is no runtime.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Sealed for Handle {}

impl Policy for Handle {
    type Permit = Ticket;
    type Waiting = Waiting;

    #[inline]
    fn admit(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        self.core.admit(now)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, verdict: Verdict, now: &mut Moment) {
        self.core.settle(&ticket, verdict, now);
    }

    #[inline]
    fn at_once(&self, now: &mut Moment) -> Option<Ticket> {
        self.core.pass(self.core.word(), now)
    }

    fn come_again(&self) -> Option<Rejection> {
        Some(self.core.come_again())
    }

    #[inline]
    fn poll_gate(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        if self.core.word().passes() {
            return Poll::Ready(Gate::Open);
        }
        self.poll_shut_gate(waiting, cx)
    }

    fn watch(&self, waiting: &mut Waiting, cx: &mut Context<'_>) {
        waiting.place.wait(&self.core.waiters, cx);
    }
}

/// A breaker queues nobody.
impl Queue for Handle {
    type Wait = Infallible;

    fn enter(&self, now: &mut Moment) -> Result<Entry<Ticket, Infallible>, Rejection> {
        self.core.admit(now).map(Entry::Admitted)
    }

    fn poll_wait(&self, wait: &mut Infallible, _: &mut Context<'_>) -> Poll<Result<Ticket, Rejection>> {
        match *wait {}
    }

    fn leave(&self, wait: Infallible) {
        match wait {}
    }
}

impl Handle {
    fn poll_shut_gate(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<Gate> {
        let look = || self.core.shut_until(&mut Moment::new());
        if look().is_none() {
            return Poll::Ready(Gate::Open);
        }
        if !self.core.unready.load(Relaxed) {
            return Poll::Ready(Gate::Shut);
        }
        self.watch(waiting, cx);
        // Again, now that a change would wake us: it may have come before.
        let Some(until) = look() else {
            waiting.place.leave();
            return Poll::Ready(Gate::Open);
        };
        match waiting.poll_until(until, cx) {
            Poll::Ready(()) => Poll::Ready(Gate::Open),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Waiting {
    /// Has the task woken at a time, on the clock of the runtime it runs on.
    fn poll_until(&mut self, until: Tick, cx: &mut Context<'_>) -> Poll<()> {
        let Some(instant) = until.to_instant().filter(|_| until != Tick::NEVER) else { return Poll::Pending };
        // Set anew at each poll, in the same box: the service may have moved to another runtime since, and a timer of
        // one that is gone panics, of one that stands still never ends.
        let sleep = tokio::time::sleep_until(instant);
        match &mut self.alarm {
            Some(alarm) => alarm.set(sleep),
            None => self.alarm = Some(Box::pin(sleep)),
        }
        self.alarm.as_mut().map_or(Poll::Pending, |alarm| alarm.as_mut().poll(cx))
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("place", &self.place).finish_non_exhaustive()
    }
}
