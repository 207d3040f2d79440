//! Wakers are the code of whoever waits. One that panics keeps nobody else from being woken, and loses no place.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use mainstay::{
    admission::Readiness,
    breaker::{self, CircuitBreakerLayer},
    bulkhead, load_shed,
};
use tower::{Layer, ServiceExt};

use super::{Fuse, blows};
use crate::support::*;

/// Counts, after it has panicked.
#[derive(Default)]
struct Loud {
    fuse: Fuse,
    woken: AtomicU32,
}

impl Wake for Loud {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, SeqCst);
        self.fuse.here();
    }
}

fn loud(fuse: &Fuse) -> (Arc<Loud>, Waker) {
    let loud = Arc::new(Loud { fuse: fuse.clone(), woken: AtomicU32::new(0) });
    (Arc::clone(&loud), Waker::from(loud))
}

/// Tasks that wait, each with a waker that panics.
fn waiting<F: Future>(fuse: &Fuse, futures: impl IntoIterator<Item = F>) -> Vec<(Pin<Box<F>>, Arc<Loud>, Waker)> {
    let begun = futures.into_iter().map(|future| {
        let ((loud, waker), mut future) = (loud(fuse), Box::pin(future));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (future, loud, waker)
    });
    begun.collect()
}

fn all_were_woken<F>(waiting: &[(F, Arc<Loud>, Waker)]) {
    let times: Vec<u32> = waiting.iter().map(|(_, loud, _)| loud.woken.load(SeqCst)).collect();
    assert!(times.iter().all(|times| *times == 1), "each of them, whatever the others do: {times:?}");
}

pub(super) async fn wake() {
    let fuse = Fuse::default();
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(9));
    let held = places.try_acquire().unwrap();
    let mut tasks = waiting(&fuse, (0..3).map(|_| places.acquire()));
    fuse.arm(true);
    places.reconfigure(bulkhead::Config::new(4).max_queue(9)).unwrap();
    fuse.arm(false);
    all_were_woken(&tasks);
    for (task, _, waker) in &mut tasks {
        assert!(task.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
    }
    drop((held, tasks));
    assert_eq!((places.running(), places.snapshot().waiting), (0, 0));

    let queue = load_shed::QueueDelay::new().target(ms(500)).interval(ms(900));
    let config = |limit| load_shed::Config::new().in_flight(limit).queue_delay(queue);
    let shedder = load_shed::Handle::new("x", config(1));
    let held = shedder.try_acquire().unwrap();
    let tasks = waiting(&fuse, (0..3).map(|_| shedder.acquire()));
    fuse.arm(true);
    shedder.reconfigure(config(9)).unwrap();
    fuse.arm(false);
    all_were_woken(&tasks);
    drop((held, tasks));
    assert_eq!(shedder.snapshot().in_flight, 0);

    // Those who wait to be ready.
    let breaker = breaker::Handle::new("x", consecutive(1).readiness(Readiness::Unready));
    fail(&breaker, 1);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(tower::service_fn(async |(): ()| answer()));
    let tasks = waiting(&fuse, (0..3).map(|_| ServiceExt::<()>::ready_oneshot(service.clone())));
    fuse.arm(true);
    breaker.reset();
    fuse.arm(false);
    all_were_woken(&tasks);
    while_a_permit_is_dropped(&fuse);
}

fn answer() -> Answer {
    Ok(1)
}

/// A permit that is dropped because somebody panics wakes others: a panic in there would be the end of the process.
fn while_a_permit_is_dropped(fuse: &Fuse) {
    struct Blind;

    impl Wake for Blind {
        fn wake(self: Arc<Self>) {
            // Not as the fuse, which spares those who panic already.
            std::panic::resume_unwind(Box::new(()));
        }
    }

    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(9));
    let held = places.try_acquire().unwrap();
    let waker = Waker::from(Arc::new(Blind));
    let mut task = Box::pin(places.acquire());
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    fuse.arm(true);
    assert!(blows(|| {
        let _held = held;
        fuse.here();
    }));
    fuse.arm(false);
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// A waker that panics in its end, which comes when nobody has it any more.
struct Last(Fuse);

impl Wake for Last {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.here();
    }
}

/// Polls with a waker that the room alone has then.
fn leave_alone<F: Future>(task: &mut Pin<Box<F>>, fuse: &Fuse) {
    let waker = Waker::from(Arc::new(Last(fuse.clone())));
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

/// Whoever's waker panics has lost his own wait at most.
pub(super) async fn dropped() {
    let fuse = Fuse::default();
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(1).max_queue(9));
    let queue = load_shed::QueueDelay::new().target(ms(500)).interval(ms(900));
    let shedder = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1).queue_delay(queue));
    // Another waker takes its place, the place is granted, the wait is given up.
    for way in 0..3 {
        let (place, shed) = (places.try_acquire().unwrap(), shedder.try_acquire().unwrap());
        let (mut one, mut other) = (Box::pin(places.acquire()), Box::pin(shedder.acquire()));
        leave_alone(&mut one, &fuse);
        leave_alone(&mut other, &fuse);
        fuse.arm(true);
        if way == 0 {
            assert!(blows(|| super::poll(&mut one).is_ready()) && blows(|| super::poll(&mut other).is_ready()));
        }
        let given = || drop((place, shed));
        if way == 1 {
            assert!(!blows(given), "who gives a place back is not to blame");
        } else {
            given();
        }
        let left = blows(|| drop(one)) | blows(|| drop(other));
        assert!(way != 2 || !left || fuse.times() > 0);
        fuse.arm(false);
        let (known, shed) = (places.snapshot(), shedder.snapshot());
        assert_eq!((known.running, known.waiting, shed.in_flight, shed.waiting), (0, 0, 0, 0), "{way}");
    }
    assert!(fuse.times() >= 4);
}
