//! A policy for each key: made when the key is first asked for, and let go for another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use loom::thread;
use mainstay::{
    bulkhead,
    keyed::{Config, Handle, KeyedConfig, KeyedPolicy},
    observe::Event,
    rate_limit,
};

use crate::support::{InUse, NEVER, at_second, model, model_of};

type Limits = Handle<u8, rate_limit::Handle>;
type Bulkheads = Handle<u8, bulkhead::Handle>;

fn keyed<C: KeyedConfig>(most: usize, config: C) -> Handle<u8, C::Policy> {
    Handle::new("x", Config::new(config).max_keys(most).idle_for(NEVER))
}

/// One call in a hundred days.
fn one_call() -> rate_limit::Config {
    rate_limit::Config::new(1, Duration::from_secs(100 * 24 * 60 * 60))
}

/// The policy of a key, unless there was no room for one.
fn own<P: KeyedPolicy>(keyed: &Handle<u8, P>, key: u8, is_same: fn(&P, &P) -> bool) -> Option<P> {
    Some(keyed.get(key)).filter(|policy| !is_same(policy, &keyed.others()))
}

fn take(limits: &Limits, key: u8) -> u32 {
    let limit = own(limits, key, rate_limit::Handle::is_same);
    limit.map_or(0, |limit| u32::from(limit.try_acquire().is_ok()))
}

/// Takes the place of a key, and gives it back.
fn run(bulkheads: &Bulkheads, key: u8, in_use: &InUse) {
    let Some(bulkhead) = own(bulkheads, key, bulkhead::Handle::is_same) else { return };
    let permit = bulkhead.try_acquire();
    // Who has the permit has the key, handle or not.
    drop(bulkhead);
    if permit.is_ok() {
        in_use.enter(1);
        in_use.leave();
    }
}

#[test]
fn keyed_a_quota_that_is_used_is_not_had_again_by_pushing_the_key_out() {
    // With three it takes minutes.
    model_of(2, || {
        let limits = keyed(1, one_call());
        let taker = |key| {
            let limits = limits.clone();
            thread::spawn(move || take(&limits, key))
        };
        let (same, other) = (taker(1), taker(2));
        let one = take(&limits, 1) + same.join().unwrap();
        let two = other.join().unwrap();
        assert!(one <= 1 && two <= 1 && one + two >= 1, "{one} and {two}");
        assert_eq!(limits.snapshot().keys, 1);
        // Whoever has used a quota stays.
        assert_eq!(limits.peek(if one == 1 { 1 } else { 2 }).unwrap().snapshot().available, 0);
    });
}

#[test]
fn keyed_two_policies_of_one_key_never_let_calls_in_at_a_time() {
    model(|| {
        let bulkheads = keyed(1, bulkhead::Config::new(1));
        let in_use = Arc::new(InUse::default());
        let (others, using) = (bulkheads.clone(), Arc::clone(&in_use));
        let thread = thread::spawn(move || {
            run(&others, 2, &InUse::default());
            run(&others, 1, &using);
        });
        run(&bulkheads, 1, &in_use);
        thread.join().unwrap();
        assert_eq!(bulkheads.snapshot().keys, 1);
        // No room is lost: another may have it, now that nobody has the one there is.
        assert!(own(&bulkheads, 3, bulkhead::Handle::is_same).is_some());
    });
}

#[test]
fn keyed_who_holds_a_policy_holds_the_key() {
    model(|| {
        let bulkheads = keyed(1, bulkhead::Config::new(1));
        let other = bulkheads.clone();
        let thread = thread::spawn(move || own(&other, 2, bulkhead::Handle::is_same));
        let one = own(&bulkheads, 1, bulkhead::Handle::is_same);
        let two = thread.join().unwrap();
        assert!(one.is_some() ^ two.is_some(), "one has the room, and neither lets go");
        let (key, held) = one.map_or_else(|| (2, two.unwrap()), |one| (1, one));
        assert!(bulkheads.get(key).is_same(&held));
    });
}

#[test]
fn keyed_no_more_keys_than_may_be_and_no_room_is_lost() {
    model(|| {
        let limits = keyed(2, one_call());
        let other = limits.clone();
        let thread = thread::spawn(move || {
            drop(other.get(1));
            drop(other.get(2));
        });
        drop(limits.get(3));
        thread.join().unwrap();
        assert!(limits.snapshot().keys <= 2);
        let both = [4, 5].map(|key| own(&limits, key, rate_limit::Handle::is_same).is_some());
        assert_eq!((both, limits.snapshot().keys), ([true, true], 2));
    });
}

#[test]
fn keyed_two_who_bring_a_key_have_one_policy() {
    model(|| {
        let limits = keyed(2, one_call());
        let other = limits.clone();
        let thread = thread::spawn(move || other.get(1));
        let one = limits.get(1);
        assert!(one.is_same(&thread.join().unwrap()));
        assert_eq!(limits.snapshot().keys, 1);
        assert!(own(&limits, 2, rate_limit::Handle::is_same).is_some());
    });
}

#[test]
fn keyed_one_that_is_forgotten_by_hand_is_in_nobodys_hands() {
    model(|| {
        let bulkheads = keyed(2, bulkhead::Config::new(1));
        let in_use = Arc::new(InUse::default());
        drop(bulkheads.get(1));
        let (others, using) = (bulkheads.clone(), Arc::clone(&in_use));
        let thread = thread::spawn(move || run(&others, 1, &using));
        let removed = bulkheads.remove(1);
        run(&bulkheads, 1, &in_use);
        thread.join().unwrap();
        assert_eq!((bulkheads.snapshot().keys, bulkheads.snapshot().left), (1, u64::from(removed)));
    });
}

#[test]
fn keyed_one_that_is_idle_is_swept_or_kept_by_who_asks_for_it() {
    model(|| {
        let config = Config::new(one_call()).max_keys(2).idle_for(Duration::from_secs(1));
        let limits: Limits = Handle::new("x", config);
        drop(limits.get(1));
        let other = limits.clone();
        let thread = thread::spawn(move || {
            at_second(5);
            take(&other, 1)
        });
        at_second(5);
        let swept = limits.sweep();
        assert_eq!(thread.join().unwrap(), 1);
        assert_eq!((limits.snapshot().keys, limits.snapshot().left), (1, swept as u64));
        assert_eq!(take(&limits, 1), 0, "it is still used up");
    });
}

#[test]
fn keyed_other_settings_reach_a_key_that_comes_at_the_same_time() {
    model(|| {
        let bulkheads = keyed(2, bulkhead::Config::new(1));
        let other = bulkheads.clone();
        let thread = thread::spawn(move || drop(other.get(1)));
        bulkheads.reconfigure(Config::new(bulkhead::Config::new(5)).max_keys(2)).unwrap();
        thread.join().unwrap();
        assert_eq!(bulkheads.peek(1).unwrap().snapshot().limit, 5);
    });
}

#[test]
fn keyed_two_who_change_the_settings_leave_those_of_one() {
    model(|| {
        let bulkheads = keyed(2, bulkhead::Config::new(1));
        drop(bulkheads.get(1));
        let config = |limit| Config::new(bulkhead::Config::new(limit)).max_keys(2);
        let other = bulkheads.clone();
        let thread = thread::spawn(move || other.reconfigure(config(5)).unwrap());
        bulkheads.reconfigure(config(7)).unwrap();
        thread.join().unwrap();
        let limits = [bulkheads.get(1), bulkheads.get(2), bulkheads.others()].map(|policy| policy.snapshot().limit);
        assert!(limits == [5; 3] || limits == [7; 3], "{limits:?}");
    });
}

#[test]
fn keyed_an_observer_hears_once_of_a_key_that_comes_at_the_same_time() {
    model(|| {
        let limits = keyed(2, one_call());
        let other = limits.clone();
        let thread = thread::spawn(move || drop(other.get(1)));
        let heard = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&heard);
        limits.observe(move |_: &Event<'_>| {
            counter.fetch_add(1, SeqCst);
        });
        thread.join().unwrap();
        let limit = limits.peek(1).unwrap();
        assert!(limit.try_acquire().is_ok() && limit.try_acquire().is_err());
        assert_eq!(heard.load(SeqCst), 1);
    });
}
