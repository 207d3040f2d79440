//! Settings, and what is wrong with them.

use mainstay::{
    balance,
    client::{Client, Config},
    retry, stack,
};

use super::{Users, fleet};
use crate::support::ms;

#[test]
fn all_that_is_wrong_is_told_with_its_section() {
    for (text, told) in [
        ("first_wait = '0s'", "first_wait = 0s: must be at least 1ms"),
        ("max_methods = 0", "max_methods = 0: must be in 1..=10000"),
        ("pick_by = 'fastest'", "unknown variant `fastest`"),
        ("stack = []", "a section"),
        ("balance = 3", "a section"),
        ("picker = 'random'", "unknown field `picker`"),
        ("stack = { retry = { attempts = 0 } }", "stack.retry.attempts = 0"),
        ("balance = { panic_threshold = 2.0 }", "balance.panic_threshold = 2"),
        ("balance = { breaker = { failure_rate = 50.0 } }", "balance.breaker.failure_rate = 50"),
        ("first_wait = '1x'\nstack = { timeout = '1' }", "unit"),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
    let error = toml::from_str::<Config>("max_methods = 0\nfirst_wait = '0s'\nstack = { timeout = '0s' }").unwrap_err();
    for part in ["stack.timeout = 0s", "max_methods = 0", "first_wait = 0s"] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let config = Config::new().first_wait(ms(250)).max_methods(7).pick_by(mainstay::client::PickBy::Weighted);
    let text = serde_json::to_string(&config).unwrap();
    let read: Config = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let empty: Config = serde_json::from_str("{}").unwrap();
    assert_eq!(serde_json::to_string(&empty).unwrap(), serde_json::to_string(&Config::new()).unwrap());
}

#[tokio::test]
async fn a_client_is_not_built_with_what_cannot_be() {
    let (discovery, world) = fleet(&[]).await;
    let mut policies = stack::Config::new();
    policies.retry = Some(retry::Config::new().attempts(0));
    let error = Client::builder(discovery.clone(), world.clone())
        .config(Config::new().balance(balance::Config::new().panic_threshold(7.0)))
        .service("users", Config::new().stack(policies))
        .service("a\nb", Config::new())
        .max_services(0)
        .try_build::<u32, String, super::Failure>()
        .unwrap_err()
        .to_string();
    for part in [
        "balance.panic_threshold = 7",
        "users.stack.retry.attempts = 0",
        "service = \"a\\nb\": must not hold control characters",
        "max_services = 0: must be in 1..=100000",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let _: Users = Client::builder(discovery, world).build();
}
