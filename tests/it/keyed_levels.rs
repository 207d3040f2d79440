//! Bulkheads on three levels: of a tenant, of an operation, of all.

use std::future::{pending, ready};

use mainstay::{
    Error, Reason,
    bulkhead::Config,
    keyed::{HasOperation, HasTenant, KeyedLayer, Levels, LevelsConfig, str_key_fn},
    observe::Event,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// Six calls in all, two of a tenant (four of gold), three of an operation (one export); so many may wait.
fn config(max_queue: u32) -> LevelsConfig {
    LevelsConfig::new(Config::new(6).max_queue(max_queue))
        .tenant_default(Config::new(2).max_queue(max_queue))
        .tenant("gold", Config::new(4).max_queue(max_queue))
        .operation_default(Config::new(3).max_queue(max_queue))
        .operation("export", Config::new(1).max_queue(max_queue))
}

fn levels(max_queue: u32) -> Levels {
    Levels::new("shop", config(max_queue))
}

/// Running and waiting at a tenant, at an operation, and in all.
fn load(levels: &Levels, tenant: &str, operation: &str) -> [(u32, u32); 3] {
    let (tenant, operation) = (levels.tenants().get(tenant).snapshot(), levels.operations().get(operation).snapshot());
    [tenant, operation, levels.global().snapshot()].map(|level| (level.running, level.waiting))
}

fn refused(levels: &Levels, tenant: &str, operation: &str) -> String {
    let rejection = levels.try_acquire(tenant, operation).unwrap_err();
    assert_eq!(rejection.reason(), Reason::BulkheadFull);
    rejection.policy().to_owned()
}

#[test]
fn a_call_takes_a_place_at_every_level_or_at_none() {
    let levels = levels(0);
    let first = levels.try_acquire("a", "export").unwrap();
    assert_eq!(load(&levels, "a", "export"), [(1, 0); 3]);
    assert_eq!(refused(&levels, "b", "export"), "shop/operation");
    assert_eq!(load(&levels, "b", "export"), [(0, 0), (1, 0), (1, 0)]);
    let _second = levels.try_acquire("a", "find").unwrap();
    assert_eq!(refused(&levels, "a", "find"), "shop/tenant");
    let _gold: Vec<_> = ["find", "find", "pay", "pay"].map(|op| levels.try_acquire("gold", op).unwrap()).into();
    assert_eq!(refused(&levels, "b", "find"), "shop/operation");
    assert_eq!(refused(&levels, "b", "list"), "shop");
    assert_eq!(load(&levels, "b", "list"), [(0, 0), (0, 0), (6, 0)]);
    drop(first);
    assert_eq!(load(&levels, "a", "export"), [(1, 0), (0, 0), (5, 0)]);
    assert!(levels.try_acquire("b", "list").is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_tenant_cannot_starve_another_not_by_calling_and_not_by_waiting() {
    let levels = levels(100);
    let mut greedy: Vec<_> = (0..50).map(|_| task::spawn(levels.acquire("greedy", "find"))).collect();
    let mut permits: Vec<_> = greedy[..2].iter_mut().map(|call| assert_ready_ok!(call.poll())).collect();
    greedy[2..].iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(load(&levels, "greedy", "find"), [(2, 48), (2, 0), (2, 0)], "who waits for his own holds nothing else");
    let _others = ["a", "b", "c"].map(|tenant| levels.try_acquire(tenant, "list").unwrap());
    let _fourth = levels.try_acquire("d", "pay").unwrap();
    // Every place of all is taken now. Another tenant waits for one of those that the greedy one has.
    let mut waits = task::spawn(levels.acquire("e", "pay"));
    assert_pending!(waits.poll());
    drop(permits.pop());
    assert!(waits.is_woken() && greedy[2].is_woken() && !greedy[3].is_woken());
    assert_pending!(greedy[2].poll());
    let permit = assert_ready_ok!(waits.poll());
    assert_eq!(load(&levels, "greedy", "find"), [(2, 47), (2, 0), (6, 1)]);
    drop(permit);
    assert!(greedy[2].is_woken(), "it is its turn");
    drop(assert_ready_ok!(greedy[2].poll()));
    drop(greedy);
    assert_eq!(load(&levels, "greedy", "find"), [(1, 0), (1, 0), (5, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_tenant_gets_no_more_than_its_share_however_often_it_comes() {
    let levels = Levels::new("x", LevelsConfig::new(Config::new(4)).tenant_default(Config::new(3)));
    let mut busy: Vec<_> = (0..3).map(|_| levels.try_acquire("busy", "a").unwrap()).collect();
    for _ in 0..1_000 {
        assert_eq!(refused(&levels, "busy", "a"), "x/tenant");
        drop(levels.try_acquire("calm", "a").unwrap());
    }
    assert_eq!(levels.snapshot().global.rejected, 0);
    busy.pop();
    assert!(levels.try_acquire("busy", "a").is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_a_wait_leaves_nothing_at_any_level() {
    // The level at which a call waits: its tenant's, its operation's, that of all.
    let full: [fn(&Levels) -> Vec<mainstay::bulkhead::Permit>; 3] = [
        |levels| (0..2).map(|_| levels.tenants().get("a").try_acquire().unwrap()).collect(),
        |levels| vec![levels.operations().get("export").try_acquire().unwrap()],
        |levels| (0..6).map(|_| levels.global().try_acquire().unwrap()).collect(),
    ];
    for (fill, polls) in full.iter().flat_map(|fill| (0..5).map(move |polls| (fill, polls))) {
        let levels = levels(5);
        let mut held = fill(&levels);
        let mut call = Some(task::spawn(levels.run("a", "export", async {
            tokio::task::yield_now().await;
            Ok::<_, Boom>(1)
        })));
        for poll in 0..polls {
            if poll == 2 {
                held.clear();
            }
            if call.as_mut().is_some_and(|call| call.poll().is_ready()) {
                call = None;
            }
        }
        drop(call);
        drop(held);
        assert_eq!(load(&levels, "a", "export"), [(0, 0); 3], "dropped after {polls} polls");
        assert!(levels.try_acquire("a", "export").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_takes_too_long_gives_back_what_it_had() {
    let config = LevelsConfig::new(Config::new(2).max_queue(5).max_wait(ms(50))).tenant_default(Config::new(1));
    let levels = Levels::new("x", config);
    let _held = (levels.try_acquire("a", "o").unwrap(), levels.try_acquire("b", "o").unwrap());
    let rejection = levels.acquire("c", "o").await.unwrap_err();
    assert_eq!(rejection.policy(), "x");
    assert_eq!(load(&levels, "c", "o"), [(0, 0), (2, 0), (2, 0)]);
    let error = levels.run("c", "o", async { Ok::<_, Boom>(1) }).await.unwrap_err();
    assert!(error.is_rejection());
}

#[derive(Clone, Copy)]
struct Order(&'static str, &'static str);

impl HasTenant for Order {
    fn tenant(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl HasOperation for Order {
    fn operation(&self) -> Option<&str> {
        Some(self.1)
    }
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_turns_away_and_with_a_queue_it_waits() {
    let levels = levels(1);
    let hangs = levels.layer().layer(service_fn(|_: Order| pending::<Answer>()));
    let mut first = task::spawn(hangs.clone().oneshot(Order("a", "export")));
    assert_pending!(first.poll());
    let error = hangs.oneshot(Order("b", "export")).await.unwrap_err();
    assert_eq!(error.to_string(), "bulkhead \"shop/operation\" is full");
    let select = levels.by(str_key_fn(|order: &Order| Some(order.0)), str_key_fn(|order: &Order| Some(order.1)));
    let quick = KeyedLayer::new(select).queued().layer(service_fn(|_: Order| ready(Answer::Ok(7))));
    let mut waits = task::spawn(quick.clone().oneshot(Order("b", "export")));
    assert_pending!(waits.poll());
    assert_eq!(load(&levels, "b", "export"), [(1, 0), (1, 1), (1, 0)]);
    assert_eq!(quick.oneshot(Order("b", "find")).await, Ok(7));
    drop(first);
    assert!(waits.is_woken());
    assert_eq!(assert_ready!(waits.poll()), Ok(7));
    assert_eq!(load(&levels, "b", "export"), [(0, 0); 3]);
}

#[tokio::test(start_paused = true)]
async fn limits_change_under_traffic_for_keys_that_are_there() {
    let levels = levels(5);
    let _held = (levels.try_acquire("a", "find").unwrap(), levels.try_acquire("a", "find").unwrap());
    let mut waits = task::spawn(levels.acquire("a", "find"));
    assert_pending!(waits.poll());
    levels.reconfigure(config(5).tenant_default(Config::new(3))).unwrap();
    assert!(waits.is_woken());
    let third = assert_ready_ok!(waits.poll());
    assert_eq!(load(&levels, "a", "find"), [(3, 0); 3]);
    levels.reconfigure(config(0).tenant_default(Config::new(1))).unwrap();
    drop(third);
    assert_eq!(refused(&levels, "a", "list"), "shop/tenant");
    assert_eq!(levels.config(), config(0).tenant_default(Config::new(1)));
    let error = levels.reconfigure(LevelsConfig::new(Config::new(1)).operation_default(Config::new(0))).unwrap_err();
    assert_eq!((error.field(), levels.config().check()), ("operations.default.limit", Ok(())));
}

#[test]
fn all_levels_are_observed_and_told_of() {
    let levels = levels(0);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&seen);
    levels.observe(move |event: &Event<'_>| log.lock().unwrap().push(event.policy().to_owned()));
    let _held: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .zip(["x", "x", "x", "y", "y", "export"])
        .map(|(tenant, operation)| levels.try_acquire(*tenant, operation).unwrap())
        .collect();
    let refusals = [("a", "x"), ("g", "y")].map(|(tenant, operation)| refused(&levels, tenant, operation));
    assert_eq!(*seen.lock().unwrap(), refusals);
    assert_eq!(refusals, ["shop/operation", "shop"]);
    let json = serde_json::to_value(levels.snapshot()).unwrap();
    assert_eq!((&json["global"]["running"], &json["tenants"]["keys"]), (&6.into(), &8.into()));
    assert!(format!("{levels:?}").contains("shop/tenant"));
}

#[test]
fn impossible_levels_are_refused() {
    let new = |limit| LevelsConfig::new(Config::new(limit));
    for (config, field, value, why) in [
        (new(0), "global.limit", "0", "must be in 1..=1000000"),
        (new(10), "tenants.default.limit", "10", "must be less than global.limit, 10, or one tenant could take every"),
        (new(64).tenant("", Config::new(1)), "tenants.keys.tenant", "\"\"", "must be 1..=128"),
        (new(64).tenant("a", Config::new(0)), "tenants.keys[\"a\"].limit", "0", "must be in"),
        (new(64).operation("a\n", Config::new(1)), "operations.keys.operation", "\"a\\n\"", "must be 1..=128"),
        (new(64).max_keys(0, 5), "tenants.max_keys", "0", "must be in 1..=1000000"),
        (new(64).max_keys(5, 0), "operations.max_keys", "0", "must be in 1..=1000000"),
        (new(64).idle_for(ms(0)), "tenants.idle_for", "0s", "must be at least 1ms"),
    ] {
        let error = Levels::try_new("x", config.clone()).unwrap_err();
        assert_eq!((error.field(), error.value()), (field, value));
        assert!(error.why().contains(why), "{error}");
        assert!(panics(|| Levels::new("x", config)));
    }
    for name in ["", "a b", &"x".repeat(55)] {
        assert_eq!(Levels::try_new(name, LevelsConfig::default()).unwrap_err().field(), "name");
    }
    assert!(Levels::try_new(&"x".repeat(54), LevelsConfig::default()).is_ok());
    assert!(new(1).tenant_default(Config::new(1)).check().is_ok(), "with one place there is nothing to share");
    for (toml, expected) in [
        ("global = {}", "missing field `limit`"),
        ("tenant = {}", "unknown field `tenant`"),
        ("global = { limit = 5 }", "tenants.default.limit = 10: must be less than global.limit, 5"),
    ] {
        let error = toml::from_str::<LevelsConfig>(toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}\n{error}");
    }
    assert_eq!(toml::from_str::<LevelsConfig>("").unwrap(), LevelsConfig::default());
    let json = serde_json::to_string(&config(3)).unwrap();
    assert_eq!(serde_json::from_str::<LevelsConfig>(&json).unwrap(), config(3));
}

#[test]
fn on_many_threads_no_level_is_ever_over_its_limit_and_all_comes_back() {
    let levels = levels(1_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let calls: Vec<_> = (0..600)
            .map(|n: usize| {
                let levels = levels.clone();
                tokio::spawn(async move {
                    let (tenant, operation) = (["a", "b", "gold"][n % 3], ["find", "export"][n % 2]);
                    let run = async {
                        let load = load(&levels, tenant, operation);
                        assert!(load[0].0 <= 4 && load[1].0 <= 3 && load[2].0 <= 6, "{load:?}");
                        tokio::task::yield_now().await;
                        Ok::<_, Error<Boom>>(())
                    };
                    levels.run(tenant, operation, run).await
                })
            })
            .collect();
        calls.iter().step_by(7).for_each(tokio::task::JoinHandle::abort);
        for call in calls {
            let _ = call.await.map(|result| result.unwrap());
        }
    });
    for (tenant, operation) in [("a", "find"), ("b", "export"), ("gold", "find")] {
        assert_eq!(load(&levels, tenant, operation), [(0, 0); 3]);
    }
}
