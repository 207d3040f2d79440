//! Many policies and large windows: what a call takes, and how many bytes there are for each.

use crate::{
    alloc,
    case::{Case, Side},
    cases::{
        keyed::{Keyed, Names, breakers, names, rate_limits},
        window,
    },
    crew::Crew,
    measure::{Effort, Row, case, sample},
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
    for size in POLICIES.into_iter().filter(|size| *size <= most) {
        let names = names(size);
        add(policies(crew, BREAKERS, ("scale_keyed", breakers(names)), names, effort));
        add(policies(crew, RATE_LIMITS, ("scale_keyed_rate_limit", rate_limits(names)), names, effort));
    }
    for size in WINDOWS {
        add(windows(crew, size, effort));
    }
    grown
}

fn of_size(name: &str, size: usize, sides: Vec<Side>) -> Case {
    Case::answered(format!("{name}_{size}").leak(), sides)
}

fn policies(
    crew: &mut Crew,
    what: &'static str,
    (name, keyed): (&str, Vec<Keyed>),
    names: Names,
    effort: Effort,
) -> Vec<Grown> {
    let size = names.len();
    let (sides, fills): (Vec<_>, Vec<_>) = keyed.into_iter().map(|it| (it.side, it.fill)).unzip();
    let idle: Vec<_> = fills.iter().map(|fill| alloc::count(fill).1.kept()).collect();
    let of_all = of_size(name, size, sides);
    let used: Vec<_> = of_all.sides.iter().map(|side| kept_by_calls(crew, &of_all, side, size as u64 * 3)).collect();
    let rows = case(crew, &of_all, 1, effort);
    let each = |bytes: u64| bytes as f64 / size as f64;
    let grown = |(row, (idle, used)): (Row, (u64, u64))| Grown {
        what,
        size,
        row,
        idle: (idle > 0).then(|| each(idle)),
        used: each(idle + used),
    };
    rows.into_iter().zip(idle.into_iter().zip(used)).map(grown).collect()
}

/// What calls leave behind.
fn kept_by_calls(crew: &mut Crew, case: &Case, side: &Side, calls: u64) -> u64 {
    // What the thread and the harness keep is there by then.
    sample(crew, case, &case.sides[0], 1, 1);
    alloc::count(|| sample(crew, case, side, 1, calls)).1.kept()
}

fn windows(crew: &mut Crew, size: u32, effort: Effort) -> Vec<Grown> {
    let calls = size as usize;
    let made = [
        alloc::count(|| window::over_time(size)),
        alloc::count(|| window::time_ring(size)),
        alloc::count(|| window::over_calls(calls)),
        alloc::count(|| window::call_ring(calls)),
    ];
    let idle = made.each_ref().map(|(_, taken)| taken.kept());
    let of_all = of_size("scale_window", calls, made.into_iter().map(|(side, _)| side).collect());
    let used: Vec<_> = of_all.sides.iter().map(|side| kept_by_calls(crew, &of_all, side, 1_000)).collect();
    let rows = case(crew, &of_all, 1, effort);
    let grown = |(row, (idle, used)): (Row, (u64, u64))| Grown {
        what: WINDOW,
        size: calls,
        row,
        idle: Some(idle as f64),
        used: (idle + used) as f64,
    };
    rows.into_iter().zip(idle.into_iter().zip(used)).map(grown).collect()
}
