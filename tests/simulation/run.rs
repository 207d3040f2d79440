//! Runs plans, many of them, and tells of the first that fails: its seed, and what is left of it when all that does
//! not matter is taken out.

use std::{
    cell::RefCell,
    fmt::Debug,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use crate::random::Random;

/// What ought to hold and does not: the law, and how it was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub law: &'static str,
    pub what: String,
}

pub fn wrong<T>(law: &'static str, what: String) -> Result<T, Wrong> {
    Err(Wrong { law, what })
}

/// What happened, for who wants to know.
#[derive(Debug, Default)]
pub struct Diary {
    lines: Option<RefCell<Vec<String>>>,
}

impl Diary {
    pub fn kept() -> Self {
        Self { lines: Some(RefCell::default()) }
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().push(what());
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.as_ref().map(RefCell::take).unwrap_or_default()
    }
}

/// Something that can be simulated.
pub trait Simulation {
    const NAME: &'static str;
    type Setup: Clone + Debug;
    type Step: Clone + Debug;

    fn drawn(random: &mut Random) -> (Self::Setup, Vec<Self::Step>);
    /// Setups with less in them.
    fn simpler(setup: &Self::Setup) -> Vec<Self::Setup>;
    /// Runs a plan in a runtime of one thread whose clock is paused.
    fn run(setup: &Self::Setup, steps: &[Self::Step], diary: &Diary) -> impl Future<Output = Result<(), Wrong>>;
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic is a failure like any other, and is told with it.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if thread::current().name() == Some(SIMULATOR) {
                PANIC.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
}

const SIMULATOR: &str = "simulator";

pub fn run<S: Simulation>(seed: u64, setup: &S::Setup, steps: &[S::Step], diary: &Diary) -> Result<(), Wrong> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime can be made");
    let running = AssertUnwindSafe(|| {
        runtime.block_on(async {
            mainstay::time::seed(seed);
            S::run(setup, steps, diary).await
        })
    });
    catch_unwind(running).unwrap_or_else(|_| wrong("nothing panics", PANIC.take()))
}

/// A plan that fails, with as little in it as was found to do.
fn shrunk<S: Simulation>(seed: u64, mut setup: S::Setup, mut steps: Vec<S::Step>) -> (S::Setup, Vec<S::Step>, Wrong) {
    let run = |setup: &S::Setup, steps: &[S::Step]| run::<S>(seed, setup, steps, &Diary::default()).err();
    let again = Wrong { law: "a seed is repeated", what: "it did not fail again".to_owned() };
    let mut wrong = run(&setup, &steps).unwrap_or(again);
    let law = wrong.law;
    let fails = |setup: &S::Setup, steps: &[S::Step]| run(setup, steps).filter(|wrong| wrong.law == law);
    let mut tries = 0;
    loop {
        let before = tries;
        let mut size = steps.len().div_ceil(2);
        while size > 0 && tries < 5_000 {
            let mut at = 0;
            while at < steps.len() {
                tries += 1;
                let end = (at + size).min(steps.len());
                let fewer = [&steps[..at], &steps[end..]].concat();
                match fails(&setup, &fewer) {
                    Some(what) => (steps, wrong) = (fewer, what),
                    None => at = end,
                }
            }
            size /= 2;
        }
        let simpler = S::simpler(&setup).into_iter().find_map(|simpler| Some((fails(&simpler, &steps)?, simpler)));
        match simpler {
            Some((what, simpler)) => (wrong, setup) = (what, simpler),
            None => return (setup, steps, wrong),
        }
        if before >= 5_000 {
            return (setup, steps, wrong);
        }
    }
}

/// What is told of a seed that fails.
pub fn report<S: Simulation>(seed: u64) -> Option<String> {
    let (setup, steps) = S::drawn(&mut Random::new(seed));
    let first = run::<S>(seed, &setup, &steps, &Diary::default()).err()?;
    let (setup, fewer, wrong) = shrunk::<S>(seed, setup, steps.clone());
    let diary = Diary::kept();
    let _ = run::<S>(seed, &setup, &fewer, &diary);
    let told = diary.lines().join("\n  ");
    Some(format!(
        "{} fails with seed {seed}: {}: {}\n\
         MAINSTAY_SEED={seed} cargo test --release --test simulation\n\
         {} of {} steps are left, which fail with: {}\n{setup:?}\nsteps:\n  {}\nwhat happened:\n  {told}\n",
        S::NAME,
        first.law,
        first.what,
        fewer.len(),
        steps.len(),
        wrong.what,
        fewer.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join("\n  "),
    ))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: must be a number")))
}

/// Runs one seed if one is asked for, or so many.
pub fn seeds<S: Simulation>() {
    keep_panics();
    let (first, count) = match number("MAINSTAY_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("MAINSTAY_SEEDS").unwrap_or(100)),
    };
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, SeqCst);
            if seed >= first + count {
                return None;
            }
            if let Some(report) = report::<S>(seed) {
                next.store(first + count, SeqCst);
                return Some(report);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
    let reports: Vec<String> = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name(SIMULATOR.to_owned()).spawn_scoped(scope, work);
        let threads: Vec<_> = (0..workers).map(|n| spawn(n).expect("a thread can be started")).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("a report is made")).collect()
    });
    if !reports.is_empty() {
        // No panic message could be as long.
        println!("{}", reports.join("\n"));
        panic!("{} fails", S::NAME);
    }
    println!("{}: {count} seeds from {first}", S::NAME);
}
