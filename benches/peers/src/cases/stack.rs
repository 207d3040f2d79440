//! A call through a whole stack: fallback, retry with a budget, breaker, bulkhead, timeout of each attempt.
//!
//! Tower's own has no fallback and no breaker.

use mainstay::{BoxError, Stack, fallback::Fallback, stack::Config};

use super::bare;
use crate::{
    case::{Case, Side, cloned, operation, service},
    peers::{mainstay as ours, resilience, tower as towers},
    upstream::{Answered, Down, Manner, Upstream, finish},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::answered("stack", stack(Manner::AtOnce)),
        Case::answered("stack_pending", stack(Manner::PendingOnce)),
        Case::answered("stack_clone", clones()),
    ]
}

fn stack(manner: Manner) -> Vec<Side> {
    let build = |config| ours::stack(config).builder("upstream").fallback(Fallback::value(0)).build();
    let unmeasured = build(ours::circuit().measure_latency(false));
    vec![
        bare(manner),
        service("mainstay", build(ours::circuit()).service(ours::served(manner))),
        service("mainstay-no-latency", unmeasured.service(ours::served(manner))),
        service("mainstay-error", build(ours::circuit()).service(ours::OwnServed::new(manner))),
        service("mainstay-standard", Stack::standard("upstream").service(ours::served(manner))),
        service("mainstay-empty", Config::new().builder("upstream").build().service(ours::served(manner))),
        service("mainstay-layers", ours::layers(manner)),
        operation("mainstay-run", build(ours::circuit()), move |stack, n| {
            finish(stack.run_carrying(|| Answered::<BoxError>::new(manner, n)))
        }),
        service("tower-resilience", resilience::stack(manner)),
        service("tower", towers::stack(manner)),
    ]
}

/// A clone of the service for each call, as some servers do.
fn clones() -> Vec<Side> {
    let build = |config| ours::stack(config).builder("upstream").fallback(Fallback::value(0)).build();
    vec![
        cloned("bare", Upstream::<Down>::new(Manner::AtOnce)),
        cloned("mainstay", build(ours::circuit()).service(ours::served(Manner::AtOnce))),
        cloned("mainstay-layers", ours::layers(Manner::AtOnce)),
        cloned("tower-resilience", resilience::stack(Manner::AtOnce)),
        cloned("tower", towers::stack(Manner::AtOnce)),
    ]
}
