//! Instances that come and go under many calls.

use super::*;

use mainstay::balance::{LeastLoaded, PeakEwma, Random};

use crate::support::advance;

/// A small generator, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn churn<K: Pick<u32>>(picker: K, seed: u64) {
    let mut dice = Dice(seed);
    let (handle, nodes) = set(calm(), 10);
    nodes.iter().for_each(|node| node.takes(ms(20)));
    let balance = Balance::new(&handle, picker);
    let mut running = Vec::new();
    for step in 0..400_u32 {
        for _ in 0..5 {
            let mut balance = balance.clone();
            running.push(tokio::spawn(async move { call(&mut balance).await }));
        }
        // Node 0 is always there and well: there is always one that can serve.
        let number = 1 + dice.roll(9) as u32;
        let node = &nodes[number as usize];
        match dice.roll(8) {
            0 => drop(handle.remove(&id(number))),
            1 | 2 => handle.insert(Arc::new(instance(number)), node.clone()),
            3 => node.becomes(Ready::Fails),
            4 => node.becomes(Ready::Later),
            5 => node.becomes(Ready::Now),
            6 => drop(handle.update(&Arc::new(instance(number).with_draining(dice.roll(2) == 0)))),
            _ => {
                let weight = instance(number).with_weight(dice.roll(200) as u32).unwrap();
                handle.update(&Arc::new(weight));
            }
        }
        if step % 3 == 0 {
            advance(ms(5)).await;
        }
        tokio::task::yield_now().await;
    }
    advance(ms(1_000)).await;
    for task in running {
        let answer = tokio::time::timeout(ms(60_000), task).await.expect("no call hangs").unwrap();
        assert!(answer.is_ok(), "{answer:?} with seed {seed}");
    }
    let snapshot = handle.snapshot();
    assert_eq!(pending(&handle), 0, "seed {seed}");
    assert_eq!(snapshot.no_instance, 0);
    assert_eq!(nodes.iter().map(Node::calls).sum::<usize>(), 2_000, "each request was handed over once");
}

#[tokio::test(start_paused = true)]
async fn no_call_fails_that_somebody_could_serve() {
    for seed in 1..=4 {
        churn(RoundRobin::new(), seed).await;
        churn(Random, seed).await;
        churn(LeastLoaded, seed).await;
        churn(PeakEwma, seed).await;
    }
}

#[test]
fn threads_that_call_while_others_change_the_set() {
    let (handle, nodes) = set(Config::new().outlier(Outlier::new().consecutive_failures(2).max_ejected(0.5)), 8);
    let balance = Balance::new(&handle, LeastLoaded);
    let stop = AtomicBool::new(false);
    let calls: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let mut balance = balance.clone();
                scope.spawn(move || {
                    (0..20_000).filter(|_| crate::support::poll_once(&mut balance.call(7)).is_ready()).count()
                })
            })
            .collect();
        let changer = scope.spawn(|| {
            let mut dice = Dice(7);
            while !stop.load(SeqCst) {
                let number = 1 + dice.roll(7) as u32;
                match dice.roll(5) {
                    0 => drop(handle.remove(&id(number))),
                    1 => handle.insert(Arc::new(instance(number)), nodes[number as usize].clone()),
                    2 => drop(handle.eject(&id(number))),
                    3 => drop(handle.readmit(&id(number))),
                    _ => nodes[number as usize].fails(dice.roll(2) == 0),
                }
                let _ = handle.snapshot();
                std::thread::yield_now();
            }
        });
        let calls = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        stop.store(true, SeqCst);
        changer.join().unwrap();
        calls
    });
    assert_eq!(calls, 60_000);
    assert_eq!(handle.snapshot().no_instance, 0, "the first is always there");
    assert_eq!(nodes.iter().map(Node::calls).sum::<usize>(), 60_000);
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_instances_come_at_once_and_one_by_one() {
    let handle = Handle::new("users", Config::new());
    let mut balance = Balance::new(&handle, LeastLoaded);
    let many = |count: u32| {
        let one = |n: u32| {
            Arc::new(Instance::new("users", &format!("users-{n:05}"), "10.0.0.7", 1 + (n % 60_000) as u16).unwrap())
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    let node = Node::new(1);
    handle.sync(many(10_000), |_| node.clone());
    assert_eq!(call(&mut balance).await, Ok(1));
    handle.sync(many(1), |_| unreachable!("it is known"));
    assert_eq!(handle.len(), 1);
    for one in many(10_000) {
        handle.insert(one, node.clone());
    }
    assert_eq!(call(&mut balance).await, Ok(1));
    node.becomes(Ready::Fails);
    assert_eq!(call(&mut balance).await, Err(Error::Inner(Boom)), "each was tried once");
    assert_eq!(node.0.asked.load(SeqCst), 10_002);
}
