//! Rounds, in each of which all implementations of a case take turns; and what comes out of them.

use std::{thread, time::Duration};

use crate::{
    alloc,
    case::{Case, Side},
    crew::Crew,
    tasks::{Done, untimed},
};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub sample: Duration,
    pub rounds: usize,
}

/// What an implementation takes in a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub case: String,
    pub side: &'static str,
    pub threads: usize,
    pub nanos: Spread,
    /// Allocations a call, on one thread.
    pub allocations: f64,
    /// Bytes a call, on one thread.
    pub bytes: f64,
}

/// Of several samples, in nanoseconds a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub p10: f64,
    pub p90: f64,
}

impl Spread {
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |share| percentile(&samples, share);
        Self { median: at(0.5), p10: at(0.1), p90: at(0.9) }
    }
}

/// By linear interpolation between the samples that are nearest.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Measures a case on so many threads.
pub fn case(crew: &mut Crew, case: &Case, threads: usize, effort: Effort) -> Vec<Row> {
    let sides: Vec<&Side> = case.sides.iter().filter(|side| threads <= side.most_threads).collect();
    let calls: Vec<u64> = sides.iter().map(|side| calibrate(crew, case, side, threads, effort.sample)).collect();
    let mut samples = vec![Vec::with_capacity(effort.rounds); sides.len()];
    for _ in 0..effort.rounds {
        for (at, side) in sides.iter().enumerate() {
            samples[at].push(sample(crew, case, side, threads, calls[at]));
        }
    }
    let row = |((side, of), samples): ((&&Side, &u64), _)| {
        let (allocations, bytes) = count(crew, side, *of);
        let case = case.name.to_owned();
        Row { case, side: side.name, threads, nanos: Spread::of(samples), allocations, bytes }
    };
    sides.iter().zip(&calls).zip(samples).map(row).collect()
}

/// Nanoseconds a call, of the slowest thread; with more threads than cores, of all of them together.
fn sample(crew: &mut Crew, case: &Case, side: &Side, threads: usize, calls: u64) -> f64 {
    let done = at_once(crew, side, threads, calls);
    let expected = if case.answered { calls * threads as u64 } else { 0 };
    assert_eq!(done.answered, expected, "{}: {}: calls that were answered", case.name, side.name);
    let took = if threads > cores() { done.whole() } else { done.took };
    took.as_nanos() as f64 / calls as f64
}

/// A sample in which the threads ran at once for most of the time, or the best of several tries. With more threads than
/// cores, as it comes.
fn at_once(crew: &mut Crew, side: &Side, threads: usize, calls: u64) -> Done {
    const TRIES: usize = 8;
    const ENOUGH: f64 = 0.75;
    let mut best = crew.sample(&side.work, threads, calls);
    for _ in 1..TRIES {
        if threads > cores() || best.at_once() >= ENOUGH {
            break;
        }
        let done = crew.sample(&side.work, threads, calls);
        if done.at_once() > best.at_once() {
            best = done;
        }
    }
    best
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// So many calls take about as long as a sample should.
fn calibrate(crew: &mut Crew, case: &Case, side: &Side, threads: usize, target: Duration) -> u64 {
    let target = target.as_nanos() as f64;
    let mut calls = 64;
    loop {
        let took = sample(crew, case, side, threads, calls) * calls as f64;
        if took * 4.0 >= target {
            return ((calls as f64 * target / took) as u64).max(16);
        }
        calls *= 4;
    }
}

/// Allocations and bytes a call. What the harness allocates is counted with one sample and with another of more calls,
/// and falls out of the difference.
fn count(crew: &mut Crew, side: &Side, calls: u64) -> (f64, f64) {
    let few = calls.min(1_000);
    let more = few * 3;
    // A sample also makes calls that are not timed.
    let made = (more + untimed(more)) - (few + untimed(few));
    let mut taken = |calls| alloc::count(|| crew.sample(&side.work, 1, calls)).1;
    let (few, more) = (taken(few), taken(more));
    let each = |few: u64, more: u64| more.saturating_sub(few) as f64 / made as f64;
    (each(few.allocations, more.allocations), each(few.bytes, more.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_samples() {
        let spread = Spread::of((0..=10).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { median: 5.0, p10: 1.0, p90: 9.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]), Spread { median: 1.5, p10: 1.1, p90: 1.9 });
        assert_eq!(Spread::of(vec![3.0]), Spread { median: 3.0, p10: 3.0, p90: 3.0 });
    }
}
