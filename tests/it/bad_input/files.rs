//! Files that are none: what a parser says is passed on, with the place.

use mainstay::{
    balance, breaker, bulkhead, client, concurrency,
    contract::{Contract, Instance},
    discovery, isolation, keyed, load_shed, rate_limit, retry, stack,
};
use serde::de::DeserializeOwned;

fn toml<T: DeserializeOwned>(text: &str) -> String {
    toml::from_str::<T>(text).err().unwrap_or_else(|| panic!("{text} was read")).to_string()
}

fn json<T: DeserializeOwned>(text: &str) -> String {
    serde_json::from_str::<T>(text).err().unwrap_or_else(|| panic!("{text} was read")).to_string()
}

#[test]
fn the_wrong_kind_of_value_is_told_with_its_place() {
    for (error, told) in [
        (toml::<stack::Config>("[breaker]\nprobes = 'three'"), "line 2, column 10"),
        (toml::<stack::Config>("[bulkhead]\nlimit = 3.5"), "invalid type: floating point `3.5`, expected u32"),
        (toml::<stack::Config>("breaker = []"), "a section with the settings of the policy"),
        (toml::<stack::Config>("breaker = [1]"), "a section with the settings of the policy"),
        (toml::<stack::Config>("preset = 'fast'"), "unknown variant `fast`, expected one of `standard`"),
        (toml::<rate_limit::Config>("calls = -1\nper = '1s'"), "invalid value: integer `-1`, expected u32"),
        (toml::<rate_limit::Config>("calls = 4294967296\nper = '1s'"), "4294967296"),
        (toml::<rate_limit::Config>("per = '1s'"), "missing field `calls`"),
        (toml::<retry::Config>("budget = 0.2"), "expected a budget such as { ratio = 0.2"),
        (toml::<retry::Config>("budget = 'none'"), "or \"off\""),
        (toml::<retry::Config>("retry_on = ['everything']"), "unknown variant `everything`"),
        (toml::<retry::Config>("backoff = { kind = 'custom' }"), "backoff.kind = custom: a function cannot be read"),
        (
            toml::<retry::Config>("backoff = { kind = 'fixed', factor = 2.0 }"),
            "only an exponential backoff has a factor",
        ),
        (toml::<concurrency::Config>("kind = 'aimd'\nalpha = 3"), "alpha = 3: only a vegas has it"),
        (toml::<isolation::Config>("level = 9"), "level"),
        (toml::<discovery::Config>("events = 0.5"), "invalid type: floating point `0.5`"),
        (json::<breaker::Config>(r#"{"window": []}"#), "a section with the settings of the policy"),
        (json::<retry::Config>(r#"{"backoff": ["fixed"]}"#), "a section with the settings of the policy"),
        (json::<load_shed::Config>(r#"{"throttle": [2.0]}"#), "a section with the settings of the policy"),
        (json::<balance::Config>(r#"{"outlier": []}"#), "a section with the settings of the policy"),
        (json::<balance::Config>(r#"{"slow_start": ["1m"]}"#), "a section with the settings of the policy"),
        (json::<keyed::LevelsConfig>(r#"{"global": [8]}"#), "a section with the settings of the policy"),
        (json::<keyed::LevelsConfig>(r#"{"tenants": {"default": [8]}}"#), "a section with the settings of the policy"),
        (
            json::<keyed::LevelsConfig>(r#"{"tenants": {"default": {"limit": 8}, "keys": {"a": [8]}}}"#),
            "a section with the settings of the policy",
        ),
        (json::<keyed::LevelsConfig>(r#"{"global": null}"#), "there is nothing"),
        (json::<bulkhead::Config>("8"), "invalid type: integer `8`"),
        (json::<bulkhead::Config>("null"), "invalid type: null"),
        (json::<breaker::Config>(r#"{"probes": null, "window": 5}"#), "line 1 column 28"),
        (
            json::<client::Config>(r#"{"stack": {"retry": {"attempts": "3"}}}"#),
            "invalid type: string \"3\", expected u32",
        ),
        (json::<balance::Config>(r#"{"outlier": {"mode": "on"}}"#), "unknown variant `on`"),
    ] {
        assert!(error.contains(told), "not {told:?}: {error}");
    }
}

#[test]
fn names_that_nobody_knows_are_told_with_those_that_there_are() {
    for (error, told) in [
        (toml::<stack::Config>("braeker = {}"), "unknown field `braeker`, expected one of `preset`"),
        (toml::<stack::Config>("[breaker]\nfailure_treshold = 1"), "unknown field `failure_treshold`"),
        (toml::<bulkhead::Config>("limit = 1\nmax_que = 1"), "`max_queue`"),
        (json::<keyed::LevelsConfig>(r#"{"tenant": {}}"#), "expected one of `global`, `tenants`, `operations`"),
        (json::<Instance>(r#"{"hots": "h"}"#), "unknown field `hots`"),
        (json::<Contract>(r#"{"name": "a", "version": "1.0.0", "endpoint": []}"#), "unknown field `endpoint`"),
        (json::<retry::Config>(r#"{"budget": {"share": 1}}"#), "unknown field `share`, expected one of `ratio`"),
        (json::<breaker::Saved>(r#"{"stat": "open"}"#), "unknown field `stat`"),
    ] {
        assert!(error.contains(told), "not {told:?}: {error}");
    }
}

#[test]
fn texts_that_are_no_document_are_told_by_their_parser() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(200), close.repeat(200));
    for (error, told) in [
        (json::<stack::Config>(""), "EOF while parsing a value at line 1 column 0"),
        (json::<stack::Config>(r#"{"timeout": "1s""#), "EOF while parsing an object"),
        (json::<stack::Config>(r#"{"timeout": "1s"} x"#), "trailing characters"),
        (json::<stack::Config>(r#"{"timeout": "1s", "timeout": "2s"}"#), "duplicate field `timeout`"),
        (json::<stack::Config>("{\"timeout\": \"1s\u{0}\"}"), "control character"),
        (json::<stack::Config>(r#"{"timeout": "\ud800"}"#), "line 1 column"),
        (json::<breaker::Config>(r#"{"failure_rate": 1e999}"#), "number out of range"),
        (json::<breaker::Config>(r#"{"failure_rate": Infinity}"#), "expected value"),
        (json::<stack::Config>(&format!(r#"{{"breaker": {}}}"#, deep("{\"window\":", "}"))), "line 1 column"),
        (json::<keyed::LevelsConfig>(&format!(r#"{{"global": {}}}"#, deep("[", "]"))), "line 1 column"),
        (json::<Instance>(&format!(r#"{{"metadata": {}}}"#, deep("[", "]"))), "invalid type: sequence, expected a map"),
        (json::<serde_json::Value>(&deep("[", "]")), "recursion limit exceeded"),
        (toml::<stack::Config>("timeout = '1s'\ntimeout = '2s'"), "duplicate key"),
        (toml::<stack::Config>("timeout = '1s'\n[breaker"), "unclosed table"),
        (toml::<stack::Config>("timeout = "), "TOML parse error"),
        (toml::<stack::Config>(&format!("breaker = {}", deep("[", "]"))), "recursion"),
        (toml::<stack::Config>("\u{feff}\u{feff}timeout = '1s'"), "TOML parse error"),
    ] {
        assert!(error.contains(told), "not {told:?}: {error}");
    }
    // Nothing at all is a document of TOML, in which every setting has its default.
    assert!(toml::from_str::<stack::Config>("").is_ok() && toml::from_str::<breaker::Config>("\n# none\n").is_ok());
    assert!(toml::<bulkhead::Config>("").contains("missing field `limit`"));
}

#[test]
fn a_long_value_is_told_short_and_an_odd_one_without_its_control_characters() {
    let long = "9".repeat(10_000);
    for error in [json::<breaker::Config>(&format!(r#"{{"open_for": "{long}"}}"#)), {
        json::<Instance>(&format!(r#"{{"service": "{long}", "id": "i", "host": "h", "port": 1}}"#))
    }] {
        assert!(error.len() < 300, "{} bytes", error.len());
    }
    let odd = r#"{"open_for": "1\u202e\u0007s"}"#;
    let error = json::<breaker::Config>(odd);
    assert!(!error.contains(['\u{202e}', '\u{7}']) && error.contains("\\u{202e}"), "{error:?}");
}
