//! What is told of calls that go wrong in more than one way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use mainstay::{
    Error, Outcome, Reason,
    balance::{self, Outlier},
    client::{Call, Config, Metrics},
    contract::Method,
    discovery::InMemory,
    fallback::Fallback,
    hedge, retry, stack,
    time::Tick,
};

use super::{Failure, Mode, Users, World, builder, fleet, register, settle, tries, users};
use crate::support::{Boom, ms};

fn quiet() -> balance::Config {
    balance::Config::new().outlier(Outlier::off())
}

fn reason(answer: &Result<String, Failure>) -> Option<Reason> {
    match answer {
        Err(Error::Rejected(rejection)) => Some(rejection.reason()),
        _ => None,
    }
}

#[track_caller]
fn adds_up(metrics: &Metrics, calls: u64) {
    assert_eq!((metrics.requests, metrics.in_flight), (calls, 0), "{metrics:?}");
    assert_eq!(metrics.successes + metrics.errors + metrics.cancelled, calls, "{metrics:?}");
    assert_eq!(metrics.error_kinds.values().sum::<u64>(), metrics.errors, "{metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_down_with_its_caller_is_cancelled_and_no_error_of_the_service() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Hangs);
    let client = users(&discovery, &world, tries(1));
    let calling = client.clone();
    let caller = tokio::spawn(async move {
        let mut call = std::pin::pin!(calling.call("users", "get", 1));
        let _ = tokio::time::timeout(ms(5), &mut call).await;
        panic!("the caller panics");
    });
    assert!(caller.await.unwrap_err().is_panic());
    let metrics = client.metrics("users").unwrap().total;
    adds_up(&metrics, 1);
    assert_eq!((metrics.cancelled, metrics.errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_as_long_as_it_runs_and_not_as_long_as_its_future_lies_about() {
    let (discovery, world) = fleet(&["a"]).await;
    world.set("a", Mode::Takes(ms(10)));
    let client = users(&discovery, &world, tries(1));
    let later = client.call("users", "get", 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    later.await.unwrap();
    let latency = client.metrics("users").unwrap().total.latency.unwrap();
    assert!(latency.p99 < ms(20), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn no_instance_gave_the_answer_of_a_call_that_was_cut_off_on_its_second() {
    let (discovery, world) = fleet(&["a", "b"]).await;
    world.set("a", Mode::Fails);
    world.set("b", Mode::Fails);
    let mut config = tries(2).balance(quiet());
    let mut policies = stack::Config::new();
    policies.retry = Some(retry::Config::custom(|_| ms(10)).attempts(2).no_budget());
    policies.attempt_timeout = Some(ms(100));
    config = config.stack(policies);
    let client = users(&discovery, &world, config);
    let caller = client.service("users").unwrap();
    let (answer, told) = {
        let (caller, world) = (caller.clone(), world.clone());
        let call = tokio::spawn(async move { caller.call_traced(Method::new("get").unwrap(), 1).await });
        settle().await;
        world.set("a", Mode::Hangs);
        world.set("b", Mode::Hangs);
        call.await.unwrap()
    };
    assert_eq!(reason(&answer), Some(Reason::TimedOut));
    assert_eq!((told.attempts, told.instance), (2, None));
}

#[tokio::test(start_paused = true)]
async fn services_with_settings_of_their_own_have_a_place_whatever_names_come_from_outside() {
    let discovery = InMemory::new();
    register(&discovery, "users", "a").await;
    let world = World::default();
    let client: Users = builder(&discovery, &world).max_services(3).service("users", tries(1)).build();
    for n in 0..10 {
        let _ = client.call(&format!("junk{n}"), "get", n).await;
    }
    assert_eq!(client.call("users", "get", 1).await.unwrap(), "1 from a");
    assert!(client.services().len() <= 4);
}

#[tokio::test(start_paused = true)]
async fn a_method_by_the_name_of_the_others_hides_none() {
    let (discovery, world) = fleet(&["a"]).await;
    let client = users(&discovery, &world, tries(1).max_methods(2));
    for method in ["_other", "m1", "m2", "m3", "_other"] {
        client.call("users", method, 1).await.unwrap();
    }
    let metrics = client.metrics("users").unwrap();
    assert_eq!(metrics.methods.values().map(|method| method.requests).sum::<u64>(), 5);
    adds_up(&metrics.total, 5);
}

#[tokio::test(start_paused = true)]
async fn a_first_call_is_over_when_its_timeout_says_so() {
    let discovery = InMemory::new();
    register(&discovery, "users", "a").await;
    let never = tower::service_fn(|_| std::future::pending::<Result<super::Wire, std::convert::Infallible>>());
    let mut policies = stack::Config::new();
    policies.timeout = Some(ms(200));
    let client: Users =
        mainstay::client::Client::builder(discovery, never).config(Config::new().stack(policies)).build();
    let began = Tick::now();
    assert_eq!(reason(&client.call("users", "get", 1).await), Some(Reason::NoInstance));
    assert_eq!(Tick::now().since(began), ms(200));
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_hedges_retries_fallbacks_and_cancellations_adds_up() {
    let (discovery, world) = fleet(&["a", "b", "c"]).await;
    world.set("b", Mode::Fails);
    world.set("c", Mode::Takes(ms(30)));
    let mut policies = stack::Config::new();
    policies.retry = Some(retry::Config::custom(|_| ms(3)).attempts(2).no_budget());
    policies.hedge = Some(hedge::Config::new().delay(ms(10)).no_budget());
    policies.attempt_timeout = Some(ms(25));
    let guest = Fallback::request(
        |call: &Call<u32>| *call.request(),
        |n: u32, _: Result<&String, &Failure>| async move {
            if n % 3 == 0 { Err(Error::Inner(Boom)) } else { Ok(format!("{n} from guest")) }
        },
    );
    let client: Users =
        builder(&discovery, &world).config(Config::new().stack(policies).balance(quiet())).fallback(guest).build();
    let (mut guests, mut errors, mut ended, mut cancelled) = (0, 0, 0, 0);
    let mut dice = 7_u32;
    for n in 0..400_u32 {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let modes = [Mode::Well, Mode::Fails, Mode::Hangs, Mode::Takes(ms(12)), Mode::Takes(ms(30))];
        for (at, host) in ["a", "b", "c"].iter().enumerate() {
            world.set(host, modes[(dice >> (8 + 4 * at)) as usize % modes.len()]);
        }
        let pending = client.call_async("users", "get", n).unwrap();
        let trace = pending.trace();
        let patience = ms(u64::from(dice >> 28) * 20);
        let answer = tokio::time::timeout(patience, pending).await;
        settle().await;
        let told = trace.metadata();
        match answer {
            Err(_) => cancelled += 1,
            Ok(Ok(answer)) => {
                ended += 1;
                let from = answer.response.rsplit(' ').next().unwrap();
                assert_eq!(answer.metadata.fallback, from == "guest", "{answer:?}");
                guests += u64::from(answer.metadata.fallback);
                let instance = answer.metadata.instance.as_ref().map(|id| id.as_str().to_owned());
                assert_eq!(instance, (from != "guest").then(|| from.to_owned()), "{answer:?}");
            }
            Ok(Err(error)) => {
                errors += 1;
                assert!(!told.fallback);
                if matches!(error, Error::Rejected(_)) {
                    assert_eq!(told.instance, None, "{told:?} {error:?}");
                }
            }
        }
        assert_eq!(told.tried.len(), told.attempts as usize);
    }
    settle().await;
    let metrics = client.metrics("users").unwrap().total;
    assert_eq!((metrics.successes, metrics.errors, metrics.fallbacks), (ended, errors, guests));
    assert!(metrics.cancelled <= cancelled && guests > 20 && errors > 20 && cancelled > 20, "{metrics:?}");
    adds_up(&metrics, metrics.requests);
    assert_eq!(world.running(), 0);
    assert!(client.snapshot("users").unwrap().balance.members.iter().all(|member| member.pending == 0));
}

#[tokio::test(start_paused = true)]
async fn panics_of_every_hook_leave_the_counts_right() {
    #[derive(Clone)]
    struct Picky(Arc<AtomicU32>);
    impl balance::Picker for Picky {
        type Plan = ();
        const MEASURES: bool = false;
        fn plan(&self, _: &[Arc<mainstay::contract::Instance>]) {}
    }
    impl<Req> balance::Pick<Req> for Picky {
        fn pick(&self, _: &Req, (): &(), _: &impl balance::Candidates) -> Option<usize> {
            assert!(self.0.load(SeqCst) != 1, "the picker panics");
            Some(0)
        }
    }
    let which = Arc::new(AtomicU32::new(0));
    let now = |n: u32| {
        let which = Arc::clone(&which);
        move || assert!(which.load(SeqCst) != n, "hook {n} panics")
    };
    let (classifier, replay, fallback, kind) = (now(2), now(3), now(4), now(5));
    let (discovery, world) = fleet(&["a", "b"]).await;
    let client: Users = builder(&discovery, &world)
        .config(tries(2).balance(quiet()))
        .classify(mainstay::classify_fn(move |result: Result<&String, &Failure>| {
            classifier();
            if result.is_ok() { Outcome::Success } else { Outcome::Failure }
        }))
        .replay(move |n: &u32| {
            replay();
            Some(*n)
        })
        .fallback(Fallback::with(move |_: &Failure| -> String {
            fallback();
            "guest".to_owned()
        }))
        .picker(Picky(Arc::clone(&which)))
        .build();
    let client = client.error_kind(move |_| -> Option<String> {
        kind();
        None
    });
    let mut calls = 0;
    for hook in [0, 1, 2, 3, 4, 5, 0] {
        for mode in [Mode::Well, Mode::Fails, Mode::Panics] {
            world.set("a", mode);
            world.set("b", mode);
            which.store(hook, SeqCst);
            let client = client.clone();
            let _ = tokio::spawn(async move { client.call("users", "get", 1).await }).await;
            calls += 1;
            which.store(0, SeqCst);
        }
    }
    let metrics = client.metrics("users").unwrap().total;
    adds_up(&metrics, calls);
    assert!(client.snapshot("users").unwrap().balance.members.iter().all(|member| member.pending == 0));
    assert_eq!(world.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_takes_the_name_of_a_method_as_a_client_does() {
    let (discovery, world) = fleet(&["a"]).await;
    let caller = users(&discovery, &world, tries(1)).service("users").unwrap();
    assert_eq!(caller.call_method("get", 1).await.unwrap(), "1 from a");
    assert_eq!(reason(&caller.call_method("", 1).await), Some(Reason::UnknownMethod));
}
