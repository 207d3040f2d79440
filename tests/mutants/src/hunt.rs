//! Which tests notice a change.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Mutant,
    tests::{Kind, Test},
};

/// Tests are run together that take about so long: most changes are noticed by the first few. Of a room's own tests
/// all are run, of the others those that come by the fewest changes.
const OWN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(3), Duration::MAX];
const OTHERS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(20)];
/// What takes longer is for no single change. Models that share a name with a room are many, and all are run.
const LONGEST: Duration = Duration::from_secs(10);
const LONGEST_MODEL: Duration = Duration::from_secs(120);
const KIBIBYTES: &str = "6000000";

/// A test that passes as the crate is, how long it takes, and which questions it comes by.
struct Known<'a> {
    test: &'a Test,
    takes: Duration,
    seen: BTreeSet<usize>,
}

/// The names of the changes that no test notices.
pub fn hunt(
    work: &Path,
    mutants: &[Mutant],
    ids: &[usize],
    (tests, kind): (&[Test], Kind),
) -> Result<Vec<String>, Box<dyn Error>> {
    let (longest, others): (_, &[Duration]) = match kind {
        Kind::Plain => (LONGEST, &OTHERS),
        Kind::Models => (LONGEST_MODEL, &[Duration::MAX]),
    };
    let begun = Instant::now();
    let known = Mutex::new(Vec::new());
    each(tests.len(), |number| {
        let (test, file) = (&tests[number], work.join(format!("seen.{number}")));
        let since = Instant::now();
        let passes = run(work, &[test], &[("MUTANTS_SEEN", &file.to_string_lossy())], longest);
        let takes = since.elapsed();
        let bytes = fs::read(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        let seen = bytes.chunks_exact(4).filter_map(|id| Some(u32::from_le_bytes(id.try_into().ok()?) as usize));
        if passes {
            let seen = seen.collect();
            known.lock().expect("nobody panics").push(Known { test, takes, seen });
        } else {
            eprintln!("left out, since it takes long, or fails as the crate is: {}", test.name);
        }
    });
    let mut known = known.into_inner().expect("nobody panics");
    known.sort_by_key(|known| (known.seen.len(), known.takes));
    println!("{} tests, {} s", known.len(), begun.elapsed().as_secs());

    let mut by_mutant: HashMap<usize, Vec<&Known>> = HashMap::new();
    for each in &known {
        for id in &each.seen {
            by_mutant.entry(*id).or_default().push(each);
        }
    }
    let (survivors, done) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    each(ids.len(), |number| {
        let id = ids[number];
        let all = by_mutant.get(&id).map_or(&[][..], Vec::as_slice);
        let room = mutants[id].file.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        let (own, rest): (Vec<&Known>, Vec<&Known>) = all.iter().partition(|known| known.test.name.contains(room));
        if !is_noticed(work, id, &own, &OWN) && !is_noticed(work, id, &rest, others) {
            let name = &mutants[id].name;
            let how = if all.is_empty() { "no test comes by" } else { "not noticed" };
            eprintln!("{name} ({how})");
            survivors.lock().expect("nobody panics").push(format!("{name} ({how})"));
        }
        let done = done.fetch_add(1, Relaxed) + 1;
        if done % 100 == 0 {
            eprintln!("{done} of {}, {} s", ids.len(), begun.elapsed().as_secs());
        }
    });
    let mut survivors = survivors.into_inner().expect("nobody panics");
    survivors.sort();
    Ok(survivors)
}

fn is_noticed(work: &Path, id: usize, tests: &[&Known], batches: &[Duration]) -> bool {
    let id = id.to_string();
    let mut rest = tests;
    for batch in batches {
        let mut sum = Duration::ZERO;
        let many = rest.iter().take_while(|known| {
            sum = sum.saturating_add(known.takes);
            sum <= *batch
        });
        let (now, later) = rest.split_at(many.count());
        rest = later;
        let mut programs: Vec<&Path> = now.iter().map(|known| known.test.program.as_path()).collect();
        programs.sort_unstable();
        programs.dedup();
        for program in programs {
            let those: Vec<&&Known> = now.iter().filter(|known| known.test.program == program).collect();
            let limit = those.iter().map(|known| known.takes).sum::<Duration>() * 5 + Duration::from_secs(10);
            let names: Vec<&Test> = those.iter().map(|known| known.test).collect();
            if !run(work, &names, &[("MUTANT", &id)], limit) {
                return true;
            }
        }
    }
    false
}

/// Whether tests of one program pass, in time and without more memory than any of them needs.
fn run(work: &Path, tests: &[&Test], env: &[(&str, &str)], limit: Duration) -> bool {
    let program = &tests[0].program;
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("ulimit -v {KIBIBYTES}; exec timeout -s KILL {} \"$@\"", limit.as_secs_f64()), "bash"])
        .arg(program)
        .args(["-Zunstable-options", "--fail-fast", "--exact", "--quiet"])
        .args(tests.iter().map(|test| &test.name))
        .current_dir(work.join("tree"))
        .envs(env.iter().copied())
        .envs([("RUSTC_BOOTSTRAP", "1"), ("RUST_BACKTRACE", "0"), ("PROPTEST_CASES", "64"), ("MAINSTAY_SEEDS", "100")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Calls with each number below `many`, on as many threads as there are cores.
fn each(many: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= many {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}
