//! What bad settings get: an error that names the field, the value and the reason.

use std::time::Duration;

use mainstay::{
    ConfigError, Reason,
    retry::{Backoff, Budget, BudgetConfig, Config, Handle, Jitter},
};

use crate::support::*;

#[test]
fn every_impossible_setting_is_refused_by_name_value_and_reason() {
    let day = ms(86_400_000);
    let new = Config::new;
    let budget = |budget: BudgetConfig| new().budget(budget);
    let exponential = |factor| new().backoff(Backoff::exponential(ms(100), factor));
    let ratio = |ratio| budget(BudgetConfig::new().ratio(ratio));
    let cases: Vec<(Config, &str, &str, &str)> = vec![
        (new().attempts(0), "attempts", "0", "must be in 1..=100"),
        (new().attempts(101), "attempts", "101", "must be in 1..=100"),
        (new().attempts(u32::MAX), "attempts", "4294967295", "must be in 1..=100"),
        (exponential(0.5), "backoff.factor", "0.5", "must be in 1..=100"),
        (exponential(-1.0), "backoff.factor", "-1", "must be in 1..=100"),
        (exponential(101.0), "backoff.factor", "101", "must be in 1..=100"),
        (exponential(f64::NAN), "backoff.factor", "NaN", "must be in 1..=100"),
        (exponential(f64::INFINITY), "backoff.factor", "inf", "must be in 1..=100"),
        (new().backoff(Backoff::fixed(day * 366)), "backoff.initial", "366d", "must be at most 365d"),
        (new().backoff(Backoff::linear(Duration::MAX)), "backoff.initial", "ns", "must be at most 365d"),
        (
            new().backoff(Backoff::fixed(ms(9)).cap(ms(8))),
            "backoff.cap",
            "8ms",
            "must be at least backoff.initial, 9ms",
        ),
        (new().backoff(Backoff::fixed(ms(0)).cap(ms(0))), "backoff.cap", "0s", "must be at least 1ms"),
        (new().backoff(Backoff::linear(ms(9)).cap(day * 366)), "backoff.cap", "366d", "must be at most 365d"),
        (new().jitter(Jitter::Range(f64::NAN)), "jitter.range", "NaN", "in [0, 1]"),
        (new().jitter(Jitter::Range(1.5)), "jitter.range", "1.5", "in [0, 1]"),
        (new().jitter(Jitter::Range(-1.0)), "jitter.range", "-1", "in [0, 1]"),
        (ratio(-1.0), "budget.ratio", "-1", "must be 0, or a finite number in 0.0001..=10"),
        (ratio(f64::NAN), "budget.ratio", "NaN", "must be 0, or a finite number in 0.0001..=10"),
        (ratio(f64::INFINITY), "budget.ratio", "inf", "must be 0, or a finite number in 0.0001..=10"),
        (ratio(0.000_01), "budget.ratio", "0.00001", "must be 0, or a finite number in 0.0001..=10"),
        (ratio(20.0), "budget.ratio", "20", "did you mean 0.2? (percent given)"),
        (ratio(101.0), "budget.ratio", "101", "must be 0, or a finite number in 0.0001..=10"),
        (budget(BudgetConfig::new().cap(0)), "budget.cap", "0", "must be in 1..=1000000"),
        (budget(BudgetConfig::new().cap(1_000_001)), "budget.cap", "1000001", "must be in 1..=1000000"),
        (budget(BudgetConfig::new().ratio(3.0).cap(2)), "budget.cap", "2", "must be at least budget.ratio, 3"),
        (budget(BudgetConfig::new().min_per_second(1_000_001)), "budget.min_per_second", "1000001", "in 0..=1000000"),
        (new().max_retry_after(ms(0)), "max_retry_after", "0s", "must be at least 1ms"),
        (new().max_retry_after(day * 366), "max_retry_after", "366d", "must be at most 365d"),
        (new().deadline(ms(0)), "deadline", "0s", "must be at least 1ms"),
        (new().deadline(Duration::MAX), "deadline", "ns", "must be at most 365d"),
    ];
    for (config, field, value, why) in cases {
        let error = config.check().expect_err("impossible settings");
        assert!(error.problems().any(|error| error.field() == field), "{error}");
        let error = error.problems().find(|error| error.field() == field).unwrap();
        assert!(error.value().contains(value), "{error}");
        assert!(error.why().contains(why), "{error}");
        assert!(Handle::try_new("x", config.clone()).is_err());
        assert!(panics(|| Handle::new("x", config)));
    }
    assert_eq!(Budget::try_new(BudgetConfig::new().cap(0)).unwrap_err().field(), "budget.cap");
    assert!(panics(|| Budget::new(BudgetConfig::new().ratio(-1.0))));
}

#[test]
fn all_problems_are_reported_together() {
    let error = Handle::try_new("a b", Config::new().attempts(0).jitter(Jitter::Range(2.0))).unwrap_err();
    let fields: Vec<&str> = error.problems().map(ConfigError::field).collect();
    assert_eq!(fields, ["name", "attempts", "jitter.range"]);
}

#[tokio::test(start_paused = true)]
async fn the_limits_themselves_are_allowed() {
    let year = ms(86_400_000) * 365;
    for config in [
        Config::new().attempts(1),
        Config::new().attempts(100),
        Config::new().backoff(Backoff::exponential(ms(0), 100.0).cap(year)).jitter(Jitter::Range(1.0)),
        Config::new().backoff(Backoff::fixed(year)).jitter(Jitter::Range(0.0)),
        Config::new().backoff(Backoff::linear(year)).jitter(Jitter::Decorrelated),
        Config::new().backoff(Backoff::custom(|_| Duration::MAX)).jitter(Jitter::Range(1.0)),
        Config::new().budget(BudgetConfig::new().ratio(10.0).min_per_second(1_000_000).cap(1_000_000)),
        Config::new().budget(BudgetConfig::new().ratio(0.0).min_per_second(0).cap(1)),
        Config::new().max_retry_after(year).deadline(year),
        Config::new().retry_on([]),
    ] {
        let retry = Handle::try_new("x", config).unwrap();
        let run = retry.run(|| std::future::ready(Answer::Err(mainstay::Error::Inner(Boom))));
        let _ = tokio::time::timeout(ms(1), run).await;
        let _ = retry.snapshot();
    }
}

#[test]
fn bad_files_say_which_field_and_why() {
    for (toml, expected) in [
        ("attempts = 0", "attempts = 0: must be in 1..=100"),
        ("attempts = -1", "expected u32"),
        ("attempts = 4294967296", "expected u32"),
        ("atempts = 3", "unknown field `atempts`, expected one of"),
        ("attempts = 1\nattempts = 2", "duplicate key"),
        ("jitter = { range = nan }", "jitter.range = NaN: must be a finite number in [0, 1]"),
        ("jitter = \"some\"", "unknown variant `some`, expected one of"),
        ("budget = \"on\"", "or \"off\""),
        ("budget = { ratio = 20 }", "budget.ratio = 20: must be 0, or in 0.0001..=10; did you mean 0.2?"),
        ("budget = { share = 0.2 }", "unknown field `share`"),
        ("budget = { min_per_second = -1 }", "expected u32"),
        ("backoff = { initial = 100 }", "backoff.initial = 100: missing unit, write \"100s\" or \"100ms\""),
        ("backoff = { initial = \"-5s\" }", "backoff.initial = \"-5s\": a duration must not be negative"),
        ("backoff = { cap = \"10ms\" }", "backoff.cap = 10ms: must be at least backoff.initial, 100ms"),
        ("backoff = { kind = \"fixed\", factor = 2 }", "backoff.factor = 2: only an exponential backoff has a factor"),
        ("backoff = { kind = \"custom\" }", "backoff.kind = custom: a function cannot be read from a file"),
        ("backoff = { kind = \"random\" }", "unknown variant `random`"),
        ("backoff = { factor = inf }", "backoff.factor = inf: must be in 1..=100"),
        ("retry_on = [\"sometimes\"]", "unknown variant `sometimes`"),
        ("max_retry_after = \"\"", "max_retry_after = \"\": a duration must not be empty"),
        ("max_retry_after = \"5 fortnight\"", "unknown unit \"fortnight\""),
        ("deadline = \"99999999999999999d\"", "deadline = \"99999999999999999d\": the duration is too long"),
        ("deadline = true", "expected a duration such as \"250ms\""),
    ] {
        let error = toml::from_str::<Config>(toml).expect_err(toml).to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    for (json, expected) in [
        (r#"{"budget": {"ratio": 1e999}}"#, "number out of range"),
        (r#"{"budget": {"ratio": NaN}}"#, "expected value"),
        (
            r#"{"attempts": 0, "deadline": "0s"}"#,
            "attempts = 0: must be in 1..=100; deadline = 0s: must be at least 1ms",
        ),
        ("", "EOF while parsing"),
    ] {
        let error = serde_json::from_str::<Config>(json).map(|c| format!("{c:?}")).expect_err(json).to_string();
        assert!(error.contains(expected), "{json}\n{error}");
    }
}

#[test]
fn settings_read_as_written_and_come_back() {
    let text = r#"
        attempts = 5
        backoff = { kind = "linear", initial = "50ms", cap = "1.5s" }
        jitter = { range = 0.25 }
        budget = { ratio = 1, min_per_second = 3, cap = 7 }
        retry_on = ["timed_out", "rate_limited"]
        max_retry_after = "1m"
        deadline = "10s"
    "#;
    let read: Config = toml::from_str(text).unwrap();
    let written = Config::new()
        .attempts(5)
        .backoff(Backoff::linear(ms(50)).cap(ms(1_500)))
        .jitter(Jitter::Range(0.25))
        .budget(BudgetConfig::new().ratio(1.0).min_per_second(3).cap(7))
        .retry_on([Reason::TimedOut, Reason::RateLimited])
        .max_retry_after(ms(60_000))
        .deadline(ms(10_000));
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    let configs = [
        written,
        Config::new(),
        Config::http(),
        Config::database(),
        Config::new().no_budget().jitter(Jitter::Equal).backoff(Backoff::fixed(ms(0))),
    ];
    for config in configs {
        let json = serde_json::to_string(&config).unwrap();
        let again: Config = serde_json::from_str(&json).unwrap();
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "{json}");
        let toml = toml::from_str::<Config>("").unwrap();
        assert_eq!(format!("{toml:?}"), format!("{:?}", Config::default()));
    }
    let partial: Config = toml::from_str("budget = { ratio = 0.1 }\nbackoff = { cap = \"2s\" }").unwrap();
    let expected =
        Config::new().budget(BudgetConfig::new().ratio(0.1)).backoff(Backoff::exponential(ms(100), 2.0).cap(ms(2_000)));
    assert_eq!(format!("{partial:?}"), format!("{expected:?}"));
    let off: Config = toml::from_str("budget = \"off\"").unwrap();
    assert_eq!(format!("{off:?}"), format!("{:?}", Config::new().no_budget()));
    let custom = serde_json::to_string(&Config::custom(|_| ms(1))).unwrap();
    assert!(serde_json::from_str::<Config>(&custom).is_err(), "a function is not read back as something else");
}

#[test]
fn presets_are_what_they_say() {
    for config in [Config::basic(), Config::http(), Config::database(), Config::custom(|retry| ms(retry.into()))] {
        assert!(config.check().is_ok(), "{config:?}");
    }
    assert_eq!(format!("{:?}", Config::basic()), format!("{:?}", Config::new()));
}

#[test]
fn the_memory_of_a_retry_is_what_the_docs_say() {
    let retry = Handle::new("x", Config::new().backoff(Backoff::fixed(ms(0))));
    let cores = thread_count();
    let before = retry.memory();
    assert!(before <= 1_024 + 32 * cores.saturating_sub(4), "{before} bytes");
    let _ = poll_once(&mut Box::pin(retry.run(|| std::future::ready(Answer::Err(mainstay::Error::Inner(Boom))))));
    let calls = retry.memory() - before;
    assert!(calls <= 256, "{calls} bytes for a thread");
}

fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(4, usize::from)
}
