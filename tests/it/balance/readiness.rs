//! Members that are not ready, cannot become so, or are refused by their breakers.

use super::*;

use mainstay::{
    balance::{LeastLoaded, MemberSnapshot},
    breaker,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq};

use crate::support::{advance, consecutive};

#[tokio::test(start_paused = true)]
async fn one_that_cannot_become_ready_fails_no_call_and_is_not_lost() {
    let (handle, nodes) = set(calm(), 3);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].becomes(Ready::Fails);
    nodes[1].becomes(Ready::Fails);
    assert_eq!(answers(&mut balance, 6).await, [2; 6]);
    nodes[0].becomes(Ready::Now);
    let shares = shares(&mut balance, 6, 3).await;
    assert!(shares[0] >= 2, "one readiness error loses nobody for ever: {shares:?}");
    assert!(handle.snapshot().members[1].failures > 0, "a readiness error is a failure of the instance");
    nodes[0].becomes(Ready::Fails);
    nodes[2].becomes(Ready::Fails);
    assert_eq!(call(&mut balance).await, Err(Error::Inner(Boom)), "when nobody can, the error of one of them");
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_pending_does_not_hold_the_call() {
    let (handle, nodes) = set(calm(), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].becomes(Ready::Later);
    assert_eq!(answers(&mut balance, 4).await, [1; 4]);
    assert_eq!(pending(&handle), 0);
    let members = handle.snapshot().members;
    assert_eq!((members[0].calls, members[0].cancelled, members[1].calls), (0, 0, 4));
    assert!(handle.snapshot().picked_again >= 2);
}

#[tokio::test(start_paused = true)]
async fn three_are_waited_for_and_the_first_that_is_ready_gets_the_request() {
    let (handle, nodes) = set(calm(), 5);
    let mut balance = Balance::new(&handle, LeastLoaded);
    nodes.iter().for_each(|node| node.becomes(Ready::Later));
    let mut task = tokio_test::task::spawn(balance.call(7));
    assert_pending!(task.poll());
    assert!(nodes.iter().all(|node| node.0.asked.load(SeqCst) == 1), "each is looked at");
    let waits: Vec<usize> = (0..5).filter(|at| handle.snapshot().members[*at].pending == 1).collect();
    assert_eq!(waits.len(), 3);
    nodes[waits[0]].becomes(Ready::Fails);
    assert!(task.is_woken());
    assert_pending!(task.poll());
    assert_eq!(pending(&handle), 3, "another one in its place");
    nodes[waits[2]].becomes(Ready::Now);
    assert!(task.is_woken());
    assert_ready_eq!(task.poll(), Ok(waits[2] as u32));
    assert_eq!(pending(&handle), 0);
    assert_eq!(nodes.iter().map(Node::calls).sum::<usize>(), 1);
    let members = handle.snapshot().members;
    assert_eq!(members.iter().map(|member| member.cancelled).sum::<u64>(), 0, "a call that was not made is none");
}

#[tokio::test(start_paused = true)]
async fn the_one_that_is_ready_is_found_among_many_that_are_not() {
    let (handle, nodes) = set(calm(), 40);
    nodes[1..].iter().for_each(|node| node.becomes(Ready::Later));
    let mut balance = Balance::new(&handle, LeastLoaded);
    assert_eq!(answers(&mut balance, 20).await, [0; 20]);
    nodes[0].becomes(Ready::Later);
    let (handle, nodes) = set(calm(), 200);
    nodes.iter().for_each(|node| node.becomes(Ready::Later));
    let mut task = tokio_test::task::spawn(Balance::new(&handle, RoundRobin::new()).call(7));
    assert_pending!(task.poll());
    let asked = nodes.iter().map(|node| node.0.asked.load(SeqCst)).sum::<usize>();
    assert_eq!((asked, pending(&handle)), (67, 3), "not all of very many");
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_is_waited_for_as_well() {
    let (handle, nodes) = set(calm(), 1);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].becomes(Ready::Later);
    let mut task = tokio_test::task::spawn(balance.call(7));
    assert_pending!(task.poll());
    assert_pending!(task.poll());
    handle.insert(Arc::new(instance(1)), Node::new(1));
    assert!(task.is_woken());
    assert_ready_eq!(task.poll(), Ok(1));
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_picked_and_its_probe_goes_through() {
    let (handle, nodes) = set(calm().breaker(consecutive(1)), 3);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    let breaker = handle.breaker(&id(1)).unwrap();
    assert_eq!(breaker.name().as_str(), "users/users-01");
    assert!(handle.breaker(&id(7)).is_none());
    nodes[1].fails(true);
    let mut failed = 0;
    for _ in 0..12 {
        failed += usize::from(call(&mut balance).await.is_err());
    }
    assert_eq!((failed, nodes[1].calls()), (1, 1));
    assert_eq!(breaker.state(), breaker::State::Open);
    assert_eq!(breaker.snapshot().totals.rejected, 0, "it is looked at, and not asked");

    nodes[1].fails(false);
    advance(ms(10_000)).await;
    nodes[1].takes(ms(100));
    let mut probe = Vec::new();
    for _ in 0..3 {
        probe.push(tokio::spawn(balance.call(7)));
    }
    tokio::task::yield_now().await;
    assert_eq!(breaker.state(), breaker::State::HalfOpen);
    // The probe is taken: the calls meanwhile go to the others.
    assert!(!answers(&mut balance, 6).await.contains(&1));
    advance(ms(100)).await;
    for task in probe {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(breaker.state(), breaker::State::Closed);
    assert_eq!(nodes[1].calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_until_a_circuit_lets_calls_in() {
    let (handle, _) = set(calm().breaker(consecutive(1)), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    handle.breaker(&id(0)).unwrap().acquire().unwrap().failure();
    advance(ms(4_000)).await;
    handle.breaker(&id(1)).unwrap().acquire().unwrap().failure();
    let error = call(&mut balance).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(6_000)));
    assert_eq!(error.to_string(), "\"users\" has no instance to call, retry in 6s");
    advance(ms(6_000)).await;
    assert_eq!(call(&mut balance).await, Ok(0));
    handle.breaker(&id(0)).unwrap().force_open();
    handle.breaker(&id(1)).unwrap().force_open();
    assert_eq!(call(&mut balance).await.unwrap_err().retry_after(), None, "until somebody says otherwise");
}

#[tokio::test(start_paused = true)]
async fn one_whose_circuits_are_all_open_is_replaced_by_who_stands_by() {
    let (handle, _) = set(calm().breaker(consecutive(1)), 4);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    restate(&handle, 3, |instance| instance.with_health(mainstay::contract::Health::degraded("slow")));
    assert!(!answers(&mut balance, 9).await.contains(&3));
    (0..3).for_each(|number| handle.breaker(&id(number)).unwrap().force_open());
    assert_eq!(answers(&mut balance, 3).await, [3; 3]);
}

/// The nodes that a call waits for now.
fn waited_for(handle: &Handle<Node>) -> Vec<usize> {
    let members = handle.snapshot().members;
    let number = |member: &MemberSnapshot| member.id.as_str().trim_start_matches("users-").parse().unwrap();
    members.iter().filter(|member| member.pending > 0).map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn those_that_were_passed_over_are_waited_for_when_there_is_room() {
    let (handle, nodes) = set(calm(), 5);
    nodes.iter().for_each(|node| node.becomes(Ready::Later));
    let mut task = tokio_test::task::spawn(Balance::new(&handle, RoundRobin::new()).call(7));
    assert_pending!(task.poll());
    let waits = waited_for(&handle);
    waits.iter().for_each(|at| nodes[*at].becomes(Ready::Fails));
    assert_pending!(task.poll(), "two are left that have not failed");
    let others = waited_for(&handle);
    assert_eq!(others.len(), 2);
    assert!(others.iter().all(|at| !waits.contains(at)), "{others:?} after {waits:?}");
    nodes[others[1]].becomes(Ready::Now);
    assert!(task.is_woken());
    assert_ready_eq!(task.poll(), Ok(others[1] as u32));
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_set_that_was_busy_everywhere_is_looked_at_again_when_those_waited_for_fail() {
    let (handle, nodes) = set(calm(), 100);
    nodes.iter().for_each(|node| node.becomes(Ready::Later));
    let mut task = tokio_test::task::spawn(Balance::new(&handle, RoundRobin::new()).call(7));
    assert_pending!(task.poll());
    for _ in 0..20 {
        let waits = waited_for(&handle);
        assert_eq!(waits.len(), 3);
        waits.iter().for_each(|at| nodes[*at].becomes(Ready::Fails));
        assert!(task.is_woken());
        assert_pending!(task.poll());
    }
    let waits = waited_for(&handle);
    nodes[waits[2]].becomes(Ready::Now);
    assert!(task.is_woken(), "somebody is waited for");
    assert_ready_eq!(task.poll(), Ok(waits[2] as u32));
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_one_that_has_left() {
    for large in [5, 100] {
        let (handle, nodes) = set(calm(), large);
        nodes.iter().for_each(|node| node.becomes(Ready::Later));
        let mut task = tokio_test::task::spawn(Balance::new(&handle, LeastLoaded).call(7));
        assert_pending!(task.poll());
        let waits = waited_for(&handle);
        handle.remove(&id(waits[0] as u32));
        restate(&handle, waits[1] as u32, |instance| instance.with_draining(true));
        handle.insert(Arc::new(instance(waits[2] as u32)), Node::new(waits[2] as u32));
        let removed = &nodes[waits[0]];
        nodes.iter().for_each(|node| node.0.asked.store(0, SeqCst));
        assert!(task.is_woken());
        if task.poll().is_pending() {
            assert_eq!(removed.0.asked.load(SeqCst), 0, "it is not even asked");
            assert_eq!(nodes[waits[1]].0.asked.load(SeqCst), 0);
            let now = waited_for(&handle);
            assert_eq!(now.len(), 3);
            nodes[now[0]].becomes(Ready::Now);
            assert!(task.is_woken());
            assert_ready_eq!(task.poll(), Ok(now[0] as u32));
        }
        assert_eq!(pending(&handle), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_told_when_all_have_left() {
    let (handle, nodes) = set(calm(), 2);
    nodes.iter().for_each(|node| node.becomes(Ready::Later));
    let mut task = tokio_test::task::spawn(Balance::new(&handle, LeastLoaded).call(7));
    assert_pending!(task.poll());
    assert!(handle.remove(&id(0)));
    assert!(task.is_woken());
    assert_pending!(task.poll());
    assert!(handle.eject(&id(1)));
    assert!(task.is_woken());
    assert_eq!(reason(&assert_ready!(task.poll())), Some(Reason::NoInstance));
    assert_eq!(pending(&handle), 0);
}
