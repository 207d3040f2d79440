//! Rows 17 to 19 and 27: amplification, herds, overload, and settings that change under traffic.

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::{pending, ready},
    rc::Rc,
};

use mainstay::{
    Error,
    breaker::{self, State},
    bulkhead, load_shed, rate_limit, retry,
};
use tokio_test::task;
use tower::{Layer, Service, service_fn};

use crate::support::*;

/// Whatever fails, whichever share of it.
fn failing(pattern: u32, n: u32) -> bool {
    match pattern {
        0 => true,
        1 => n % 2 == 0,
        2 => n / 1_000 % 2 == 0,
        _ => n.wrapping_mul(2_654_435_761) > u32::MAX / 10,
    }
}

#[tokio::test(start_paused = true)]
async fn three_nested_retries_make_no_more_calls_than_their_budgets_together() {
    const OFFERED: u32 = 20_000;
    for pattern in 0..4 {
        let made = Rc::new(Cell::new(0_u32));
        let counter = Rc::clone(&made);
        let service = service_fn(move |_: u32| {
            counter.set(counter.get() + 1);
            ready(if failing(pattern, counter.get()) { Answer::Err(Error::Inner(Boom)) } else { Ok(1) })
        });
        let layer = || {
            let budget = retry::BudgetConfig::new().ratio(0.2).min_per_second(0);
            let config = retry::Config::new().attempts(3).backoff(retry::Backoff::fixed(ms(0))).budget(budget);
            retry::RetryLayer::new(retry::Handle::new("x", config))
        };
        let mut nested = layer().layer(layer().layer(layer().layer(service)));
        for n in 0..OFFERED {
            let mut call = task::spawn(nested.call(n));
            while call.poll().is_pending() {
                advance(ms(1)).await;
            }
        }
        let most = f64::from(OFFERED) * 1.2 * 1.2 * 1.2;
        assert!(f64::from(made.get()) <= most, "pattern {pattern}: {} calls of {OFFERED}", made.get());
        assert!(made.get() > OFFERED, "something was tried again");
    }
}

/// When the circuits of five hundred clients, which opened together, let their first call through: how many of them in
/// the same tenth of a second.
async fn first_probes(config: breaker::Config) -> BTreeMap<u32, usize> {
    let clients: Vec<breaker::Handle> = (0..500).map(|_| breaker::Handle::new("x", config.clone())).collect();
    clients.iter().for_each(|client| fail(client, 1));
    let mut probes = BTreeMap::new();
    let mut waiting: Vec<_> = clients.iter().collect();
    for tenth in 0..200 {
        let before = waiting.len();
        // The server is still down.
        waiting.retain(|client| client.acquire().map(breaker::Permit::failure).is_err());
        probes.insert(tenth, before - waiting.len());
        advance(ms(100)).await;
    }
    assert!(waiting.is_empty());
    probes
}

#[tokio::test(start_paused = true)]
async fn five_hundred_circuits_that_opened_together_do_not_come_back_together() {
    let together = first_probes(consecutive(1)).await;
    assert_eq!(together[&100], 500, "without jitter they all come at the deadline");
    let apart = first_probes(consecutive(1).open_jitter(0.2)).await;
    let peak = *apart.values().max().unwrap();
    println!("500 circuits with a jitter of 20 %: at most {peak} probes in a tenth of a second");
    assert!(peak <= 35, "{apart:?}");
    assert!(apart.range(..79).all(|(_, probes)| *probes == 0) && apart.range(121..).all(|(_, probes)| *probes == 0));
}

/// A server that works on so many calls at a time, each for 10 ms, behind a shedder; how many were answered in each
/// second of an overload, and then of as many calls as it can take.
#[tokio::test(start_paused = true)]
async fn after_an_overload_service_is_whole_again_without_a_restart() {
    let config = load_shed::Config::new().in_flight(10).queue_delay(load_shed::QueueDelay::new());
    let shed = load_shed::Handle::new("x", config);
    let mut answered = Vec::new();
    for (second, per_tick) in [(0, 40), (1, 40), (2, 40), (3, 8), (4, 8), (5, 8)] {
        let mut good = 0_u32;
        for _tick in 0..100 {
            let mut calls: Vec<_> = (0..per_tick)
                .map(|_| {
                    let shed = shed.clone();
                    task::spawn(async move {
                        shed.run(async {
                            tokio::time::sleep(ms(9)).await;
                            Ok::<_, Boom>(())
                        })
                        .await
                    })
                })
                .collect();
            calls.retain_mut(|call| call.poll().is_pending());
            advance(ms(10)).await;
            calls.retain_mut(|call| match call.poll() {
                std::task::Poll::Ready(answer) => {
                    good += u32::from(answer.is_ok());
                    false
                }
                std::task::Poll::Pending => true,
            });
        }
        answered.push((second, good));
    }
    let after: Vec<u32> = answered[4..].iter().map(|(_, good)| *good).collect();
    assert_eq!(after, [800, 800], "all of what it can take: {answered:?}");
    assert!(answered[..3].iter().all(|(_, good)| *good >= 900), "and in the overload what it can take: {answered:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_settings_change_nothing_and_good_ones_lose_no_call_in_flight() {
    let places = bulkhead::Handle::new("x", bulkhead::Config::new(4));
    let circuit = breaker::Handle::new("x", breaker::Config::new());
    let limit = rate_limit::Handle::new("x", rate_limit::Config::per_second(10));
    let mut held = Vec::new();
    for n in 0..400_u32 {
        let good = 1 + n % 7;
        if let Ok(permit) = places.try_acquire() {
            held.push(permit);
        }
        if n % 3 == 0 {
            held.truncate(held.len() / 2);
        }
        let before = (places.config(), format!("{:?}", circuit.config()), limit.config());
        assert!(places.reconfigure(bulkhead::Config::new(0)).is_err());
        assert!(circuit.reconfigure(breaker::Config::new().failure_rate(f64::NAN)).is_err());
        assert!(circuit.reconfigure(breaker::Config::new().count_window(good as usize)).is_err());
        assert!(limit.reconfigure(rate_limit::Config::new(0, ms(0))).is_err());
        assert_eq!((places.config(), format!("{:?}", circuit.config()), limit.config()), before);
        places.reconfigure(bulkhead::Config::new(good)).unwrap();
        assert_eq!(places.running() as usize, held.len(), "a smaller limit takes no place away");
        assert!(held.len() < good as usize || places.try_acquire().is_err());
    }
    held.clear();
    assert_eq!(places.running(), 0);
    places.reconfigure(bulkhead::Config::new(3)).unwrap();
    let all: Vec<_> = (0..3).map(|_| places.try_acquire().unwrap()).collect();
    assert!(places.try_acquire().is_err() && all.len() == 3);
    assert_eq!(circuit.state(), State::Closed);
    drop(task::spawn(async { circuit.run(pending::<Result<(), Boom>>()).await }));
}
