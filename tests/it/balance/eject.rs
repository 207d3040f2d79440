//! Ejection: by the rules, by the clock, by hand.

use super::*;

use mainstay::balance::{MemberState, Mode};

use crate::support::advance;

/// Three in a row eject, for ten seconds.
fn three() -> Outlier {
    Outlier::new().consecutive_failures(3).eject_for(ms(10_000)).max_ejected(1.0)
}

fn state(handle: &Handle<Node>, number: usize) -> MemberState {
    handle.snapshot().members[number].state
}

#[tokio::test(start_paused = true)]
async fn an_outlier_gets_nothing_until_its_time_is_over() {
    let (handle, nodes) = set(Config::new().outlier(three()), 4);
    let events = events(&handle);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[2].fails(true);
    let mut failed = 0;
    for _ in 0..24 {
        failed += usize::from(call(&mut balance).await.is_err());
    }
    assert_eq!((failed, nodes[2].calls()), (3, 3));
    assert_eq!(told(&events), ["ejected users-02 consecutive_failures 1"]);
    let member = handle.snapshot().members.remove(2);
    assert_eq!((member.state, member.ejected_for), (MemberState::Ejected, Some(ms(10_000))));
    advance(ms(9_999)).await;
    assert_eq!(answers(&mut balance, 4).await.iter().filter(|node| **node == 2).count(), 0);
    advance(ms(1)).await;
    // Nobody has to call for that.
    assert_eq!(state(&handle, 2), MemberState::Active);
    assert_eq!(told(&events), ["readmitted users-02"]);
    nodes[2].fails(false);
    assert_eq!(shares(&mut balance, 8, 4).await, [2; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_never_ejected() {
    let (handle, nodes) = set(Config::new().outlier(three()).panic_threshold(0.0), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes.iter().for_each(|node| node.fails(true));
    for _ in 0..20 {
        assert_eq!(call(&mut balance).await, Err(Error::Inner(Boom)));
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.ejections, snapshot.usable), (1, 1));
    assert!(snapshot.held_back > 0);
}

#[tokio::test(start_paused = true)]
async fn what_began_before_an_ejection_counts_for_nothing_after_it() {
    let (handle, nodes) = set(Config::new().outlier(three()), 2);
    let events = events(&handle);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    nodes[0].takes(ms(1_000));
    // Twelve run, six of them there.
    let running: Vec<_> = (0..12).map(|_| tokio::spawn(balance.call(7))).collect();
    tokio::task::yield_now().await;
    advance(ms(1_000)).await;
    for task in running {
        let _ = task.await.unwrap();
    }
    assert_eq!(told(&events), ["ejected users-00 consecutive_failures 1"]);
    let member = handle.snapshot().members.remove(0);
    assert_eq!((member.failures, member.late, member.pending), (3, 3, 0));

    // And what began during the ejection, after its end.
    assert!(handle.readmit(&id(0)));
    assert!(!handle.readmit(&id(0)));
    assert_eq!(told(&events), ["readmitted users-00"]);
    nodes[0].takes(ms(0));
    let mut failed = 0;
    while state(&handle, 0) == MemberState::Active {
        failed += usize::from(call(&mut balance).await.is_err());
    }
    assert_eq!(failed, 3, "the row begins anew");
    assert_eq!(told(&events), ["ejected users-00 consecutive_failures 2"]);
    assert_eq!(handle.snapshot().members[0].ejected_for, Some(ms(20_000)), "longer than the first");
}

#[tokio::test(start_paused = true)]
async fn good_conduct_is_rewarded() {
    let (handle, nodes) = set(Config::new().outlier(three().interval(ms(1_000))), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    while state(&handle, 0) == MemberState::Active {
        let _ = call(&mut balance).await;
    }
    nodes[0].fails(false);
    assert_eq!(handle.snapshot().members[0].ejections, 1);
    advance(ms(9_500)).await;
    answers(&mut balance, 4).await;
    assert_eq!(handle.snapshot().members[0].ejections, 1, "while it is out nothing is forgiven");
    advance(ms(500)).await;
    answers(&mut balance, 4).await;
    advance(ms(1_000)).await;
    answers(&mut balance, 4).await;
    assert_eq!(handle.snapshot().members[0].ejections, 0);
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_lasts_until_somebody_says_otherwise() {
    let (handle, nodes) = set(Config::new().outlier(three()), 3);
    let events = events(&handle);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    assert!(handle.eject(&id(0)));
    assert!(!handle.eject(&id(0)), "it is out already");
    assert!(!handle.eject(&id(9)));
    assert_eq!(told(&events), ["ejected users-00 manual 0"]);
    advance(ms(1_000_000)).await;
    assert_eq!(shares(&mut balance, 8, 3).await, [0, 4, 4]);
    assert_eq!(handle.snapshot().members[0].ejected_for, None);
    // Nobody else: an operator may take out all of them, in a panic too.
    assert!(handle.eject(&id(1)) && handle.eject(&id(2)));
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance));
    assert!(handle.readmit(&id(0)));
    assert_eq!(answers(&mut balance, 2).await, [0, 0]);
    assert_eq!(nodes[0].calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_until_an_ejection_is_over() {
    let (handle, nodes) = set(Config::new().outlier(three()).panic_threshold(0.0), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    while state(&handle, 0) == MemberState::Active {
        let _ = call(&mut balance).await;
    }
    assert!(handle.remove(&id(1)));
    advance(ms(4_000)).await;
    let error = call(&mut balance).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(6_000)));
    advance(ms(6_000)).await;
    assert_eq!(call(&mut balance).await, Err(Error::Inner(Boom)));
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_use_the_handle_and_one_that_panics_does_no_harm() {
    let (handle, nodes) = set(Config::new().outlier(three()), 2);
    let again = handle.clone();
    handle.observe(move |event: &Event<'_>| {
        if let Event::Ejected(ejection) = event {
            assert!(again.readmit(&InstanceId::new(ejection.instance).unwrap()));
        }
    });
    handle.observe(|_: &Event<'_>| panic!("an observer"));
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    for _ in 0..24 {
        let _ = call(&mut balance).await;
    }
    assert_eq!(nodes[0].calls(), 12);
    assert_eq!(handle.snapshot().readmissions, 4);
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_traffic() {
    let (handle, nodes) = set(Config::new().outlier(three().mode(Mode::Off)), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    for _ in 0..20 {
        let _ = call(&mut balance).await;
    }
    assert_eq!(state(&handle, 0), MemberState::Active);
    handle.reconfigure(Config::new().outlier(three())).unwrap();
    while state(&handle, 0) == MemberState::Active {
        let _ = call(&mut balance).await;
    }
    handle.reconfigure(Config::new().outlier(Outlier::off())).unwrap();
    assert_eq!(state(&handle, 0), MemberState::Ejected, "an ejection that has begun goes on");
    advance(ms(10_000)).await;
    assert_eq!(state(&handle, 0), MemberState::Active, "and ends");
    assert_eq!(handle.snapshot().members[0].ejections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_time_without_failures_does_not_hide_the_first_ones() {
    let rule = Outlier::new().consecutive_failures(0).deviations(0.0).failure_rate(0.5).min_instances(1).min_calls(10);
    let (handle, nodes) = set(Config::new().outlier(rule), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    answers(&mut balance, 2_000).await;
    advance(ms(3_600_000)).await;
    answers(&mut balance, 2_000).await;
    nodes[0].fails(true);
    for _ in 0..20 {
        let _ = call(&mut balance).await;
    }
    advance(ms(9_999)).await;
    assert_eq!(state(&handle, 0), MemberState::Active);
    advance(ms(1)).await;
    assert_eq!(state(&handle, 0), MemberState::Ejected, "judged by what came since the first failure");
}

#[tokio::test(start_paused = true)]
async fn what_happened_while_nobody_looked_is_held_against_nobody() {
    let rule = Outlier::new().consecutive_failures(0).deviations(0.0).failure_rate(0.5).min_instances(1).min_calls(10);
    let (handle, nodes) = set(Config::new().outlier(rule.mode(Mode::Off)), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    for _ in 0..200 {
        let _ = call(&mut balance).await;
    }
    nodes[0].fails(false);
    advance(ms(86_400_000)).await;
    handle.reconfigure(Config::new().outlier(rule)).unwrap();
    answers(&mut balance, 20).await;
    assert_eq!(state(&handle, 0), MemberState::Active, "that was a day ago");
    nodes[0].fails(true);
    for _ in 0..40 {
        let _ = call(&mut balance).await;
    }
    advance(ms(10_000)).await;
    assert_eq!(state(&handle, 0), MemberState::Ejected);
}
