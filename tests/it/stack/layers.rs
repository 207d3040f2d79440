//! One rule, two skins: a stack does what the same policies do as layers one inside the other.

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc};

use mainstay::{
    Error, Stack,
    breaker::{self, CircuitBreakerLayer},
    bulkhead::{self, BulkheadLayer},
    observe::Totals,
    rate_limit::{self, RateLimitLayer},
    retry::{self, RetryLayer},
    time::Tick,
    timeout::{self, TimeoutLayer},
};
use proptest::prelude::*;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// What the service does with one attempt: it takes so many milliseconds, and fails or not.
type Script = Vec<(u64, bool)>;

#[derive(Debug, Clone)]
struct Plan {
    script: Script,
    // When each call begins, and after how many milliseconds its caller gives up.
    calls: Vec<(u64, u64)>,
    limit: u32,
    queue: u32,
    rate: u32,
    attempts: u32,
}

fn plan() -> impl Strategy<Value = Plan> {
    let attempt = (prop_oneof![Just(0_u64), 1_u64..150], any::<bool>());
    let call = (0_u64..60, prop_oneof![Just(100_000_u64), 0_u64..400]);
    let numbers = (1_u32..4, 0_u32..3, 5_u32..40, 1_u32..4);
    (proptest::collection::vec(attempt, 1..12), proptest::collection::vec(call, 1..25), numbers).prop_map(
        |(script, calls, (limit, queue, rate, attempts))| Plan { script, calls, limit, queue, rate, attempts },
    )
}

struct Policies {
    rate: rate_limit::Handle,
    timeout: timeout::Handle,
    retry: retry::Handle,
    breaker: breaker::Handle,
    bulkhead: bulkhead::Handle,
    attempt: timeout::Handle,
}

impl Policies {
    fn new(plan: &Plan) -> Self {
        let retry = retry::Config::new().attempts(plan.attempts).jitter(retry::Jitter::None);
        let breaker = breaker::Config::new().minimum_calls(4).open_for(ms(300)).probes(2);
        Self {
            rate: rate_limit::Handle::new("x", rate_limit::Config::per_second(plan.rate).max_wait(ms(30))),
            timeout: timeout::Handle::new("x", ms(350)),
            retry: retry::Handle::new("x", retry.backoff(retry::Backoff::fixed(ms(40)))),
            breaker: breaker::Handle::new("x", breaker),
            bulkhead: bulkhead::Handle::new(
                "x",
                bulkhead::Config::new(plan.limit).max_queue(plan.queue).max_wait(ms(60)),
            ),
            attempt: timeout::Handle::new("x", ms(100)),
        }
    }

    fn as_stack(&self) -> Stack {
        Stack::builder("x")
            .rate_limit(self.rate.clone())
            .timeout(self.timeout.clone())
            .retry(self.retry.clone())
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
            .layer(CircuitBreakerLayer::new(self.breaker.clone()))
            .layer(BulkheadLayer::new(self.bulkhead.clone()).queued())
            .layer(TimeoutLayer::with(self.attempt.clone()))
            .service(service)
    }

    /// All that they know. A breaker that is a layer of its own has let a call in which a bulkhead further in turns
    /// away, or which leaves its queue; of one admission with the bulkhead, it takes back what it gave.
    fn known(&self, as_one: bool) -> String {
        let (breaker, bulkhead) = (self.breaker.snapshot(), self.bulkhead.snapshot());
        let taken_back = if as_one { bulkhead.rejected + bulkhead.left } else { 0 };
        let Totals { calls, ignored, cancelled, stale, rejected, .. } = breaker.totals;
        let uncounted = ignored + cancelled + stale + taken_back;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.rate.snapshot(),
            self.timeout.snapshot(),
            self.retry.snapshot(),
            (breaker.state, calls, rejected, uncounted, breaker.window),
            self.bulkhead.snapshot(),
            self.attempt.snapshot(),
            self.breaker.state(),
            self.bulkhead.running(),
        )
    }
}

/// Runs the calls of a plan through a service, and gives what each caller saw and when.
async fn run<S>(plan: &Plan, service: S) -> Vec<String>
where
    S: Service<u32, Response = u32, Error = Error<Boom>> + Clone + 'static,
{
    let start = Tick::now();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let local = tokio::task::LocalSet::new();
    for (n, (begin, patience)) in plan.calls.iter().copied().enumerate() {
        let (service, seen) = (service.clone(), Rc::clone(&seen));
        local.spawn_local(async move {
            tokio::time::sleep(ms(begin * n as u64)).await;
            let answer = tokio::time::timeout(ms(patience), service.oneshot(n as u32)).await;
            seen.borrow_mut().push(format!("{n} {answer:?} {:?}", Tick::now().since(start)));
        });
    }
    local.await;
    Rc::into_inner(seen).unwrap().into_inner()
}

type Attempt = Pin<Box<dyn Future<Output = Result<u32, Error<Boom>>>>>;

/// A service that goes through the script, again and again.
fn scripted(
    script: &Script,
) -> impl Service<u32, Response = u32, Error = Error<Boom>, Future = Attempt> + Clone + use<> {
    let (script, calls) = (script.clone(), Rc::new(RefCell::new(0)));
    service_fn(move |n: u32| {
        let (takes, fails) = script[*calls.borrow() % script.len()];
        *calls.borrow_mut() += 1;
        Box::pin(async move {
            if takes > 0 {
                tokio::time::sleep(ms(takes)).await;
            }
            if fails { Err(Error::Inner(Boom)) } else { Ok(n) }
        }) as Attempt
    })
}

/// What one side saw, and what its policies know in the end.
fn outcome(plan: &Plan, as_one: bool) -> (Vec<String>, String) {
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    paused.block_on(async {
        let policies = Policies::new(plan);
        let seen = if as_one {
            run(plan, policies.as_stack().service(scripted(&plan.script))).await
        } else {
            run(plan, policies.as_layers(scripted(&plan.script))).await
        };
        (seen, policies.known(as_one))
    })
}

fn compare(plan: &Plan) {
    let (fused, layered) = (outcome(plan, true), outcome(plan, false));
    for (fused, layered) in fused.0.iter().zip(&layered.0) {
        assert_eq!(fused, layered);
    }
    assert_eq!((fused.0.len(), fused.1), (layered.0.len(), layered.1));
}

/// `MODEL_CASES=20000 cargo test --test it layers` runs it for longer.
fn cases() -> u32 {
    std::env::var("MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_does_what_its_policies_do_as_layers(plan in plan()) {
        compare(&plan);
    }
}
