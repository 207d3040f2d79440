//! One function for each parser: any bytes at all, and nothing may panic. Each is a fuzz target of `tests/fuzz`, and
//! `tests/it/fuzz.rs` plays the seeds to it.

use std::{cmp::Ordering, fmt::Debug, str::FromStr, time::Duration};

use mainstay::{
    Name, breaker,
    contract::{Contract, Instance, InstanceId, Method, ServiceName, Version},
    discovery,
    isolation::Level,
    keyed::{Operation, Tenant},
    load_shed, rate_limit, retry,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    exercise,
    subjects::{Format, all, comes_back},
};

/// What is done with the bytes of a fuzzer.
pub type Target = fn(&[u8]);

/// A target by the name of its file and of its folder of seeds.
pub const ALL: &[(&str, Target)] = &[
    ("config_json", config_json),
    ("config_toml", config_toml),
    ("durations", durations),
    ("ratios", ratios),
    ("names", names),
    ("versions", versions),
    ("headers", headers),
    ("instances", instances),
    ("saved", saved),
];

/// The first byte says what is read, the rest is the document.
pub fn config_json(data: &[u8]) {
    config(data, Format::Json);
}

/// As `config_json`.
pub fn config_toml(data: &[u8]) {
    config(data, Format::Toml);
}

fn config(data: &[u8], format: Format) {
    let Some((which, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let entry = all().nth(usize::from(*which) % all().count()).expect("the remainder is below the count");
    if let Err(refusal) = (entry.read)(text, format) {
        assert!(!refusal.message.is_empty(), "an error says why");
    }
}

/// A duration is refused with its field and a reason, or it comes back as it was.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = serde_json::json!({"overrides_for": text, "empty_grace": text, "invalidate_after": text});
    match serde_json::from_value::<discovery::Config>(file) {
        Ok(config) => {
            comes_back(&config);
            let limit: rate_limit::Config = serde_json::from_value(serde_json::json!({"calls": 10, "per": text}))
                .expect("a duration of one setting is one of another");
            exercise::rate_limit(limit);
        }
        Err(error) => {
            let error = error.to_string();
            let told =
                ["overrides_for = ", "empty_grace = ", "invalidate_after = "].iter().all(|it| error.contains(it));
            // Nothing at all is a grace, and no time for anything else.
            assert!(told || error.contains("overrides_for = 0s: must be at least 1ms"), "{error}");
        }
    }
}

/// Shares from their bits: a check that says yes means that they can be used.
pub fn ratios(data: &[u8]) {
    let Some((bits, rest)) = data.split_first_chunk() else { return };
    let share = f64::from_bits(u64::from_le_bytes(*bits));
    let other = rest.split_first_chunk().map_or(share, |(bits, _)| f64::from_bits(u64::from_le_bytes(*bits)));
    let circuit = breaker::Config::new()
        .failure_rate(share)
        .slow_calls(Duration::from_millis(1), other)
        .probe_failure_rate(share)
        .minimum_calls(1)
        .open_growth(1.0 + other, Duration::from_secs(3_600))
        .open_jitter(share);
    if circuit.check().is_ok() {
        comes_back(&circuit);
        exercise::breaker(circuit);
    }
    let budget = retry::BudgetConfig::new().ratio(share);
    if budget.check().is_ok() {
        comes_back(&budget);
        exercise::budget(budget);
    }
    let shed = load_shed::Config::new()
        .in_flight(8)
        .shares(share, other)
        .throttle(load_shed::Throttle::new().k(1.0 + other).cap(share).min_requests(1));
    if shed.check().is_ok() {
        comes_back(&shed);
        exercise::load_shed(shed);
    }
}

/// A name is itself again, or is refused with its field; a policy can be named after everything.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = named::<Name>(text) {
        assert!(name.as_str().len() <= 64 && name.as_str().is_ascii());
    }
    let policies = [
        named::<ServiceName>(text).map(|it| it.policy_name()),
        named::<InstanceId>(text).map(|it| it.policy_name()),
        named::<Method>(text).map(|it| it.policy_name()),
    ];
    for policy in policies.into_iter().flatten() {
        assert_eq!(Name::new(policy.as_str()), Ok(policy));
    }
    let _ = (named::<Tenant>(text), named::<Operation>(text), text.parse::<Level>());
}

fn named<N>(text: &str) -> Result<N, ()>
where
    N: FromStr<Err = mainstay::ConfigError> + AsRef<str> + Serialize + DeserializeOwned + Debug,
{
    match text.parse::<N>() {
        Ok(name) => {
            assert_eq!(name.as_ref(), text);
            assert!(!text.contains(char::is_control), "{text:?}");
            comes_back(&name);
            Ok(name)
        }
        Err(error) => {
            assert!(!error.field().is_empty() && !error.why().is_empty());
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            Err(())
        }
    }
}

/// Versions come back, and are in one order; two of them are parted by a line's end.
pub fn versions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    let (one, other) = match (Version::parse(one), Version::parse(other)) {
        (Ok(one), Ok(other)) => (one, other),
        (one, other) => {
            for error in [one.err(), other.err()].into_iter().flatten() {
                assert_eq!(error.field(), "version");
            }
            return;
        }
    };
    assert_eq!(Version::parse(&one.to_string()).as_ref(), Ok(&one));
    assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
    assert_eq!(one.cmp(&other) == Ordering::Equal, one == other);
    assert!(one.serves(&one));
    if one.serves(&other) && other.serves(&one) {
        let numbers = |it: &Version| (it.major(), it.minor(), it.patch(), it.pre_release().to_owned());
        assert_eq!(numbers(&one), numbers(&other), "of two that serve each other, neither is later");
    }
    comes_back(&one);
}

/// Waits that a server asks for, and time that a caller gives.
#[cfg(feature = "http")]
pub fn headers(data: &[u8]) {
    use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
    use mainstay::http::{GRPC_TIMEOUT, TIMEOUT_MS, grpc_timeout_value, retry_after, timeout_header};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(8) {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        for name in [RETRY_AFTER, GRPC_TIMEOUT, TIMEOUT_MS] {
            let alone = HeaderMap::from_iter([(name.clone(), value.clone())]);
            for wait in [retry_after(&alone), timeout_header(&alone)].into_iter().flatten() {
                assert!(wait <= YEAR, "{wait:?}");
                let told = HeaderMap::from_iter([(GRPC_TIMEOUT, grpc_timeout_value(wait))]);
                let read = timeout_header(&told).expect("what is told can be read");
                assert!(read <= wait && wait - read <= wait / 100_000 + Duration::from_nanos(1), "{wait:?} {read:?}");
            }
            headers.append(name, value.clone());
        }
    }
    let _ = (retry_after(&headers), timeout_header(&headers));
}

/// There are no headers without the feature.
#[cfg(not(feature = "http"))]
pub fn headers(_: &[u8]) {}

/// What a backend or a file tells of instances and contracts; and hosts by themselves.
pub fn instances(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(instance) = Instance::new("users", "users-1", text, 8080) {
        assert!(!instance.host().contains(|c: char| c.is_control() || c.is_whitespace()));
        comes_back(&instance);
        exercise::one_instance(instance);
    }
    for format in [Format::Json, Format::Toml] {
        if let Ok(instance) = format.read::<Instance>(text) {
            comes_back(&instance);
            exercise::one_instance(instance);
        }
        if let Ok(contract) = format.read::<Contract>(text) {
            comes_back(&contract);
        }
    }
}

/// The state of a breaker that another process has left.
pub fn saved(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(state) = Format::Json.read::<breaker::Saved>(text) {
        comes_back(&state);
        exercise::saved(&state);
    }
}
