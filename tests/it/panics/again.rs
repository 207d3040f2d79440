//! What a retry and a hedge ask before they send something again.

use mainstay::{
    Classify, Outcome, Stack, bulkhead,
    hedge::{self, HedgeLayer},
    load_shed,
    retry::{self, Backoff, Judgement, Replay, RetryLayer, Rule},
    time::Tick,
};
use tower::Layer;

use super::{
    Fuse, GetsThePanic, GetsTheResult,
    hooks::{Failure, Try, through},
};
use crate::{
    harness::{Lab, Work},
    support::*,
};

/// What the retry asks: whether, how long, with what.
#[derive(Clone)]
struct Again {
    fuse: Fuse,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Judge,
    Describe,
    Exhausted,
    Keep,
    Again,
    Deadline,
}

impl Again {
    fn here(&self, at: At) {
        if self.at == at {
            self.fuse.here();
        }
    }
}

impl<T> Rule<T, Failure> for Again {
    fn judge(&self, result: Result<&T, &Failure>) -> Judgement {
        self.here(At::Judge);
        if result.is_ok() { Judgement::Final } else { Judgement::Failed { retry_after: None } }
    }

    fn describe<'a>(&self, error: &'a Failure) -> Option<&'a dyn std::fmt::Display> {
        self.here(At::Describe);
        Some(error)
    }

    fn exhausted(&self, error: Failure, _: retry::Exhausted) -> Failure {
        self.here(At::Exhausted);
        error
    }
}

impl Classify<u32, Failure> for Again {
    fn classify(&self, result: Result<&u32, &Failure>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

impl Replay<()> for Again {
    type Kept = ();

    fn keep(&self, (): &mut ()) -> Option<()> {
        self.here(At::Keep);
        Some(())
    }

    fn again(&self, (): &(), _: u32) -> Option<()> {
        self.here(At::Again);
        Some(())
    }

    fn deadline(&self, (): &()) -> Option<Tick> {
        self.here(At::Deadline);
        None
    }
}

fn quick() -> retry::Handle {
    let config = retry::Config::new().attempts(2).backoff(Backoff::fixed(ms(1))).jitter(retry::Jitter::None);
    retry::Handle::new("x", config)
}

pub(super) async fn rule() {
    for (at, caller) in [(At::Judge, GetsTheResult), (At::Describe, GetsTheResult), (At::Exhausted, GetsThePanic)] {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
        let again = Again { fuse: fuse.clone(), at };
        let name = format!("retry, {at:?}");
        let it = Try { name: &name, fuse: &fuse, lab: &lab, caller };
        let layer = RetryLayer::new(quick()).rule(again.clone());
        it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), || 0).await;

        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
        let again = Again { fuse: fuse.clone(), at };
        let stack = Stack::builder("x")
            .load_shed(load_shed::Config::new().in_flight(1))
            .retry(quick())
            .bulkhead(bulkhead::Config::new(1))
            .retry_rule(again)
            .build();
        let known = stack.clone();
        let held = move || {
            let seen = known.snapshot();
            u64::from(seen.bulkhead.unwrap().running) + u64::from(seen.load_shed.unwrap().in_flight)
        };
        let name = format!("stack, {at:?}");
        let it = Try { name: &name, fuse: &fuse, lab: &lab, caller };
        it.run(Work::Fails, through(stack.service(lab.clone()), || ()), held).await;
    }
}

pub(super) async fn replay() {
    for at in [At::Keep, At::Again, At::Deadline] {
        let new = || {
            let fuse = Fuse::default();
            (fuse.clone(), Again { fuse, at }, Lab::new(Work::Fails))
        };
        let (fuse, again, lab) = new();
        let budget = retry::Budget::new(retry::BudgetConfig::new().ratio(1.0).min_per_second(0));
        let layer = RetryLayer::new(quick().with_budget(&budget)).replay(again);
        let it = Try { name: "retry", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), || 0).await;
        let retries = u64::from(at == At::Deadline);
        assert_eq!(budget.available(), 3 - retries, "{at:?}: only what was made is paid for");

        let (fuse, again, lab) = new();
        let layer = HedgeLayer::new(hedge::Handle::new("x", hedge::Config::new().delay(ms(1)))).replay(again);
        let it = Try { name: "hedge", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), || 0).await;

        let (fuse, again, lab) = new();
        let stack = Stack::builder("x").bulkhead(bulkhead::Config::new(1)).retry(quick()).replay(again).build();
        let known = stack.clone();
        let it = Try { name: "stack", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let held = move || known.bulkhead().unwrap().running().into();
        it.run(Work::Fails, through(stack.service(lab.clone()), || ()), held).await;
    }
}

/// A request whose clone panics.
struct Precious(Fuse);

impl Clone for Precious {
    fn clone(&self) -> Self {
        self.0.here();
        Self(self.0.clone())
    }
}

pub(super) async fn clone_of_the_request() {
    let new = || (Fuse::default(), Lab::new(Work::Fails));
    let (fuse, lab) = new();
    let mine = fuse.clone();
    let it = Try { name: "retry", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(Work::Fails, through(RetryLayer::new(quick()).layer(lab.clone()), move || Precious(mine.clone())), || 0)
        .await;
    let (fuse, lab) = new();
    let mine = fuse.clone();
    let it = Try { name: "hedge", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    let hedge = hedge::Handle::new("x", hedge::Config::new().delay(ms(1)));
    it.run(Work::Fails, through(HedgeLayer::new(hedge).layer(lab.clone()), move || Precious(mine.clone())), || 0).await;
    let (fuse, lab) = new();
    let mine = fuse.clone();
    let stack = Stack::builder("x").bulkhead(bulkhead::Config::new(1)).retry(quick()).build();
    let known = stack.clone();
    let it = Try { name: "stack", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    let held = move || known.bulkhead().unwrap().running().into();
    it.run(Work::Fails, through(stack.service(lab.clone()), move || Precious(mine.clone())), held).await;
}

pub(super) async fn backoff() {
    let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
    let mine = fuse.clone();
    let config = retry::Config::custom(move |_| {
        mine.here();
        ms(1)
    });
    let it = Try { name: "retry", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    let layer = RetryLayer::new(retry::Handle::new("x", config));
    it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), || 0).await;
}
