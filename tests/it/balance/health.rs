//! Health, panic, draining, slow start.

use super::*;

use mainstay::{
    balance::{MemberState, Random, SlowStart, Weighted},
    contract::Health,
};

use crate::support::advance;

#[tokio::test(start_paused = true)]
async fn healthy_instances_first_and_all_of_them_in_a_panic() {
    let (handle, nodes) = set(calm(), 4);
    let events = events(&handle);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    restate(&handle, 0, |instance| instance.with_health(Health::unhealthy("down")));
    assert_eq!(shares(&mut balance, 12, 4).await, [0, 4, 4, 4]);
    restate(&handle, 1, |instance| instance.with_health(Health::degraded("slow")));
    assert_eq!(shares(&mut balance, 12, 4).await, [0, 4, 4, 4], "two of four are too few to carry all");
    assert_eq!(told(&events), [""; 0]);

    restate(&handle, 2, |instance| instance.with_health(Health::unhealthy("down")));
    restate(&handle, 3, |instance| instance.with_health(Health::unhealthy("down")));
    assert_eq!(shares(&mut balance, 12, 4).await, [3, 3, 3, 3]);
    assert_eq!(told(&events), ["panics true 1/4"]);
    assert!(handle.snapshot().panics);
    // Not even a panic sends calls to one that is about to go.
    restate(&handle, 3, |instance| instance.with_draining(true));
    assert_eq!(shares(&mut balance, 12, 4).await, [4, 4, 4, 0]);
    assert_eq!(told(&events), [""; 0], "told once");

    restate(&handle, 2, |instance| instance);
    assert_eq!(shares(&mut balance, 12, 4).await, [0, 6, 6, 0]);
    assert_eq!(told(&events), ["panics false 2/3"]);
    assert_eq!(handle.snapshot().panics_begun, 1);
    assert!(nodes.iter().all(|node| node.calls() > 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_threshold_nobody_unhealthy_is_called() {
    let (handle, _) = set(calm().panic_threshold(0.0), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    for number in 0..2 {
        restate(&handle, number, |instance| instance.with_health(Health::unhealthy("down")));
    }
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance));
}

#[tokio::test(start_paused = true)]
async fn a_draining_instance_finishes_its_calls_and_gets_no_new_ones() {
    let (handle, nodes) = set(calm(), 2);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes.iter().for_each(|node| node.takes(ms(100)));
    let running: Vec<_> = (0..2).map(|_| tokio::spawn(balance.call(7))).collect();
    tokio::task::yield_now().await;
    restate(&handle, 0, |instance| instance.with_draining(true));
    restate(&handle, 1, |instance| instance.with_weight(0).unwrap());
    let states: Vec<MemberState> = handle.snapshot().members.iter().map(|member| member.state).collect();
    assert_eq!(states, [MemberState::Draining; 2]);
    assert_eq!(pending(&handle), 2);
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance));
    advance(ms(100)).await;
    for task in running {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_just_come_gets_little_at_first() {
    let (handle, _) = set(calm().slow_start(SlowStart::new(ms(60_000))), 4);
    advance(ms(60_000)).await;
    handle.insert(Arc::new(instance(4)), Node::new(4));
    let share = |handle: &Handle<Node>| handle.snapshot().members[4].share;
    assert_eq!(share(&handle), 0.1);

    // A tenth of a fifth part is 1 of 41; bounds beyond seven deviations.
    let mut balance = Balance::new(&handle, Random);
    let first = shares(&mut balance, 8_200, 5).await[4];
    assert!((100..=320).contains(&first), "{first}");
    advance(ms(30_000)).await;
    assert_eq!(share(&handle), 0.5);
    // A half is 1 of 9.
    let mut balance = Balance::new(&handle, Weighted::new());
    let half = shares(&mut balance, 9_000, 5).await[4];
    assert!((750..=1_250).contains(&half), "{half}");
    advance(ms(30_000)).await;
    let whole = shares(&mut balance, 10_000, 5).await[4];
    assert!((1_990..=2_010).contains(&whole), "{whole}");
    assert_eq!(share(&handle), 1.0);

    // It comes back as if it were new.
    assert!(handle.eject(&id(4)) && handle.readmit(&id(4)));
    assert_eq!(share(&handle), 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_starts_together_shares_evenly() {
    let (handle, _) = set(calm().slow_start(SlowStart::new(ms(60_000))), 3);
    let mut balance = Balance::new(&handle, Random);
    let shares = shares(&mut balance, 9_000, 3).await;
    assert!(shares.iter().all(|share| (2_600..=3_400).contains(share)), "{shares:?}");
}
