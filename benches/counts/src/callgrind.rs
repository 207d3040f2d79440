//! This program under callgrind: it collects in `counted_calls`, and dumps what it has when that returns.

use std::{collections::BTreeMap, env, fs, process::Command};

use crate::{
    Fallible,
    compare::Counts,
    counted::{CALLS, ROUNDS},
};

/// The argument with which this program makes the calls instead of comparing.
pub const COUNTED: &str = "--counted";

// Whole names: with wildcards in several of these options callgrind finds none.
const CALLGRIND: [&str; 6] = [
    "--tool=callgrind",
    "--combine-dumps=yes",
    "--zero-before=mainstay_counts::counted::counted_calls",
    "--dump-after=mainstay_counts::counted::counted_calls",
    "--toggle-collect=mainstay_counts::counted::counted_calls",
    // A thread asks the system's clock anew each millisecond, which under valgrind is once in few calls. A toggle
    // within a toggle leaves it out.
    "--toggle-collect=mainstay::time::counter::renew",
];

/// What begins the part of a dump that was made after a round.
const AFTER_A_ROUND: &str = "desc: Trigger: --dump-after=";
const TOTAL: &str = "totals: ";

/// Instructions per call of each path.
pub fn count() -> Fallible<Counts> {
    let program = env::current_exe()?;
    let dump = program.with_extension(format!("{}.callgrind", std::process::id()));
    let out = Command::new("valgrind")
        .args(CALLGRIND)
        .arg(format!("--callgrind-out-file={}", dump.display()))
        .arg(&program)
        .arg(COUNTED)
        .output()?;
    let text = fs::read_to_string(&dump);
    let _ = fs::remove_file(&dump);
    if !out.status.success() {
        return Err(format!("under valgrind: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr)).into());
    }
    let rounds = rounds(&text?)?;
    let names = String::from_utf8(out.stdout)?;
    let names: Vec<&str> = names.lines().collect();
    if rounds.len() != names.len() * ROUNDS {
        return Err(format!("{} rounds of {} paths were dumped", rounds.len(), names.len()).into());
    }
    let mut paths = BTreeMap::new();
    for (name, rounds) in names.into_iter().zip(rounds.chunks(ROUNDS)) {
        if paths.insert(name.to_owned(), per_call(rounds)).is_some() {
            return Err(format!("two paths are called {name}").into());
        }
    }
    Ok(Counts { taken_with: here()?, paths })
}

/// How many instructions each round took.
fn rounds(dump: &str) -> Fallible<Vec<u64>> {
    let (mut after_a_round, mut rounds) = (false, Vec::new());
    for line in dump.lines() {
        if line.starts_with("part: ") {
            after_a_round = false;
        } else if line.starts_with(AFTER_A_ROUND) {
            after_a_round = true;
        } else if let Some(total) = line.strip_prefix(TOTAL).filter(|_| after_a_round) {
            rounds.push(total.trim().parse()?);
        }
    }
    Ok(rounds)
}

/// Of the median round.
fn per_call(rounds: &[u64]) -> u64 {
    let mut rounds = rounds.to_vec();
    rounds.sort_unstable();
    (rounds[rounds.len() / 2] + CALLS / 2) / CALLS
}

/// What counts depend on: the architecture first, the compiler, and what decides which copy of bytes is used.
fn here() -> Fallible<String> {
    let said = |program: &str, arg: &str| -> Fallible<String> {
        let out = Command::new(program).arg(arg).output().map_err(|error| format!("{program}: {error}"))?;
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    };
    #[cfg(target_arch = "x86_64")]
    let wide = if std::arch::is_x86_feature_detected!("avx2") { "avx2" } else { "no avx2" };
    #[cfg(not(target_arch = "x86_64"))]
    let wide = "any processor";
    let (rustc, libc) = (said("rustc", "--version")?, said("getconf", "GNU_LIBC_VERSION")?);
    Ok(format!("{}, {rustc}, {libc}, {}, {wide}", env::consts::ARCH, said("valgrind", "--version")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_dumped_after_a_round_counts() {
        let dump = "part: 1\n\ndesc: Trigger: --dump-after=a\nevents: Ir\nfn=(1) totals: 7\n1 2\n\ntotals: 41\n\n\
                    part: 2\n\ndesc: Trigger: Program termination\nevents: Ir\n\ntotals: 9\n";
        assert_eq!(rounds(dump).expect("good"), [41]);
        assert!(rounds("part: 1\ndesc: Trigger: --dump-after=a\ntotals: many").is_err());
    }

    #[test]
    fn a_count_is_that_of_the_median_round_to_the_nearest() {
        assert_eq!(per_call(&[9_400, 12_000, 9_600]), 10);
        assert_eq!(per_call(&[9_499, 9_499, 9_500]), 9);
    }
}
