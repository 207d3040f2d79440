//! recloser. Its window is the last 100 calls, never a time; it opens when the window is full, whatever the minimum;
//! half-open, it lets everybody in.

use ::recloser::{AsyncRecloser, Recloser};

use super::{FAILURE_RATE, LONG, OPEN_FOR, PROBES, WINDOW_CALLS};

pub fn breaker() -> AsyncRecloser {
    with_rate(FAILURE_RATE as f32)
}

/// No rate is as high: it counts failures, and stays closed.
pub fn never_opens() -> AsyncRecloser {
    with_rate(2.0)
}

fn with_rate(rate: f32) -> AsyncRecloser {
    let recloser = Recloser::custom().error_rate(rate).closed_len(WINDOW_CALLS).half_open_len(PROBES as usize);
    recloser.open_wait(OPEN_FOR).build().into()
}

pub fn broken() -> AsyncRecloser {
    let recloser = Recloser::custom().closed_len(1).open_wait(LONG).build();
    for _ in 0..2 {
        let _ = recloser.call(|| Err::<(), ()>(()));
    }
    recloser.into()
}
