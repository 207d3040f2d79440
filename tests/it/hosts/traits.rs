//! What a service and its future are depends on what is inside, and on nothing else.

use std::{
    cell::Cell,
    future::Pending,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    rc::Rc,
};

use mainstay::{
    breaker::{self, CircuitBreaker},
    fallback::{Fallback, FallbackService, Value},
    hedge::Hedge,
    stack::{self, StackService},
};

use super::*;

trait Not {
    const IS: bool = false;
}

impl<T: ?Sized> Not for T {}

/// Whether a type implements a trait: the constant of the type itself, where there is one, goes before that of `Not`.
macro_rules! is {
    ($type:ty: $($bound:tt)+) => {{
        struct Asked<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $($bound)+> Asked<T> {
            const IS: bool = true;
        }
        <Asked<$type>>::IS
    }};
}

struct NotClone;

/// A future that must not be moved, as an async block is.
struct Pinned<T>(PhantomData<T>, PhantomPinned);

macro_rules! services {
    ($type:ident) => {
        for (what, inside, ours) in [
            ("()", [true; 4], traits!($type<()>)),
            ("not Clone", [false, true, true, true], traits!($type<NotClone>)),
            ("not Send, not Sync", [true, false, false, true], traits!($type<Rc<()>>)),
            ("not Clone, not Sync", [false, true, false, true], traits!($type<Cell<NotClone>>)),
            ("not Clone, not Unpin", [false, true, true, false], traits!($type<PhantomPinnedNotClone>)),
        ] {
            assert_eq!(ours, inside, "over a service that is {what}");
        }
    };
}

macro_rules! traits {
    ($type:ty) => {
        [is!($type: Clone), is!($type: Send), is!($type: Sync), is!($type: Unpin)]
    };
}

struct PhantomPinnedNotClone(#[allow(dead_code)] PhantomPinned);

macro_rules! futures {
    ($type:ident) => {
        for (what, inside, ours) in [
            ("Send, Sync, Unpin", [true, true, true], auto!($type<Pending<Answer>>)),
            ("not Unpin", [true, true, false], auto!($type<Pinned<()>>)),
            ("not Send, not Sync", [false, false, true], auto!($type<Rc<()>>)),
            ("boxed", [true, false, true], auto!($type<Pin<Box<dyn Future<Output = Answer> + Send>>>)),
        ] {
            assert_eq!(ours, inside, "over a future that is {what}");
        }
    };
}

macro_rules! auto {
    ($type:ty) => {
        [is!($type: Send), is!($type: Sync), is!($type: Unpin)]
    };
}

#[test]
fn a_service_is_what_the_service_inside_is() {
    services!(CircuitBreaker);
    futures!(BreakerFuture);
}

/// A stack of defaults, over requests and answers that are everything.
type Plain<S> = StackService<S>;

/// Calls that are futures of one type.
struct Calls<F>(PhantomData<fn() -> F>);

impl<F: Future<Output = Answer>> Service<()> for Calls<F> {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> F {
        unreachable!("only its types are asked for")
    }
}

impl<T> Future for Pinned<T> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Pending
    }
}

type StackFuture<F> = stack::ResponseFuture<Calls<F>, (), Classified<OnError>, NoFallback, retry::Cloned>;

#[test]
fn so_is_a_whole_stack() {
    services!(Plain);
    assert_eq!(auto!(StackFuture<Pending<Answer>>), [true; 3]);
    assert_eq!(auto!(StackFuture<Pinned<()>>), [true, true, false]);
    assert_eq!(auto!(StackFuture<Pinned<*const ()>>), [false; 3]);
    assert_eq!(auto!(StackFuture<Pin<Box<dyn Future<Output = Answer> + Send>>>), [true, false, true]);
    assert_eq!(auto!(StackFuture<Pin<Box<dyn Future<Output = Answer>>>>), [false, false, true]);
    assert_eq!(traits!(StackLayer), [true; 4]);
    assert_eq!(traits!(Stack), [true; 4]);
    // What is shared between clones has to be both, and the request waits in the future.
    assert_eq!(traits!(StackLayer<Rc<()>>), [true, false, false, true]);
    assert_eq!(traits!(StackLayer<NotClone>), [true; 4]);
}

#[test]
fn so_are_those_that_run_again_or_elsewhere() {
    type Falls<S> = FallbackService<S, Fallback<Value<u32>>>;
    services!(Falls);
    services!(Hedge);
}

#[test]
fn so_is_every_other_service_over_one() {
    type Queued<S> = mainstay::admission::Queued<S, bulkhead::Handle>;
    type Retries<S> = retry::Retry<S>;
    type Timeout<S> = mainstay::timeout::Timeout<S>;
    type Keys = mainstay::keyed::Handle<u32, bulkhead::Handle>;
    type Keyed<S> = mainstay::keyed::Keyed<S, Keys>;
    type QueuedKeyed<S> = mainstay::keyed::QueuedKeyed<S, Keys>;
    type ShedUnready<S> = load_shed::ShedUnready<S>;
    type Prioritized<S> = load_shed::Prioritized<S, ()>;
    type AnyMethod<S> = mainstay::contract::AnyMethod<S>;
    services!(Queued);
    services!(Retries);
    services!(Timeout);
    services!(Keyed);
    services!(QueuedKeyed);
    services!(ShedUnready);
    services!(Prioritized);
    services!(AnyMethod);
}

#[test]
fn so_is_every_other_future_over_one() {
    type Timeout<F> = mainstay::timeout::ResponseFuture<F>;
    type ShedUnready<F> = load_shed::ShedUnreadyFuture<F, Error<Boom>>;
    type Keyed<F> = mainstay::keyed::ResponseFuture<F, mainstay::keyed::Handle<u32, bulkhead::Handle>>;
    type Or<F> = mainstay::fallback::OrFuture<F, F>;
    futures!(Timeout);
    futures!(ShedUnready);
    futures!(Keyed);
    futures!(Or);
}

type BreakerFuture<F> = breaker::ResponseFuture<F>;

#[cfg(feature = "http")]
#[test]
fn so_are_those_of_the_http_feature() {
    use mainstay::http::{
        AttemptLimit, AttemptLimitFuture, BodyTimeout, BodyTimeoutFuture, LimitedBody, ReadDeadline, ReplayBodies,
        ReplayBody, Respond, RespondBody, RespondFuture, SendDeadline, Streamed, StreamedBody, StreamedFuture,
        StreamedStack,
    };

    type Keys = mainstay::keyed::Handle<u32, bulkhead::Handle>;
    type QueuedStreamed<S> = mainstay::http::QueuedStreamed<S, Handle>;
    type KeyedStreamed<S> = mainstay::http::KeyedStreamed<S, Keys>;
    services!(QueuedStreamed);
    services!(KeyedStreamed);
    services!(BodyTimeout);
    services!(ReadDeadline);
    services!(SendDeadline);
    futures!(BodyTimeoutFuture);
    futures!(LimitedBody);
    type StreamedService<S> = Streamed<S, Handle>;
    type OnlyStreamed<F> = StreamedFuture<F, Handle, OnError>;
    type OnlyRespond<F> = RespondFuture<F, fn()>;
    type OnlyStreamedBody<B> = StreamedBody<B, Handle, OnError>;
    services!(StreamedService);
    services!(Respond);
    services!(ReplayBodies);
    services!(StreamedStack);
    services!(AttemptLimit);
    futures!(AttemptLimitFuture);
    futures!(ReplayBody);
    futures!(OnlyStreamed);
    futures!(OnlyRespond);
    futures!(OnlyStreamedBody);
    futures!(RespondBody);
}

#[test]
fn the_question_itself_is_answered_right() {
    assert_eq!(traits!(Rc<()>), [true, false, false, true]);
    assert_eq!(auto!(Pinned<Rc<()>>), [false, false, false]);
    assert_eq!(traits!(Cell<NotClone>), [false, true, false, true]);
}
