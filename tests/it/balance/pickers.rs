//! Each picker's shares.

use super::*;

use std::hash::Hash;

use mainstay::balance::{ConsistentHash, KeyHasher, LeastLoaded, PeakEwma, Random, Weighted};

use crate::support::advance;

fn weighted(weights: &[u32]) -> Handle<Node> {
    let handle = Handle::new("users", calm());
    for (number, weight) in (0..).zip(weights) {
        handle.insert(Arc::new(instance(number).with_weight(*weight).unwrap()), Node::new(number));
    }
    handle
}

#[tokio::test(start_paused = true)]
async fn round_robin_is_exact_whatever_the_weights() {
    let mut balance = Balance::new(&weighted(&[1, 50, 100]), RoundRobin::new());
    let first = answers(&mut balance, 3).await;
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2]);
    for _ in 0..5 {
        assert_eq!(answers(&mut balance.clone(), 3).await, first, "clones on one thread go on where it stands");
    }
}

#[tokio::test(start_paused = true)]
async fn weighted_is_near_the_shares_in_every_run_of_calls() {
    let mut balance = Balance::new(&weighted(&[10, 20, 70]), Weighted::new());
    for _ in 0..20 {
        let shares = shares(&mut balance, 50, 3).await;
        for (share, due) in shares.iter().zip([5, 10, 35]) {
            assert!(share.abs_diff(due) <= 2, "{shares:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn random_follows_the_weights() {
    // Bounds beyond seven deviations.
    let shares = shares(&mut Balance::new(&weighted(&[10, 20, 70]), Random), 10_000, 3).await;
    for (share, due, off) in [(shares[0], 1_000, 210), (shares[1], 2_000, 280), (shares[2], 7_000, 330)] {
        assert!(share.abs_diff(due) <= off, "{shares:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn least_loaded_follows_the_weights_while_nothing_runs_and_the_load_when_it_does() {
    let idle = shares(&mut Balance::new(&weighted(&[10, 20, 70]), LeastLoaded), 10_000, 3).await;
    for (share, due, off) in [(idle[0], 1_000, 210), (idle[1], 2_000, 280), (idle[2], 7_000, 330)] {
        assert!(share.abs_diff(due) <= off, "{idle:?}");
    }

    let (handle, nodes) = set(calm(), 5);
    nodes.iter().for_each(|node| node.takes(ms(10)));
    nodes[3].takes(ms(1_000));
    let mut balance = Balance::new(&handle, LeastLoaded);
    let mut running = Vec::new();
    for _ in 0..400 {
        running.push(tokio::spawn(balance.call(7)));
        running.push(tokio::spawn(balance.call(7)));
        tokio::task::yield_now().await;
        advance(ms(5)).await;
    }
    assert!(nodes[3].calls() < 60, "a slow one gets less than its part of 160: {}", nodes[3].calls());
    advance(ms(2_000)).await;
    for task in running {
        task.await.unwrap().unwrap();
    }
    assert_eq!(pending(&handle), 0);
}

/// Trap: the load of an instance that fails at once is low.
#[tokio::test(start_paused = true)]
async fn one_that_fails_at_once_attracts_no_calls() {
    async fn failures<K: Pick<u32>>(picker: K) -> usize {
        let (handle, nodes) = set(calm(), 5);
        nodes.iter().for_each(|node| node.takes(ms(20)));
        nodes[2].takes(ms(0));
        nodes[2].fails(true);
        let mut balance = Balance::new(&handle, picker);
        let mut running = Vec::new();
        for _ in 0..1_000 {
            running.push(tokio::spawn(balance.call(7)));
            tokio::task::yield_now().await;
            advance(ms(5)).await;
        }
        drop(running);
        nodes[2].calls()
    }

    // An even share would be 200 of them.
    let (ewma, least) = (failures(PeakEwma).await, failures(LeastLoaded).await);
    assert!(ewma <= 10, "{ewma}");
    assert!(least <= 20, "{least}");
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_once_is_tried_again_by_an_idle_set() {
    let (handle, nodes) = set(calm(), 2);
    let mut balance = Balance::new(&handle, LeastLoaded);
    nodes[0].fails(true);
    while nodes[0].calls() == 0 {
        let _ = call(&mut balance).await;
    }
    nodes[0].fails(false);
    assert_eq!(shares(&mut balance, 50, 2).await, [0, 50]);
    advance(ms(31_000)).await;
    // That none of 200 goes there has a probability of 2^-200.
    assert!(shares(&mut balance, 200, 2).await[0] > 0);
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_prefers_the_quick_one() {
    let (handle, nodes) = set(calm(), 3);
    (0..3).for_each(|at| nodes[at].takes(ms([10, 10, 200][at])));
    let mut balance = Balance::new(&handle, PeakEwma);
    for _ in 0..300 {
        let running = tokio::spawn(balance.call(7));
        tokio::task::yield_now().await;
        advance(ms(5)).await;
        drop(running);
    }
    assert!(nodes[2].calls() < 40, "{}", nodes[2].calls());
    advance(ms(1_000)).await;
}

/// The request is its own key.
type User = fn(&u32, &mut KeyHasher);

fn by_request() -> ConsistentHash<User> {
    ConsistentHash::new([7; 16], |request: &u32, key: &mut KeyHasher| request.hash(key))
}

async fn homes(handle: &Handle<Node>, keys: u32) -> Vec<u32> {
    let mut balance = Balance::new(handle, by_request());
    let mut homes = Vec::new();
    for key in 0..keys {
        homes.push(balance.call(key).await.unwrap());
    }
    homes
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_at_home_and_few_move_when_one_goes() {
    let (handle, _) = set(calm(), 8);
    let before = homes(&handle, 2_000).await;
    assert_eq!(homes(&handle, 2_000).await, before);
    let mut counts = [0_usize; 8];
    before.iter().for_each(|home| counts[*home as usize] += 1);
    assert!(counts.iter().all(|count| (150..=380).contains(count)), "{counts:?}");

    assert!(handle.remove(&id(3)));
    let after = homes(&handle, 2_000).await;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(moved, counts[3], "only those that lived there");
    handle.insert(Arc::new(instance(3)), Node::new(3));
    assert_eq!(homes(&handle, 2_000).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_overflows_to_the_neighbours() {
    let (handle, nodes) = set(calm(), 8);
    nodes.iter().for_each(|node| node.takes(ms(100)));
    let mut balance = Balance::new(&handle, by_request());
    let running: Vec<_> = (0..400).map(|_| tokio::spawn(balance.call(42))).collect();
    let most = handle.snapshot().members.iter().map(|member| member.pending).max().unwrap();
    assert!(most <= 63, "1.25 times 50: {most}");
    tokio::task::yield_now().await;
    advance(ms(100)).await;
    for task in running {
        task.await.unwrap().unwrap();
    }
    assert_eq!(pending(&handle), 0);
    // And one whose circuit is open, or that cannot become ready, leaves its keys to the next.
    let home = homes(&handle, 1).await[0];
    nodes[home as usize].becomes(Ready::Fails);
    nodes.iter().for_each(|node| node.takes(ms(0)));
    let next = homes(&handle, 1).await[0];
    assert_ne!(next, home);
    assert_eq!(homes(&handle, 1).await[0], next);
}

#[tokio::test(start_paused = true)]
async fn few_keys_move_when_a_heavy_one_goes() {
    let (handle, _) = set(calm(), 12);
    for number in 0..12 {
        let weight = if number == 11 { 20 } else { 10 };
        assert!(handle.update(&Arc::new(instance(number).with_weight(weight).unwrap())));
    }
    let before = homes(&handle, 2_000).await;
    assert!(handle.remove(&id(11)));
    let after = homes(&handle, 2_000).await;
    let moved = before.iter().zip(&after).filter(|(from, to)| **from != 11 && from != to).count();
    assert_eq!(moved, 0, "only the keys of the one that went");
}
