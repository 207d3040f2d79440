//! What bad settings and names get: an error that names the field, the value and the reason.

mod files;
mod names;
mod rooms;

use mainstay::{
    ConfigError, Name,
    breaker::{Config, Handle, Readiness},
};

use crate::support::*;

fn refused(config: &Config) -> ConfigError {
    config.check().expect_err("impossible settings")
}

#[test]
fn every_impossible_setting_is_refused_by_name_value_and_reason() {
    let day = ms(86_400_000);
    let new = Config::new;
    let cases: Vec<(Config, &str, &str, &str)> = vec![
        (new().failure_rate(0.0), "failure_rate", "0", "must be in (0, 1]"),
        (new().failure_rate(-0.1), "failure_rate", "-0.1", "must be in (0, 1]"),
        (new().failure_rate(1.5), "failure_rate", "1.5", "did you mean 0.015? (percent given)"),
        (new().failure_rate(50.0), "failure_rate", "50", "must be in (0, 1]; did you mean 0.5? (percent given)"),
        (new().failure_rate(101.0), "failure_rate", "101", "must be in (0, 1]"),
        (new().failure_rate(f64::NAN), "failure_rate", "NaN", "must be a finite number"),
        (new().failure_rate(f64::INFINITY), "failure_rate", "inf", "must be a finite number"),
        (new().slow_calls(ms(1), f64::NAN), "slow_rate", "NaN", "must be a finite number"),
        (new().slow_calls(ms(0), 0.5), "slow_after", "0s", "must be at least 1ms"),
        (new().probe_failure_rate(0.0), "probe_failure_rate", "0", "must be in (0, 1]"),
        (new().minimum_calls(0), "minimum_calls", "0", "must be in 1..="),
        (new().minimum_calls(u64::MAX), "minimum_calls", "18446744073709551615", "must be in 1..="),
        (new().count_window(10), "minimum_calls", "20", "must be at most the 10 calls"),
        (new().count_window(0).minimum_calls(1), "window.calls", "0", "must be in 1..=1000000"),
        (new().count_window(usize::MAX), "window.calls", "18446744073709551615", "must be in 1..=1000000"),
        (new().count_window(1_000_001), "window.calls", "1000001", "must be in 1..=1000000"),
        (new().time_window(ms(0)), "window.time", "0s", "must be at least 1ms"),
        (new().time_window(day * 366), "window.time", "366d", "must be at most 365d"),
        (new().time_window(std::time::Duration::MAX), "window.time", "ns", "must be at most 365d"),
        (new().buckets(0), "window.buckets", "0", "must be in 1..=3600"),
        (new().buckets(3_601), "window.buckets", "3601", "must be in 1..=3600"),
        (new().consecutive_failures(0), "consecutive_failures", "0", "must be in 1..="),
        (new().open_for(ms(0)), "open_for", "0s", "must be at least 1ms"),
        (new().open_growth(0.5, day), "open_growth", "0.5", "must be in 1..=100"),
        (new().open_growth(f64::NAN, day), "open_growth", "NaN", "must be in 1..=100"),
        (new().open_growth(2.0, ms(5)), "open_cap", "5ms", "must be at least open_for, 30s"),
        (new().open_jitter(1.1), "open_jitter", "1.1", "in [0, 1]"),
        (new().open_jitter(-0.1), "open_jitter", "-0.1", "in [0, 1]"),
        (new().open_jitter(f64::NAN), "open_jitter", "NaN", "in [0, 1]"),
        (new().honor_retry_after(ms(0)), "honor_retry_after", "0s", "must be at least 1ms"),
        (new().probes(0), "probes", "0", "must be in 1..=10000"),
        (new().close_after(0), "close_after", "0", "must be in 1..=10000"),
        (new().close_after(u32::MAX), "close_after", "4294967295", "must be in 1..=10000"),
        (new().half_open_for(ms(0)), "half_open_for", "0s", "must be at least 1ms"),
        (new().count_cancelled_after(day * 400), "count_cancelled_after", "400d", "must be at most 365d"),
    ];
    for (config, field, value, why) in cases {
        let error = refused(&config);
        assert_eq!(error.field(), field, "{error}");
        assert!(error.value().contains(value), "{error}");
        assert!(error.why().contains(why), "{error}");
        assert_eq!(Handle::try_new("x", config.clone()).unwrap_err(), error);
        assert!(panics(|| Handle::new("x", config)));
    }
}

#[test]
fn all_problems_are_reported_together() {
    let error = Handle::try_new("a b", Config::new().probes(0).failure_rate(-1.0)).unwrap_err();
    let fields: Vec<&str> = error.problems().map(ConfigError::field).collect();
    assert_eq!(fields, ["name", "failure_rate", "probes"]);
    assert_eq!(error.to_string().matches("; ").count(), 2);
}

#[test]
fn the_limits_themselves_are_allowed() {
    for config in [
        Config::new().failure_rate(1.0).minimum_calls(1).probes(10_000),
        Config::new().failure_rate(f64::MIN_POSITIVE),
        Config::new().count_window(1_000_000),
        Config::new().count_window(1).minimum_calls(1),
        Config::new().time_window(ms(86_400_000) * 365).buckets(3_600),
        Config::new().time_window(ms(1)).buckets(1),
        Config::new().open_growth(100.0, ms(86_400_000)).open_jitter(1.0),
    ] {
        let breaker = Handle::try_new("x", config).unwrap();
        fail(&breaker, 1);
        let _ = breaker.snapshot();
    }
}

#[test]
fn bad_files_say_which_field_and_why() {
    for (toml, expected) in [
        ("failure_rate = nan", "failure_rate = NaN: must be a finite number"),
        ("failure_rate = 50", "failure_rate = 50: must be in (0, 1]; did you mean 0.5? (percent given)"),
        ("failure_rate = \"0.5\"", "expected a number in (0, 1], or \"off\""),
        ("failure_treshold = 0.5", "unknown field `failure_treshold`, expected one of"),
        ("open_for = \"10\"", "open_for = \"10\": missing unit, write \"10s\" or \"10ms\""),
        ("open_for = 10", "open_for = 10: missing unit, write \"10s\" or \"10ms\""),
        ("open_for = -5", "open_for = -5: a duration must not be negative"),
        ("open_for = \"-5s\"", "open_for = \"-5s\": a duration must not be negative"),
        ("open_for = \"5 fortnight\"", "open_for = \"5 fortnight\": unknown unit \"fortnight\""),
        ("open_for = \"\"", "open_for = \"\": a duration must not be empty"),
        ("open_for = \"9999999999999999999s\"", "open_for = \"9999999999999999999s\": the duration is too long"),
        ("open_for = true", "expected a duration such as \"250ms\""),
        ("slow_after = \"1e3s\"", "slow_after = \"1e3s\": unknown unit"),
        ("minimum_calls = -1", "expected u64"),
        ("probes = 9223372036854775808", "probes"),
        ("window = { calls = 10, time = \"1s\" }", "window.calls = 10: a window is of calls or of time"),
        ("window = { calls = 5 }", "minimum_calls = 20: must be at most the 5 calls"),
        ("window = { size = 5 }", "unknown field `size`"),
        ("probes = 1\nprobes = 2", "duplicate key"),
        ("readiness = \"maybe\"", "unknown variant `maybe`, expected `reject` or `unready`"),
        ("failure_rate = ", "TOML parse error"),
    ] {
        let error = toml::from_str::<Config>(toml).expect_err(toml).to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    for (json, expected) in [
        (r#"{"failure_rate": 1e999}"#, "number out of range"),
        (r#"{"failure_rate": NaN}"#, "expected value"),
        (r#"{"probes": 0, "open_for": "0s"}"#, "open_for = 0s: must be at least 1ms; probes = 0: must be in 1..=10000"),
        (r#"{"probes": 1, "probes": 2}"#, "duplicate field `probes`"),
        (r#"{"open_for": "#, "EOF while parsing"),
        ("", "EOF while parsing"),
    ] {
        let error = serde_json::from_str::<Config>(json).map(|c| format!("{c:?}")).expect_err(json).to_string();
        assert!(error.contains(expected), "{json}\n{error}");
    }
}

#[test]
fn settings_read_as_written_and_come_back() {
    let text = r#"
        window = { time = "1m", buckets = 6 }
        failure_rate = "off"
        slow_after = "1.5s"
        slow_rate = 1
        minimum_calls = 7
        consecutive_failures = 3
        open_for = "2s"
        open_growth = 2.0
        open_cap = "1h"
        open_jitter = 0.25
        honor_retry_after = "10m"
        wake_up = true
        probes = 2
        close_after = 4
        probe_failure_rate = 0.5
        half_open_for = "15s"
        count_cancelled_after = "900ms"
        readiness = "unready"
        measure_latency = false
    "#;
    let read: Config = toml::from_str(text).unwrap();
    let written = Config::new()
        .time_window(ms(60_000))
        .buckets(6)
        .no_failure_rate()
        .slow_calls(ms(1_500), 1.0)
        .minimum_calls(7)
        .consecutive_failures(3)
        .open_for(ms(2_000))
        .open_growth(2.0, ms(3_600_000))
        .open_jitter(0.25)
        .honor_retry_after(ms(600_000))
        .wake_up(true)
        .probes(2)
        .close_after(4)
        .probe_failure_rate(0.5)
        .half_open_for(ms(15_000))
        .count_cancelled_after(ms(900))
        .readiness(Readiness::Unready)
        .measure_latency(false);
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    let json = serde_json::to_string(&written).unwrap();
    let again: Config = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{again:?}"), format!("{written:?}"));
    let defaults: Config = toml::from_str("").unwrap();
    assert_eq!(format!("{defaults:?}"), format!("{:?}", Config::new()));
    let counted: Config = serde_json::from_str(r#"{"window": {"calls": 50}}"#).unwrap();
    assert_eq!(format!("{counted:?}"), format!("{:?}", Config::new().count_window(50)));
    let long: Config = toml::from_str("open_for = \"1h\"").unwrap();
    assert!(long.check().is_ok());
}

#[test]
fn odd_names_are_refused_wherever_they_come_from() {
    for name in ["", "a\nb", "<x>", "ä", "-x", "a b", &"x".repeat(65)] {
        assert_eq!(Handle::try_new(name, Config::new()).unwrap_err().field(), "name");
        assert!(serde_json::from_value::<Name>(name.into()).is_err());
        assert!(name.parse::<Name>().is_err());
    }
    assert_eq!("users/v1:get_by-id.2".parse::<Name>().unwrap().as_str(), "users/v1:get_by-id.2");
}
