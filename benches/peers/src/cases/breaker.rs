//! A call through a circuit breaker that is closed, that counts a failure, and that is open.

use failsafe::futures::CircuitBreaker as _;
use mainstay::breaker::{CircuitBreakerLayer, Handle, Permit};
use tower::Layer;

use super::bare;
use crate::{
    case::{Case, Side, future, operation, service},
    peers::{MINIMUM_CALLS, WINDOW_CALLS, failsafe as fs, mainstay as ours, recloser as rc, resilience},
    upstream::{Answered, Down, Manner, Upstream},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::answered("breaker_closed", closed(Manner::AtOnce)),
        Case::answered("breaker_closed_pending", closed(Manner::PendingOnce)),
        Case::refused("breaker_failure", failure()),
        Case::refused("breaker_open", open()),
    ]
}

fn ours(name: &'static str, config: mainstay::breaker::Config, manner: Manner) -> Side {
    service(name, ours::behind(layer(ours::breaker(config)), manner))
}

fn layer(handle: Handle) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(handle)
}

fn failsafe(breaker: fs::Breaker, manner: Manner) -> Side {
    future("failsafe", breaker, move |breaker, n| breaker.call(Answered::<Down>::new(manner, n)))
}

fn recloser(breaker: ::recloser::AsyncRecloser, manner: Manner) -> Side {
    future("recloser", breaker, move |breaker, n| breaker.call(Answered::<Down>::new(manner, n)))
}

fn closed(manner: Manner) -> Vec<Side> {
    let by_count = ours::circuit().count_window(WINDOW_CALLS).measure_latency(false);
    let mut sides = vec![
        bare(manner),
        ours("mainstay", ours::circuit(), manner),
        ours("mainstay-no-latency", ours::circuit().measure_latency(false), manner),
        ours("mainstay-count-window", by_count, manner),
        service("mainstay-error", ours::behind_own(layer(ours::breaker(ours::circuit())), manner)),
        service("tower-resilience", resilience::closed().layer(Upstream::<Down>::new(manner))),
        failsafe(fs::breaker(MINIMUM_CALLS as u32), manner),
        recloser(rc::breaker(), manner),
    ];
    if manner == Manner::AtOnce {
        let permit = ours::breaker(ours::circuit());
        sides.push(operation("mainstay-permit", permit, |it, _| it.acquire().map(Permit::success).is_ok()));
        let call = |it: &Handle, n| it.call(|| Ok::<u64, Down>(n)).is_ok();
        sides.push(operation("mainstay-call", ours::breaker(ours::circuit().measure_latency(false)), call));
    }
    sides
}

/// The circuit counts failures and cannot open.
fn failure() -> Vec<Side> {
    let manner = Manner::Fails;
    let never = || ours::circuit().minimum_calls(1 << 40);
    vec![
        bare(manner),
        ours("mainstay", never(), manner),
        ours("mainstay-no-latency", never().measure_latency(false), manner),
        service("tower-resilience", resilience::breaker(usize::MAX).layer(Upstream::<Down>::new(manner))),
        failsafe(fs::breaker(u32::MAX), manner),
        recloser(rc::never_opens(), manner),
    ]
}

fn open() -> Vec<Side> {
    let manner = Manner::AtOnce;
    vec![
        bare(Manner::Fails),
        service("mainstay", ours::behind_own(layer(ours::broken()), manner)),
        service("mainstay-boxed", ours::behind(layer(ours::broken()), manner)),
        operation("mainstay-permit", ours::broken(), |it, _| it.acquire().is_ok()),
        service("tower-resilience", resilience::broken()),
        future("failsafe", fs::broken(), move |breaker, n| breaker.call(Answered::<Down>::new(manner, n))),
        recloser(rc::broken(), manner),
    ]
}
