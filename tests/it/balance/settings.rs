//! Settings: what is refused, and that a file says the same as code.

use super::*;

use mainstay::{
    balance::{Mode, SlowStart},
    breaker,
};

#[test]
fn settings_that_cannot_be_are_refused_with_field_value_and_reason() {
    let outlier = |change: fn(Outlier) -> Outlier| Config::new().outlier(change(Outlier::new()));
    let slow = |slow: SlowStart| Config::new().slow_start(slow);
    for (config, said) in [
        (Config::new().panic_threshold(1.1), "panic_threshold = 1.1: must be a finite number in [0, 1]"),
        (Config::new().panic_threshold(f64::NAN), "panic_threshold = NaN: must be a finite number in [0, 1]"),
        (Config::new().decay(ms(0)), "decay = 0s: must be at least 1ms"),
        (Config::new().initial_latency(Duration::MAX), "initial_latency = 18446744073709551615999999999ns: must be"),
        (Config::new().failure_penalty(ms(0)), "failure_penalty = 0s: must be at least 1ms"),
        (
            outlier(|o| o.consecutive_failures(2_000_000)),
            "outlier.consecutive_failures = 2000000: must be in 0..=1000000",
        ),
        (outlier(|o| o.deviations(-1.0)), "outlier.deviations = -1: must be in 0..=100"),
        (outlier(|o| o.success_floor(90.0)), "outlier.success_floor = 90: must be a finite number in [0, 1]"),
        (outlier(|o| o.failure_rate(85.0)), "outlier.failure_rate = 85: must be in (0, 1]; did you mean 0.85?"),
        (outlier(|o| o.failure_rate(0.0)), "outlier.failure_rate = 0: must be in (0, 1]"),
        (outlier(|o| o.min_instances(0)), "outlier.min_instances = 0: must be in 1..=1000000"),
        (outlier(|o| o.min_calls(0)), "outlier.min_calls = 0: must be in 1..=1000000000"),
        (outlier(|o| o.interval(ms(0))), "outlier.interval = 0s: must be at least 1ms"),
        (outlier(|o| o.eject_cap(ms(1))), "outlier.eject_for = 30s: must be at most eject_cap, 1ms"),
        (outlier(|o| o.max_ejected(2.0)), "outlier.max_ejected = 2: must be a finite number in [0, 1]"),
        (slow(SlowStart::new(ms(0))), "slow_start.window = 0s: must be at least 1ms"),
        (slow(SlowStart::new(ms(9)).aggression(0.0)), "slow_start.aggression = 0: must be in 0.01..=100"),
        (slow(SlowStart::new(ms(9)).min_share(0.0)), "slow_start.min_share = 0: must be in (0, 1]"),
        (Config::new().breaker(breaker::Config::new().probes(0)), "breaker.probes = 0: must be"),
    ] {
        let error = config.check().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(Handle::<Node>::try_new("users", config.clone()).unwrap_err(), error);
        let handle = Handle::<Node>::new("users", Config::new());
        assert_eq!(handle.reconfigure(config).unwrap_err(), error);
    }
    let both = Handle::<Node>::try_new("", Config::new().panic_threshold(2.0)).unwrap_err();
    assert_eq!(both.problems().count(), 2);
    assert!(crate::support::panics(|| Handle::<Node>::new("users", Config::new().panic_threshold(2.0))));
}

#[test]
fn a_file_says_what_it_means_or_what_is_wrong() {
    for (text, said) in [
        ("panic_treshold = 0.5", "unknown field `panic_treshold`"),
        ("outlier = { max = 1 }", "unknown field `max`"),
        ("outlier = { interval = 10 }", "outlier.interval = 10: missing unit, write \"10s\" or \"10ms\""),
        ("outlier = { mode = 'on' }", "unknown variant `on`"),
        ("slow_start = { window = 'soon' }", "slow_start.window = \"soon\": expected a number and a unit"),
        ("slow_start = {}", "missing field `window`"),
        ("breaker = { failure_rate = 50 }", "breaker.failure_rate = 50: must be in (0, 1]; did you mean 0.5?"),
        ("decay = '1y'\nfailure_penalty = '0s'", "decay = \"1y\": unknown unit"),
        ("decay = '1y'\nfailure_penalty = '0s'", "failure_penalty = 0s: must be at least 1ms"),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let config = Config::new()
        .panic_threshold(0.0)
        .outlier(Outlier::new().mode(Mode::Shadow).failure_rate(0.8).eject_jitter(ms(5_000)).deviations(2.5))
        .breaker(breaker::Config::basic())
        .slow_start(SlowStart::new(ms(5_000)).aggression(0.5).min_share(0.2))
        .decay(ms(5_000));
    let json = serde_json::to_string(&config).unwrap();
    let back: Config = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{back:?}"), format!("{config:?}"));
    let empty: Config = toml::from_str("").unwrap();
    assert_eq!(format!("{empty:?}"), format!("{:?}", Config::default()));
}

#[test]
fn a_cap_that_nobody_set_follows_a_long_ejection() {
    let hour = Duration::from_secs(3_600);
    assert!(Config::new().outlier(Outlier::new().eject_for(hour)).check().is_ok());
    assert!(toml::from_str::<Outlier>("eject_for = '1h'").is_ok());
    assert!(toml::from_str::<Outlier>("eject_for = '1h'\neject_cap = '1m'").is_err());
}

#[test]
fn breakers_stay_with_their_members() {
    let (handle, _) = set(calm().breaker(breaker::Config::basic()), 2);
    let error = handle.reconfigure(calm()).unwrap_err();
    assert_eq!((error.field(), error.value()), ("breaker", "off"));
    let error = handle.reconfigure(calm().breaker(breaker::Config::basic().count_window(5))).unwrap_err();
    assert_eq!(error.field(), "breaker.window");
    handle.reconfigure(calm().breaker(breaker::Config::basic().probes(7)).panic_threshold(0.2)).unwrap();
    assert!(format!("{:?}", handle.breaker(&id(1)).unwrap().config()).contains("probes: Some(7)"));
    assert!(format!("{:?}", handle.config()).contains("panic_threshold: 0.2"));
    let long = "x".repeat(200);
    let handle = Handle::new("users", calm().breaker(breaker::Config::basic()));
    let names: std::collections::BTreeSet<String> = ["a", "b"]
        .map(|end| {
            let id = format!("{long}{end}");
            let instance = Instance::new("users", &id, "10.0.0.7", 80).unwrap();
            let id = instance.id().clone();
            handle.insert(Arc::new(instance), Node::new(0));
            handle.breaker(&id).unwrap().name().to_string()
        })
        .into();
    assert_eq!(names.len(), 2, "long names are told apart: {names:?}");
}
