//! The keys of a keyed handle: how many there are, who leaves, who stays, and what is left under a flood.

use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

use allocation_counter::measure;
use mainstay::{
    Reason,
    breaker::{self, State},
    bulkhead,
    keyed::{Config, Handle, Select, Tenants, key_fn},
    observe::Event,
    rate_limit,
    time::Moment,
};

use crate::support::*;

type Bulkheads = Handle<u32, bulkhead::Handle>;
type Breakers = Handle<u32, breaker::Handle>;
type Limits = Handle<u32, rate_limit::Handle>;

fn bulkheads(max_keys: usize) -> Bulkheads {
    Handle::new("x", Config::new(bulkhead::Config::new(1)).max_keys(max_keys).idle_for(ms(60_000)))
}

fn breakers(max_keys: usize) -> Breakers {
    Handle::new("x", Config::new(consecutive(2)).max_keys(max_keys).idle_for(ms(60_000)))
}

/// Keys known, keys that left, strangers.
fn counts<P: mainstay::keyed::KeyedPolicy>(handle: &Handle<u32, P>) -> (usize, u64, u64) {
    let snapshot = handle.snapshot();
    (snapshot.keys, snapshot.left, snapshot.strangers)
}

#[test]
fn a_key_has_one_policy_and_every_key_its_own() {
    let keys = bulkheads(10);
    let held = keys.get(1).try_acquire().unwrap();
    assert_eq!(keys.get(1).try_acquire().unwrap_err().policy(), "x");
    assert!(keys.get(2).try_acquire().is_ok());
    drop(held);
    assert!(keys.get(1).try_acquire().is_ok());
    assert_eq!((keys.keys(), counts(&keys)), (vec![1, 2], (2, 0, 0)));
    assert!(keys.peek(3).is_none() && keys.peek(1).is_some());
    assert_eq!(keys.keys(), [1, 2], "peeking makes no key");
}

#[tokio::test(start_paused = true)]
async fn when_all_room_is_taken_the_one_unused_for_longest_leaves() {
    let keys = bulkheads(3);
    for key in [1, 2, 3, 1] {
        let _ = keys.get(key);
        advance(ms(10)).await;
    }
    let _ = keys.get(4);
    assert_eq!(keys.keys(), [1, 3, 4]);
    let _ = keys.get(5);
    assert_eq!((keys.keys(), counts(&keys)), (vec![1, 4, 5], (3, 2, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_key_with_a_call_in_flight_or_one_that_waits_stays_and_strangers_share_one_policy() {
    let config = Config::new(bulkhead::Config::new(1).max_queue(1)).others(bulkhead::Config::new(2)).max_keys(2);
    let keys = Bulkheads::new("x", config);
    let held = keys.get(1).try_acquire().unwrap();
    let other = keys.get(2).try_acquire().unwrap();
    let mut waits = tokio_test::task::spawn(keys.get(2).acquire());
    assert!(waits.poll().is_pending());
    drop(other);
    let _strangers = (keys.get(3).try_acquire().unwrap(), keys.get(4).try_acquire().unwrap());
    assert_eq!(keys.get(5).try_acquire().unwrap_err().reason(), Reason::BulkheadFull);
    assert_eq!((keys.keys(), counts(&keys), keys.others().running()), (vec![1, 2], (2, 0, 3), 2));
    drop(waits);
    assert!(keys.get(6).try_acquire().is_ok(), "room was made for it");
    assert_eq!(keys.keys(), [1, 6]);
    drop(held);
}

#[test]
fn a_handle_that_somebody_has_keeps_its_key() {
    let keys = bulkheads(1);
    let mine = keys.get(1);
    let _ = keys.get(2);
    assert_eq!(keys.keys(), [1]);
    let held = mine.try_acquire().unwrap();
    drop(mine);
    let _ = keys.get(2);
    assert!(keys.get(1).try_acquire().is_err(), "the permit keeps it too");
    drop(held);
    let _ = keys.get(2);
    assert_eq!(keys.keys(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_while_somebody_has_its_policy_whatever_that_is() {
    fn stays<P: mainstay::keyed::KeyedPolicy>(keys: &Handle<u32, P>, what: &str) {
        let mine = keys.get(1);
        let _ = keys.get(2);
        assert_eq!((keys.keys(), keys.sweep(), keys.remove(1)), (vec![1], 0, false), "{what}");
        drop(mine);
        let _ = keys.get(2);
        assert_eq!(keys.keys(), [2], "{what}");
    }
    stays(&bulkheads(1), "bulkhead");
    stays(&breakers(1), "breaker");
    let limits = Limits::new("x", Config::new(rate_limit::Config::per_second(1).max_wait(ms(5_000))).max_keys(1));
    stays(&limits, "limit");

    // Who waits for a turn has his key's limit, though its quota would be full again by then.
    let keys = Limits::new("x", Config::new(rate_limit::Config::per_second(1).max_wait(ms(5_000))).max_keys(1));
    keys.get(1).try_acquire().unwrap();
    let mut waits = tokio_test::task::spawn(keys.get(1).acquire());
    assert!(waits.poll().is_pending());
    advance(ms(10_000)).await;
    let _ = keys.get(2);
    assert_eq!(keys.keys(), [1]);
    assert!(waits.poll().is_ready());
    drop(waits);
    let _ = keys.get(2);
    assert_eq!(keys.keys(), [2]);
}

#[test]
fn a_key_does_not_leave_between_the_choice_of_its_policy_and_the_call() {
    let keys = bulkheads(1);
    let select = keys.by(key_fn(|key: &u32| Some(*key)));
    let choice = select.select(&1, &mut Moment::new());
    let _ = keys.get(2);
    assert!(keys.sweep() == 0 && !keys.remove(1));
    assert_eq!(keys.keys(), [1]);
    drop(choice);
    let _ = keys.get(2);
    assert_eq!(keys.keys(), [2]);
}

#[tokio::test(start_paused = true)]
async fn idle_keys_leave_as_others_come_and_at_a_sweep_but_not_before_their_time() {
    let keys = bulkheads(1_000);
    let held = keys.get(100).try_acquire().unwrap();
    (0..10).for_each(|key| drop(keys.get(key)));
    advance(ms(59_999)).await;
    let _ = keys.get(7);
    assert_eq!(keys.sweep(), 0);
    advance(ms(1)).await;
    let _ = keys.get(50);
    // Who comes looks at a few keys only, none of which may be idle: which ones those are is left to chance.
    let (kept, left, refused) = counts(&keys);
    assert!(kept + left as usize == 12 && left <= 1 && refused == 0, "one came and at most one left");
    assert_eq!(keys.sweep(), 9 - left as usize);
    assert_eq!((keys.keys(), keys.snapshot().left), (vec![7, 50, 100], 9));
    drop(held);
    assert_eq!(keys.sweep(), 1, "its call has ended");

    let keys = bulkheads(1_000);
    (0..10).for_each(|key| drop(keys.get(key)));
    advance(ms(60_000)).await;
    (100..300).for_each(|key| drop(keys.get(key)));
    assert_eq!(counts(&keys), (200, 10, 0), "many that come find all that are idle");
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_forgotten_because_strangers_arrive() {
    let by_hand: [fn(&breaker::Handle); 4] =
        [breaker::Handle::force_open, breaker::Handle::disable, breaker::Handle::only_measure, |breaker| {
            fail(breaker, 2);
        }];
    for set in by_hand {
        let keys = breakers(4);
        set(&keys.get(1));
        let state = keys.get(1).state();
        for round in 0..30 {
            (0..20).for_each(|stranger| drop(keys.get(1_000 + round * 20 + stranger)));
            advance(ms(1_000)).await;
        }
        let now = keys.peek(1).unwrap().state();
        assert!(now == state || (state, now) == (State::Open, State::HalfOpen), "{state} became {now}");
        assert_eq!(counts(&keys).0, 4);
        if state != State::Open {
            advance(ms(10_000_000)).await;
            (0..20).for_each(|stranger| drop(keys.get(9_000 + stranger)));
            assert_eq!((keys.sweep(), keys.peek(1).unwrap().state()), (0, state), "what was set by hand stays set");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_opens_circuits_does_not_hold_the_room_for_ever() {
    let keys = breakers(4);
    (0..4).for_each(|key| fail(&keys.get(key), 2));
    advance(ms(30_000)).await;
    let _ = keys.get(9);
    assert_eq!(keys.keys(), [0, 1, 2, 3], "half-open for long, but they may come back");
    // Only this one is asked for again.
    let _ = keys.get(2);
    advance(ms(30_000)).await;
    let _ = keys.get(9);
    let left = keys.keys();
    assert!(left.len() == 4 && left.contains(&2) && left.contains(&9), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_open_for_longer_than_keys_stay_is_not_forgotten() {
    let config = Config::new(consecutive(1).open_for(ms(3_600_000))).max_keys(2).idle_for(ms(1));
    let keys = Breakers::new("x", config);
    fail(&keys.get(1), 1);
    for stranger in 10..50 {
        advance(ms(60_000)).await;
        let _ = keys.get(stranger);
    }
    advance(ms(1)).await;
    assert_eq!((keys.sweep(), keys.keys()), (1, vec![1]));
    assert!(keys.get(1).acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_closed_circuit_with_failures_leaves_after_those_without() {
    let keys = breakers(3);
    fail(&keys.get(1), 1);
    advance(ms(10)).await;
    (2..4).for_each(|key| succeed(&keys.get(key), 1));
    for stranger in 10..20 {
        let _ = keys.get(stranger);
    }
    fail(&keys.get(1), 1);
    assert_eq!(keys.peek(1).unwrap().state(), State::Open, "the first failure was still known");
}

#[tokio::test(start_paused = true)]
async fn nobody_fills_his_quota_by_pushing_his_own_key_out() {
    let config = Config::new(rate_limit::Config::new(1, ms(10_000))).max_keys(2);
    let keys = Limits::new("x", config);
    assert!(keys.get(1).try_acquire().is_ok());
    (10..100).for_each(|stranger| drop(keys.get(stranger).try_acquire()));
    assert!(keys.get(1).try_acquire().is_err());
    assert_eq!(keys.others().snapshot().rejected, 88, "all strangers but the second key share one quota");
    advance(ms(10_000)).await;
    let _ = (keys.get(5), keys.get(6));
    assert!(keys.peek(1).is_none(), "with a full quota there is nothing to remember");
}

#[tokio::test(start_paused = true)]
async fn listed_keys_are_there_from_the_beginning_and_never_leave() {
    let config = Config::new(bulkhead::Config::new(1)).key("gold", bulkhead::Config::new(3)).max_keys(2);
    let tenants = Tenants::new("x", config.idle_for(ms(1)));
    assert_eq!(tenants.keys().len(), 1);
    for stranger in 0..100 {
        advance(ms(1_000)).await;
        let _ = tenants.get(stranger.to_string().as_str());
    }
    assert_eq!((tenants.get("gold").snapshot().limit, tenants.get("0").snapshot().limit), (3, 1));
    let listing = tenants.listing();
    assert_eq!((listing[0].listed, listing[1].listed, listing[1].key.as_str()), (false, true, "gold"));
    assert!(!tenants.remove("gold") && tenants.remove("0") && !tenants.remove("nobody"));
    assert_eq!(tenants.sweep(), 0);
}

#[test]
fn what_cannot_be_a_key_goes_to_the_others() {
    let tenants = Tenants::new("x", Config::new(bulkhead::Config::new(1)));
    let _held = tenants.get("").try_acquire().unwrap();
    assert!(tenants.get("a\nb").try_acquire().is_err());
    let snapshot = tenants.snapshot();
    assert_eq!((snapshot.keys, snapshot.keyless, snapshot.others.running), (0, 2, 1));
}

#[test]
fn by_hand_a_key_is_removed_unless_it_is_in_use_and_all_begin_anew() {
    let keys = breakers(10);
    let _ = keys.get(1);
    keys.get(1).force_open();
    let permit = keys.get(2).acquire().unwrap();
    assert!(keys.remove(1) && !keys.remove(2) && !keys.remove(3));
    assert_eq!(keys.get(1).state(), State::Closed);
    drop(permit);
    assert!(keys.remove(2));
    fail(&keys.get(5), 2);
    fail(&keys.others(), 2);
    keys.reset();
    assert_eq!((keys.get(5).state(), keys.others().state()), (State::Closed, State::Closed));
    let limits = Limits::new("x", Config::new(rate_limit::Config::new(1, ms(10_000))));
    limits.get(1).try_acquire().unwrap();
    limits.reset();
    assert!(limits.get(1).try_acquire().is_ok());
}

#[test]
fn snapshot_and_listing_are_json() {
    let tenants = Tenants::new("shop", Config::new(bulkhead::Config::new(1)).max_keys(7));
    let _ = (tenants.get("b"), tenants.get("a"));
    let snapshot = serde_json::to_value(tenants.snapshot()).unwrap();
    assert_eq!(
        (&snapshot["kind"], &snapshot["of"], &snapshot["policy"]),
        (&"keyed".into(), &"bulkhead".into(), &"shop".into())
    );
    assert_eq!(
        (&snapshot["keys"], &snapshot["max_keys"], &snapshot["others"]["limit"]),
        (&2.into(), &7.into(), &1.into())
    );
    let listing = serde_json::to_value(tenants.listing()).unwrap();
    assert_eq!(
        (&listing[0]["key"], &listing[1]["key"], &listing[0]["snapshot"]["limit"]),
        (&"a".into(), &"b".into(), &1.into())
    );
}

#[test]
fn a_flood_of_a_million_keys_stays_within_the_bounds() {
    const MAX_KEYS: u64 = 1_000;
    const BYTES_FOR_A_KEY: u64 = 1_000;
    let keys = Limits::new("x", Config::new(rate_limit::Config::per_second(1)).max_keys(MAX_KEYS as usize));
    keys.get(u32::MAX).try_acquire().unwrap();
    let held = keys.get(u32::MAX - 1);
    let flood = measure(|| (0..1_000_000).for_each(|key| drop(keys.get(key))));
    assert_eq!(counts(&keys), (MAX_KEYS as usize, 1_000_002 - MAX_KEYS, 0));
    assert!(flood.bytes_max < MAX_KEYS * BYTES_FOR_A_KEY, "{} bytes", flood.bytes_max);
    assert!(keys.memory() < (MAX_KEYS * BYTES_FOR_A_KEY) as usize, "{} bytes", keys.memory());
    assert!(keys.peek(u32::MAX - 1).is_some_and(|there| there.is_same(&held)));
}

#[test]
fn the_memory_of_a_key_is_what_it_is_said_to_be() {
    fn bytes<P: mainstay::keyed::KeyedPolicy>(keys: &Handle<u32, P>) -> (u64, u64) {
        let before = keys.memory();
        let all = measure(|| (0..10_000).for_each(|key| drop(keys.get(key))));
        let told = (keys.memory() - before) as u64;
        (all.bytes_current as u64 / 10_000, told / 10_000)
    }
    let bulkhead = bytes(&bulkheads(10_000));
    let limit = bytes(&Limits::new("x", Config::new(rate_limit::Config::per_second(1))));
    let breaker = bytes(&breakers(10_000));
    for (what, (real, told), most) in [("bulkhead", bulkhead, 600), ("limit", limit, 500), ("breaker", breaker, 1_500)]
    {
        assert!(real <= most && told.abs_diff(real) * 5 <= real, "a {what} takes {real} bytes, is told to take {told}");
    }
}

#[test]
fn a_known_key_allocates_nothing() {
    let tenants = Tenants::new("x", Config::new(bulkhead::Config::tenant()));
    let _ = tenants.get("gold");
    assert_eq!(measure(|| drop(tenants.get("gold").try_acquire())).count_total, 0);
}

/// Keys of which several share a hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Coarse(u32);

impl Hash for Coarse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 3).hash(state);
    }
}

#[test]
fn keys_of_one_hash_are_told_apart_and_leave_one_by_one() {
    let keys = Handle::new("x", Config::new(bulkhead::Config::new(1)).max_keys(20));
    let held: Vec<_> = (0..20).map(|n| keys.get(Coarse(n)).try_acquire().unwrap()).collect();
    assert!((0..20).all(|n| keys.get(Coarse(n)).try_acquire().is_err()));
    for (n, permit) in held.into_iter().enumerate().rev() {
        drop(permit);
        assert!(n % 2 == 0 || keys.remove(Coarse(n as u32)));
    }
    let even: Vec<Coarse> = (0..20).step_by(2).map(Coarse).collect();
    assert_eq!(keys.keys(), even);
    assert!((0..20).step_by(2).all(|n| keys.peek(Coarse(n)).is_some_and(|it| it.try_acquire().is_ok())));
    (100..200).for_each(|n| drop(keys.get(Coarse(n))));
    assert_eq!(keys.snapshot().keys, 20);
    // Nor does a stranger get the policy of one of his hash.
    let keys = Handle::new("x", Config::new(bulkhead::Config::new(1)).max_keys(1));
    let held = keys.get(Coarse(0)).try_acquire().unwrap();
    assert!(keys.get(Coarse(3)).try_acquire().is_ok(), "a place of the others");
    assert_eq!((keys.keys(), keys.snapshot().strangers), (vec![Coarse(0)], 1));
    drop(held);
}

/// A key whose every act looks at the table.
#[derive(Debug)]
struct Nosy(u32, Arc<Handle<Nosy, bulkhead::Handle>>);

impl Nosy {
    fn look(&self) {
        assert!(self.1.snapshot().keys <= 2);
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.look();
        Self(self.0, Arc::clone(&self.1))
    }
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.look();
        self.0 == other.0
    }
}

impl Eq for Nosy {}

impl Hash for Nosy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.look();
        // All of one hash, so that they are compared.
        0.hash(state);
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}

#[test]
fn no_code_of_a_key_runs_under_a_lock() {
    let keys = Arc::new(Handle::new("x", Config::new(bulkhead::Config::new(1)).max_keys(2)));
    (0..5).for_each(|n| drop(keys.get(Nosy(n, Arc::clone(&keys)))));
    keys.reconfigure(Config::new(bulkhead::Config::new(2)).max_keys(2)).unwrap();
    keys.observe(());
    assert_eq!(keys.snapshot().keys, 2);
    assert!(keys.remove(Nosy(4, Arc::clone(&keys))));
    // Keys that know their own table would keep it.
    assert!(keys.remove(Nosy(3, Arc::clone(&keys))));
}

/// A key that makes another one when it is dropped by who has been told to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Last(u32);

type Lasts = Handle<Last, bulkhead::Handle>;

thread_local! {
    static MAKES: RefCell<Option<Arc<Lasts>>> = const { RefCell::new(None) };
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(keys) = MAKES.with_borrow_mut(Option::take) {
            drop(keys.get(Last(7)));
        }
    }
}

#[test]
fn a_key_that_is_made_while_an_observer_comes_is_observed_once() {
    let config = Config::new(bulkhead::Config::new(1)).key(Last(1), bulkhead::Config::new(1));
    let keys: Arc<Lasts> = Arc::new(Handle::new("x", config));
    let seen = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&seen);
    MAKES.set(Some(Arc::clone(&keys)));
    keys.observe(move |_: &Event<'_>| {
        counts.fetch_add(1, SeqCst);
    });
    assert!(MAKES.with_borrow(Option::is_none) && keys.peek(Last(7)).is_some());
    let _held = keys.get(Last(7)).try_acquire().unwrap();
    let before = seen.load(SeqCst);
    assert!(keys.get(Last(7)).try_acquire().is_err());
    assert_eq!(seen.load(SeqCst) - before, 1);
}

#[test]
fn on_many_threads_no_key_ever_has_more_calls_than_its_limit() {
    const KEYS: usize = 40;
    const LIMIT: u32 = 2;
    // Room for a few of the keys only: they leave and come back all the time. What gets no room goes to the others.
    let config = Config::new(bulkhead::Config::new(LIMIT)).others(bulkhead::Config::new(1)).max_keys(16);
    let keys = Handle::<usize, _>::new("x", config);
    let running: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let (most, let_in) = (AtomicU32::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (keys, running, most, let_in) = (&keys, &running, &most, &let_in);
            scope.spawn(move || {
                let mut random = 0x9E37_79B9_7F4A_7C15_u64 + thread;
                for _ in 0..40_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let key = (random >> 20) as usize % KEYS;
                    let bulkhead = keys.get(key);
                    let own = !bulkhead.is_same(&keys.others());
                    if random % 4 == 0 {
                        std::thread::yield_now();
                    }
                    let Ok(permit) = bulkhead.try_acquire() else { continue };
                    drop(bulkhead);
                    if own {
                        most.fetch_max(running[key].fetch_add(1, SeqCst) + 1, SeqCst);
                    }
                    if random % 8 == 0 {
                        std::thread::yield_now();
                    }
                    if own {
                        running[key].fetch_sub(1, SeqCst);
                    }
                    drop(permit);
                    let_in.fetch_add(1, SeqCst);
                }
            });
        }
        scope.spawn(|| {
            for n in 0..2_000 {
                assert!(keys.snapshot().keys <= 16);
                let _ = (keys.sweep(), keys.remove(n % KEYS));
            }
        });
    });
    assert!(most.load(SeqCst) <= LIMIT, "{} at a time", most.load(SeqCst));
    assert!(let_in.load(SeqCst) > 1_000 && keys.snapshot().left > 1_000, "{:?}", keys.snapshot());
    assert!(keys.listing().iter().all(|key| key.snapshot.running == 0));
    assert_eq!(keys.others().running(), 0);
    assert_eq!(keys.sweep(), 0);
    (0..KEYS).for_each(|n| assert!(keys.remove(n) || keys.peek(n).is_none()));
}

#[test]
fn settings_that_change_under_traffic_reach_every_key() {
    let keys = Handle::<u32, _>::new("x", Config::new(bulkhead::Config::new(1)).max_keys(64));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (keys, done) = (&keys, &done);
            scope.spawn(move || {
                let mut n = thread;
                while !done.load(SeqCst) {
                    n += 7;
                    let _ = keys.get(n % 200);
                }
            });
        }
        for limit in 2..200 {
            keys.reconfigure(Config::new(bulkhead::Config::new(limit)).max_keys(64)).unwrap();
            let limits: Vec<u32> = keys.listing().iter().map(|key| key.snapshot.limit).collect();
            assert!(limits.iter().all(|it| *it == limit), "{limits:?} instead of {limit}");
        }
        done.store(true, SeqCst);
    });
    assert_eq!(keys.others().snapshot().limit, 199);
}
