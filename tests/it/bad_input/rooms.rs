//! Every room, and what is put together of them: settings that cannot be, through the builder that makes the thing.

use std::time::Duration;

use mainstay::{
    ConfigError, balance, breaker, bulkhead, client, concurrency, discovery, fallback, hedge,
    isolation::{self, FallbackConfig, IsolationManager, Level},
    keyed::{self, Tenant},
    load_shed, rate_limit, retry, stack, timeout,
};

use crate::support::*;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const OVER: Duration = Duration::from_secs(365 * 86_400 + 1);

type Case = (&'static str, Result<(), ConfigError>, &'static str, &'static str, &'static str);

/// Each is what it is of, what came of it, and field, value and reason of the error.
fn told(cases: Vec<Case>) {
    for (what, made, field, value, why) in cases {
        let error = made.expect_err(what);
        let problem = error.problems().find(|problem| problem.field() == field);
        let problem = problem.unwrap_or_else(|| panic!("{what}: {error} says nothing of {field}"));
        assert!(problem.value().contains(value), "{what}: {problem}");
        assert!(problem.why().contains(why), "{what}: {problem}");
        assert!(error.to_string().contains(&format!("{field} = ")), "{what}: {error}");
    }
}

fn bulkhead(config: &bulkhead::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), bulkhead::Handle::try_new("x", config.clone()).map(drop));
    config.check()
}

fn concurrency(config: &concurrency::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), concurrency::Handle::try_new("x", config.clone()).map(drop));
    config.check()
}

fn hedge(config: hedge::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), hedge::Handle::try_new("x", config).map(drop));
    config.check()
}

fn shed(config: load_shed::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), load_shed::Handle::try_new("x", config).map(drop));
    config.check()
}

fn rate(config: rate_limit::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), rate_limit::Handle::try_new("x", config).map(drop));
    config.check()
}

fn retry(config: &retry::Config) -> Result<(), ConfigError> {
    assert_eq!(config.check(), retry::Handle::try_new("x", config.clone()).map(drop));
    config.check()
}

#[test]
fn places_and_limits() {
    use bulkhead::Config;
    use concurrency::Config as Adaptive;
    told(vec![
        ("no place", bulkhead(&Config::new(0)), "limit", "0", "must be in 1..=1000000"),
        ("all places", bulkhead(&Config::new(u32::MAX)), "limit", "4294967295", "must be in 1..=1000000"),
        (
            "a queue without end",
            bulkhead(&Config::new(1).max_queue(u32::MAX)),
            "max_queue",
            "4294967295",
            "0..=1000000",
        ),
        ("no wait", bulkhead(&Config::new(1).max_wait(ms(0))), "max_wait", "0s", "at least 1ms"),
        ("a long wait", bulkhead(&Config::new(1).max_wait(OVER)), "max_wait", "s", "at most 365d"),
        ("all reserved", bulkhead(&Config::new(4).reserve(4)), "reserve", "4", "less than the limit, 4"),
        ("no share", concurrency(&Adaptive::new().percentile(-1.0)), "percentile", "-1", "must be in (0, 1]"),
        ("no floor", concurrency(&Adaptive::new().floor(0)), "floor", "0", "must be in 1..="),
        ("below", concurrency(&Adaptive::new().floor(50)), "initial", "20", "from the floor to the ceiling"),
        ("crossed", concurrency(&Adaptive::new().floor(9).ceiling(8)), "floor", "9", "at most the ceiling, 8"),
        ("endless", concurrency(&Adaptive::new().window(Duration::MAX)), "window", "ns", "at most 365d"),
        ("no calls", rate(rate_limit::Config::per_second(0)), "calls", "0", "must be in 1..="),
        ("no burst", rate(rate_limit::Config::new(1, YEAR).burst(0)), "burst", "0", "must be in 1..="),
        ("no period", rate(rate_limit::Config::new(1, ms(0))), "per", "0s", "at least 1ms"),
        ("a long period", rate(rate_limit::Config::new(1, Duration::MAX)), "per", "ns", "at most 365d"),
        ("no room", shed(load_shed::Config::new().in_flight(0)), "in_flight", "0", "must be in 1..="),
        ("percent", shed(load_shed::Config::new().shares(90.0, 0.5)), "normal_share", "90", "did you mean 0.9?"),
        ("crossed", shed(load_shed::Config::new().shares(0.5, 0.6)), "low_share", "0.6", "at most normal_share, 0.5"),
        ("nan", shed(load_shed::Config::new().shares(f64::NAN, 0.5)), "normal_share", "NaN", "a finite number"),
    ]);
}

#[test]
fn those_that_run_again_or_elsewhere() {
    use hedge::Config as Hedge;
    use retry::{Backoff, BudgetConfig, Config, Jitter};
    let new = Config::new;
    let linear = || Backoff::linear(ms(10));
    let budget = |budget| retry(&new().budget(budget));
    told(vec![
        ("none", retry(&new().attempts(0)), "attempts", "0", "must be in 1..=100"),
        ("endless", retry(&new().attempts(u32::MAX)), "attempts", "4294967295", "must be in 1..=100"),
        ("cap", retry(&new().backoff(linear().cap(ms(9)))), "backoff.cap", "9ms", "at least backoff.initial, 10ms"),
        ("factor", retry(&new().backoff(Backoff::exponential(ms(1), f64::NAN))), "backoff.factor", "NaN", "1..=100"),
        ("initial", retry(&new().backoff(Backoff::fixed(OVER))), "backoff.initial", "s", "at most 365d"),
        ("nan", retry(&new().jitter(Jitter::Range(f64::NAN))), "jitter.range", "NaN", "in [0, 1]"),
        ("over", retry(&new().jitter(Jitter::Range(1.5))), "jitter.range", "1.5", "in [0, 1]"),
        ("under", retry(&new().jitter(Jitter::Range(-1.0))), "jitter.range", "-1", "in [0, 1]"),
        ("wait", retry(&new().max_retry_after(ms(0))), "max_retry_after", "0s", "at least 1ms"),
        ("deadline", retry(&new().deadline(Duration::MAX)), "deadline", "ns", "at most 365d"),
        ("negative", budget(BudgetConfig::new().ratio(-1.0)), "budget.ratio", "-1", "must be 0, or a finite"),
        ("percent", budget(BudgetConfig::new().ratio(20.0)), "budget.ratio", "20", "did you mean 0.2?"),
        ("infinite", budget(BudgetConfig::new().ratio(f64::INFINITY)), "budget.ratio", "inf", "a finite number"),
        ("no cap", budget(BudgetConfig::new().cap(0)), "budget.cap", "0", "must be in 1..="),
        ("no copy", hedge(Hedge::new().attempts(0)), "attempts", "0", "must be in 1..=10"),
        ("a share", hedge(Hedge::new().percentile(0.95)), "percentile", "0.95", "did you mean 95? (share given)"),
        (
            "crossed",
            hedge(Hedge::new().min_delay(ms(9)).max_delay(ms(8))),
            "max_delay",
            "8ms",
            "at least min_delay, 9ms",
        ),
        ("endless", hedge(Hedge::new().delay(Duration::MAX)), "delay", "ns", "at most 365d"),
    ]);
    let limit = |limit| timeout::Handle::try_new("x", limit).map(drop);
    let cache = |config: fallback::CacheConfig| fallback::LastGood::<u32, u32>::try_new(config).map(drop);
    let usual = fallback::CacheConfig::new;
    told(vec![
        ("no time", limit(ms(0)), "timeout", "0s", "at least 1ms"),
        ("too short", limit(Duration::from_nanos(999_999)), "timeout", "999999ns", "at least 1ms"),
        ("for ever", limit(Duration::MAX), "timeout", "ns", "at most 365d"),
        ("no entry", cache(usual().max_entries(0)), "max_entries", "0", "must be in 1..=1000000"),
        ("no age", cache(usual().max_age(ms(0))), "max_age", "0s", "at least 1ms"),
        ("older", cache(usual().max_age(ms(5)).refresh(ms(6))), "refresh", "6ms", "at most max_age, 5ms"),
    ]);
    assert!(limit(YEAR).is_ok() && limit(ms(1)).is_ok());
}

#[test]
fn what_is_put_together_says_in_which_section() {
    let mut wrong = stack::Config::standard();
    wrong.timeout = Some(ms(0));
    wrong.attempt_timeout = Some(OVER);
    wrong.breaker = Some(breaker::Config::new().probes(0));
    wrong.bulkhead = Some(bulkhead::Config::new(0));
    wrong.hedge = Some(hedge::Config::new().attempts(99));
    let built = || wrong.clone().builder("a b").try_build().map(drop);
    let keys = || keyed::Config::<Tenant, _>::new(breaker::Config::new().probes(0));
    let tenants = |config| keyed::Handle::<Tenant, breaker::Handle>::try_new("x", config).map(drop);
    let good = || keyed::Config::<Tenant, _>::new(breaker::Config::new());
    let levels = || keyed::LevelsConfig::new(bulkhead::Config::new(4)).tenant_default(bulkhead::Config::new(4));
    told(vec![
        ("name", built(), "name", "a b", "must be 1..=64 characters"),
        ("timeout", built(), "timeout", "0s", "at least 1ms"),
        ("attempt", built(), "attempt_timeout", "s", "at most 365d"),
        ("breaker", built(), "breaker.probes", "0", "must be in 1..="),
        ("bulkhead", built(), "bulkhead.limit", "0", "must be in 1..="),
        ("hedge", built(), "hedge.attempts", "99", "must be in 1..=10"),
        ("default", tenants(keys()), "default.probes", "0", "must be in 1..="),
        ("others", tenants(good().others(breaker::Config::new().close_after(0))), "others.close_after", "0", "1..="),
        ("no key", tenants(good().max_keys(0)), "max_keys", "0", "must be in 1..=1000000"),
        ("all keys", tenants(good().max_keys(usize::MAX)), "max_keys", "18446744073709551615", "1..=1000000"),
        ("idle", tenants(good().idle_for(ms(0))), "idle_for", "0s", "at least 1ms"),
        (
            "odd key",
            tenants(good().key("<script>", breaker::Config::new())),
            "keys.tenant",
            "<script>",
            "must be 1..=128",
        ),
        (
            "twice",
            tenants(good().key("a", breaker::Config::new()).key("a", breaker::Config::new())),
            "keys",
            "\"a\"",
            "is there twice",
        ),
        (
            "greedy",
            keyed::Levels::try_new("x", levels()).map(drop),
            "tenants.default.limit",
            "4",
            "less than global.limit",
        ),
    ]);
}

#[test]
fn the_fleet() {
    use balance::{Config, Outlier, SlowStart};
    let balanced = |config: Config| balance::Handle::<()>::try_new("x", config).map(drop);
    let outlier = |outlier| balanced(Config::new().outlier(outlier));
    let checks = |config: discovery::health::Config| config.check();
    let found = |config| discovery::InMemory::try_with(config).map(drop);
    let called = |config: client::Config| config.check();
    let manager = IsolationManager::<u32, u32, mainstay::Error<Boom>>::new();
    let isolated = |config: isolation::Config| config.check();
    let fallback = || FallbackConfig::<u32, u32, mainstay::Error<Boom>>::none();
    told(vec![
        ("percent", balanced(Config::new().panic_threshold(50.0)), "panic_threshold", "50", "in [0, 1]"),
        ("decay", balanced(Config::new().decay(ms(0))), "decay", "0s", "at least 1ms"),
        ("deviations", outlier(Outlier::new().deviations(f64::NAN)), "outlier.deviations", "NaN", "0..=100"),
        ("interval", outlier(Outlier::new().interval(OVER)), "outlier.interval", "s", "at most 365d"),
        ("cap", outlier(Outlier::new().eject_cap(ms(1))), "outlier.eject_for", "30s", "at most eject_cap, 1ms"),
        ("all", outlier(Outlier::new().max_ejected(-0.5)), "outlier.max_ejected", "-0.5", "in [0, 1]"),
        ("ramp", balanced(Config::new().slow_start(SlowStart::new(ms(0)))), "slow_start.window", "0s", "at least 1ms"),
        ("no events", found(discovery::Config::new().events(0)), "events", "0", "must be in 1..=1000000"),
        ("grace", found(discovery::Config::new().empty_grace(OVER)), "empty_grace", "s", "at most 365d"),
        ("jitter", checks(discovery::health::Config::new().jitter(2.0)), "jitter", "2", "in [0, 1]"),
        ("up", checks(discovery::health::Config::new().up_after(0)), "up_after", "0", "must be in 1..="),
        ("methods", called(client::Config::new().max_methods(0)), "max_methods", "0", "must be in 1..=10000"),
        ("wait", called(client::Config::new().first_wait(Duration::MAX)), "first_wait", "ns", "at most 365d"),
        ("limit", isolated(isolation::Config::new().timeout(ms(0))), "timeout", "0s", "at least 1ms"),
        ("retries", fallback().max_retries(100).check(), "max_retries", "100", "must be in 0..=99"),
        ("delay", fallback().retry_delay(OVER).check(), "retry_delay", "s", "at most 365d"),
        ("level", "extreme".parse::<Level>().map(drop), "level", "extreme", "none, basic, enhanced"),
    ]);
    let circuit = fallback().circuit_breaker(breaker::Config::new().probes(0));
    told(vec![("circuit", circuit.check(), "circuit_breaker.probes", "0", "must be in 1..=")]);
    assert!(manager.is_empty());
}
