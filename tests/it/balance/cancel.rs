//! Cancellation at every await point, and panics in whatever is not ours.

use super::*;

use std::task::Context;

use mainstay::{
    balance::{ConsistentHash, KeyHasher, LeastLoaded, PeakEwma},
    breaker,
};

use crate::support::{advance, consecutive, panics, poll_once};

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_any_number_of_polls_leaves_nothing_behind() {
    for polls in 0..6 {
        let (handle, nodes) = set(calm().breaker(consecutive(1)), 4);
        let mut balance = Balance::new(&handle, PeakEwma);
        nodes.iter().for_each(|node| node.becomes(Ready::Later));
        nodes[0].takes(ms(10));
        let mut future = balance.call(7);
        for poll in 0..polls {
            if poll == 2 {
                nodes.iter().for_each(|node| node.becomes(Ready::Now));
                nodes.iter().for_each(|node| node.takes(ms(10)));
            }
            let answer = poll_once(&mut future);
            assert_eq!(answer.is_ready(), poll == 4, "poll {poll}");
            if poll == 3 {
                advance(ms(10)).await;
            }
            if answer.is_ready() {
                break;
            }
        }
        drop(future);
        let snapshot = handle.snapshot();
        assert_eq!(pending(&handle), 0, "after {polls}");
        let calls: u64 = snapshot.members.iter().map(|member| member.calls).sum();
        assert_eq!(calls, u64::from(polls >= 5), "after {polls}");
        assert!(snapshot.members.iter().all(|member| member.failures == 0));
        for member in &snapshot.members {
            let breaker = member.breaker.as_ref().unwrap();
            assert_eq!((breaker.state, breaker.probes_running), (breaker::State::Closed, 0));
        }
        // And the next call is as the first.
        nodes.iter().for_each(|node| node.takes(ms(0)));
        nodes.iter().for_each(|node| node.becomes(Ready::Now));
        assert!(call(&mut balance).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_gives_its_place_back() {
    let (handle, nodes) = set(calm().breaker(consecutive(1)), 1);
    let breaker = handle.breaker(&id(0)).unwrap();
    breaker.acquire().unwrap().failure();
    advance(ms(10_000)).await;
    nodes[0].becomes(Ready::Later);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    let mut probe = balance.call(7);
    assert!(poll_once(&mut probe).is_pending());
    assert_eq!(breaker.snapshot().probes_running, 1);
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance), "the one probe is taken");
    drop(probe);
    assert_eq!(breaker.snapshot().probes_running, 0);
    nodes[0].becomes(Ready::Now);
    assert_eq!(call(&mut balance).await, Ok(0));
    assert_eq!(breaker.state(), breaker::State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_is_a_sample_of_its_latency_and_no_failure() {
    let (handle, nodes) = set(calm(), 1);
    let mut balance = Balance::new(&handle, PeakEwma);
    nodes[0].takes(ms(60_000));
    let mut future = balance.call(7);
    assert!(poll_once(&mut future).is_pending());
    advance(ms(3_000)).await;
    drop(future);
    let member = handle.snapshot().members.remove(0);
    assert_eq!((member.pending, member.calls, member.cancelled), (0, 0, 1));
    assert!((member.load - 3.0).abs() < 0.01, "{}", member.load);
}

/// What panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Clone,
    Ready,
    Call,
    Poll,
    Drop,
}

struct Fragile(Arc<Mutex<Option<At>>>);

impl Fragile {
    fn at(&self, at: At) {
        let due = self.0.try_lock().is_ok_and(|now| *now == Some(at));
        assert!(!due || std::thread::panicking(), "{at:?}");
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        self.at(At::Clone);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.at(At::Drop);
    }
}

impl Service<u32> for Fragile {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        self.at(At::Ready);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        self.at(At::Call);
        let inner = Fragile(Arc::clone(&self.0));
        Box::pin(async move {
            inner.at(At::Poll);
            Ok(1)
        })
    }
}

#[test]
fn a_panic_anywhere_in_a_service_is_a_failure_and_leaves_nothing_behind() {
    for at in [At::Clone, At::Ready, At::Call, At::Poll, At::Drop] {
        let when = Arc::new(Mutex::new(None));
        let handle = Handle::new("users", calm().breaker(consecutive(9)));
        handle.insert(Arc::new(instance(0)), Fragile(Arc::clone(&when)));
        let mut balance = Balance::new(&handle, LeastLoaded);
        *when.lock().unwrap() = Some(at);
        let call = |balance: &mut Balance<Fragile, LeastLoaded>| poll_once(&mut balance.call(7));
        assert!(panics(|| call(&mut balance)), "{at:?}");
        let member = handle.snapshot().members.remove(0);
        assert_eq!((member.pending, member.calls, member.failures), (0, 1, 1), "{at:?}");
        assert_eq!(member.breaker.unwrap().window.failure, 1, "{at:?}");
        *when.lock().unwrap() = None;
        assert_eq!(call(&mut balance), Poll::Ready(Ok(1)), "{at:?}");
    }
}

#[test]
fn a_panic_in_a_steer_or_a_key_is_the_callers_and_counts_for_nobody() {
    #[derive(Clone)]
    struct Bad(bool);

    impl Steer<u32> for Bad {
        fn avoids(&self, request: &u32, _: &Instance) -> bool {
            assert!(self.0 || *request != 7, "in avoids");
            false
        }

        fn picked(&self, request: &u32, _: &Arc<Instance>) {
            assert!(!self.0 || *request != 7, "in picked");
        }
    }

    let (handle, _) = set(calm(), 3);
    for when in [false, true] {
        let mut balance = Balance::new(&handle, RoundRobin::new()).steer(Bad(when));
        assert!(panics(|| poll_once(&mut balance.call(7))));
        assert_eq!(poll_once(&mut balance.call(8)).map(|answer| answer.is_ok()), Poll::Ready(true));
    }
    let by_key = ConsistentHash::new([0; 16], |request: &u32, _: &mut KeyHasher| assert_ne!(*request, 7));
    let mut balance = Balance::new(&handle, by_key);
    assert!(panics(|| poll_once(&mut balance.call(7))));
    assert_eq!(poll_once(&mut balance.call(8)).map(|answer| answer.is_ok()), Poll::Ready(true));
    let snapshot = handle.snapshot();
    assert_eq!(pending(&handle), 0);
    assert!(snapshot.members.iter().all(|member| member.failures == 0));
}

#[test]
fn a_classifier_decides_what_counts_and_may_panic() {
    let (handle, nodes) = set(calm(), 1);
    nodes[0].fails(true);
    let plain = Balance::new(&handle, RoundRobin::new());
    let mut never = plain.classify(|_: Result<&u32, &Error<Boom>>| mainstay::Outcome::Ignored);
    assert_eq!(poll_once(&mut never.call(7)), Poll::Ready(Err(Error::Inner(Boom))));
    let mut bad = plain.classify(|_: Result<&u32, &Error<Boom>>| -> mainstay::Outcome { panic!("a classifier") });
    nodes[0].fails(false);
    assert!(!panics(|| assert_eq!(poll_once(&mut bad.call(7)), Poll::Ready(Ok(0)))));
    let member = handle.snapshot().members.remove(0);
    assert_eq!((member.ignored, member.calls, member.failures, member.pending), (1, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_dropped_with_the_set_may_use_the_set() {
    struct Nosy(Arc<Mutex<Option<Handle<Nosy>>>>);

    impl Drop for Nosy {
        fn drop(&mut self) {
            let handle = self.0.lock().unwrap().clone();
            assert!(handle.is_none_or(|handle| handle.len() < 3), "no lock is held");
        }
    }

    let handle = Handle::new("users", calm());
    let back = Arc::new(Mutex::new(Some(handle.clone())));
    handle.insert(Arc::new(instance(0)), Nosy(Arc::clone(&back)));
    handle.insert(Arc::new(instance(1)), Nosy(Arc::clone(&back)));
    let _ = handle.snapshot();
    handle.insert(Arc::new(instance(0)), Nosy(Arc::clone(&back)));
    handle.remove(&id(1));
    let _ = handle.snapshot();
    handle.sync([Arc::new(instance(2)), Arc::new(instance(2))], |_| Nosy(Arc::clone(&back)));
    assert_eq!(handle.len(), 1);
    *back.lock().unwrap() = None;
}

#[tokio::test(start_paused = true)]
async fn a_service_may_change_the_set_from_wherever_it_is() {
    /// It puts itself out and in at every opportunity, and is ready at the second question.
    struct Busy(Arc<Mutex<Option<Handle<Busy>>>>, bool);

    impl Busy {
        fn meddle(&self) {
            let handle = self.0.lock().unwrap().clone();
            if let Some(handle) = handle {
                let _ = (handle.snapshot(), handle.eject(&id(0)), handle.readmit(&id(0)), handle.remove(&id(9)));
                handle.update(&Arc::new(instance(0).with_draining(false)));
            }
        }
    }

    impl Clone for Busy {
        fn clone(&self) -> Self {
            self.meddle();
            Self(Arc::clone(&self.0), false)
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.meddle();
        }
    }

    impl Service<u32> for Busy {
        type Response = u32;
        type Error = Error<Boom>;
        type Future = std::future::Ready<Answer>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
            self.meddle();
            if std::mem::replace(&mut self.1, true) {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, request: u32) -> Self::Future {
            self.meddle();
            std::future::ready(Ok(request))
        }
    }

    let (handle, back) = (Handle::new("users", Config::new()), Arc::new(Mutex::new(None)));
    (0..3).for_each(|number| handle.insert(Arc::new(instance(number)), Busy(Arc::clone(&back), false)));
    *back.lock().unwrap() = Some(handle.clone());
    let mut balance = Balance::new(&handle, RoundRobin::new());
    for _ in 0..20 {
        assert_eq!(tokio::time::timeout(ms(1_000), balance.call(7)).await.unwrap(), Ok(7));
    }
    handle.sync([], |_| unreachable!("nobody is new"));
    let pending = handle.snapshot().members.iter().map(|member| member.pending).sum::<u32>();
    assert_eq!((pending, handle.len()), (0, 0));
    *back.lock().unwrap() = None;
}
