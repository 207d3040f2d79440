//! The scenarios of established outlier detectors and load balancers.

use super::*;

use mainstay::{
    balance::{LeastLoaded, MemberState, Mode, PeakEwma},
    breaker,
};

use crate::support::{advance, poll_once};

pub(crate) const LEFT_OUT: &[(&str, &str)] = &[(
    "LB-05",
    "not built: turning a share of the calls away until so many instances work again is a setting of its own; slow \
     start, panic and load shedding do what it is for",
)];

/// The source's sets, in which any share may be ejected.
fn outlier() -> Outlier {
    Outlier::new().max_ejected(1.0)
}

/// Makes a call to one member end like this, whoever else is there.
async fn ends<K: Pick<u32> + Clone>(balance: &Balance<Node, K>, nodes: &[Node], number: u32, good: bool) {
    struct Only(u32);

    impl Steer<u32> for Only {
        fn avoids(&self, _: &u32, instance: &Instance) -> bool {
            *instance.id() != id(self.0)
        }
    }

    nodes[number as usize].fails(!good);
    let mut only = balance.steer(Only(number));
    assert_eq!(call(&mut only).await.is_ok(), good);
}

async fn end<K: Pick<u32> + Clone>(balance: &Balance<Node, K>, nodes: &[Node], number: u32, good_bad: (u32, u32)) {
    for _ in 0..good_bad.0 {
        ends(balance, nodes, number, true).await;
    }
    for _ in 0..good_bad.1 {
        ends(balance, nodes, number, false).await;
    }
}

fn out(handle: &Handle<Node>) -> Vec<usize> {
    let members = handle.snapshot().members;
    let is_out = |at: &usize| members[*at].state == MemberState::Ejected;
    (0..members.len()).filter(is_out).collect()
}

fn balanced(outlier: Outlier, count: u32) -> (Handle<Node>, Vec<Node>, Balance<Node, RoundRobin>) {
    let (handle, nodes) = set(Config::new().outlier(outlier).panic_threshold(0.0), count);
    let balance = Balance::new(&handle, RoundRobin::new());
    (handle, nodes, balance)
}

#[tokio::test(start_paused = true)]
async fn od_01_five_consecutive_failures_eject_and_time_brings_back() {
    let (handle, nodes, balance) = balanced(outlier(), 2);
    let events = events(&handle);
    end(&balance, &nodes, 0, (0, 1)).await;
    end(&balance, &nodes, 0, (1, 4)).await;
    assert!(out(&handle).is_empty());
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(out(&handle), [0]);
    assert_eq!(told(&events), ["ejected users-00 consecutive_failures 1"]);
    advance(ms(9_999)).await;
    assert_eq!(out(&handle), [0]);
    advance(ms(20_002)).await;
    assert!(out(&handle).is_empty());
    assert_eq!(told(&events), ["readmitted users-00"]);
    end(&balance, &nodes, 0, (0, 4)).await;
    advance(ms(9_999)).await;
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(out(&handle), [0]);
    assert_eq!(handle.snapshot().ejections, 2);
    assert!(handle.remove(&id(0)));
    assert!(out(&handle).is_empty());
}

#[tokio::test(start_paused = true)]
async fn od_02_ejecting_an_ejected_host_is_a_no_op() {
    let (handle, nodes, mut balance) = balanced(outlier(), 3);
    nodes[0].fails(true);
    // Fifteen failures that were on their way together.
    let mut running: Vec<_> = (0..45).map(|_| balance.call(7)).collect();
    running.iter_mut().for_each(|future| drop(poll_once(future)));
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.ejections, out(&handle)), (1, vec![0]));
    assert!(handle.eject(&id(0)), "by hand as well: it stays out when the other is over");
    assert!(!handle.eject(&id(0)));
    advance(ms(30_000)).await;
    assert_eq!(out(&handle), [0]);
    assert!(handle.readmit(&id(0)));
    assert!(out(&handle).is_empty());
}

#[tokio::test(start_paused = true)]
async fn od_04_maximum_ejection_time() {
    let terms = outlier().consecutive_failures(1).eject_for(ms(10_000)).eject_cap(ms(300_000)).interval(ms(86_400_000));
    let (handle, nodes, balance) = balanced(terms, 2);
    for n in 1..=39_u64 {
        end(&balance, &nodes, 0, (0, 1)).await;
        let lasts = handle.snapshot().members[0].ejected_for;
        assert_eq!(lasts, Some(ms(10_000) * n.min(30) as u32), "the {n}-th");
        advance(lasts.unwrap()).await;
        assert!(out(&handle).is_empty());
    }
    // A cap below the first is refused; one that nobody set follows.
    assert!(Config::new().outlier(outlier().eject_for(ms(400_000))).check().is_ok());
    assert!(Config::new().outlier(outlier().eject_for(ms(400_000)).eject_cap(ms(300_000))).check().is_err());
}

#[tokio::test(start_paused = true)]
async fn od_05_ejection_jitter_is_in_its_range() {
    let (handle, nodes, balance) = balanced(outlier().consecutive_failures(1).eject_jitter(ms(10_000)), 2);
    end(&balance, &nodes, 0, (0, 1)).await;
    let lasts = handle.snapshot().members[0].ejected_for.unwrap();
    assert!(lasts >= ms(30_000) && lasts <= ms(40_000), "{lasts:?}");
}

#[tokio::test(start_paused = true)]
async fn od_06_success_rate_outlier_by_standard_deviation() {
    let rates = outlier().consecutive_failures(0);
    for (good, bad, expected) in [(200, 200, vec![4]), (25, 25, vec![])] {
        let (handle, nodes, balance) = balanced(rates, 5);
        for number in 0..4 {
            end(&balance, &nodes, number, (200, 0)).await;
        }
        end(&balance, &nodes, 4, (good, bad)).await;
        assert!(out(&handle).is_empty());
        advance(ms(10_000)).await;
        assert_eq!(out(&handle), expected);
        advance(ms(9_999)).await;
        assert_eq!(out(&handle), expected);
        advance(ms(30_002)).await;
        assert!(out(&handle).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn od_08_failure_percentage() {
    let rule = outlier().consecutive_failures(0).deviations(0.0).failure_rate(0.85).min_calls(50);
    let (handle, nodes, balance) = balanced(rule, 5);
    for number in 0..5 {
        end(&balance, &nodes, number, (50, 0)).await;
    }
    end(&balance, &nodes, 3, (0, 250)).await;
    end(&balance, &nodes, 4, (0, 300)).await;
    advance(ms(10_000)).await;
    assert_eq!(out(&handle), [4]);
}

#[tokio::test(start_paused = true)]
async fn od_09_shadow_mode_tells_and_does_not_eject() {
    let (handle, nodes, balance) = balanced(outlier().mode(Mode::Shadow), 2);
    let events = events(&handle);
    end(&balance, &nodes, 0, (0, 250)).await;
    assert_eq!(told(&events), vec!["ejected users-00 consecutive_failures 1 in shadow"; 50]);
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.ejections, snapshot.shadow_ejections), (0, 50));
    assert!(out(&handle).is_empty());
}

#[tokio::test(start_paused = true)]
async fn od_10_a_sweep_over_nobody() {
    let rule = outlier().min_instances(1).min_calls(1).failure_rate(0.01);
    let (handle, _, mut balance) = balanced(rule, 0);
    advance(ms(10_000)).await;
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance));
    handle.insert(Arc::new(instance(0)), Node::new(0));
    advance(ms(10_000)).await;
    assert_eq!(call(&mut balance).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn od_12_volume_and_host_minimums() {
    let rate = outlier().consecutive_failures(0);
    for (min_instances, min_calls, good, bad, expected) in [
        (5, 20, 20, 19, vec![]),
        (5, 20, 20, 20, vec![5]),
        // One of five has too few calls.
        (6, 20, 19, 20, vec![]),
        (5, 100, 20, 20, vec![]),
    ] {
        for rule in [rate, rate.deviations(0.0).failure_rate(0.5)] {
            let (handle, nodes, balance) = balanced(rule.min_instances(min_instances).min_calls(min_calls), 6);
            for number in 0..5 {
                end(&balance, &nodes, number, (if number == 0 { good } else { 20 }, 0)).await;
            }
            end(&balance, &nodes, 5, (0, bad)).await;
            advance(ms(10_000)).await;
            assert_eq!(out(&handle), expected, "{min_instances} {min_calls} {good} {bad}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn od_13_both_algorithms_together() {
    let rule = outlier().consecutive_failures(0).deviations(1.0).failure_rate(0.01).min_instances(1).min_calls(1);
    let (handle, nodes, balance) = balanced(rule, 5);
    for (number, good_bad) in [(0, (0, 20)), (1, (0, 20)), (2, (0, 1)), (3, (20, 0)), (4, (20, 0))] {
        end(&balance, &nodes, number, good_bad).await;
    }
    advance(ms(10_000)).await;
    assert_eq!(out(&handle), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn od_15_a_new_interval_counts_from_the_last_sweep() {
    let rule = outlier().consecutive_failures(0).failure_rate(0.5).min_instances(1).min_calls(1);
    let (handle, nodes, balance) = balanced(rule.interval(ms(8_000)), 2);
    end(&balance, &nodes, 0, (0, 5)).await;
    advance(ms(5_000)).await;
    handle.reconfigure(Config::new().outlier(rule.interval(ms(9_000))).panic_threshold(0.0)).unwrap();
    assert!(out(&handle).is_empty());
    advance(ms(3_999)).await;
    assert!(out(&handle).is_empty());
    advance(ms(1)).await;
    assert_eq!(out(&handle), [0]);
}

#[tokio::test(start_paused = true)]
async fn od_16_a_member_that_went_and_came_is_another() {
    let (handle, nodes, balance) = balanced(outlier(), 3);
    end(&balance, &nodes, 0, (0, 5)).await;
    assert_eq!(out(&handle), [0]);
    restate(&handle, 0, |instance| instance.with_metadata("zone", "eu-1").unwrap());
    assert_eq!(out(&handle), [0], "the ejection is that of the instance, whatever else is said of it");
    assert!(handle.remove(&id(0)));
    handle.insert(Arc::new(instance(0)), nodes[0].clone());
    assert!(out(&handle).is_empty());
    assert_eq!(handle.snapshot().members[0].ejections, 0);
    end(&balance, &nodes, 0, (0, 4)).await;
    assert!(out(&handle).is_empty());
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(out(&handle), [0]);
}

/// Per instance the breaker does what the source's failure accrual does.
fn accrual(breaker: breaker::Config, count: u32) -> (Handle<Node>, Vec<Node>, Balance<Node, RoundRobin>) {
    let (handle, nodes) = set(calm().breaker(breaker.probes(1)), count);
    let balance = Balance::new(&handle, RoundRobin::new());
    (handle, nodes, balance)
}

fn open_for(handle: &Handle<Node>) -> Option<Duration> {
    handle.breaker(&id(0)).unwrap().snapshot().open_remaining
}

#[tokio::test(start_paused = true)]
async fn od_17_consecutive_failures_of_a_node() {
    let three = breaker::Config::new().no_failure_rate().consecutive_failures(3).open_for(ms(5_000));
    let (handle, nodes, balance) = accrual(three, 2);
    end(&balance, &nodes, 0, (0, 2)).await;
    assert_eq!(open_for(&handle), None);
    end(&balance, &nodes, 0, (1, 2)).await;
    assert_eq!(open_for(&handle), None, "a success begins the row anew");
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(open_for(&handle), Some(ms(5_000)));

    // A back-off that grows up to 300 s, and begins anew after a revival.
    let one = breaker::Config::new().no_failure_rate().consecutive_failures(1);
    let (handle, nodes, balance) = accrual(one.open_for(ms(5_000)).open_growth(2.0, ms(300_000)), 2);
    for secs in [5, 10, 20, 40, 80, 160, 300, 300] {
        end(&balance, &nodes, 0, (0, 1)).await;
        assert_eq!(open_for(&handle), Some(ms(secs * 1_000)));
        advance(ms(secs * 1_000)).await;
    }
    end(&balance, &nodes, 0, (1, 0)).await;
    assert_eq!(open_for(&handle), None);
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(open_for(&handle), Some(ms(5_000)));
}

#[tokio::test(start_paused = true)]
async fn od_18_a_row_of_failures_or_a_success_rate() {
    let both = breaker::Config::new()
        .failure_rate(0.2)
        // Twice the source's: the edge of a window of buckets lies somewhere within a bucket.
        .time_window(ms(60_000))
        .minimum_calls(30)
        .consecutive_failures(3)
        .open_for(ms(5_000));
    let (handle, nodes, balance) = accrual(both, 2);
    for _ in 0..14 {
        end(&balance, &nodes, 0, (1, 0)).await;
        advance(ms(1_000)).await;
        end(&balance, &nodes, 0, (0, 1)).await;
        advance(ms(1_000)).await;
    }
    assert_eq!(open_for(&handle), None, "too few calls for a rate");
    end(&balance, &nodes, 0, (1, 1)).await;
    assert_eq!(open_for(&handle), Some(ms(5_000)));
    advance(ms(5_000)).await;
    end(&balance, &nodes, 0, (1, 2)).await;
    assert_eq!(open_for(&handle), None, "after a revival it takes a whole row");
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(open_for(&handle), Some(ms(5_000)));
}

#[tokio::test(start_paused = true)]
async fn od_19_node_life_cycle() {
    let three = breaker::Config::new().no_failure_rate().consecutive_failures(3).open_for(ms(10_000));
    let (handle, nodes, balance) = accrual(three, 2);
    let state = || handle.breaker(&id(0)).unwrap().state();
    end(&balance, &nodes, 0, (0, 3)).await;
    assert_eq!(state(), breaker::State::Open);
    advance(ms(10_000)).await;
    assert_eq!(state(), breaker::State::HalfOpen, "it is there for a probe");
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(state(), breaker::State::Open);
    advance(ms(10_000)).await;

    // While a probe runs, it is busy for everybody else.
    nodes[0].fails(false);
    nodes[0].takes(ms(100));
    let mut both = balance.clone();
    let running: Vec<_> = (0..4).map(|_| tokio::spawn(both.call(7))).collect();
    tokio::task::yield_now().await;
    advance(ms(100)).await;
    for task in running {
        task.await.unwrap().unwrap();
    }
    nodes[0].takes(ms(0));
    assert_eq!((nodes[0].calls(), state()), (5, breaker::State::Closed));
    end(&balance, &nodes, 0, (0, 2)).await;
    assert_eq!(state(), breaker::State::Closed, "again it takes three");

    // A failure to be ignored is neither a failure nor a success.
    let breaker = handle.breaker(&id(0)).unwrap();
    breaker.acquire().unwrap().record(mainstay::Outcome::Ignored);
    end(&balance, &nodes, 0, (0, 1)).await;
    assert_eq!(state(), breaker::State::Open);
    advance(ms(10_000)).await;
    breaker.acquire().unwrap().record(mainstay::Outcome::Ignored);
    assert_eq!((state(), breaker.snapshot().probes_running), (breaker::State::HalfOpen, 0));
}

fn load(handle: &Handle<Node>) -> f64 {
    handle.snapshot().members[0].load
}

#[tokio::test(start_paused = true)]
async fn lb_02_peak_ewma_with_penalised_failures() {
    let fresh = || {
        let (handle, nodes) = set(calm(), 1);
        let balance = Balance::new(&handle, PeakEwma);
        (handle, nodes, balance)
    };
    let (handle, nodes, mut balance) = fresh();
    assert!((load(&handle) - 0.1).abs() < 1e-6);
    nodes[0].takes(ms(250));
    let first = poll_once_pending(&mut balance);
    assert!((load(&handle) - 0.2).abs() < 1e-6, "one runs");
    let second = poll_once_pending(&mut balance);
    assert!((load(&handle) - 0.3).abs() < 1e-6, "two run");
    advance(ms(250)).await;
    for mut future in [first, second] {
        assert!(poll_once(&mut future).is_ready());
    }
    assert!((load(&handle) - 0.25).abs() < 0.005, "{}", load(&handle));

    let (handle, nodes, balance) = fresh();
    end(&balance, &nodes, 0, (1, 0)).await;
    assert!(load(&handle) < 0.101);
    end(&balance, &nodes, 0, (0, 1)).await;
    assert!(load(&handle) > 4.0, "an instance that fails at once is expensive");
    assert!((load(&handle) - 5.0).abs() < 0.1);
    for _ in 0..2 {
        advance(ms(1_000)).await;
        end(&balance, &nodes, 0, (0, 1)).await;
    }
    assert!((load(&handle) - 5.0).abs() < 0.1);
    advance(ms(10_000)).await;
    assert!(load(&handle) > 1.0 && load(&handle) < 2.5, "{}", load(&handle));

    // A call that is given up after three seconds.
    let (handle, nodes, mut balance) = fresh();
    nodes[0].takes(ms(60_000));
    let future = poll_once_pending(&mut balance);
    advance(ms(3_000)).await;
    drop(future);
    assert!((load(&handle) - 3.0).abs() < 0.01);
    assert_eq!(pending(&handle), 0);
}

/// What a service asks for by `Retry-After` counts as well; up to five minutes.
#[tokio::test(start_paused = true)]
async fn lb_03_hints_and_the_primitive_behind_them() {
    struct Hint(u64);

    impl mainstay::Classify<u32, Error<Boom>> for Hint {
        fn classify(&self, _: Result<&u32, &Error<Boom>>) -> mainstay::Outcome {
            mainstay::Outcome::Failure
        }

        fn retry_after(&self, _: Result<&u32, &Error<Boom>>) -> Option<Duration> {
            Some(ms(self.0 * 1_000))
        }
    }

    for (hint, expected) in [(0, 5.0), (1, 5.0), (5, 5.0), (30, 30.0), (120, 120.0), (300, 300.0), (600, 300.0)] {
        let (handle, _) = set(calm(), 1);
        let mut balance = Balance::new(&handle, PeakEwma).classify(Hint(hint));
        let _ = balance.call(7).await;
        assert!((load(&handle) - expected).abs() < 0.1, "{hint}: {}", load(&handle));
        // Forgotten with a decay of ten seconds.
        advance(ms(10_000)).await;
        assert!((load(&handle) - expected * (-1.0_f64).exp()).abs() < expected * 0.001);
    }
}

fn poll_once_pending(balance: &mut Balance<Node, PeakEwma>) -> <Balance<Node, PeakEwma> as Service<u32>>::Future {
    let mut future = balance.call(7);
    assert!(poll_once(&mut future).is_pending());
    future
}

#[tokio::test(start_paused = true)]
async fn a_cap_on_how_many_are_ejected_holds_under_a_failure_of_all() {
    let (handle, nodes) = set(Config::new(), 40);
    let mut balance = Balance::new(&handle, LeastLoaded);
    nodes.iter().for_each(|node| node.fails(true));
    for _ in 0..4_000 {
        let _ = call(&mut balance).await;
    }
    assert_eq!(out(&handle).len(), 4, "a tenth of forty");
    assert!(!handle.snapshot().panics);
}
