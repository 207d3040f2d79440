//! A value at its very bound is taken; what is wrong is told once.

use std::time::Duration;

use mainstay::{
    breaker, hedge,
    keyed::{self, Tenant},
    retry::{self, Backoff},
};

use crate::support::*;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[test]
fn of_a_hedge() {
    use hedge::Config;
    for percentile in [1.0, 99.9] {
        assert_eq!(Config::new().percentile(percentile).check(), Ok(()));
    }
    let delays = |least, most| Config::new().min_delay(ms(least)).max_delay(ms(most));
    assert_eq!(delays(20, 20).initial_delay(ms(20)).check(), Ok(()));
    for initial in [20, 30] {
        assert_eq!(delays(20, 30).initial_delay(ms(initial)).check(), Ok(()));
    }
    assert_eq!(Config::new().delay(YEAR).check(), Ok(()));
    // A share was meant by what lies between the two, not by nothing at all.
    let told = |percentile| Config::new().percentile(percentile).check().unwrap_err().to_string();
    assert!(told(0.95).contains("did you mean 95?"));
    assert!(!told(0.0).contains("did you mean"), "{}", told(0.0));
}

#[test]
fn of_a_retry() {
    use retry::Config;
    let all = [Backoff::fixed(YEAR), Backoff::exponential(ms(20), 2.0).cap(ms(20)), Backoff::fixed(YEAR).cap(YEAR)];
    for backoff in all {
        assert_eq!(Config::new().backoff(backoff).check(), Ok(()));
    }
}

#[test]
fn of_what_is_kept_by_key() {
    let with = |max_keys, keys: u32| {
        let config = keyed::Config::<Tenant, breaker::Config>::new(consecutive(1)).max_keys(max_keys);
        (0..keys).fold(config, |config, n| config.key(n.to_string().as_str(), consecutive(2)))
    };
    assert_eq!(with(2, 2).check(), Ok(()));
    for (max_keys, keys) in [(1, 2), (0, 1)] {
        let error = with(max_keys, keys).check().unwrap_err();
        assert_eq!(error.problems().count(), 1, "{error}");
    }
}
