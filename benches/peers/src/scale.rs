//! Many policies and large windows: what a call takes, and how many bytes there are for each.

use crate::{
    alloc::{self, Taken},
    case::{Case, Side},
    cases::{
        keyed::{Keyed, breakers, names, rate_limits},
        window,
    },
    crew::Crew,
    measure::{Effort, Row, case},
};

/// A row of the table of what grows.
pub struct Grown {
    /// Of what there are so many.
    pub what: &'static str,
    pub size: usize,
    pub row: Row,
    /// Bytes for each before its first call.
    pub idle: Option<f64>,
    /// Bytes for each after calls by one thread.
    pub used: f64,
}

pub const BREAKERS: &str = "keyed breakers";
pub const RATE_LIMITS: &str = "keyed rate limits";
pub const WINDOW: &str = "window of buckets or calls";

pub const POLICIES: [usize; 4] = [1, 100, 10_000, 1_000_000];
const WINDOWS: [u32; 4] = [10, 100, 1_000, 10_000];

/// Everything that grows, to so many policies at most.
pub fn all(crew: &mut Crew, most: usize, effort: Effort, mut tell: impl FnMut(&[Grown])) -> Vec<Grown> {
    let mut grown = Vec::new();
    let mut add = |of_size: Vec<Grown>| {
        tell(&of_size);
        grown.extend(of_size);
    };
    warm_up(crew);
    for size in POLICIES.into_iter().filter(|size| *size <= most) {
        let names = names(size);
        add(policies(crew, (BREAKERS, "scale_keyed"), breakers(names), size, effort));
        add(policies(crew, (RATE_LIMITS, "scale_keyed_rate_limit"), rate_limits(names), size, effort));
    }
    for size in WINDOWS {
        add(windows(crew, size, effort));
    }
    grown
}

/// What the libraries make once for each thread, and the crew's own thread, is there by then.
fn warm_up(crew: &mut Crew) {
    let names = names(1);
    for Keyed { side, .. } in breakers(names).into_iter().chain(rate_limits(names)) {
        crew.sample(&side.work, 1, 1_000);
    }
}

fn of_size(name: &str, size: usize, side: Side) -> Case {
    Case::answered(format!("{name}_{size}").leak(), vec![side])
}

/// One implementation after the other, and the memory of each is given back before the next: a million policies of all
/// of them at once would be too much.
fn policies(
    crew: &mut Crew,
    (what, name): (&'static str, &str),
    keyed: Vec<Keyed>,
    size: usize,
    effort: Effort,
) -> Vec<Grown> {
    let grown = |Keyed { side, fill }: Keyed| {
        let of_size = of_size(name, size, side);
        let idle = alloc::count(&fill).1.kept();
        let used = kept_by_calls(crew, &of_size, size as u64 * 2);
        let row = case(crew, &of_size, 1, effort).remove(0);
        let each = |bytes: u64| bytes as f64 / size as f64;
        Grown { what, size, row, idle: (idle > 0).then(|| each(idle)), used: each(idle + used) }
    };
    keyed.into_iter().map(grown).collect()
}

/// What calls leave behind.
fn kept_by_calls(crew: &mut Crew, case: &Case, calls: u64) -> u64 {
    alloc::count(|| crew.sample(&case.sides[0].work, 1, calls)).1.kept()
}

fn windows(crew: &mut Crew, size: u32, effort: Effort) -> Vec<Grown> {
    let calls = size as usize;
    let made = [
        alloc::count(|| window::over_time(size)),
        alloc::count(|| window::time_ring(size)),
        alloc::count(|| window::over_calls(calls)),
        alloc::count(|| window::call_ring(calls)),
    ];
    let grown = |(side, taken): (Side, Taken)| {
        let of_size = of_size("scale_window", calls, side);
        let used = kept_by_calls(crew, &of_size, 1_000);
        let row = case(crew, &of_size, 1, effort).remove(0);
        let idle = taken.kept();
        Grown { what: WINDOW, size: calls, row, idle: Some(idle as f64), used: (idle + used) as f64 }
    };
    made.into_iter().map(grown).collect()
}
