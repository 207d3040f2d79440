//! The service that all cases call, and the one way in which they call.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    hint::black_box,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use mainstay::Error;
use tower::{BoxError, Service};

/// How the service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// At the first poll.
    AtOnce,
    /// At the second poll.
    PendingOnce,
    /// With an error, at the first poll.
    Fails,
    /// At the first poll: every tenth request with an error, and when it comes again, without.
    TenthFails,
}

/// The service's error. It has no size: a peer pays for its own error only.
#[derive(Debug, Clone, Copy)]
pub struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

impl std::error::Error for Down {}

/// An error that the service can fail with, as each library wants it.
pub trait Fails: Send + 'static {
    fn down() -> Self;
}

impl Fails for Down {
    fn down() -> Self {
        Self
    }
}

/// Mainstay's own error, which can carry a rejection.
impl Fails for Error<Down> {
    fn down() -> Self {
        Error::Inner(Down)
    }
}

/// Tower's usual error: it can carry a rejection too. No allocation, for an error without size.
impl Fails for BoxError {
    fn down() -> Self {
        Box::new(Down)
    }
}

pub struct Upstream<E> {
    manner: Manner,
    error: PhantomData<fn() -> E>,
}

impl<E> Upstream<E> {
    pub fn new(manner: Manner) -> Self {
        Self { manner, error: PhantomData }
    }
}

impl<E> Clone for Upstream<E> {
    fn clone(&self) -> Self {
        Self::new(self.manner)
    }
}

/// Not [`Ready`](std::future::Ready), which moves the answer about.
pub struct Answered<E> {
    request: u64,
    manner: Manner,
    error: PhantomData<fn() -> E>,
}

impl<E> Answered<E> {
    pub fn new(manner: Manner, request: u64) -> Self {
        Self { request, manner, error: PhantomData }
    }
}

impl<E: Fails> Future for Answered<E> {
    type Output = Result<u64, E>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.manner {
            Manner::AtOnce => Poll::Ready(Ok(self.request)),
            Manner::Fails => Poll::Ready(Err(E::down())),
            Manner::PendingOnce => {
                self.manner = Manner::AtOnce;
                Poll::Pending
            }
            Manner::TenthFails if self.request % 10 == 0 && comes_anew(self.request) => Poll::Ready(Err(E::down())),
            Manner::TenthFails => Poll::Ready(Ok(self.request)),
        }
    }
}

/// Whether it is another request than the last that this thread asked about. Not known to a service: of which clone a
/// retry calls it is the retry's affair.
fn comes_anew(request: u64) -> bool {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(u64::MAX) };
    }
    LAST.replace(request) != request
}

impl<E: Fails> Service<u64> for Upstream<E> {
    type Response = u64;
    type Error = E;
    type Future = Answered<E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Answered<E> {
        Answered::new(self.manner, request)
    }
}

/// Polls to the end, at once again after each `Pending`: nobody has to be woken.
#[inline]
pub fn finish<T, E>(future: impl Future<Output = Result<T, E>>) -> bool {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            black_box(&answer);
            return answer.is_ok();
        }
    }
}

/// One call through a service; whether it was answered.
#[inline]
pub fn drive<S: Service<u64>>(service: &mut S, request: u64) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let ready = loop {
        if let Poll::Ready(ready) = service.poll_ready(&mut cx) {
            break ready;
        }
    };
    ready.is_ok() && finish(service.call(black_box(request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_fails_once() {
        let mut upstream = Upstream::<Down>::new(Manner::TenthFails);
        let answered: Vec<_> = [9, 10, 10, 11, 20, 20].map(|n| drive(&mut upstream.clone(), n)).into();
        assert_eq!(answered, [true, false, true, true, false, true]);
        assert!(drive(&mut upstream, 20), "whichever clone is called");
    }
}
