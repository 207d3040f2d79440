//! What all handles have in common.

use std::sync::Arc;

use allocation_counter::measure;
use mainstay::{
    balance, breaker, bulkhead, fallback, hedge,
    keyed::{self, Lookup},
    observe::Event,
    rate_limit,
    retry::{self, Budget, BudgetConfig},
};

use crate::support::*;

#[test]
fn clones_are_the_same_and_others_are_not_whatever_their_settings() {
    macro_rules! told_apart {
        ($($make:expr),* $(,)?) => {$(
            let (one, other) = ($make, $make);
            assert!(one.is_same(&one.clone()), stringify!($make));
            assert!(!one.is_same(&other), stringify!($make));
        )*};
    }
    told_apart!(
        breaker::Handle::new("x", breaker::Config::new()),
        bulkhead::Handle::new("x", bulkhead::Config::new(1)),
        rate_limit::Handle::new("x", rate_limit::Config::new(1, ms(1))),
        retry::Handle::new("x", retry::Config::new()),
        hedge::Handle::new("x", hedge::Config::new()),
        fallback::Handle::new("x"),
        Budget::new(BudgetConfig::new()),
        balance::Handle::<u32>::new("x", balance::Config::new()),
        keyed::Handle::<u32, bulkhead::Handle>::new("x", keyed::Config::new(bulkhead::Config::new(1))),
    );
}

#[test]
fn a_retry_has_the_settings_it_was_given() {
    let config = retry::Config::new().attempts(7).max_retry_after(ms(70));
    let retry = retry::Handle::new("x", config.clone());
    assert_eq!(serde_json::to_value(retry.config()).unwrap(), serde_json::to_value(config).unwrap());
}

#[test]
fn a_key_is_found_by_itself_by_a_reference_and_by_text() {
    let one = || bulkhead::Config::new(1);
    let owned: keyed::Handle<String, bulkhead::Handle> = keyed::Handle::new("x", keyed::Config::new(one()));
    let shared: keyed::Handle<Arc<str>, bulkhead::Handle> = keyed::Handle::new("x", keyed::Config::new(one()));
    let (a, c) = ("a".to_owned(), "c".to_owned());
    let (by_text, by_reference) = (owned.get("a"), owned.get(&a));
    assert!(by_text.is_same(&by_reference) && by_text.is_same(&owned.get("a".to_owned())));
    assert!(!by_text.is_same(&owned.get("b")) && !by_text.is_same(&owned.get(&c)));
    assert!(shared.get("a").is_same(&shared.get(Arc::<str>::from("a"))) && !shared.get("a").is_same(&shared.get("b")));
    assert_eq!((owned.snapshot().keys, shared.snapshot().keys), (3, 2));
    // As whoever implements it is told: whether it is this key, and the key for one that was not known.
    let (key, text) = ("a".to_owned(), Arc::<str>::from("a"));
    assert!(Lookup::<String>::is(&"a", &key) && !Lookup::<String>::is(&"b", &key));
    assert!(Lookup::<Arc<str>>::is(&"a", &text) && !Lookup::<Arc<str>>::is(&"b", &text));
    assert!(Lookup::<String>::is(&&key, &key) && !Lookup::<String>::is(&&"b".to_owned(), &key));
    assert_eq!(Lookup::<String>::into_key("a"), Ok(key));
    assert_eq!(Lookup::<Arc<str>>::into_key("a"), Ok(text));
}

#[test]
fn quotas_by_key_are_changed_and_observed_like_one() {
    let quota = |burst| rate_limit::Config::new(1, ms(60_000)).burst(burst);
    let quotas: keyed::Handle<u32, rate_limit::Handle> = keyed::Handle::new("x", keyed::Config::new(quota(1)));
    let (log, seen) = seen_by_observer();
    quotas.observe(log);
    let calls = |key| std::iter::from_fn(|| quotas.get(key).try_acquire().ok()).count();
    assert_eq!(calls(1), 1);
    assert_eq!(*seen.lock().unwrap(), ["x"], "the refused call");
    quotas.reconfigure(keyed::Config::new(quota(4))).unwrap();
    assert_eq!((calls(1), calls(2)), (3, 4), "one of four is used, and a new key has all of them");
    let error = quotas.reconfigure(keyed::Config::new(quota(0))).unwrap_err();
    assert!(error.to_string().contains("burst = 0"), "{error}");
    assert_eq!(calls(3), 4, "as before");

    let places: keyed::Handle<u32, bulkhead::Handle> =
        keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
    let held = places.get(1).try_acquire().unwrap();
    let error = places.reconfigure(keyed::Config::new(bulkhead::Config::new(0))).unwrap_err();
    assert!(error.to_string().contains("limit = 0"), "{error}");
    assert!(places.get(1).try_acquire().is_err(), "as before");
    drop(held);
}

#[test]
fn settings_that_cannot_be_changed_are_told_with_the_key_they_are_for() {
    use breaker::Config;
    let counts = |calls| Config::new().count_window(calls);
    let make = |key: usize, others: usize, rest: usize| {
        keyed::Config::new(counts(rest)).key("a".to_owned(), counts(key)).others(counts(others))
    };
    let circuits: keyed::Handle<String, breaker::Handle> = keyed::Handle::new("x", make(30, 30, 30));
    drop((circuits.get("a"), circuits.get("b")));
    for (config, place) in [
        (make(31, 30, 30), "keys[\"a\"].window"),
        (make(30, 31, 30), "others.window"),
        (make(30, 30, 31), "default.window"),
    ] {
        let error = circuits.reconfigure(config).unwrap_err();
        assert!(error.to_string().starts_with(place), "{error}");
    }
    circuits.reconfigure(make(30, 30, 30)).unwrap();
    let alone: keyed::Handle<String, breaker::Handle> = keyed::Handle::new("x", keyed::Config::new(counts(30)));
    let error = alone.reconfigure(keyed::Config::new(counts(31))).unwrap_err();
    assert!(error.to_string().starts_with("default.window"), "{error}");
}

/// What a handle says that it takes, against what was allocated for it.
#[test]
fn memory_is_what_was_allocated() {
    fn made<H>(make: impl Fn() -> H, memory: impl Fn(&H) -> usize) -> (u64, u64) {
        let mut handle = None;
        let bytes = measure(|| handle = Some(make())).bytes_current;
        (bytes as u64, memory(handle.as_ref().unwrap()) as u64)
    }
    let close = |(bytes, told): (u64, u64)| {
        assert!(told > 0 && told.abs_diff(bytes) * 10 <= bytes, "{bytes} bytes, {told} told");
    };
    close(made(|| retry::Handle::new("x", retry::Config::new()), retry::Handle::memory));
    close(made(|| retry::Handle::new("x", retry::Config::new().no_budget()), retry::Handle::memory));
    close(made(|| hedge::Handle::new("x", hedge::Config::new()), hedge::Handle::memory));
    close(made(|| hedge::Handle::new("x", hedge::Config::new().delay(ms(1)).no_budget()), hedge::Handle::memory));
    close(made(|| fallback::Handle::new("x"), fallback::Handle::memory));
    // With a thousand keys, so that the shards' own room weighs little.
    let places = || {
        let config = keyed::Config::new(bulkhead::Config::new(100));
        let keys: keyed::Handle<u32, bulkhead::Handle> = keyed::Handle::new("x", config);
        (0..1_000).for_each(|key| drop(keys.get(key)));
        keys
    };
    close(made(places, keyed::Handle::memory));
    let quotas = || {
        let config = keyed::Config::new(rate_limit::Config::new(1, ms(60_000)));
        let keys: keyed::Handle<u32, rate_limit::Handle> = keyed::Handle::new("x", config);
        (0..1_000).for_each(|key| drop(keys.get(key).try_acquire()));
        keys
    };
    close(made(quotas, keyed::Handle::memory));
}

fn seen_by_observer() -> (impl mainstay::observe::Observer, Arc<std::sync::Mutex<Vec<String>>>) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| {
        if let Event::Rejected(rejection) = event {
            log.lock().unwrap().push(rejection.policy().to_string());
        }
    };
    (observer, seen)
}
