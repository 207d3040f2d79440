//! Presets are what their docs say.

use mainstay::{breaker, bulkhead, retry, stack};
use serde_json::{Value, json};

use crate::support::*;

fn written(config: &impl serde::Serialize) -> Value {
    serde_json::to_value(config).unwrap()
}

#[test]
fn of_retries() {
    use retry::Config;
    let usual = written(&Config::new());
    assert_eq!(usual["attempts"], 3);
    assert_eq!(
        usual["backoff"],
        json!({ "kind": "exponential", "initial": "100ms", "factor": 2.0 }),
        "up to 5 s, as always"
    );
    assert_eq!((&usual["jitter"], &usual["max_retry_after"]), (&json!("full"), &json!("30s")));
    assert_eq!(usual["budget"], json!({ "ratio": 0.2, "min_per_second": 10, "cap": 100 }));
    assert_eq!(written(&Config::basic()), usual);

    let http = written(&Config::http());
    assert_eq!(http["backoff"], json!({ "kind": "exponential", "initial": "200ms", "factor": 2.0, "cap": "10s" }));
    assert_eq!((&http["attempts"], &http["max_retry_after"]), (&json!(3), &json!("1m")));

    let database = written(&Config::database());
    assert_eq!(database["backoff"], json!({ "kind": "exponential", "initial": "20ms", "factor": 2.0, "cap": "1s" }));
    assert_eq!((&database["attempts"], &database["jitter"]), (&json!(4), &json!("decorrelated")));
}

#[test]
fn of_stacks() {
    use stack::Config;
    let usual = written(&breaker::Config::new());
    let retries = |config: &retry::Config| Some(written(config));
    let sections = |config: Config| {
        let parts = (config.retry.as_ref().map(written), config.breaker.as_ref().map(written), config.bulkhead);
        let others = (config.load_shed, config.rate_limit, config.hedge, config.concurrency);
        assert_eq!(others, (None, None, None, None));
        ((config.timeout, config.attempt_timeout), parts)
    };
    let wide = || Some(bulkhead::Config::new(256));
    assert_eq!(
        sections(Config::standard()),
        ((Some(ms(10_000)), Some(ms(3_000))), (retries(&retry::Config::new()), Some(usual.clone()), wide()))
    );
    assert_eq!(
        sections(Config::http_client()),
        ((Some(ms(30_000)), Some(ms(10_000))), (retries(&retry::Config::http()), Some(usual.clone()), wide()))
    );
    let pool = bulkhead::Config::new(32).max_queue(128).max_wait(ms(500));
    assert_eq!(
        sections(Config::database()),
        ((Some(ms(5_000)), Some(ms(2_000))), (retries(&retry::Config::database()), Some(usual), Some(pool)))
    );
    for (preset, config) in [
        ("standard", Config::standard()),
        ("http_client", Config::http_client()),
        ("database", Config::database()),
        ("cache", Config::cache()),
    ] {
        let read: Config = toml::from_str(&format!("preset = '{preset}'")).unwrap();
        assert_eq!(written(&read), written(&config), "{preset}");
    }
    let quick = written(&breaker::Config::new().open_for(ms(5_000)));
    assert_eq!(sections(Config::cache()), ((Some(ms(100)), None), (None, Some(quick), wide())));
}
