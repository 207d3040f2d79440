//! Floods: memory stays within its bounds whatever comes, and what was there before is still there. The bytes are those
//! of the counting allocator: the most that was held at a time beyond what was held before. With `--release` a million
//! of everything comes.

mod fleet;
mod queues;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use allocation_counter::measure;
use mainstay::{
    breaker::{self, State},
    bulkhead,
    keyed::{Config, KeyedPolicy, Tenant, Tenants},
    observe::Event,
    rate_limit, retry,
};

use crate::support::*;

/// How many come: a million, and a fifth of that where the code was not optimised.
const FLOOD: u32 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;

/// The most bytes that were held at a time by what is run, told and within a bound.
#[track_caller]
fn holds_at_most(bound: u64, what: &str, run: impl FnOnce()) {
    let _quiet = quiet();
    let info = measure(run);
    eprintln!("{what}: at most {} KiB at a time", info.bytes_max / KIB);
    assert!(info.bytes_max <= bound, "{what}: {} bytes at a time", info.bytes_max);
}

/// Tenants that nobody has heard of before, each once.
fn strangers<P: KeyedPolicy>(tenants: &Tenants<P>, count: u32, mut call: impl FnMut(P)) {
    let mut name = String::new();
    for n in 0..count {
        name.clear();
        std::fmt::Write::write_fmt(&mut name, format_args!("stranger-{n}")).unwrap();
        call(tenants.get(name.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tenants_with_quotas_takes_the_room_of_a_thousand() {
    let limits = Tenants::new("x", Config::new(rate_limit::Config::new(1, ms(3_600_000))).max_keys(1_000));
    limits.get("spent").try_acquire().unwrap();
    holds_at_most(MIB, "a flood of tenants with rate limits", || {
        strangers(&limits, FLOOD, |limit| drop(limit.try_acquire()));
    });
    assert!(limits.get("spent").try_acquire().is_err(), "who has spent his quota does not get a new one by a flood");
    assert_eq!((limits.snapshot().keys, limits.listing().len()), (1_000, 1_000));
    assert!(limits.memory() < MIB as usize);
}

#[tokio::test(start_paused = true)]
async fn tenants_with_circuits_push_out_no_open_one_and_take_the_room_of_a_thousand() {
    let circuits = Tenants::new("x", Config::new(consecutive(1)).max_keys(1_000));
    circuits.get("broken").acquire().unwrap().failure();
    holds_at_most(4 * MIB, "a flood of tenants with breakers, each with a call", || {
        strangers(&circuits, FLOOD / 4, |circuit: breaker::Handle| circuit.acquire().unwrap().success());
    });
    assert_eq!(circuits.get("broken").state(), State::Open);
    assert_eq!(circuits.snapshot().keys, 1_000);
    let json = serde_json::to_string(&circuits.listing()).unwrap().len() as u64;
    assert!(json < 1_000 * 2 * KIB, "a snapshot of so many keys is no longer than theirs: {json} bytes");
}

#[test]
fn tenants_with_places_push_out_none_that_is_in_use_and_take_the_room_of_a_thousand() {
    let places = Tenants::new("x", Config::new(bulkhead::Config::new(1)).max_keys(1_000));
    let held = places.get("busy").try_acquire().unwrap();
    holds_at_most(2 * MIB, "a flood of tenants with bulkheads, each with a call", || {
        strangers(&places, FLOOD / 2, |place: bulkhead::Handle| drop(place.try_acquire().unwrap()));
    });
    assert!(places.get("busy").try_acquire().is_err(), "its one place is still taken");
    drop(held);
    assert!(places.get("busy").try_acquire().is_ok());
    assert_eq!(places.snapshot().keys, 1_000);
}

#[tokio::test(start_paused = true)]
async fn strangers_that_all_break_their_circuits_share_one_when_the_room_is_full() {
    let circuits = Tenants::new("x", Config::new(consecutive(1)).max_keys(1_000));
    holds_at_most(4 * MIB, "a flood of tenants with circuits that open", || {
        strangers(&circuits, FLOOD / 2, |circuit: breaker::Handle| {
            let _ = circuit.acquire().map(breaker::Permit::failure);
        });
    });
    assert_eq!(circuits.snapshot().keys, 1_000);
    assert_eq!(circuits.get("stranger-0").state(), State::Open, "the first to come are still known");
    assert!(Tenant::new(&"x".repeat(129)).is_err(), "and no key is long");
}

#[test]
fn a_storm_of_events_keeps_nothing_and_an_observer_that_panics_hears_one() {
    let breaker = breaker::Handle::new("x", consecutive(1));
    let (heard, before_the_panic) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&heard);
    breaker.observe(move |event: &Event<'_>| {
        counter.fetch_add(u64::from(matches!(event, Event::Rejected { .. })), Relaxed);
    });
    let counter = Arc::clone(&before_the_panic);
    breaker.observe(move |_: &Event<'_>| {
        counter.fetch_add(1, Relaxed);
        panic!("an observer that panics");
    });
    assert!(!panics(|| breaker.force_open()), "the panic does not reach who told it");
    let refused = |times| (0..times).for_each(|_| assert!(breaker.acquire().is_err()));
    refused(1);
    holds_at_most(KIB, "a flood of rejections that are told", || refused(FLOOD));
    assert_eq!(heard.load(Relaxed), u64::from(FLOOD) + 1);
    assert_eq!(before_the_panic.load(Relaxed), 1, "who panicked is told nothing more");
}

#[test]
fn thousands_of_observers_hear_everything_in_their_order() {
    let breaker = breaker::Handle::new("x", consecutive(1));
    let heard = Arc::new(AtomicU64::new(0));
    holds_at_most(MIB, "two thousand observers", || {
        for at in 0..2_000_u64 {
            let heard = Arc::clone(&heard);
            breaker.observe(move |_: &Event<'_>| {
                assert_eq!(heard.fetch_add(1, Relaxed) % 2_000, at);
            });
        }
    });
    let storm = measure(|| {
        breaker.force_open();
        (0..500).for_each(|_| assert!(breaker.acquire().is_err()));
    });
    assert_eq!(heard.load(Relaxed), 2_000 * 501);
    assert!(storm.bytes_max < KIB, "telling copies no list: {} bytes", storm.bytes_max);
}

#[tokio::test(start_paused = true)]
async fn calls_without_end_of_a_service_that_is_down_are_a_fifth_more_and_no_more() {
    let config = retry::Config::new().attempts(10).backoff(retry::Backoff::fixed(ms(0))).jitter(retry::Jitter::None);
    let handle = retry::Handle::new("x", config);
    let tried = AtomicU64::new(0);
    holds_at_most(64 * KIB, "a flood of calls that all fail and are tried again", || {
        for _ in 0..FLOOD {
            let mut call = std::pin::pin!(handle.run(|| {
                tried.fetch_add(1, Relaxed);
                ready(Answer::Err(mainstay::Error::Inner(Boom)))
            }));
            // The budget is what stops it, not the clock: a wait of nothing is over at once.
            assert!((0..10).any(|_| poll_once(&mut call).is_ready()));
        }
    });
    let (tried, floor) = (tried.load(Relaxed), 10 + 100);
    println!("{FLOOD} calls were tried {tried} times");
    assert!(tried <= u64::from(FLOOD) * 6 / 5 + floor, "{tried} attempts");
    assert!(tried >= u64::from(FLOOD) * 6 / 5 - floor, "{tried} attempts");
}

#[test]
fn thousands_of_threads_that_come_and_go_leave_nothing() {
    let breaker = breaker::Handle::new("x", breaker::Config::new());
    let call = |breaker: &breaker::Handle| breaker.acquire().unwrap().success();
    std::thread::scope(|scope| {
        (0..64).for_each(|_| drop(scope.spawn(|| call(&breaker))));
    });
    let before = breaker.memory();
    for _ in 0..3_000 / 20 {
        std::thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(|| call(&breaker)))));
    }
    assert!(breaker.memory() <= before + 64 * KIB as usize, "{} bytes, then {}", before, breaker.memory());
    assert_eq!(breaker.snapshot().totals.calls.successes(), 3_064);
}
