//! A reading of the clock, which most policies need, and some twice: how much of the other cases it is.

use std::hint::black_box;

use governor::clock::{Clock as _, DefaultClock};
use mainstay::time::Tick;

use crate::case::{Case, operation};

pub fn cases() -> Vec<Case> {
    let sides = vec![
        operation("bare", (), |(), _| read(std::time::Instant::now())),
        operation("mainstay", (), |(), _| read(Tick::now())),
        operation("tokio", (), |(), _| read(tokio::time::Instant::now())),
        operation("governor", DefaultClock::default(), |clock, _| read(clock.now())),
    ];
    vec![Case::answered("clock", sides)]
}

fn read<T>(now: T) -> bool {
    black_box(now);
    true
}
