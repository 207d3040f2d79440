//! A changing set of instances: calls that begin and end while members come, go and are ejected.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use loom::thread;
use mainstay::{
    BoxError,
    balance::{Balance, Config, Handle, MemberState, Outlier, RoundRobin},
    contract::{Instance, InstanceId},
};
use tower::Service;

use crate::support::{at_second, block_on, model};

/// Says which member it is, or fails.
#[derive(Clone)]
struct Member {
    id: u16,
    fails: bool,
}

impl Service<()> for Member {
    type Response = u16;
    type Error = BoxError;
    type Future = Ready<Result<u16, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(if self.fails { Err("it fails".into()) } else { Ok(self.id) })
    }
}

type Users = Balance<Member, RoundRobin>;

fn instance(id: u16) -> Arc<Instance> {
    Arc::new(Instance::new("users", &format!("users-{id}"), "10.0.0.1", id).unwrap())
}

fn id(member: u16) -> InstanceId {
    instance(member).id().clone()
}

/// Members that work, with these settings, and a balancer over them.
fn of(members: &[u16], outlier: Outlier) -> (Handle<Member>, Users) {
    let handle = Handle::new("users", Config::new().outlier(outlier));
    for id in members {
        handle.insert(instance(*id), Member { id: *id, fails: false });
    }
    let users = Balance::new(&handle, RoundRobin::new());
    (handle, users)
}

/// Ejects what has failed once, for ten seconds.
fn strict() -> Outlier {
    let outlier = Outlier::new().consecutive_failures(1).max_ejected(1.0).interval(Duration::from_secs(100));
    outlier.eject_for(Duration::from_secs(10))
}

fn call(users: &mut Users) -> Option<u16> {
    block_on(users.call(())).ok()
}

/// No call runs any more; how many were counted.
fn at_rest(handle: &Handle<Member>) -> u64 {
    let snapshot = handle.snapshot();
    assert!(snapshot.members.iter().all(|member| member.pending == 0), "{snapshot:?}");
    snapshot.members.iter().map(|member| member.calls).sum()
}

#[test]
fn balance_a_call_after_a_removal_gets_another_member() {
    model(|| {
        let (handle, mut users) = of(&[1, 2], Outlier::off());
        let mut other = users.clone();
        let thread = thread::spawn(move || call(&mut other));
        handle.remove(&id(1));
        assert_eq!(call(&mut users), Some(2));
        assert!(matches!(thread.join().unwrap(), Some(1 | 2)), "each call is answered by one that was there");
        assert_eq!(handle.instances().len(), 1);
        assert!((1..=2).contains(&at_rest(&handle)));
    });
}

#[test]
fn balance_all_are_replaced_at_once() {
    model(|| {
        let (handle, users) = of(&[1, 2], Outlier::off());
        let caller = |mut users: Users| {
            thread::spawn(move || {
                let (first, second) = (call(&mut users).unwrap(), call(&mut users).unwrap());
                assert!(first < 3 || second >= 3, "{second} after {first}");
                u64::from(first >= 3) + u64::from(second >= 3)
            })
        };
        let caller = caller(users.clone());
        handle.sync([3, 4].map(instance), |instance| Member { id: instance.port(), fails: false });
        let calls = caller.join().unwrap();
        assert_eq!(at_rest(&handle), calls);
        let mut users = users;
        assert!(matches!((call(&mut users), call(&mut users)), (Some(3), Some(4)) | (Some(4), Some(3))));
    });
}

#[test]
fn balance_who_comes_is_found() {
    model(|| {
        let (handle, mut users) = of(&[], Outlier::off());
        let mut other = users.clone();
        let thread = thread::spawn(move || call(&mut other));
        handle.insert(instance(1), Member { id: 1, fails: false });
        let early = thread.join().unwrap();
        assert_eq!(call(&mut users), Some(1));
        assert_eq!(handle.snapshot().no_instance, u64::from(early.is_none()));
        assert_eq!(at_rest(&handle), 1 + u64::from(early.is_some()));
    });
}

#[test]
fn balance_two_clones_see_every_change() {
    model(|| {
        let (handle, mut users) = of(&[1], Outlier::off());
        let mut other = users.clone();
        let thread = thread::spawn(move || {
            assert!(call(&mut other).is_some());
            other
        });
        handle.insert(instance(2), Member { id: 2, fails: false });
        assert!(call(&mut users).is_some());
        handle.remove(&id(1));
        let mut other = thread.join().unwrap();
        assert_eq!((call(&mut users), call(&mut other)), (Some(2), Some(2)));
    });
}

#[test]
fn balance_two_that_fail_at_once_eject_once() {
    model(|| {
        // Three, so that it is not for want of others that it is ejected once.
        let (handle, mut users) = of(&[2, 3], strict());
        handle.insert(instance(1), Member { id: 1, fails: true });
        // In turn: each thread has one call to the member that fails.
        let mut all = || [users.call(()), users.call(()), users.call(())];
        let (mine, theirs) = (all(), all());
        let end = |calls: [_; 3]| {
            for call in calls {
                let _ = block_on(call);
            }
        };
        let thread = thread::spawn(move || end(theirs));
        end(mine);
        thread.join().unwrap();
        let snapshot = handle.snapshot();
        let [bad, good @ ..] = &snapshot.members[..] else { unreachable!("there are three") };
        assert_eq!((bad.state, snapshot.ejections, bad.ejections), (MemberState::Ejected, 1, 1));
        assert!(good.iter().all(|member| member.state == MemberState::Active && member.calls == 2));
        assert_eq!(bad.calls + bad.late, 2);
        at_rest(&handle);
        assert_ne!(call(&mut users), Some(1));
    });
}

#[test]
fn balance_a_result_from_before_an_ejection_decides_nothing() {
    model(|| {
        let (handle, mut users) = of(&[2], strict());
        handle.insert(instance(1), Member { id: 1, fails: true });
        // One of the two got the member that fails.
        let both = [users.call(()), users.call(())];
        assert!(handle.eject(&id(1)));
        let thread = thread::spawn(move || {
            for late in both {
                let _ = block_on(late);
            }
        });
        assert!(handle.readmit(&id(1)));
        thread.join().unwrap();
        at_rest(&handle);
        let bad = &handle.snapshot().members[0];
        assert_eq!((bad.late, bad.calls, bad.failures), (1, 0, 0));
        assert_eq!((bad.ejections, bad.state), (0, MemberState::Active));
    });
}

#[test]
fn balance_one_that_has_gone_is_not_ejected_in_its_successor() {
    model(|| {
        let (handle, mut users) = of(&[2], strict());
        handle.insert(instance(1), Member { id: 1, fails: true });
        let both = [users.call(()), users.call(())];
        let thread = thread::spawn(move || {
            for late in both {
                let _ = block_on(late);
            }
        });
        handle.insert(instance(1), Member { id: 1, fails: false });
        thread.join().unwrap();
        at_rest(&handle);
        let successor = &handle.snapshot().members[0];
        assert_eq!((successor.state, successor.calls, successor.late), (MemberState::Active, 0, 0));
        assert!(matches!((call(&mut users), call(&mut users)), (Some(1), Some(2)) | (Some(2), Some(1))));
    });
}

#[test]
fn balance_an_ejection_ends_once_and_on_time() {
    model(|| {
        let (handle, mut users) = of(&[2], strict());
        handle.insert(instance(1), Member { id: 1, fails: true });
        let _ = (call(&mut users), call(&mut users));
        assert_eq!(handle.snapshot().members[0].state, MemberState::Ejected);
        let mut other = users.clone();
        let thread = thread::spawn(move || {
            at_second(10);
            drop(other.call(()));
        });
        at_second(10);
        drop(users.call(()));
        thread.join().unwrap();
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.readmissions, snapshot.usable), (1, 2));
        at_rest(&handle);
    });
}
