//! One rule, two skins: a stack does what the same policies do as layers one inside the other.
//!
//! Timers that end in the same millisecond end in an order that nobody promises. So all times here are multiples of a
//! beat, and each call has a place of its own in the beat; plans in which two calls meet all the same are not compared.
//! `MODEL_SEED=2 MODEL_CASES=5000 cargo test --test it layers` tries other plans than each run does.

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc, time::Duration};

use mainstay::{
    Error, Stack,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    hedge::{self, HedgeLayer},
    observe::Totals,
    rate_limit::{self, RateLimitLayer},
    retry::{self, RetryLayer},
    time::Tick,
    timeout::{self, TimeoutLayer},
};
use proptest::{prelude::*, test_runner::RngSeed};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// In milliseconds. Half of it is longer than there are calls: copies of a call have places of their own in it.
const BEAT: u64 = 64;

fn beats(n: u64) -> Duration {
    ms(n * BEAT)
}

/// What the service does with one attempt: it takes so many beats, and fails or not.
type Script = Vec<(u64, bool)>;

#[derive(Debug, Clone)]
struct Plan {
    script: Script,
    // After how many beats each call begins, and after how many its caller gives up.
    calls: Vec<(u64, u64)>,
    limit: u32,
    queue: u32,
    rate: u64,
    turns: bool,
    attempts: u32,
    copies: u32,
}

fn plan() -> impl Strategy<Value = Plan> {
    let attempt = (0_u64..6, any::<bool>());
    let rate = (1_u64..5, any::<bool>());
    let call = (0_u64..30, prop_oneof![Just(100_000_u64), 0_u64..13]);
    let numbers = (1_u32..4, 0_u32..3, rate, 1_u32..4, 1_u32..4);
    (proptest::collection::vec(attempt, 1..12), proptest::collection::vec(call, 1..25), numbers).prop_map(
        |(script, calls, (limit, queue, (rate, turns), attempts, copies))| {
            // Copies that wait for a place get it when another ends, and from then on meet its times.
            let (queue, turns) = if copies > 1 { (0, false) } else { (queue, turns) };
            Plan { script, calls, limit, queue, rate, turns, attempts, copies }
        },
    )
}

struct Policies {
    rate: rate_limit::Handle,
    timeout: timeout::Handle,
    retry: retry::Handle,
    hedge: hedge::Handle,
    breaker: breaker::Handle,
    bulkhead: bulkhead::Handle,
    attempt: timeout::Handle,
}

impl Policies {
    fn new(plan: &Plan) -> Self {
        let retry = retry::Config::new().attempts(plan.attempts).jitter(retry::Jitter::None);
        let rate = rate_limit::Config::new(1, beats(plan.rate)).burst(3);
        let hedge = hedge::Config::new().attempts(plan.copies).delay(beats(2) + ms(BEAT / 2)).no_budget();
        let breaker = breaker::Config::new().minimum_calls(4).open_for(beats(10)).probes(2);
        Self {
            rate: rate_limit::Handle::new("x", if plan.turns { rate.max_wait(beats(2)) } else { rate }),
            timeout: timeout::Handle::new("x", beats(11)),
            retry: retry::Handle::new("x", retry.backoff(retry::Backoff::fixed(beats(1)))),
            hedge: hedge::Handle::new("x", hedge),
            breaker: breaker::Handle::new("x", breaker),
            bulkhead: bulkhead::Handle::new(
                "x",
                bulkhead::Config::new(plan.limit).max_queue(plan.queue).max_wait(beats(2)),
            ),
            attempt: timeout::Handle::new("x", beats(3)),
        }
    }

    fn as_stack(&self) -> Stack {
        Stack::builder("x")
            .rate_limit(self.rate.clone())
            .timeout(self.timeout.clone())
            .retry(self.retry.clone())
            .hedge(self.hedge.clone())
            .breaker(self.breaker.clone())
            .bulkhead(self.bulkhead.clone())
            .attempt_timeout(self.attempt.clone())
            .build()
    }

    fn as_layers<S>(&self, service: S) -> impl Service<u32, Response = u32, Error = Error<Boom>> + Clone + use<S>
    where
        S: Service<u32, Response = u32, Error = Error<Boom>> + Clone,
    {
        ServiceBuilder::new()
            .layer(RateLimitLayer::new(self.rate.clone()).queued())
            .layer(TimeoutLayer::with(self.timeout.clone()))
            .layer(RetryLayer::new(self.retry.clone()))
            .layer(HedgeLayer::new(self.hedge.clone()))
            .layer(CircuitBreakerLayer::new(self.breaker.clone()))
            .layer(BulkheadLayer::new(self.bulkhead.clone()).queued())
            .layer(TimeoutLayer::with(self.attempt.clone()))
            .service(service)
    }

    /// All that they know. A breaker that is a layer of its own has let a call in which a bulkhead further in turns
    /// away, or which leaves its queue; of one admission with the bulkhead, it takes back what it gave.
    fn known(&self, as_one: bool) -> String {
        let (breaker, bulkhead) = (self.breaker.snapshot(), self.bulkhead.snapshot());
        // As a layer it counts every attempt of a retry as a call.
        let hedge = self.hedge.snapshot();
        let taken_back = if as_one { bulkhead.rejected + bulkhead.left } else { 0 };
        let Totals { calls, ignored, cancelled, stale, rejected, .. } = breaker.totals;
        let uncounted = ignored + cancelled + stale + taken_back;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.rate.snapshot(),
            self.timeout.snapshot(),
            self.retry.snapshot(),
            (hedge.hedges, hedge.won, hedge.cancelled),
            (breaker.state, calls, rejected, uncounted, breaker.window),
            self.bulkhead.snapshot(),
            self.attempt.snapshot(),
            self.breaker.state(),
            self.bulkhead.running(),
        )
    }
}

/// What happened and when: a call began or ended an attempt (which may be dropped), or ended.
struct Diary {
    start: Tick,
    events: RefCell<Vec<(u64, u32, &'static str)>>,
}

impl Diary {
    fn note(&self, call: u32, what: &'static str) {
        self.events.borrow_mut().push((self.elapsed(), call, what));
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(Tick::now().since(self.start).as_millis()).unwrap()
    }

    /// Whether two calls did the same in the same millisecond, so that either may have been first. One that begins when
    /// another ends has got its place, unless it had a `turn` of its own to wait for.
    fn has_a_meeting(&self, turns: bool) -> bool {
        let events = self.events.borrow();
        let meets = |(n, one): (usize, &(u64, u32, &str))| {
            events[..n].iter().any(|other| other.0 == one.0 && other.1 != one.1 && (turns || other.2 == one.2))
        };
        events.iter().enumerate().any(meets)
    }
}

/// Runs the calls of a plan through a service, and gives what each caller saw and when.
async fn run<S>(plan: &Plan, diary: &Rc<Diary>, service: S) -> Vec<String>
where
    S: Service<u32, Response = u32, Error = Error<Boom>> + Clone + 'static,
{
    let seen = Rc::new(RefCell::new(Vec::new()));
    let local = tokio::task::LocalSet::new();
    for (n, (begin, patience)) in plan.calls.iter().copied().enumerate() {
        let (service, seen, diary) = (service.clone(), Rc::clone(&seen), Rc::clone(diary));
        local.spawn_local(async move {
            tokio::time::sleep(beats(begin) + ms(n as u64)).await;
            let answer = tokio::time::timeout(beats(patience), service.oneshot(n as u32)).await;
            diary.note(n as u32, "ended");
            seen.borrow_mut().push(format!("{n} {answer:?} {}", diary.elapsed()));
        });
    }
    local.await;
    Rc::into_inner(seen).unwrap().into_inner()
}

type Attempt = Pin<Box<dyn Future<Output = Result<u32, Error<Boom>>>>>;

/// A service that goes through the script, again and again. It answers at the place of the call in a beat, or at that
/// of its copies.
fn scripted(
    script: &Script,
    diary: &Rc<Diary>,
) -> impl Service<u32, Response = u32, Error = Error<Boom>, Future = Attempt> + Clone + use<> {
    struct Ends(Rc<Diary>, u32);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.note(self.1, "ended");
        }
    }
    let (script, calls, diary) = (script.clone(), Rc::new(RefCell::new(0)), Rc::clone(diary));
    service_fn(move |n: u32| {
        let (takes, fails) = script[*calls.borrow() % script.len()];
        *calls.borrow_mut() += 1;
        diary.note(n, "began");
        let ends = Ends(Rc::clone(&diary), n);
        let late = (diary.elapsed() + BEAT - u64::from(n)) % (BEAT / 2);
        Box::pin(async move {
            let _ends = ends;
            if takes > 0 {
                tokio::time::sleep(beats(takes) - ms(late)).await;
            }
            if fails { Err(Error::Inner(Boom)) } else { Ok(n) }
        }) as Attempt
    })
}

/// What one side saw, and what its policies know in the end; nothing when it may be otherwise another time.
fn outcome(plan: &Plan, as_one: bool) -> Option<(Vec<String>, String)> {
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    paused.block_on(async {
        let diary = Rc::new(Diary { start: Tick::now(), events: RefCell::default() });
        let (policies, service) = (Policies::new(plan), scripted(&plan.script, &diary));
        let seen = if as_one {
            run(plan, &diary, policies.as_stack().service(service)).await
        } else {
            run(plan, &diary, policies.as_layers(service)).await
        };
        (!diary.has_a_meeting(plan.turns)).then(|| (seen, policies.known(as_one)))
    })
}

/// Whether there was something to compare.
fn compare(plan: &Plan) -> bool {
    let (Some(fused), Some(layered)) = (outcome(plan, true), outcome(plan, false)) else { return false };
    for (fused, layered) in fused.0.iter().zip(&layered.0) {
        assert_eq!(fused, layered);
    }
    assert_eq!((fused.0.len(), fused.1), (layered.0.len(), layered.1));
    true
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: number("MODEL_CASES", 200) as u32,
        rng_seed: RngSeed::Fixed(number("MODEL_SEED", 1)),
        max_global_rejects: 1_000_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_stack_does_what_its_policies_do_as_layers(plan in plan()) {
        prop_assume!(compare(&plan));
    }
}
