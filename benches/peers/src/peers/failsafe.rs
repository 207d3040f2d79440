//! failsafe. Its breaker weighs calls by their age, where ours has a window; it has a mutex; half-open, it lets
//! everybody in.

use ::failsafe::{
    CircuitBreaker as _, Config, StateMachine,
    backoff::{self, Constant},
    failure_policy::{SuccessRateOverTimeWindow, success_rate_over_time_window},
};

use super::{FAILURE_RATE, LONG, OPEN_FOR, WINDOW};

pub type Breaker = StateMachine<SuccessRateOverTimeWindow<Constant>, ()>;

pub fn breaker(minimum_calls: u32) -> Breaker {
    let policy = success_rate_over_time_window(FAILURE_RATE, minimum_calls, WINDOW, backoff::constant(OPEN_FOR));
    Config::new().failure_policy(policy).build()
}

/// Opened by a failure, and by another policy: its check of an open circuit knows no policy.
pub fn broken() -> StateMachine<::failsafe::failure_policy::ConsecutiveFailures<Constant>, ()> {
    let policy = ::failsafe::failure_policy::consecutive_failures(1, backoff::constant(LONG));
    let breaker = Config::new().failure_policy(policy).build();
    let _ = breaker.call(|| Err::<(), ()>(()));
    assert!(!breaker.is_call_permitted(), "it is open");
    breaker
}
